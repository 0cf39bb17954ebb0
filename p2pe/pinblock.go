package p2pe

import (
	"fmt"
	"io"
	"log/slog"
)

// ErrPINBlock is matched by every error of [PINBlock.Check].
var ErrPINBlock error = NewFault("pin.block_refused", "p2pe: the PIN block is not one that can be sent")

// PINBlock is an enciphered PIN block with the KSN of its key. It is carried
// in memory to the acquirer and never stored: it has no JSON form and prints
// "***" under every verb.
type PINBlock struct {
	KSN    KSN
	Format int    // ISO 9564-1 format: 0, 1, 3 or 4
	Block  Opaque // 8 bytes (formats 0, 1, 3) or 16 bytes (format 4)
}

// Empty reports whether there is no PIN block.
func (b PINBlock) Empty() bool { return len(b.Block) == 0 }

// Check judges what can be judged without the key: the declared format, the
// length that goes with it, and a KSN whose counter a pad can use. It says
// nothing about the PIN. Errors match [ErrPINBlock].
func (b PINBlock) Check() error {
	want := 8
	switch b.Format {
	case 0, 1, 3:
	case 4:
		want = 16
		if b.KSN.Scheme() != SchemeAESDUKPT {
			return fmt.Errorf("%w: format 4 needs a key of AES DUKPT: check the pad's PIN key slot", ErrPINBlock)
		}
	default:
		return fmt.Errorf("%w: format %d is none of 0, 1, 3 and 4: check the pad's PIN settings", ErrPINBlock, b.Format)
	}
	if len(b.Block) != want {
		return fmt.Errorf("%w: %d bytes, format %d has %d: read the card again", ErrPINBlock, len(b.Block), b.Format, want)
	}
	if err := b.KSN.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrPINBlock, err)
	}
	return nil
}

// Erase overwrites the block.
func (b *PINBlock) Erase() { clear(b.Block); b.Block = nil }

// String returns "***".
func (PINBlock) String() string { return "***" }

// GoString returns "***".
func (PINBlock) GoString() string { return "***" }

// LogValue implements slog.LogValuer with "***".
func (PINBlock) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses: a PIN block is never written anywhere.
func (PINBlock) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("p2pe: a PIN block is never stored or shown")
}

// Opaque is bytes that no verb of fmt prints and that have no JSON form. A
// []byte may be assigned to it and it to a []byte.
type Opaque []byte

// Format prints "***" whatever the verb.
func (Opaque) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// LogValue implements slog.LogValuer with "***".
func (Opaque) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON refuses.
func (Opaque) MarshalJSON() ([]byte, error) { return PINBlock{}.MarshalJSON() }
