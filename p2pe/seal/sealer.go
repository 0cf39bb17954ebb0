package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/secret"
)

// Sealer keeps small secrets of this machine on its disk: keys and key states.
// Implementations are safe for concurrent use.
type Sealer interface {
	// Seal enciphers plain under name. The same name opens it again.
	Seal(name string, plain []byte) ([]byte, error)
	// Unseal opens what Seal made under the same name; [ErrUnseal] otherwise.
	Unseal(name string, sealed []byte) (*secret.Buffer, error)
	// Destroy gives up the root key for good: nothing sealed opens again.
	Destroy() error
	// Close erases the root key from memory.
	Close()
	// Name is the kind: "tpm", "systemd-creds", "dpapi" or "file".
	Name() string
	// Insecure says why the root key is not protected by hardware or by the
	// operating system, in words for people; it is empty when it is.
	Insecure() string
}

// Errors of sealers. Each text says what to do.
var (
	// ErrUnseal: damaged, of another name, or of another machine.
	ErrUnseal error = p2pe.NewFault("keys.unseal", "seal: the sealed data do not open: they were changed, or belong to another machine or another root key; load new keys, or restore the whole data directory")
	// ErrSealer: no sealer can be had as configured.
	ErrSealer error = p2pe.NewFault("keys.sealer", "seal: the sealer cannot be used")
	// ErrAuth: the chip refuses the authorisation value.
	ErrAuth error = p2pe.NewFault("keys.tpm_auth", "seal: the security chip refuses the authorisation value: tpm.auth is not the one the root key was made with; restore it from the backup, or load new keys")
)

// Kinds of sealers.
const (
	KindAuto    = "auto"
	KindTPM     = "tpm"
	KindSystemd = "systemd-creds"
	KindDPAPI   = "dpapi"
	KindFile    = "file"
)

// SealerOptions are the settings of [OpenSealer]. The zero value chooses by
// itself.
type SealerOptions struct {
	// Kind is one of the kinds above; "" means auto: the kind the root key was
	// made with, and for a new one the best the machine has (DPAPI on Windows;
	// elsewhere a TPM, systemd-creds that has a TPM, a file).
	Kind string
	// TPM is the device or unix socket of the chip. Default /dev/tpmrm0, on
	// Windows the system's.
	TPM string
	// Auth is the authorisation value of what is kept in the chip. Default: the
	// content of tpm.auth in the directory, made at random.
	Auth []byte
}

// rootFile holds the root key as its keeper wrapped it.
const rootFile = "root.json"

// rootLen is the length of a root key: AES-256.
const rootLen = 32

// callTimeout ends every call of the chip or of systemd-creds.
const callTimeout = 30 * time.Second

// keeper protects the one root key of a directory.
type keeper interface {
	wrap(ctx context.Context, root []byte) ([]byte, error)
	unwrap(ctx context.Context, blob []byte) (*secret.Buffer, error)
	insecure(blob []byte) string
	kind() string
}

type rootRecord struct {
	Schema string `json:"schema"`
	Sealer string `json:"sealer"`
	Root   []byte `json:"root"`
}

// rooted seals by AES-256-GCM under a root key that a keeper protects.
type rooted struct {
	keep keeper
	path string
	blob []byte
	root *secret.Buffer
}

