package contact

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// fuzzCard answers from the fuzzer's bytes: two bytes of length, then the
// answer; when they are used up the card is gone.
type fuzzCard struct {
	b    []byte
	sent int
}

func (f *fuzzCard) Transmit(ctx context.Context, _ []byte) ([]byte, error) {
	if f.sent++; len(f.b) < 2 || f.sent > 2000 {
		return nil, io.EOF
	}
	n := min(int(f.b[0])<<8|int(f.b[1]), len(f.b)-2)
	a := f.b[2 : 2+n]
	f.b = f.b[2+n:]
	return a, nil
}

// FuzzCard is a card that says anything, in a whole transaction. It must not
// panic, not go on without end, not approve without a signature that holds,
// and not put card data into an error.
func FuzzCard(f *testing.F) {
	for _, name := range []string{"no-cvm", "visa-credit", "mastercard-credit", "amex", "unionpay"} {
		for _, amount := range []int64{1234, 20000} {
			card := cardOf(f, name, nil)
			var seed []byte
			w := &wire{card: card}
			w.change = func(_ int, _, a []byte) []byte {
				seed = append(append(seed, byte(len(a)>>8), byte(len(a))), a...)
				return a
			}
			config := testConfig(f)
			config.Random = fixedRandom{}
			p, _ := virtualcard.Named(name)
			if _, err := attempt(f, w, config, p, amount, emv.HostResponse{}); err != nil {
				f.Fatal(err)
			}
			f.Add(seed, amount, byte(0))
			f.Add(seed[:len(seed)/2], amount, byte(7))
		}
	}
	apps := applications(f, nil)
	keys := keysOf(f, apps)
	f.Fuzz(func(t *testing.T, b []byte, amount int64, host byte) {
		config := Config{Applications: apps, Keys: keys, Country: 840, Random: fixedRandom{}, Timeout: time.Minute}
		h := emv.HostResponse{Reached: host&1 != 0, Sent: host&2 != 0, Approved: host&4 != 0, ARC: "00", IssuerAuth: b[:min(len(b), int(host>>4))], Scripts: b[min(len(b), 8):min(len(b), 60)]}
		card := &fuzzCard{b: b}
		s, err := New(card, config)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if _, err := s.Read(ctx, terms(amount)); err != nil {
			own(t, err)
			return
		}
		out, err := s.Authorize(ctx, terms(amount).Amounts)
		if err != nil {
			own(t, err)
			return
		}
		if out.Decision == emv.Approved && !s.authentic {
			t.Errorf("approved offline without a signature that holds: %v", out.Reasons)
		}
		if out.Decision == emv.OnlineRequest {
			out, err = s.Complete(ctx, h)
			own(t, err)
			if out.Decision == emv.Approved && (h.Sent || h.Reached) && !(h.Reached && h.Approved) {
				t.Error("approved though the host did not")
			}
			if h.Reached && h.Approved && out.Decision != emv.Approved && !out.ReversalNeeded {
				t.Error("an approval of the host without card and without reversal")
			}
		}
	})
}

func own(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*Error](err); err != nil && !ok {
		t.Errorf("an error of another kind: %T", err)
	}
}
