package seal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"tillbridge/p2pe/secret"
)

// syncDir does nothing: NTFS journals names itself, and directories cannot be
// flushed. That a rename survives a power cut there is not shown by a test.
func syncDir(string) error { return nil }

// LockFile takes a file for this process; it is free again when f is closed.
// [ErrInUse] says that another has it.
func LockFile(f *os.File) error {
	var o windows.Overlapped
	o.OffsetHigh = 1 << 30 // far behind the content: a locked range cannot be read by others
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &o)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

const defaultTPM = ""

func automatic(context.Context, *SealerOptions) []string { return []string{KindDPAPI, KindFile} }

// dpapiKeeper protects the root key under the account that runs the program
// (user scope), with entropy so that another program of the account that
// unprotects blobs blindly does not open it. The service runs under a virtual
// account of its own. It is built and vetted, and has not been run on Windows.
type dpapiKeeper struct{}

func newDPAPI() (keeper, error) { return dpapiKeeper{}, nil }

func (dpapiKeeper) kind() string { return KindDPAPI }

func (dpapiKeeper) insecure([]byte) string { return "" }

var dpapiEntropy = []byte("tillbridge root key, form 1")

func blobOf(b []byte) *windows.DataBlob {
	return &windows.DataBlob{Size: uint32(len(b)), Data: unsafe.SliceData(b)}
}

func (dpapiKeeper) wrap(_ context.Context, root []byte) ([]byte, error) {
	var out windows.DataBlob
	if err := windows.CryptProtectData(blobOf(root), nil, blobOf(dpapiEntropy), 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("%w: CryptProtectData: %w", ErrSealer, err)
	}
	return takeBlob(&out), nil
}

func (dpapiKeeper) unwrap(_ context.Context, blob []byte) (*secret.Buffer, error) {
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(blobOf(blob), nil, blobOf(dpapiEntropy), 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("%w: CryptUnprotectData: %w: run as the account that made it", ErrUnseal, err)
	}
	return secret.Take(takeBlob(&out))
}

// takeBlob copies what DPAPI allocated, erases and frees it.
func takeBlob(b *windows.DataBlob) []byte {
	if b.Data == nil {
		return nil
	}
	view := unsafe.Slice(b.Data, b.Size)
	out := append([]byte(nil), view...)
	clear(view)
	_, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(b.Data)))
	return out
}
