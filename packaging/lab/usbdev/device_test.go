package usbdev

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// host is the host controller's side of a connection.
type host struct {
	t    *testing.T
	conn net.Conn
	seq  uint32
}

func plug(t *testing.T, d *Device) *host {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- d.Serve(b) }()
	a.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { a.Close(); <-done })
	return &host{t: t, conn: a}
}

func (h *host) submit(in bool, endpoint, length int, setup []byte, data []byte) uint32 {
	h.t.Helper()
	h.seq++
	b := make([]byte, headerSize)
	put := func(i, v int) { binary.BigEndian.PutUint32(b[i:], uint32(v)) }
	put(0, cmdSubmit)
	put(4, int(h.seq))
	if in {
		put(12, 1)
	}
	put(16, endpoint)
	put(24, length)
	copy(b[40:], setup)
	if _, err := h.conn.Write(append(b, data...)); err != nil {
		h.t.Fatal(err)
	}
	return h.seq
}

func (h *host) unlink(victim uint32) {
	h.seq++
	b := make([]byte, headerSize)
	binary.BigEndian.PutUint32(b[0:], cmdUnlink)
	binary.BigEndian.PutUint32(b[4:], h.seq)
	binary.BigEndian.PutUint32(b[20:], victim)
	h.conn.Write(b)
}

// result reads the end of a transfer; in says whether data follow.
func (h *host) result(in bool) (command int, seq uint32, status int32, data []byte) {
	h.t.Helper()
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(h.conn, b); err != nil {
		h.t.Fatal(err)
	}
	n := binary.BigEndian.Uint32(b[24:])
	if in {
		data = make([]byte, n)
		if _, err := io.ReadFull(h.conn, data); err != nil {
			h.t.Fatal(err)
		}
	}
	return int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:]), int32(binary.BigEndian.Uint32(b[20:])), data
}

func TestPackets(t *testing.T) {
	d := New(Options{Interfaces: []Interface{{Class: 0x0B, Endpoints: []Endpoint{{0x81, 2, 8, 0}}}}})
	h := plug(t, d)
	for _, c := range []struct {
		name    string
		send    [][]byte
		room    int
		want    int
		status  int32
		waiting bool
	}{
		{"a short packet ends it", [][]byte{{1, 2, 3}}, 64, 3, 0, false},
		{"packets until a short one", [][]byte{make([]byte, 20)}, 64, 20, 0, false},
		{"full packets, then an empty one", [][]byte{make([]byte, 16), nil}, 64, 16, 0, false},
		{"the buffer is full", [][]byte{make([]byte, 16)}, 16, 16, 0, false},
		{"a packet does not fit", [][]byte{make([]byte, 8)}, 5, 5, statusOverflow, false},
	} {
		seq := h.submit(true, 1, c.room, nil, nil)
		go func() {
			for _, p := range c.send {
				d.Send(1, p)
			}
		}()
		command, got, status, data := h.result(true)
		if command != retSubmit || got != seq || status != c.status || len(data) != c.want {
			t.Errorf("%s: %d %d status %d, %d bytes", c.name, command, got, status, len(data))
		}
	}
	// A message that fills its packets does not end a longer transfer.
	seq := h.submit(true, 1, 64, nil, nil)
	d.Send(1, make([]byte, 16))
	h.unlink(seq)
	if command, _, status, _ := h.result(false); command != retUnlink || status != statusReset {
		t.Errorf("unlink: %d status %d", command, status)
	}
	if d.Unlinks() != 1 {
		t.Error(d.Unlinks())
	}
}

func TestStallLastsUntilCleared(t *testing.T) {
	d := New(Options{Interfaces: []Interface{{Endpoints: []Endpoint{{0x81, 3, 8, 1}}}}})
	h := plug(t, d)
	d.Stall(0x81, 1)
	for range 2 {
		h.submit(true, 1, 8, nil, nil)
		if _, _, status, _ := h.result(true); status != statusPipe {
			t.Errorf("status %d", status)
		}
	}
	h.submit(false, 0, 0, []byte{2, clearFeature, 0, 0, 0x81, 0, 0, 0}, nil)
	if _, _, status, _ := h.result(false); status != 0 || d.Clears() != 1 {
		t.Errorf("clear: %d", status)
	}
	go d.Send(1, []byte{7})
	h.submit(true, 1, 8, nil, nil)
	if _, _, status, data := h.result(true); status != 0 || !bytes.Equal(data, []byte{7}) {
		t.Errorf("%d % X", status, data)
	}
}

func TestDescriptors(t *testing.T) {
	p := NewPad(PadOptions{VID: 0x0ACD, PID: 0x3530, Maker: "M", Product: "P", Serial: "S1", Keyboard: true})
	h := plug(t, p.Device)
	ask := func(kind, number byte, index byte) []byte {
		h.submit(true, 0, 255, []byte{0x80, getDescriptor, number, kind, index, 0, 255, 0}, nil)
		_, _, status, data := h.result(true)
		if status != 0 {
			return nil
		}
		return data
	}
	if d := ask(kindDevice, 0, 0); len(d) != 18 || d[8] != 0xCD || d[9] != 0x0A {
		t.Errorf("% X", d)
	}
	c := ask(kindConfiguration, 0, 0)
	if len(c) != int(binary.LittleEndian.Uint16(c[2:])) || c[4] != 2 {
		t.Errorf("% X", c)
	}
	for n := 0; n < len(c); n += int(c[n]) { // the chain of lengths ends where the whole does
		if c[n] < 2 || n+int(c[n]) > len(c) {
			t.Fatalf("% X", c)
		}
	}
	if s := ask(kindString, 3, 0); string(s) != "\x06\x03S\x001\x00" {
		t.Errorf("%q", s)
	}
	if ask(kindString, 9, 0) != nil || ask(kindReport, 0, 5) != nil {
		t.Error("a descriptor that is not there")
	}
	line := p.Line()
	defer line.Close()
	h.submit(false, 0, 64, []byte{0x21, hidSetReport, 1, 2, 1, 0, 64, 0}, make([]byte, 64))
	h.result(false)
	h.submit(false, 2, 64, nil, bytes.Repeat([]byte{2}, 64))
	h.result(false)
	b := make([]byte, 64)
	for _, want := range []byte{0, 2} {
		if n, err := line.Read(b); n != 64 || err != nil || b[0] != want {
			t.Errorf("%d, %v, %d", n, err, b[0])
		}
	}
}

func FuzzURB(f *testing.F) {
	f.Add(make([]byte, headerSize))
	b := make([]byte, headerSize)
	b[3] = cmdSubmit
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewPad(PadOptions{Keyboard: true})
		line := d.Line()
		defer line.Close()
		r, w := io.Pipe()
		go func() { w.Write(b); w.Close() }()
		d.Serve(struct {
			io.Reader
			io.Writer
			io.Closer
		}{r, io.Discard, r})
	})
}
