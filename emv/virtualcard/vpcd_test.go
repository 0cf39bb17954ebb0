package virtualcard

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"testing"

	"tillbridge/emv"
)

var _ emv.Transceiver = (*Reader)(nil)

func serve(t *testing.T, c *Card) (*Reader, chan error, context.CancelFunc) {
	t.Helper()
	a, b := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, b, c, nil) }()
	t.Cleanup(func() { cancel(); a.Close(); <-done })
	return &Reader{Conn: a}, done, cancel
}

func TestACardBehindTheVPCDFraming(t *testing.T) {
	c := newCard(t, nil, "visa-debit")
	r, done, _ := serve(t, c)
	atr, err := r.Power(t.Context())
	if err != nil || hex.EncodeToString(atr) != "3be000008131204535" {
		t.Fatalf("ATR %X, %v", atr, err)
	}
	cmd, _ := hex.DecodeString("00A404000E315041592E5359532E444446303100")
	got, err := r.Transmit(t.Context(), cmd)
	if err != nil || got[0] != 0x6F {
		t.Fatalf("%X %v", got, err)
	}
	if _, err := r.Power(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Power forgot the selection.
	if got, _ = r.Transmit(t.Context(), []byte{0, 0xB2, 1, 12, 0}); hex.EncodeToString(got) != "6985" {
		t.Errorf("after power: %X", got)
	}
	r.Conn.Close()
	if err := <-done; err != nil {
		t.Errorf("served to the end: %v", err)
	}
	done <- nil
}

func TestServeEndsByContextRemovalAndBadFrames(t *testing.T) {
	_, done, cancel := serve(t, newCard(t, nil, "no-pse"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	done <- nil

	c := newCard(t, nil, "no-pse")
	r, done, _ := serve(t, c)
	c.Remove()
	if _, err := r.Transmit(t.Context(), []byte{0, 0xA4, 4, 0}); err == nil {
		t.Error("a removed card answers")
	}
	if err := <-done; !errors.Is(err, ErrRemoved) {
		t.Errorf("removed: %v", err)
	}
	done <- nil

	for _, frame := range [][]byte{{0, 0}, {0, 1, 9}} {
		r, done, _ := serve(t, newCard(t, nil, "no-pse"))
		if _, err := r.Conn.Write(frame); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrFrame) {
			t.Errorf("%X: %v", frame, err)
		}
		done <- nil
	}
}

func TestAReaderDoesNotWaitBeyondItsDeadline(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { buf := make([]byte, 64); b.Read(buf); cancel() }() // takes the command and is silent
	if _, err := (&Reader{Conn: a}).Transmit(ctx, []byte{0, 0xA4, 4, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
