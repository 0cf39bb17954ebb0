package contact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// attempt runs a whole sale and returns the last outcome. It fails the test
// when an error is not one of the kernel's own, or shows the card.
func attempt(t testing.TB, card emv.Transceiver, c Config, p virtualcard.Profile, amount int64, host emv.HostResponse) (out emv.Outcome, err error) {
	t.Helper()
	s, err := New(card, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err == nil {
			return
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Step == "" || e.Code() == "" {
			t.Errorf("an error of another kind: %T", err)
		}
		for _, secret := range []string{p.PAN, p.PAN[:10]} {
			if secret != "" && strings.Contains(fmt.Sprintf("%v %+v", err, e.Reason), secret) {
				t.Error("the error shows the card")
			}
		}
	}()
	ctx := context.Background()
	if _, err := s.Read(ctx, terms(amount)); err != nil {
		return out, err
	}
	if out, err = s.Authorize(ctx, terms(amount).Amounts); err != nil {
		return out, err
	}
	if out.Decision == emv.OnlineRequest {
		return s.Complete(ctx, host)
	}
	return out, nil
}

// damage runs one sale for each way to change one answer. An intact card of
// these profiles approves offline: a damaged one may too only when what was
// damaged does not count. mayApprove judges the runs that do.
func damage(t *testing.T, profile string, edit func(*virtualcard.Profile), ways func(command, answer []byte) [][]byte, mayApprove func(command, before, after []byte) bool) (runs, approved int) {
	t.Helper()
	p, err := virtualcard.Named(profile)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&p)
	}
	config := testConfig(t)
	config.Pad = &pad{pins: []string{p.PIN}}
	first := &wire{card: cardOf(t, profile, edit)}
	var answers [][]byte
	first.change = func(_ int, _, a []byte) []byte { answers = append(answers, a); return a }
	if out, err := attempt(t, first, config, p, 1234, emv.HostResponse{}); err != nil || out.Decision != emv.Approved {
		t.Fatalf("the intact card: %s %v", out.Decision, err)
	}
	card := cardOf(t, profile, edit)
	for n := range answers {
		for _, bad := range ways(first.sent[n], answers[n]) {
			card.Reset()
			runs++
			done := false
			var before []byte
			w := &wire{card: card}
			w.change = func(i int, _, a []byte) []byte {
				if i == n && !done {
					done, before = true, a
					return bytes.Clone(bad)
				}
				return a
			}
			out, err := attempt(t, w, config, p, 1234, emv.HostResponse{})
			if err == nil && out.Decision == emv.Approved {
				approved++
				if !mayApprove(first.sent[n], before, bad) {
					t.Errorf("%s: approved with answer %d (of %X) changed to %X", profile, n, first.sent[n][:4], bad)
				}
			}
		}
	}
	return runs, approved
}

// Each answer of a card cut at each byte never makes an approval of data that
// the intact card did not give.
func TestTruncatedAnswers(t *testing.T) {
	profiles, step := []string{"no-cvm"}, 4
	if os.Getenv("TILLBRIDGE_LARGE") == "1" {
		profiles, step = []string{"no-cvm", "discover"}, 1
	}
	for _, profile := range profiles {
		runs, approved := damage(t, profile, nil, func(_, a []byte) (out [][]byte) {
			for n := range a {
				out = append(out, a[:n])
				if n >= 2 && n%step == 0 { // cut in its data, with a good status behind
					out = append(out, append(bytes.Clone(a[:n-2]), 0x90, 0))
				}
			}
			return out
		}, func(command, _, after []byte) bool {
			// The directory and the other applications may be lost: the terminal's
			// list is tried then. A counter that is not given is no approval's base.
			return command[1] == 0xA4 || command[1] == 0xB2 && command[3] == 0x0C && len(after) < 60 || command[1] == 0xCA || bytes.Equal(after, []byte{0x90, 0}) && command[1] == 0x20
		})
		t.Logf("%s: %d cut answers, %d approved", profile, runs, approved)
	}
}