// OpenSealer returns the sealer of a directory, and makes its root key when
// there is none. Errors match [ErrSealer], [ErrUnseal] or [ErrAuth].
func OpenSealer(ctx context.Context, dir string, o *SealerOptions) (Sealer, error) {
	if o == nil {
		o = &SealerOptions{}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	path := filepath.Join(dir, rootFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeSealer(ctx, path, o)
	case err != nil:
		return nil, fmt.Errorf("%w: read its root key: %w", ErrSealer, err)
	}
	defer clear(data)
	var r rootRecord
	if err := json.Unmarshal(data, &r); err != nil || r.Schema != "root/1" {
		return nil, fmt.Errorf("%w: %s is damaged: restore it from the backup, or load new keys", ErrSealer, path)
	}
	if o.Kind != "" && o.Kind != KindAuto && o.Kind != r.Sealer {
		return nil, fmt.Errorf("%w: the keys were sealed by %s and keys.sealer says %s: put it back, or zeroize the keys first", ErrSealer, r.Sealer, o.Kind)
	}
	keep, err := keeperOf(r.Sealer, dir, o)
	if err != nil {
		return nil, err
	}
	root, err := keep.unwrap(ctx, r.Root)
	if err != nil {
		return nil, err
	}
	if root.Len() != rootLen {
		root.Destroy()
		return nil, fmt.Errorf("%w (root key)", ErrUnseal)
	}
	return &rooted{keep: keep, path: path, blob: r.Root, root: root}, nil
}

// SealerOf reads of a directory which sealer its root key was made with,
// without opening it. found is false when there is none yet.
func SealerOf(dir string) (kind, insecure string, found bool) {
	data, err := os.ReadFile(filepath.Join(dir, rootFile))
	var r rootRecord
	if err != nil || json.Unmarshal(data, &r) != nil || r.Schema != "root/1" {
		return "", "", false
	}
	defer clear(data)
	keep, err := keeperOf(r.Sealer, dir, &SealerOptions{})
	if err != nil {
		return r.Sealer, "", true
	}
	return r.Sealer, keep.insecure(r.Root), true
}

// Preferred is the sealer that [OpenSealer] tries first in a directory that has
// no root key yet.
func Preferred(ctx context.Context, o *SealerOptions) string {
	if o.Kind != "" && o.Kind != KindAuto {
		return o.Kind
	}
	return automatic(ctx, o)[0]
}

func makeSealer(ctx context.Context, path string, o *SealerOptions) (Sealer, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealer, err)
	}
	kinds := []string{o.Kind}
	if o.Kind == "" || o.Kind == KindAuto {
		kinds = automatic(ctx, o)
	}
	root, err := secret.New(rootLen)
	if err != nil {
		return nil, err
	}
	_, _ = rand.Read(root.Bytes()) // never fails (crypto/rand)
	var all []error
	for _, kind := range kinds {
		keep, err := keeperOf(kind, dir, o)
		if err != nil {
			all = append(all, err)
			continue
		}
		blob, err := keep.wrap(ctx, root.Bytes())
		if err != nil {
			all = append(all, err)
			continue
		}
		data, err := json.Marshal(rootRecord{Schema: "root/1", Sealer: kind, Root: blob})
		if err == nil {
			err = writeDurably(path, data)
			clear(data)
		}
		if err != nil {
			all = append(all, fmt.Errorf("%w: %w", ErrSealer, err))
			break
		}
		return &rooted{keep: keep, path: path, blob: blob, root: root}, nil
	}
	root.Destroy()
	return nil, errors.Join(all...)
}

func keeperOf(kind, dir string, o *SealerOptions) (keeper, error) {
	switch kind {
	case KindTPM:
		return &tpmKeeper{device: o.TPM, dir: dir, auth: o.Auth}, nil
	case KindSystemd:
		return systemdKeeper{}, nil
	case KindDPAPI:
		return newDPAPI()
	case KindFile:
		return fileKeeper{}, nil
	}
	return nil, fmt.Errorf("%w: %q is none: choose auto, tpm, systemd-creds, dpapi or file", ErrSealer, kind)
}

