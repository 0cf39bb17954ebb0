package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"tillbridge/p2pe"
)

// Anchor is a number outside this machine's disk that only grows: it tells an
// old copy of the disk from the present one. [TPMAnchor] is one; the other is a
// mark that the acquirer holds for a device. Implementations are safe for
// concurrent use.
type Anchor interface {
	// Name says what it is, for people.
	Name() string
	// Begin makes the mark of a new key set and returns its value. It refuses
	// with [ErrMark] when the device has one: its key was loaded before.
	Begin(ctx context.Context, device string) (uint64, error)
	// Value returns the mark, and an error matching [ErrMark] when there is none.
	Value(ctx context.Context, device string) (uint64, error)
	// Raise moves the mark from to-1 to to. It returns an error matching
	// [ErrRolledBack] when the mark was elsewhere: another machine moved it.
	Raise(ctx context.Context, device string, to uint64) error
	// End removes the mark where it can be removed without losing its memory.
	End(ctx context.Context, device string) error
}

// Errors of anchors.
var (
	// ErrMark: the mark of a device is missing, or there already.
	ErrMark error = p2pe.NewFault("keys.mark", "seal: the mark of this key set is not as expected")
	// ErrRolledBack: the journal is older than its anchor.
	ErrRolledBack error = p2pe.NewFault("keys.rolled_back", "seal: the key journal is an old copy (a restored image, snapshot or cloned disk): its keys may have been used; "+
		"load a new initial key (tillbridge keys zeroize, then keys import)")
	// ErrNoAnchor: nothing can tell an old copy of the disk.
	ErrNoAnchor error = p2pe.NewFault("keys.no_anchor", "seal: neither a TPM counter nor a mark at the acquirer can tell an old copy of this disk, and a key used twice is a key lost: "+
		"software DUKPT does not start here; encrypt to the acquirer's public key (JWE) instead")
)

// TPMAnchor counts in NV memory of a TPM 2.0: an index of type counter for each
// key set, which the chip lets only grow, also when it is removed and made
// again. Memory of chips endures about 10^5 writes: one per block of
// [ReserveKeys] keys is less than that over a whole TDES key set.
type TPMAnchor struct {
	device string
	auth   string // path of the authorisation value
	given  []byte
}

// NewTPMAnchor returns an anchor in the chip. device and auth are as in
// [SealerOptions]; dir holds the authorisation value.
func NewTPMAnchor(dir, device string, auth []byte) *TPMAnchor {
	return &TPMAnchor{device: device, auth: filepath.Join(dir, tpmAuthFile), given: auth}
}

// Name implements [Anchor].
func (*TPMAnchor) Name() string { return "TPM counter" }

// index is the counter's handle: in the owner's range, by the device's name.
func (*TPMAnchor) index(device string) tpm2.TPMHandle {
	return tpm2.TPMHandle(0x01800000 | crc32.ChecksumIEEE([]byte(device))&0x3FFFFF)
}

// with opens the chip for one run of commands.
func (a *TPMAnchor) with(ctx context.Context, fn func(c chip, auth []byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	auth, err := authValue(a.given, a.auth)
	if err != nil {
		return err
	}
	c, err := openChip(ctx, a.device)
	if err != nil {
		return err
	}
	defer c.end()
	return fn(c, auth)
}

// Begin implements [Anchor].
func (a *TPMAnchor) Begin(ctx context.Context, device string) (value uint64, err error) {
	err = a.with(ctx, func(c chip, auth []byte) error {
		_, err := tpm2.NVDefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16)},
			Auth:       tpm2.TPM2BAuth{Buffer: auth},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: a.index(device), NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
				Attributes: tpm2.TPMANV{AuthWrite: true, AuthRead: true, NT: tpm2.TPMNTCounter, NoDA: true},
			}),
		}.Execute(c.TPM)
		if errors.Is(err, tpm2.TPMRCNVDefined) {
			return fmt.Errorf("%w: the TPM already counts for this serial number: its key was loaded on this machine before; ask for a key of its own", ErrMark)
		}
		if err != nil {
			return tpmError(ErrMark, err)
		}
		if err := a.increment(c, auth, device); err != nil {
			return err
		}
		value, err = a.read(c, auth, device)
		return err
	})
	return value, err
}

func (a *TPMAnchor) handle(c chip, auth []byte, device string) (tpm2.AuthHandle, tpm2.NamedHandle, error) {
	public, err := tpm2.NVReadPublic{NVIndex: a.index(device)}.Execute(c.TPM)
	if err != nil {
		return tpm2.AuthHandle{}, tpm2.NamedHandle{}, fmt.Errorf("%w: this TPM has no counter for this key set: the disk is in another machine, or the TPM was cleared; load a new initial key (%w)", ErrMark, err)
	}
	h := a.index(device)
	return tpm2.AuthHandle{Handle: h, Name: public.NVName, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth))},
		tpm2.NamedHandle{Handle: h, Name: public.NVName}, nil
}

func (a *TPMAnchor) increment(c chip, auth []byte, device string) error {
	by, index, err := a.handle(c, auth, device)
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVIncrement{AuthHandle: by, NVIndex: index}).Execute(c.TPM); err != nil {
		return tpmError(ErrMark, err)
	}
	return nil
}

func (a *TPMAnchor) read(c chip, auth []byte, device string) (uint64, error) {
	by, index, err := a.handle(c, auth, device)
	if err != nil {
		return 0, err
	}
	rsp, err := tpm2.NVRead{AuthHandle: by, NVIndex: index, Size: 8}.Execute(c.TPM)
	if err != nil {
		return 0, tpmError(ErrMark, err)
	}
	if len(rsp.Data.Buffer) != 8 {
		return 0, fmt.Errorf("%w: the TPM's counter has %d bytes", ErrMark, len(rsp.Data.Buffer))
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
}

// Value implements [Anchor].
func (a *TPMAnchor) Value(ctx context.Context, device string) (value uint64, err error) {
	err = a.with(ctx, func(c chip, auth []byte) (err error) {
		value, err = a.read(c, auth, device)
		return err
	})
	return value, err
}

// Raise implements [Anchor].
func (a *TPMAnchor) Raise(ctx context.Context, device string, to uint64) error {
	return a.with(ctx, func(c chip, auth []byte) error {
		now, err := a.read(c, auth, device)
		if err != nil {
			return err
		}
		if now != to-1 {
			return ErrRolledBack
		}
		if err := a.increment(c, auth, device); err != nil {
			return err
		}
		if now, err = a.read(c, auth, device); err == nil && now != to {
			return ErrRolledBack
		}
		return err
	})
}

// End implements [Anchor]: the index is removed. The chip remembers the highest
// count of all removed counters, so that one made later begins above it.
func (a *TPMAnchor) End(ctx context.Context, device string) error {
	return a.with(ctx, func(c chip, auth []byte) error {
		_, index, err := a.handle(c, auth, device)
		if errors.Is(err, ErrMark) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16)}, NVIndex: index}.Execute(c.TPM)
		if err != nil {
			return tpmError(ErrMark, err)
		}
		return nil
	})
}