// Each byte of each answer that could be a length set to what it must not be.
func TestWrongLengths(t *testing.T) {
	for _, profile := range []string{"no-cvm"} {
		runs, approved := damage(t, profile, nil, func(_, a []byte) (out [][]byte) {
			for _, at := range lengthOctets(a[:len(a)-2]) {
				for _, v := range []byte{0, 1, a[at] - 1, a[at] + 1, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF} {
					if v != a[at] {
						b := bytes.Clone(a)
						b[at] = v
						out = append(out, b)
					}
				}
			}
			return out
		}, func(command, before, after []byte) bool {
			// Selection may fall back to the list; unsigned records may lose what
			// nobody needs (name, label); signed data are covered by the signature.
			return command[1] == 0xA4 || command[1] == 0xB2 && sameDecisionData(before, after)
		})
		t.Logf("%s: %d wrong lengths, %d approved", profile, runs, approved)
	}
}

// sameDecisionData reports whether two records give the kernel the same signed
// data and lists.
func sameDecisionData(a, b []byte) bool {
	for _, tag := range []tlv.Tag{0x5A, 0x5F24, 0x8E, 0x9F07, 0x9F0D, 0x9F0E, 0x9F0F} {
		x, _ := tlv.Find(a, tag)
		y, _ := tlv.Find(b, tag)
		if !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// lengthOctets finds where the lengths of an answer's elements stand.
func lengthOctets(b []byte) (out []int) {
	for it := tlv.IterDeep(b); it.Next(); {
		raw := it.Raw()
		out = append(out, bytes.Index(b, raw)+it.Tag().Len())
	}
	return out
}

// Every bit of the static data and the chain flipped, one a byte: whatever
// counts is covered by a signature.
func TestDamagedCertificates(t *testing.T) {
	runs, approved := damage(t, "no-cvm", nil, func(c, a []byte) (out [][]byte) {
		if c[1] != 0xB2 || c[3]>>3 == 1 {
			return nil // the directory
		}
		for i := range len(a) - 2 {
			b := bytes.Clone(a)
			b[i] ^= 1 << (i % 8)
			out = append(out, b)
		}
		return out
	}, func(_, before, after []byte) bool { return sameDecisionData(before, after) })
	t.Logf("%d damaged records, %d approved", runs, approved)
}

// Nesting without end, and answers of all lengths, are read within limits.
func TestNestingWithoutEnd(t *testing.T) {
	deep := []byte{0x5A, 0}
	for range 60 {
		deep = tlv.Append(nil, 0x70, deep)
	}
	for _, body := range [][]byte{deep, bytes.Repeat([]byte{0x70, 0x7F}, 100), bytes.Repeat([]byte{0xBF}, 250), bytes.Repeat([]byte{0x5A, 0}, 120), bytes.Repeat([]byte{0x61, 0}, 120)} {
		for n := range 8 {
			w := &wire{card: cardOf(t, "no-cvm", nil)}
			w.change = func(i int, _, a []byte) []byte {
				if i >= n {
					return append(bytes.Clone(body), 0x90, 0)
				}
				return a
			}
			if out, err := attempt(t, w, testConfig(t), w.card.(*virtualcard.Card).Profile(), 1234, emv.HostResponse{}); err == nil && out.Decision == emv.Approved {
				t.Errorf("approved from answer %d on nothing but nesting", n)
			}
			if len(w.sent) > 400 {
				t.Errorf("%d commands", len(w.sent))
			}
		}
	}
	// A card that always has one more application, and one more answer to fetch.
	more := cardOfAnswers("00A404020", visaFCI+"9000", "00A4", visaFCI+"9000", "00B2", hexTLV(0x70, hexTLV(0x61, "4F07A0000000031010"))+"9000")
	if _, err := readOf(t, more, testConfig(t)); err == nil || len(more.sent) > 400 {
		t.Errorf("a card without end: %v after %d commands", err, len(more.sent))
	}
	fetch := cardOfAnswers("00", "6100", "80", "6100")
	if _, err := readOf(t, fetch, testConfig(t)); err == nil {
		t.Error("an answer without end")
	}
}

// The card pulled at each command: a typed error, and a reversal when the host
// had approved.
func TestCardRemovedAtEachStep(t *testing.T) {
	p, _ := virtualcard.Named("visa-debit")
	card := cardOf(t, "visa-debit", nil)
	w := &wire{card: card}
	s, _, out := run(t, w, testConfig(t), 20000)
	h, _ := answer(t, card, out, "00", true)
	if _, err := s.Complete(guard(t), h); err != nil {
		t.Fatal(err)
	}
	total, first := len(w.sent), 0
	for i, c := range w.sent {
		if c[1] == 0xAE && first == 0 {
			first = i
		}
	}
	for n := range total {
		card := cardOf(t, "visa-debit", nil)
		w := &wire{card: card}
		w.change = func(i int, _, a []byte) []byte {
			if i >= n {
				return nil
			}
			return a
		}
		s, err := New(w, testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		var last emv.Outcome
		_, err = s.Read(guard(t), terms(20000))
		if err == nil {
			var out emv.Outcome
			if out, err = s.Authorize(guard(t), terms(20000).Amounts); err == nil {
				if out.Decision != emv.OnlineRequest {
					t.Fatalf("at %d: %s", n, out.Decision)
				}
				h, _ := answer(t, card, out, "00", true)
				if last, err = s.Complete(guard(t), h); !last.ReversalNeeded || last.Decision != emv.Declined {
					t.Errorf("removed at %d after the host's approval: %s, reversal %v", n, last.Decision, last.ReversalNeeded)
				}
			}
		}
		if !errors.Is(err, emv.ErrCardRemoved) || n > first && last.Decision == "" {
			t.Errorf("removed at %d: %v", n, err)
		}
		if strings.Contains(fmt.Sprint(err), p.PAN) {
			t.Error("the error shows the card")
		}
	}
}

// A card slower than the deadline of a command, and a caller who gives up.
func TestSlowCard(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	reader := &virtualcard.Reader{Conn: a} // nobody serves
	config := testConfig(t)
	config.Timeout = 20 * time.Millisecond
	if _, err := readOf(t, reader, config); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, emv.ErrCardRemoved) {
		t.Errorf("a silent card: %v", err)
	}
	s, err := New(stuck{}, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, err := s.Read(ctx, terms(1)); started <- err }()
	if err := s.Cancel(guard(t)); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-started; !errors.Is(err, emv.ErrCancelled) {
		t.Errorf("a cancelled read: %v", err)
	}
	cancel()
	if _, err := s.Authorize(guard(t), terms(1).Amounts); !errors.Is(err, emv.ErrCancelled) {
		t.Errorf("a step after cancel: %v", err)
	}
}

// stuck answers when it is told to stop.
type stuck struct{}

func (stuck) Transmit(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The steps come in their order or not at all.
func TestStepsComeInOrder(t *testing.T) {
	s, err := New(cardOf(t, "no-cvm", nil), testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authorize(guard(t), terms(1).Amounts); !errors.Is(err, ErrOrder) {
		t.Errorf("authorize first: %v", err)
	}
	out, err := s.Complete(guard(t), emv.HostResponse{Reached: true, Approved: true})
	if !errors.Is(err, ErrOrder) || !out.ReversalNeeded {
		t.Errorf("complete first: %v, reversal %v", err, out.ReversalNeeded)
	}
	if _, err := s.Read(guard(t), terms(1)); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(guard(t), terms(1)); !errors.Is(err, ErrOrder) {
		t.Errorf("read twice: %v", err)
	}
	other := terms(1).Amounts
	other.CurrencyNumeric = 978
	if _, err := s.Authorize(guard(t), other); !errors.Is(err, ErrTerms) {
		t.Errorf("another currency: %v", err)
	}
}
