//go:build lab && usb && linux

package guest

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// card is what can lie in the slot; *virtualcard.Card is one.
type card interface {
	ATR() []byte
	Reset()
	Transmit(ctx context.Context, command []byte) ([]byte, error)
}

// Messages of the protocol between QEMU's ccid-card-passthru and whoever plays
// the card (libcacard's vscard_common.h, version 0.0.2): type, reader and length
// as 32 bits big endian, then data.
const (
	vscInit       = 1
	vscReaderAdd  = 3
	vscATR        = 5
	vscCardRemove = 6
	vscAPDU       = 7
)

// slot is the card's side of QEMU's reader, on a serial line of the guest.
type slot struct {
	line *os.File

	mu       sync.Mutex
	in       card
	commands int // that reached the card
	slow     chan struct{}
}

var theSlot = sync.OnceValues(func() (*slot, error) {
	line, err := openLine(cardLine)
	if err != nil {
		return nil, err
	}
	s := &slot{line: line}
	go s.serve() // as long as the guest lives
	return s, s.connect()
})

func slotOf(t *testing.T) *slot {
	t.Helper()
	s, err := theSlot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// connect says that the card's side is there; after each plug of the reader.
func (s *slot) connect() error {
	hello := append([]byte("VSCD"), 0, 0, 0, 2, 0, 0, 0, 0) // magic, version, capabilities
	return errorsOf(s.send(vscInit, hello), s.send(vscReaderAdd, []byte("lab\x00")))
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *slot) send(kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint32(nil, kind)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	s.line.SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := s.line.Write(append(b, data...))
	return err
}

// insert puts a card into the slot.
func (s *slot) insert(c card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Reset()
	s.in = c
	s.send(vscATR, c.ATR())
}

// remove takes it out.
func (s *slot) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil {
		s.in = nil
		s.send(vscCardRemove, nil)
	}
}

// pulled is a card that goes with its reader: nothing is said, to a reader that is
// not there, and no answer is given any more. Half a message would wait for the
// next reader.
func (s *slot) pulled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = nil
}

// hold makes the card wait with its next answer until the returned function is
// called.
func (s *slot) hold() (release func()) {
	ch := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = ch
	return sync.OnceFunc(func() { close(ch) })
}

func (s *slot) count() int { s.mu.Lock(); defer s.mu.Unlock(); return s.commands }

func (s *slot) serve() {
	for {
		var h [12]byte
		if _, err := io.ReadFull(s.line, h[:]); err != nil {
			return
		}
		data := make([]byte, min(binary.BigEndian.Uint32(h[8:]), 1<<17))
		if _, err := io.ReadFull(s.line, data); err != nil {
			return
		}
		if binary.BigEndian.Uint32(h[:]) != vscAPDU {
			continue
		}
		s.mu.Lock()
		c, slow := s.in, s.slow
		s.slow = nil
		s.commands++
		s.mu.Unlock()
		if slow != nil {
			<-slow
		}
		if c == nil {
			continue
		}
		answer, err := c.Transmit(context.Background(), data)
		s.mu.Lock()
		if err == nil && s.in == c {
			s.send(vscAPDU, answer)
		}
		s.mu.Unlock()
	}
}

// lengths is a T=0 card that answers READ BINARY with as many bytes as P3 says
// (0 for 256), and takes every other command.
type lengths struct{}

func (lengths) ATR() []byte { return []byte{0x3B, 0x60, 0x00, 0x00} }
func (lengths) Reset()      {}
func (lengths) Transmit(_ context.Context, c []byte) ([]byte, error) {
	if len(c) != 5 || c[1] != 0xB0 {
		return []byte{0x90, 0}, nil
	}
	n := int(c[4])
	if n == 0 {
		n = 256
	}
	return append(pattern(n), 0x90, 0), nil
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return slices.Clip(b)
}
