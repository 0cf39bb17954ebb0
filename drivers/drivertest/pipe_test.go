package drivertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := Pipe(PipeOptions{})
		b := make([]byte, 8)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := host.Read(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("read of a silent line: %v", err)
		}
		ctx = t.Context()
		device.Write(ctx, []byte("ab"))
		device.Write(ctx, []byte("cd"))
		if n, err := host.Read(ctx, b); err != nil || string(b[:n]) != "ab" {
			t.Fatalf("first piece: %q %v", b[:n], err)
		}
		device.Unplug()
		if n, err := host.Read(ctx, b); err != nil || string(b[:n]) != "cd" {
			t.Fatalf("what was under way: %q %v", b[:n], err)
		}
		if _, err := host.Read(ctx, b); !errors.Is(err, drivers.ErrUnplugged) {
			t.Fatalf("after unplug: %v", err)
		}
		if _, err := host.Write(ctx, b); !errors.Is(err, drivers.ErrUnplugged) {
			t.Fatalf("write after unplug: %v", err)
		}
		host.Close()
		host.Close()
		if _, err := host.Read(ctx, b); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("after close: %v", err)
		}
	})
}

func TestPipeWriteWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, device := Pipe(PipeOptions{Room: 4, Merge: true})
		host.Write(t.Context(), []byte("abc"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := host.Write(ctx, []byte("de")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("write on a full line: %v", err)
		}
		go func() {
			host.Write(t.Context(), []byte("de"))
			host.Close()
		}()
		all, err := io.ReadAll(device.Stream())
		if err != nil || string(all) != "abcde" {
			t.Fatalf("%q %v", all, err)
		}
	})
}

func TestNoise(t *testing.T) {
	send := func(t *testing.T, seed uint64, o NoiseOptions) (got []byte, counts map[Fault]int) {
		synctest.Test(t, func(t *testing.T) {
			host, device := Pipe(PipeOptions{})
			n := Noise(host, seed, o)
			done := make(chan struct{})
			go func() {
				got, _ = io.ReadAll(device.Stream())
				close(done)
			}()
			for i := range 200 {
				if _, err := n.Write(t.Context(), []byte{byte(i), 1, 2, 3, 4, 5, 6, 7}); err != nil {
					break
				}
			}
			n.Close()
			<-done
			counts = n.Injected()
		})
		return got, counts
	}
	clean, _ := send(t, 1, NoiseOptions{})
	if len(clean) != 1600 {
		t.Fatalf("a clean line changed the length to %d", len(clean))
	}
	for _, f := range faults {
		t.Run(string(f), func(t *testing.T) {
			o := NoiseOptions{Rate: map[Fault]float64{f: 0.05}}
			a, counts := send(t, 7, o)
			b, _ := send(t, 7, o)
			if !bytes.Equal(a, b) {
				t.Error("the same seed gave other bytes")
			}
			if counts[f] == 0 {
				t.Error("the fault was never played")
			}
			switch f {
			case FaultSplit, FaultDelay, FaultStall:
				if !bytes.Equal(a, clean) {
					t.Error("a fault of time changed the bytes")
				}
			case FaultFlip:
				diff := 0
				for i := range clean {
					if i < len(a) && a[i] != clean[i] {
						diff++
					}
				}
				if len(a) != len(clean) || diff != counts[f] {
					t.Errorf("%d bytes of %d changed, %d flips", diff, len(a), counts[f])
				}
			case FaultDrop:
				if len(a) != len(clean)-counts[f] {
					t.Errorf("%d bytes, %d drops", len(a), counts[f])
				}
			case FaultDuplicate:
				if len(a) != len(clean)+8*counts[f] {
					t.Errorf("%d bytes, %d pieces doubled", len(a), counts[f])
				}
			case FaultBabble:
				if len(a) <= len(clean) {
					t.Error("nothing was added")
				}
			case FaultHangUp:
				if len(a) >= len(clean) || counts[f] != 1 {
					t.Errorf("%d bytes passed, %d hang-ups", len(a), counts[f])
				}
			}
		})
	}
}