func (r *rooted) aead() (cipher.AEAD, error) {
	if r.root.Len() == 0 {
		return nil, fmt.Errorf("%w: its root key was erased", ErrSealer)
	}
	return newGCM(r.root.Bytes())
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: make a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// A sealed value is a form byte (1), a random nonce of 12 bytes, and the
// ciphertext with its tag of 16 bytes.
const (
	sealedForm  = 1
	sealedExtra = 1 + 12 + 16
)

// Seal implements [Sealer].
func (r *rooted) Seal(name string, plain []byte) ([]byte, error) {
	aead, err := r.aead()
	if err != nil {
		return nil, err
	}
	return appendSealed(make([]byte, 0, sealedExtra+len(plain)), aead, []byte(name), plain), nil
}

func appendSealed(dst []byte, aead cipher.AEAD, name, plain []byte) []byte {
	dst = append(dst, sealedForm)
	var nonce [12]byte
	_, _ = rand.Read(nonce[:])
	dst = append(dst, nonce[:]...)
	return aead.Seal(dst, nonce[:], plain, name)
}

// Unseal implements [Sealer].
func (r *rooted) Unseal(name string, sealed []byte) (*secret.Buffer, error) {
	aead, err := r.aead()
	if err != nil {
		return nil, err
	}
	return openSealed(aead, []byte(name), sealed)
}

func openSealed(aead cipher.AEAD, name, sealed []byte) (*secret.Buffer, error) {
	if len(sealed) <= sealedExtra || sealed[0] != sealedForm {
		return nil, ErrUnseal
	}
	out, err := secret.New(len(sealed) - sealedExtra)
	if err != nil {
		return nil, err
	}
	if _, err := aead.Open(out.Bytes()[:0], sealed[1:13], sealed[13:], name); err != nil {
		out.Destroy()
		return nil, ErrUnseal
	}
	return out, nil
}

// Destroy implements [Sealer]: the wrapped root key is overwritten in place,
// synced and removed. What a solid-state disk or a backup still holds of it
// opens only with the chip, account or file that wrapped it.
func (r *rooted) Destroy() error {
	r.Close()
	err := overwrite(r.path)
	if t, ok := r.keep.(*tpmKeeper); ok {
		err = errors.Join(err, overwrite(t.authPath()))
	}
	if err != nil {
		return fmt.Errorf("seal: destroy the root key: %w", err)
	}
	return nil
}

// Close implements [Sealer].
func (r *rooted) Close() { r.root.Destroy() }

// Name implements [Sealer].
func (r *rooted) Name() string { return r.keep.kind() }

// Insecure implements [Sealer].
func (r *rooted) Insecure() string { return r.keep.insecure(r.blob) }

// Format prints the kind.
func (r *rooted) Format(s fmt.State, _ rune) { io.WriteString(s, "sealer{"+r.Name()+" ***}") }

// LogValue implements slog.LogValuer with the kind.
func (r *rooted) LogValue() slog.Value { return slog.StringValue(r.Name()) }

// fileKeeper keeps the root key in the clear beside what it seals.
type fileKeeper struct{}

func (fileKeeper) kind() string { return KindFile }

func (fileKeeper) wrap(_ context.Context, root []byte) ([]byte, error) {
	return append([]byte(nil), root...), nil
}

func (fileKeeper) unwrap(_ context.Context, blob []byte) (*secret.Buffer, error) {
	if len(blob) != rootLen {
		return nil, fmt.Errorf("%w (root key)", ErrUnseal)
	}
	return secret.Take(append([]byte(nil), blob...))
}

func (fileKeeper) insecure([]byte) string {
	return "the root key is a plain file: whoever reads this disk or a copy of it has the keys; use a machine with a TPM"
}

// ErrInUse: another process works with the file.
var ErrInUse error = p2pe.NewFault("keys.in_use", "seal: another tillbridge uses this key file: stop it first")

// DestroyRoot destroys the root key of a directory without opening it, as
// [Sealer.Destroy] does. A directory without one is done.
func DestroyRoot(dir string) error {
	if err := errors.Join(overwrite(filepath.Join(dir, rootFile)), overwrite(filepath.Join(dir, tpmAuthFile))); err != nil {
		return fmt.Errorf("seal: destroy the root key: %w", err)
	}
	return nil
}
