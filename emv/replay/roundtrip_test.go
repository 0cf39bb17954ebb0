package replay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/contact"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/oda"
	"tillbridge/emv/virtualcard"
)

var testCA = sync.OnceValues(func() (*virtualcard.CA, error) { return virtualcard.NewCA(7) })

// recorder keeps what passes.
type recorder struct {
	card emv.Transceiver
	list []Exchange
}

func (r *recorder) Transmit(ctx context.Context, c []byte) ([]byte, error) {
	a, err := r.card.Transmit(ctx, c)
	if err == nil {
		r.list = append(r.list, Exchange{bytes.Clone(c), bytes.Clone(a)})
	}
	return a, err
}

// plainPad types the card's PIN and lets the card check it in clear.
type plainPad struct{ pin string }

func (p plainPad) EnterPIN(ctx context.Context, r contact.PINRequest) (contact.PINAnswer, error) {
	if r.Method != contact.PlaintextPIN {
		return contact.PINAnswer{Status: contact.PINBypassed}, nil
	}
	b, err := cryptogram.ISO2PINBlock(p.pin)
	if err != nil {
		return contact.PINAnswer{}, err
	}
	a, err := r.Card.Transmit(ctx, apdu.Command{INS: 0x20, P2: 0x80, Data: b[:]}.Bytes())
	if err != nil {
		return contact.PINAnswer{}, err
	}
	if !bytes.Equal(a, []byte{0x90, 0}) {
		return contact.PINAnswer{}, errors.New("the card refused the PIN")
	}
	return contact.PINAnswer{Status: contact.PINVerified}, nil
}

// record runs a sale with a virtual card and returns what passed, with the
// last outcome.
func record(t *testing.T, name string, tpdu bool, amount int64) (Recording, emv.Outcome, *Options) {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	p, err := virtualcard.Named(name)
	if err != nil {
		t.Fatal(err)
	}
	card, err := virtualcard.New(&virtualcard.Options{CA: ca, Seed: 3}, p)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{card: card}
	aid, _ := hex.DecodeString(p.AID)
	rid, _ := oda.RIDOf(aid)
	keys := oda.NewStore(oda.Test)
	if err := keys.Add(oda.Test, oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()}); err != nil {
		t.Fatal(err)
	}
	s, err := contact.New(rec, contact.Config{
		Applications: []contact.Application{{AID: aid, Version: [2]byte{0, 2}, Risk: contact.RiskConfig{FloorLimit: 10000}}},
		Keys:         keys, Country: 840, PlaintextPIN: true, Pad: plainPad{p.PIN},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	terms := emv.Terms{Time: time.Date(2026, 11, 30, 12, 30, 1, 0, time.UTC), Reference: 12,
		Amounts: emv.Amounts{Amount: amount, CurrencyNumeric: 840, Exponent: 2}}
	if _, err := s.Read(ctx, terms); err != nil {
		t.Fatal(err)
	}
	out, err := s.Authorize(ctx, terms.Amounts)
	if err != nil {
		t.Fatal(err)
	}
	if out.Decision == emv.OnlineRequest {
		v, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: p.PAN, PSN: p.PSN, AID: aid, Data: out.Field55})
		if err != nil {
			t.Fatal(err)
		}
		h := emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}
		if h.IssuerAuth, err = v.Answer("00", true); err != nil {
			t.Fatal(err)
		}
		script, err := v.PINUnblock()
		if err != nil {
			t.Fatal(err)
		}
		h.Scripts = cryptogram.AppendScript(nil, 0x71, [4]byte{}, script)
		if out, err = s.Complete(ctx, h); err != nil {
			t.Fatal(err)
		}
	}
	list := rec.list
	if tpdu {
		list = overT0(t, list)
	}
	return Recording{Name: name, Interface: "contact", TPDU: tpdu, Exchanges: list}, out, &Options{Keys: keys}
}

// overT0 writes exchanges as a T=0 line would have carried them (ISO/IEC
// 7816-3 section 10.3, 12.2): header, procedure byte, data, 6Cxx, 61xx.
func overT0(t *testing.T, list []Exchange) (out []Exchange) {
	for _, e := range list {
		c, err := apdu.ParseCommand(e.Command)
		if err != nil {
			t.Fatal(err)
		}
		n := len(e.Answer) - 2
		data, sw := e.Answer[:n], e.Answer[n:]
		header := []byte{c.CLA, c.INS, c.P1, c.P2, byte(len(c.Data))}
		if len(c.Data) == 0 {
			out = append(out, Exchange{header, sw})
			if n > 0 {
				out[len(out)-1].Answer = []byte{0x6C, byte(n)}
				right := append(bytes.Clone(header[:4]), byte(n))
				out = append(out, Exchange{right, append(append([]byte{c.INS}, data...), sw...)})
			}
			continue
		}
		out = append(out, Exchange{header, []byte{c.INS}}, Exchange{c.Data, sw})
		if n > 0 {
			out[len(out)-1].Answer = []byte{0x61, byte(n)}
			out = append(out, Exchange{[]byte{0, 0xC0, 0, 0, byte(n)}, append(append([]byte{0xC0}, data...), sw...)})
		}
	}
	return out
}

