package neo2

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/emv/virtualcard"
)

var testCard = sync.OnceValue(func() *virtualcard.Card {
	p, err := virtualcard.Named("visa-credit")
	if err != nil {
		panic(err)
	}
	p.ODA = virtualcard.ODANone
	c, err := virtualcard.New(&virtualcard.Options{Seed: 5}, p)
	if err != nil {
		panic(err)
	}
	return c
})

const tenEuros = "9f0206000000001000" + "9f0306000000000000" + "9c0100" + "5f2a020978" + "9a03261130" + "9f2103210509"

func TestChipInThreePhases(t *testing.T) {
	for name, hid := range map[string]bool{"serial": false, "hid": true} {
		t.Run(name, func(t *testing.T) {
			on(t, Options{HID: hid}, func(t *testing.T, r *Reader, h *host) {
				do(t, r, Step{Do: "insert", Card: "visa", AfterMS: 700})
				if st, _ := h.ask(0x60, 0x11, "01"); st != statNotAllowed {
					t.Errorf("60-11 before 60-10: %02X", st)
				}
				if st, _ := h.ask(0x60, 0x10, "01003c003c"+tenEuros); st != statAccepted {
					t.Fatalf("60-10: %02X", st)
				}
				st, data := h.answer(0x60)
				if st != statOK || !strings.Contains(data, "dfee2601c0") || !strings.Contains(data, "dfee120affff9876543211e00001") {
					t.Fatalf("60-10: %02X", st)
				}
				if strings.Contains(data, testCard().PAN()) {
					t.Fatal("the number leaves the reader in the clear")
				}
				h.ask(0x60, 0x11, "01")
				if st, data = h.answer(0x60); st != statOK || !strings.HasPrefix(data, "0004") || !strings.Contains(data, "9f0206000000001000") || !strings.Contains(data, "9f270180") {
					t.Fatalf("60-11: %02X %.4s", st, data)
				}
				if st, _ := h.ask(0x60, 0x11, "01"); st != statNotAllowed {
					t.Errorf("60-11 again: %02X", st)
				}
				h.ask(0x60, 0x12, "008a023030")
				if st, data = h.answer(0x60); st != statOK || !strings.HasPrefix(data, "0002") || !strings.Contains(data, "9f270140") {
					t.Fatalf("60-12: %02X %.4s", st, data)
				}
				if st, _ := h.ask(0x60, 0x12, "008a023030"); st != statNotAllowed {
					t.Errorf("60-12 again: %02X", st)
				}
				b := r.Books()
				if len(b) != 1 || b[0].Amount != 1000 || b[0].Final != "approved" || strings.Contains(b[0].Card, testCard().PAN()) {
					t.Errorf("%+v", b)
				}
			})
		})
	}
}

func TestTapSwipeAndWhatIsOffered(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		do(t, r, Step{Do: "tap", Card: "visa"})
		st, data := h.ask(0x02, 0x40, "0a"+tenEuros+"dfef370107")
		if st != statOnline || !strings.HasPrefix(data, "c1") || !strings.Contains(data, "9f2608") {
			t.Fatalf("tap: %02X %.2s", st, data)
		}
		do(t, r, Step{Do: "tap", Card: "visa"}, Step{Do: "swipe", Card: "visa"})
		st, data = h.ask(0x02, 0x40, "0a"+tenEuros+"dfef370101") // the tap is not offered
		if st != statOK || !strings.HasPrefix(data, "c8dfee23") || strings.Contains(data, testCard().PAN()) ||
			strings.Contains(data, hex.EncodeToString([]byte(testCard().PAN()))) {
			t.Fatalf("swipe: %02X %.8s", st, data)
		}
		if b := r.Books(); len(b) != 1 {
			t.Errorf("%+v", b)
		}
	})
}

func TestWaitingCanBeCancelledAndEnds(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		h.send(0x02, 0x40, "0a"+tenEuros)
		synctest.Wait()
		if r.Waiting() != "card" {
			t.Fatal("it does not wait")
		}
		if st, _ := h.ask(0x18, 0x01, ""); st != statOK {
			t.Errorf("ping while it waits: %02X", st)
		}
		if st, _ := h.ask(0x29, 0x00, ""); st != statNotAllowed {
			t.Errorf("another command while it waits: %02X", st)
		}
		if st, _ := h.ask(0x05, 0x01, ""); st != statOK {
			t.Errorf("cancel: %02X", st)
		}
		if st, _ := h.answer(0x02); st != statFailed {
			t.Errorf("what was cancelled: %02X", st)
		}
		if st, _ := h.ask(0x02, 0x40, "0a"+tenEuros); st != statTimeout {
			t.Errorf("nobody: %02X", st)
		}
		do(t, r, Step{Do: "walk-away"})
		if st, _ := h.ask(0x02, 0x40, "0a"+tenEuros); st != statTimeout {
			t.Errorf("walked away: %02X", st)
		}
	})
}

func TestUnknownAndMalformed(t *testing.T) {
	on(t, Options{}, func(t *testing.T, r *Reader, h *host) {
		for _, c := range []struct {
			cmd, sub byte
			data     string
			want     byte
		}{
			{0x77, 0x01, "", statCommand}, {0x18, 0x09, "", statSub}, {0x60, 0x10, "00", statParameter}, {0x60, 0x10, "00003c003c9f0206000000001000", statParameter},
			{0x02, 0x40, "", statParameter}, {0xC7, 0x36, "", statParameter},
		} {
			if st, _ := h.ask(c.cmd, c.sub, c.data); st != c.want {
				t.Errorf("%02X-%02X %s: %02X, want %02X", c.cmd, c.sub, c.data, st, c.want)
			}
		}
		b := append([]byte("ViVOtech2\x00"), 0x18, 0x01, 0, 0, 0x12, 0x34)
		h.c.Write(b)
		if st, _ := h.answer(0x18); st != statCRC {
			t.Errorf("wrong checksum: %02X", st)
		}
		h.c.Write([]byte("ViVOtech2\x00\x18\x01\x00")) // and then silence
		time.Sleep(time.Second)
		if st, _ := h.ask(0x18, 0x01, ""); st != statOK {
			t.Errorf("ping behind half a frame: %02X", st)
		}
	})
}

// A key is used once, also over a restart of the process.
func TestKSNNeverComesBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	seen := map[string]bool{}
	for range 3 {
		on(t, Options{State: file}, func(t *testing.T, r *Reader, h *host) {
			for range 2 {
				do(t, r, Step{Do: "tap", Card: "visa"})
				_, data := h.ask(0x02, 0x40, "0a"+tenEuros)
				i := strings.Index(data, "dfee120a")
				if i < 0 {
					t.Fatal("no KSN")
				}
				ksn := data[i+8 : i+28]
				if seen[ksn] {
					t.Errorf("KSN %s again", ksn)
				}
				seen[ksn] = true
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, []byte("0123456789ABCDEF0011223344556677")) {
		t.Error("the initial key stays in the file")
	}
}
