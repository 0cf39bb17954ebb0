package neo2

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"testing"
	"testing/synctest"

	"tillbridge/drivers/drivertest"
	"tillbridge/emv/virtualcard"
)

// host is a host of the test's own: bytes by hand, checksum bit by bit.
type host struct {
	t   *testing.T
	c   io.ReadWriter
	hid bool
	buf []byte
}

func crc(b []byte) uint16 {
	v := uint16(0xFFFF)
	for _, c := range b {
		v ^= uint16(c) << 8
		for range 8 {
			if v&0x8000 != 0 {
				v = v<<1 ^ 0x1021
			} else {
				v <<= 1
			}
		}
	}
	return v
}

func (h *host) send(cmd, sub byte, data string) {
	h.t.Helper()
	d, err := hex.DecodeString(data)
	if err != nil {
		h.t.Fatal(err)
	}
	b := append([]byte("ViVOtech2\x00"), cmd, sub, byte(len(d)>>8), byte(len(d)))
	b = append(b, d...)
	v := crc(b)
	b = append(b, byte(v), byte(v>>8))
	if !h.hid {
		h.c.Write(b)
		return
	}
	for _, p := range reports(b) {
		h.c.Write(p)
	}
}

// answer reads one frame: status and data.
func (h *host) answer(cmd byte) (byte, string) {
	h.t.Helper()
	for {
		if i := bytes.Index(h.buf, []byte("ViVOtech2\x00")); i >= 0 {
			h.buf = h.buf[i:]
			if len(h.buf) >= 16 {
				n := 16 + int(h.buf[12])<<8 + int(h.buf[13])
				if len(h.buf) >= n {
					f := h.buf[:n]
					h.buf = append([]byte(nil), h.buf[n:]...)
					v := crc(f[:n-2])
					if f[n-2] != byte(v>>8) || f[n-1] != byte(v) {
						h.t.Fatal("checksum")
					}
					if f[10] != cmd {
						h.t.Fatalf("an answer to %02X, want %02X", f[10], cmd)
					}
					return f[11], hex.EncodeToString(f[14 : n-2])
				}
			}
		}
		p := make([]byte, 64)
		n, err := h.c.Read(p)
		if err != nil {
			h.t.Fatalf("the line ended: %v", err)
		}
		if p = p[:n]; h.hid {
			p = p[1:]
		}
		h.buf = append(h.buf, p...)
	}
}

func (h *host) ask(cmd, sub byte, data string) (byte, string) {
	h.t.Helper()
	h.send(cmd, sub, data)
	return h.answer(cmd)
}

func testKey() *InitialKey {
	return &InitialKey{KSN: "FFFF9876543211E00000", Key: "0123456789ABCDEF0011223344556677"}
}

func cards() map[string]*virtualcard.Card {
	return map[string]*virtualcard.Card{"visa": testCard()}
}

// on plays a reader in a bubble.
func on(t *testing.T, o Options, f func(t *testing.T, r *Reader, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o.Key == nil {
			o.Key = testKey()
		}
		o.Cards = cards()
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		far, near := drivertest.Pipe(drivertest.PipeOptions{})
		done := make(chan struct{})
		go func() { defer close(done); r.Run(context.Background(), near.Stream()) }()
		f(t, r, &host{t: t, c: far.Stream(), hid: o.HID})
		far.Close()
		<-done
	})
}

func do(t *testing.T, r *Reader, list ...Step) {
	t.Helper()
	for _, s := range list {
		if err := r.Do(s); err != nil {
			t.Fatal(err)
		}
	}
}
