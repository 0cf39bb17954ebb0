// Package secret holds keys and card data in memory that is kept out of swap,
// core dumps and child processes, and that never prints.
//
// Use [New] or [Take] for a [Buffer], [Buffer.Destroy] when it has been used,
// [NoDumps] once at the start of the program, and [Do] around code whose stack
// and registers should not keep what it computed.
//
// A buffer lies on pages of its own. On Linux they are locked (mlock), left
// out of dumps (MADV_DONTDUMP) and empty in a child (MADV_WIPEONFORK); on
// Windows they are locked (VirtualLock). [Buffer.Locked] says whether the
// system granted the lock: a limit on locked memory (RLIMIT_MEMLOCK) may refuse
// it, and the buffer then works without.
//
// What it does not do: it hides nothing from an administrator, from a debugger
// that is attached already, or from the machine's sleep image. Ciphers of the
// standard library copy a key's schedule to the ordinary heap.
package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
)

// Buffer is secret memory of a fixed length. It prints "***" whatever the
// verb, and refuses to become JSON or text. The zero value is an empty buffer
// that has been destroyed. It may be destroyed from any goroutine once, but not
// while another uses its bytes.
type Buffer struct {
	mu     sync.Mutex
	pages  []byte // whole pages, nil once destroyed
	n      int
	locked bool
}

// MaxLen is the longest buffer, in bytes.
const MaxLen = 1 << 20

// ErrLength: a buffer has 1 to MaxLen bytes.
var ErrLength = errors.New("secret: a buffer has 1 byte to 1 MiB")

// New returns a buffer of n zero bytes.
func New(n int) (*Buffer, error) {
	if n < 1 || n > MaxLen {
		return nil, ErrLength
	}
	pages, locked, err := allocate(n)
	if err != nil {
		return nil, fmt.Errorf("secret: reserve memory: %w", err)
	}
	b := &Buffer{pages: pages, n: n, locked: locked}
	runtime.SetFinalizer(b, (*Buffer).Destroy)
	return b, nil
}

// Take moves data into a new buffer: data is all zero afterwards, also after
// an error.
func Take(data []byte) (*Buffer, error) {
	defer clear(data)
	b, err := New(len(data))
	if err != nil {
		return nil, err
	}
	copy(b.pages, data)
	return b, nil
}

// Bytes returns the buffer's own bytes, nil once it is destroyed. They must not
// be used after Destroy: the memory is then unmapped.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.pages == nil {
		return nil
	}
	return b.pages[:b.n:b.n]
}

// Len returns the number of bytes, 0 once destroyed.
func (b *Buffer) Len() int { return len(b.Bytes()) }

// Locked reports whether the system keeps the pages out of swap.
func (b *Buffer) Locked() bool { return b != nil && b.locked }

// Destroy overwrites the bytes and gives the pages back. It may be called
// twice.
func (b *Buffer) Destroy() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pages == nil {
		return
	}
	clear(b.pages)
	runtime.SetFinalizer(b, nil)
	release(b.pages, b.locked)
	b.pages, b.n, b.locked = nil, 0, false
}

// Format prints "***" whatever the verb.
func (*Buffer) Format(s fmt.State, _ rune) { io.WriteString(s, "***") }

// String returns "***".
func (*Buffer) String() string { return "***" }

// GoString returns "***".
func (*Buffer) GoString() string { return "***" }

// LogValue implements slog.LogValuer with "***".
func (*Buffer) LogValue() slog.Value { return slog.StringValue("***") }

var errWritten = errors.New("secret: a secret is never written")

// MarshalJSON refuses.
func (*Buffer) MarshalJSON() ([]byte, error) { return nil, errWritten }

// MarshalText refuses.
func (*Buffer) MarshalText() ([]byte, error) { return nil, errWritten }

// MarshalBinary refuses, and with it encoding/gob.
func (*Buffer) MarshalBinary() ([]byte, error) { return nil, errWritten }
