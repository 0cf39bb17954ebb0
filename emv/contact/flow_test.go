package contact

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/emv"
	"tillbridge/emv/apdu"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
)

var testCA = sync.OnceValues(func() (*virtualcard.CA, error) { return virtualcard.NewCA(7) })

// cardOf makes a virtual card of one profile.
func cardOf(t testing.TB, name string, edit func(*virtualcard.Profile)) *virtualcard.Card {
	t.Helper()
	return cardsOf(t, edit, nil, name)
}

func cardsOf(t testing.TB, edit func(*virtualcard.Profile), o *virtualcard.Options, names ...string) *virtualcard.Card {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	var ps []virtualcard.Profile
	for _, n := range names {
		p, err := virtualcard.Named(n)
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(&p)
		}
		ps = append(ps, p)
	}
	if o == nil {
		o = &virtualcard.Options{Seed: 1}
	}
	o.CA = ca
	c, err := virtualcard.New(o, ps...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keysOf loads the virtual scheme's key for the RIDs of the applications.
func keysOf(t testing.TB, apps []Application) *oda.Store {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	s := oda.NewStore(oda.Test)
	for _, a := range apps {
		rid, _ := oda.RIDOf(a.AID)
		if err := s.Add(oda.Test, oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

var schemeNames = []string{
	"A0000000031010", "A0000000032010", "A0000000041010", "A0000000043060", "A00000002501", "A0000000651010",
	"A0000001523010", "A000000333010102", "A0000006510101",
}

func applications(t testing.TB, edit func(*Application)) (out []Application) {
	for _, n := range schemeNames {
		a := Application{Version: [2]byte{0, 2}, Risk: RiskConfig{FloorLimit: 10000}}
		a.AID = mustHex(n)
		a.TACDefault.Set(DDAFailed, CDAFailed, SDAFailed, CVMFailed)
		if edit != nil {
			edit(&a)
		}
		out = append(out, a)
	}
	return out
}

func mustHex(s string) []byte {
	var b []byte
	if _, err := fmt.Sscanf(s, "%x", &b); err != nil {
		panic(err)
	}
	return b
}

// testConfig is a terminal that approves offline what a genuine card approves.
func testConfig(t testing.TB) Config {
	apps := applications(t, nil)
	return Config{Applications: apps, Keys: keysOf(t, apps), Country: 840, Encrypter: seal{}}
}

// seal is an encrypter for tests: it checks what it gets, and keeps nothing.
type seal struct{}

func (seal) Encrypt(c *Clear) (p2pe.Envelope, error) {
	defer c.Erase()
	if len(c.PAN) < 12 || len(c.Track2) > 0 && !bytes.HasPrefix(c.Track2, append(bytes.Clone(c.PAN), '=')) {
		return p2pe.Envelope{}, errors.New("not card data")
	}
	return p2pe.Envelope{Scheme: "test", Last4: string(c.PAN[len(c.PAN)-4:])}, nil
}

func terms(amount int64) emv.Terms {
	return emv.Terms{
		Amounts: emv.Amounts{Amount: amount, Currency: "USD", CurrencyNumeric: 840, Exponent: 2},
		Time:    time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Reference: 7,
	}
}

// overVPCD puts the card behind the vpcd framing on a connection.
func overVPCD(t testing.TB, c *virtualcard.Card, o *virtualcard.ServeOptions) *virtualcard.Reader {
	t.Helper()
	a, b := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); _ = virtualcard.Serve(ctx, b, c, o) }()
	t.Cleanup(func() { cancel(); a.Close(); <-over })
	r := &virtualcard.Reader{Conn: a}
	if _, err := r.Power(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

// guard is a context that no test reaches.
func guard(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run does Read and Authorize.
func run(t testing.TB, card emv.Transceiver, c Config, amount int64) (*Session, emv.Card, emv.Outcome) {
	t.Helper()
	s, err := New(card, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Read(guard(t), terms(amount))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	out, err := s.Authorize(guard(t), terms(amount).Amounts)
	if err != nil {
		t.Fatalf("authorize: %v", err)
	}
	return s, got, out
}

// issuer answers as the cards' issuer does.
func answer(t testing.TB, c *virtualcard.Card, out emv.Outcome, arc string, approved bool) (emv.HostResponse, cryptogram.Verified) {
	t.Helper()
	p := c.Profile()
	v, err := cryptogram.TestIssuer().Verify(cryptogram.Request{PAN: p.PAN, PSN: p.PSN, AID: mustHex(p.AID), Data: out.Field55})
	if err != nil {
		t.Fatalf("the issuer cannot verify the cryptogram of %v: %v", p, err)
	}
	auth, err := v.Answer(arc, approved)
	if err != nil {
		t.Fatal(err)
	}
	return emv.HostResponse{Reached: true, Sent: true, Approved: approved, ARC: arc, IssuerAuth: auth}, v
}

// pad is a PIN pad with a person in front of it. It makes VERIFY itself.
type pad struct {
	pins    []string // one an entry
	bypass  bool
	entries int
	tries   []int // what was shown before each entry
	methods []Method
}

func (p *pad) EnterPIN(ctx context.Context, r PINRequest) (PINAnswer, error) {
	p.methods, p.tries = append(p.methods, r.Method), append(p.tries, r.Tries)
	if p.bypass {
		return PINAnswer{Status: PINBypassed}, nil
	}
	pin := p.pins[min(p.entries, len(p.pins)-1)]
	p.entries++
	if r.Method == OnlinePIN {
		return PINAnswer{Status: PINVerified, Block: p2pe.PINBlock{Block: make([]byte, 8), KSN: "FFFF9876543210E00001"}}, nil
	}
	block, err := cryptogram.ISO2PINBlock(pin)
	if err != nil {
		return PINAnswer{}, err
	}
	cmd := apdu.Command{INS: 0x20, P2: 0x80, Data: block[:]}
	if r.Method == EncipheredPIN || r.Method == EncipheredPINSignature {
		plain := append(append([]byte{0x7F}, block[:]...), r.Challenge...)
		fill := make([]byte, len(r.Modulus)-len(plain))
		io.ReadFull(rand.Reader, fill)
		plain = append(plain, fill...)
		n := new(big.Int).Exp(new(big.Int).SetBytes(plain), new(big.Int).SetBytes(r.Exponent), new(big.Int).SetBytes(r.Modulus))
		cmd.P2, cmd.Data = 0x88, n.FillBytes(make([]byte, len(r.Modulus)))
	}
	raw, err := r.Card.Transmit(ctx, cmd.Bytes())
	if err != nil {
		return PINAnswer{}, err
	}
	a, err := apdu.ParseResponse(raw)
	if err != nil {
		return PINAnswer{}, err
	}
	if left, ok := a.Status.TriesLeft(); ok {
		return PINAnswer{Status: PINWrong, Tries: left}, nil
	}
	switch a.Status {
	case apdu.OK:
		return PINAnswer{Status: PINVerified}, nil
	case apdu.PINBlocked, apdu.ReferenceBad:
		return PINAnswer{Status: PINBlocked}, nil
	}
	return PINAnswer{}, nil
}

// TestEveryProfileEndsLegally runs each profile over the framing, below and
// above the floor limit, with a right answer of the issuer.
func TestEveryProfileEndsLegally(t *testing.T) {
	for _, p := range virtualcard.Profiles() {
		for _, amount := range []int64{1234, 20000} {
			t.Run(fmt.Sprintf("%s/%d", p.Name, amount), func(t *testing.T) {
				card := cardOf(t, p.Name, nil)
				c := testConfig(t)
				c.Pad = &pad{pins: []string{p.PIN}}
				s, err := New(overVPCD(t, card, nil), c)
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.Read(guard(t), terms(amount))
				if p.Blocked {
					if !errors.Is(err, emv.ErrCardUnusable) {
						t.Fatalf("a blocked application: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.AID != p.AID || got.Last4 != p.PAN[len(p.PAN)-4:] || got.Data.Last4 != got.Last4 {
					t.Errorf("card %+v", got)
				}
				out, err := s.Authorize(guard(t), terms(amount).Amounts)
				if err != nil {
					t.Fatal(err)
				}
				if p.ODA == virtualcard.ODADDA || p.ODA == virtualcard.ODACDA {
					if !s.authentic || s.tvr[0] != 0 {
						t.Errorf("data authentication failed: %s %v", out.TVR, out.Reasons)
					}
				}
				noCard(t, p, out)
				if out.Decision == emv.OnlineRequest {
					h, _ := answer(t, card, out, "00", true)
					last, err := s.Complete(guard(t), h)
					if err != nil {
						t.Fatal(err)
					}
					noCard(t, p, last)
					want := emv.Approved
					if p.DeclinesSecond {
						want = emv.Declined
					}
					if last.Decision != want || last.ReversalNeeded != p.DeclinesSecond {
						t.Errorf("after the issuer: %s, reversal %v, %v", last.Decision, last.ReversalNeeded, last.Reasons)
					}
				}
				t.Logf("%s: %s %s %s, %d commands", p.Name, out.Decision, out.TVR, out.CVMText, s.Commands())
			})
		}
	}
}

// noCard looks for the number in all that leaves the kernel.
func noCard(t *testing.T, p virtualcard.Profile, out emv.Outcome) {
	t.Helper()
	pan, _ := tlv.AppendDigits(nil, p.PAN, 0)
	if bytes.Contains(out.Field55, pan[:6]) || strings.Contains(fmt.Sprintf("%+v", out.Reasons), p.PAN) {
		t.Error("the card number is in the outcome")
	}
	for _, tag := range []tlv.Tag{0x57, 0x5A, 0x5F24, 0x9F1F, 0x9F20, 0x5F20} {
		if _, ok := tlv.Find(out.Field55, tag); ok {
			t.Errorf("field 55 holds %v", tag)
		}
	}
}
