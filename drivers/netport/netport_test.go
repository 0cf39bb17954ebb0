package netport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"tillbridge/drivers"
)

const guard = 30 * time.Second

func pair(t *testing.T) (drivers.Transport, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		accepted <- c
	}()
	bus := New(&Options{Addresses: []string{l.Addr().String()}})
	ports, err := bus.Scan(t.Context())
	if err != nil || len(ports) != 1 || !ports[0].Explicit || ports[0].Kind != drivers.KindTCP {
		t.Fatalf("Scan: %+v, %v", ports, err)
	}
	tr, err := bus.Open(t.Context(), ports[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	select {
	case c := <-accepted:
		t.Cleanup(func() { c.Close() })
		return tr, c
	case <-time.After(guard):
		t.Fatal("no connection")
		return nil, nil
	}
}

func TestBytesAndDeadlines(t *testing.T) {
	tr, device := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	if n, err := tr.Write(ctx, []byte{1, 2, 3}); n != 3 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	buf := make([]byte, 10)
	if n, err := device.Read(buf); n != 3 || err != nil {
		t.Fatalf("device: %d, %v", n, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if n, err := tr.Read(short, buf); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Read: %d, %v", n, err)
	}
	if _, err := device.Write([]byte{9}); err != nil {
		t.Fatal(err)
	}
	if n, err := tr.Read(ctx, buf); n != 1 || err != nil {
		t.Fatalf("Read after a deadline: %d, %v", n, err)
	}
}

func TestCancelEndsAReadAndTheNextOneWorks(t *testing.T) {
	tr, device := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := tr.Read(ctx, make([]byte, 1)); done <- err }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Read: %v", err)
		}
	case <-time.After(guard):
		t.Fatal("the cancelled read never ended")
	}
	if _, err := device.Write([]byte{9}); err != nil {
		t.Fatal(err)
	}
	if n, err := tr.Read(t.Context(), make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("next Read: %d, %v", n, err)
	}
}

func TestWriteEndsByItsDeadline(t *testing.T) {
	tr, device := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	big := make([]byte, 64<<20) // nobody reads
	if n, err := tr.Write(ctx, big); !errors.Is(err, context.DeadlineExceeded) || n == 0 {
		t.Fatalf("Write: %d, %v", n, err)
	}
	// The device reads again: it must not take another message for the rest of
	// the first.
	go io.Copy(io.Discard, device) // ends when the connection is closed
	next, cancel := context.WithTimeout(t.Context(), guard)
	defer cancel()
	if n, err := tr.Write(next, []byte{1}); n != 0 || !errors.Is(err, drivers.ErrUnplugged) {
		t.Errorf("Write after a part of another: %d, %v", n, err)
	}
}

func TestHangUpIsAnUnplugAndCloseIsOurs(t *testing.T) {
	tr, device := pair(t)
	device.Close()
	if _, err := tr.Read(t.Context(), make([]byte, 1)); !errors.Is(err, drivers.ErrUnplugged) {
		t.Fatalf("Read: %v, want ErrUnplugged", err)
	}
	tr, _ = pair(t)
	done := make(chan error, 1)
	go func() { _, err := tr.Read(context.Background(), make([]byte, 1)); done <- err }()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, drivers.ErrUnplugged) {
			t.Fatalf("Read: %v, want os.ErrClosed", err)
		}
	case <-time.After(guard):
		t.Fatal("the read outlived Close")
	}
	if err := tr.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if _, err := New(nil).Open(t.Context(), drivers.Port{Path: address}); !errors.Is(err, drivers.ErrNoPort) {
		t.Fatalf("Open: %v, want ErrNoPort", err)
	}
}