// TestWholeRecordings records whole transactions and replays them: loosely
// they come to the same end, with all that was recorded used.
func TestWholeRecordings(t *testing.T) {
	for _, p := range virtualcard.Profiles() {
		if p.Blocked {
			continue
		}
		for _, tpdu := range []bool{false, true} {
			for _, amount := range []int64{1000, 20000} {
				t.Run(fmt.Sprintf("%s/%v/%d", p.Name, tpdu, amount), func(t *testing.T) {
					r, out, o := record(t, p.Name, tpdu, amount)
					for _, strict := range []bool{false, true} {
						o.Strict = strict
						rep := Run(context.Background(), r, o)
						check(t, r, rep, strict)
						if rep.Outcome != string(out.Decision) || rep.Unused != 0 || rep.Unmatched != 0 || rep.TVR != out.TVR || rep.CVM != out.CVMText {
							t.Errorf("strict %v: %s TVR %s %s, want %s %s %s; unused %d, missing %v; %s %v", strict, rep.Outcome, rep.TVR, rep.CVM, out.Decision, out.TVR, out.CVMText, rep.Unused, rep.Missing, rep.Error, rep.Reasons)
						}
					}
				})
			}
		}
	}
}

// TestNoPINInAReport looks for the PIN block of a recorded VERIFY, at both
// levels, whole and cut after it.
func TestNoPINInAReport(t *testing.T) {
	for _, tpdu := range []bool{false, true} {
		r, _, o := record(t, "offline-pin", tpdu, 1000)
		found := false
		for i := range r.Exchanges {
			cut := r
			cut.Exchanges = r.Exchanges[:i+1]
			found = found || bytes.Contains(r.Exchanges[i].Command, []byte{0x24, 0x12, 0x34})
			rep := Run(context.Background(), cut, o)
			if strings.Contains(fmt.Sprintf("%+v", rep), "241234") {
				t.Errorf("TPDU %v, cut at %d: the PIN is in the report", tpdu, i+1)
			}
		}
		// As a fragment of its own, split as T=0 splits it.
		split := Recording{Name: "verify", TPDU: true, Exchanges: []Exchange{
			{[]byte{0, 0x20, 0, 0x80, 8}, []byte{0x20}},
			{[]byte{0x24, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, []byte{0x90, 0}},
		}}
		rep := Run(context.Background(), split, nil)
		if rep.Entry != "cardholder verification" || rep.Outcome != OutcomeAnswered || rep.LastCommand != "***(8 bytes)" || rep.Unused != 0 {
			t.Errorf("split VERIFY: %+v", rep)
		}
		if !found {
			t.Error("no VERIFY was recorded")
		}
	}
}

// TestRecordingsOfNothing: what a file may hold that is no transaction.
func TestRecordingsOfNothing(t *testing.T) {
	for _, s := range []string{
		``, `{}`, `[]`, `{"transcripts":[]}`, `{"transcripts":[{"exchanges":[{"capdu":"zz","rapdu":""}]}]}`,
		`{"transcripts":[{"level":"frame","exchanges":[]}]}`, `{"transcripts":[{"date":"19","exchanges":[]}]}`, `{"transcripts":7}`,
	} {
		if _, err := Parse([]byte(s)); !errors.Is(err, ErrRecording) {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, e := range [][]Exchange{nil, {{nil, nil}}, {{[]byte{0}, nil}}, {{[]byte{0, 0xA4, 4, 0, 5}, nil}}, {{nil, []byte{0x90}}}, {{[]byte{0x80, 0xAE, 0x40, 0, 1, 1, 0}, []byte{0x77, 0x90, 0}}}} {
		for _, tpdu := range []bool{false, true} {
			Run(context.Background(), Recording{TPDU: tpdu, Exchanges: e}, nil)
		}
	}
}

// TestEqualCommandsKeepTheirOrder: the same command twice gets its two answers
// in turn, and no third one.
func TestEqualCommandsKeepTheirOrder(t *testing.T) {
	c := []byte{0x80, 0xCA, 0x9F, 0x17, 0}
	p := &player{list: []Exchange{{c, []byte{1, 0x90, 0}}, {[]byte{0, 0xB2, 1, 0x0C, 0}, []byte{3, 0x90, 0}}, {c, []byte{2, 0x90, 0}}}, used: make([]bool, 3), secret: &secrets{}}
	for i, want := range []byte{1, 2} {
		a, err := p.Transmit(context.Background(), c)
		if err != nil || a[0] != want {
			t.Fatalf("answer %d: %X, %v", i, a, err)
		}
	}
	if _, err := p.Transmit(context.Background(), c); !errors.Is(err, contact.ErrNotForwarded) || p.unmatched != 1 {
		t.Errorf("a third answer: %v", err)
	}
}

// TestFragmentsOfAnyKind: what may be cut out of a recording is entered at its
// own step, and damaged lines end the replay with a reason.
func TestFragmentsOfAnyKind(t *testing.T) {
	h := func(pairs ...string) (out []Exchange) {
		for i := 0; i+1 < len(pairs); i += 2 {
			c, _ := hex.DecodeString(pairs[i])
			a, _ := hex.DecodeString(pairs[i+1])
			out = append(out, Exchange{c, a})
		}
		return out
	}
	for _, c := range []struct {
		name             string
		tpdu             bool
		list             []Exchange
		entry, end, last string
	}{
		{"first cryptogram with signature", false, h("80AE5000040000000000", "770E9F2701409F360200019F2602112290"), "generate ac", OutcomeUnusable, "80AE5000040000000000"},
		{"first cryptogram", false, h("80AE8000040000000000", "77149F2701809F360200019F260811223344556677889000"), "generate ac", "online_request", "80AE8000040000000000"},
		{"cryptogram in format 1", false, h("80AE0000040000000000", "800B00000111223344556677889000"), "generate ac", "declined", "80AE0000040000000000"},
		{"dynamic authentication", false, h("0088000004112233440000", "9000"), "dynamic authentication", OutcomeAnswered, "0088000004112233440000"},
		{"a data object", false, h("80CA9F3600", "9F360200019000"), "data", OutcomeAnswered, "80CA9F3600"},
		{"an answer without status", false, h("80CA9F3600", "9F"), "data", OutcomeUnusable, "80CA9F3600"},
		{"a procedure byte that is none", true, h("00B2010C00", "13"), "records", OutcomeUnusable, "00B2010C00"},
		{"a partial name", false, h("00A4040005A00000000300", "6F0F8407A0000000031010A504500256499000", "00A4040205A00000000300", "6A82", "00A4040007A000000003101000", "6985"), "list of applications", OutcomeUnusable, "00A4040007A000000003101000"},
		{"list, then the final one", false, h("00A4040007A000000003101000", "6F0F8407A0000000031010A504500256499000", "00A4040007A000000004101000", "6A82", "00A4040007A000000003101000", "6985"), "list of applications", OutcomeUnusable, "00A4040007A000000003101000"},
		{"directory that is blocked", false, h("00A404000E315041592E5359532E444446303100", "6283"), "selection", OutcomeEnded, "00A404000E315041592E5359532E444446303100"},
		{"no command at all", false, h("00", "6700"), "transport", OutcomeAnswered, "(1 bytes)"},
		{"a script", false, h("8424000008AABBCCDDAABBCCDD", "9000"), "transport", OutcomeAnswered, "84240000***(9 bytes)"},
	} {
		for _, strict := range []bool{true, false} {
			rep := Run(context.Background(), Recording{Name: c.name, TPDU: c.tpdu, Exchanges: c.list}, &Options{Strict: strict})
			if rep.Entry != c.entry || rep.Outcome != c.end || rep.LastCommand != c.last {
				t.Errorf("%s, strict %v: %q %q %q (%s)", c.name, strict, rep.Entry, rep.Outcome, rep.LastCommand, rep.Error)
			}
		}
	}
}

// TestStatedCapabilitiesAreReplayed: 9F33 goes back to the card as the terminal
// had it, with the bits for SDA and PINs.
func TestStatedCapabilitiesAreReplayed(t *testing.T) {
	r := Recording{Exchanges: []Exchange{}}
	for _, p := range [][2]string{
		{"00A404000E315041592E5359532E444446303100", "6A82"},
		{"00A4040007A000000003101000", "6F158407A0000000031010A50A500256499F38039F33039000"},
		{"80A8000005830360F0C800", "6985"},
	} {
		c, err1 := hex.DecodeString(p[0])
		a, err2 := hex.DecodeString(p[1])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		r.Exchanges = append(r.Exchanges, Exchange{c, a})
	}
	rep := Run(context.Background(), r, &Options{Strict: true})
	if rep.Unmatched != 0 || rep.LastCommand != "80A8000005830360F0C800" || rep.Outcome != OutcomeUnusable {
		t.Errorf("%+v", rep)
	}
}
