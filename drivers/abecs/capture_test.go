package abecs

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/emv"
)

// sale is one captured session: what the pad answered, by command.
type sale struct {
	order   []string            // names of the host's commands
	answers map[string][][]byte // answers by name, in order, notifications before them
	info    map[ID]string       // all that GIX told
}

func captureOf(t *testing.T) *sale {
	t.Helper()
	s := &sale{answers: map[string][][]byte{}, info: map[ID]string{}}
	for _, f := range loadVectors(t) {
		for i, v := range f.Frames {
			if !strings.Contains(v.Source, "transacao_completa") {
				continue
			}
			b, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) == 1 {
				continue
			}
			payload, whole := captured(t, i, v, b)
			name := string(payload[:3])
			if v.Direction == "host->pinpad" {
				s.order = append(s.order, name)
				continue
			}
			now := s.order[len(s.order)-1]
			if !whole {
				payload = complete(payload)
			}
			s.answers[now] = append(s.answers[now], payload)
			if name == "GIX" {
				r, err := Parse(payload)
				if err != nil {
					t.Fatal(err)
				}
				for p, err := range r.Params() {
					if err != nil {
						t.Fatal(err)
					}
					s.info[p.ID] = string(p.Value)
				}
			}
		}
	}
	if len(s.order) == 0 {
		t.Skip("no captured sale among the vectors")
	}
	return s
}

// complete fills an answer that the log cut at 1024 bytes: the last block is a
// map of key slots, and what is missing is taken as "no key".
func complete(payload []byte) []byte {
	for range 999 {
		if _, err := Parse(payload); err == nil {
			break
		}
		payload = append(payload, '0')
	}
	return payload
}

// book makes a pad of the capture. The log was taken above stuffing and
// encryption, so the pad frames and seals anew. Two answers cannot be played as
// they are: OPN's holds a session key under the RSA key of another host, and
// the host of the capture asked GTK for clear tracks, which our driver never
// does; the log's owner masked them. GTK is answered with the masked number
// and the KSN that the pad had just told by GIX.
func (s *sale) book(t *testing.T) *book {
	t.Helper()
	for _, name := range []string{"GCX", "GTK", "GOX", "FCX"} {
		if len(s.answers[name]) == 0 {
			t.Fatalf("the capture holds no answer to %s", name)
		}
	}
	last := func(name string) []byte { return s.answers[name][len(s.answers[name])-1] }
	gtk, err := Parse(last("GTK"))
	if err != nil {
		t.Fatal(err)
	}
	pan, ok := gtk.Find(PANData)
	if !ok {
		t.Fatal("the captured GTK holds no card number")
	}
	return &book{gcx: last("GCX"), gox: last("GOX"), fcx: last("FCX"), info: s.info,
		gtk: answer("GTK", param(PANData, string(pan)), param(PANKSN, s.info[KSNPIN(2)]))}
}

func (s *sale) terms() emv.Terms {
	return emv.Terms{Amounts: emv.Amounts{Amount: 1, Currency: "BRL", CurrencyNumeric: 986, Exponent: 2},
		Time: time.Date(2025, 11, 11, 17, 36, 47, 0, time.UTC)}
}

// TestVectorsCapturedSaleCarriesTheDriver plays the answers of a real Gertec
// PPC-930 back: the driver goes through the same phases as the host of the
// capture.
func TestVectorsCapturedSaleCarriesTheDriver(t *testing.T) {
	s := captureOf(t)
	b := s.book(t)
	p, host := newPad(b)
	ntm := s.answers["GCX"][:len(s.answers["GCX"])-1]
	p.answer = func(name string, r Request) [][]byte {
		if name == "GCX" {
			return append(slices.Clone(ntm), b.gcx) // the pad told the application first
		}
		return b.reply(name, r)
	}
	dev, err := testDriver.Open(t.Context(), host, drivers.Config{Params: map[string]string{"pin_slot": "2", "data_slot": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { dev.Close(); <-p.done }()
	ctx := limited(t, 30*time.Second)
	id, err := dev.Identify(ctx)
	if err != nil || id.Vendor != "GERTEC" || id.Model != "PPC-930" || id.Serial != "7200032211005539" || id.Kernel != "1.19" {
		t.Fatalf("Identify: %+v, %v", id, err)
	}
	if err := dev.(drivers.Display).Display(ctx, "Cartao Credito\nAguarde..."); err != nil {
		t.Fatal(err)
	}
	pay := begin(t, dev)
	card, err := pay.Read(ctx, s.terms())
	if err != nil {
		t.Fatal(err)
	}
	if card.Entry != emv.EntryContactless || !card.CryptogramMade || card.Label != "CREDITO" || card.PANSequence != 0 || card.Data.Empty() {
		t.Fatalf("card %+v", card)
	}
	o, err := pay.Authorize(ctx, s.terms().Amounts)
	if err != nil {
		t.Fatal(err)
	}
	if o.Decision != emv.OnlineRequest || o.Cryptogram != "A94958501BC710A2" || o.CID != "80" || o.TVR != "0000000001" || o.CVM != "1F0302" || len(o.Field55) == 0 {
		t.Fatalf("outcome %+v", o)
	}
	o, err = pay.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"})
	if err != nil || o.Decision != emv.Approved || o.ReversalNeeded {
		t.Fatalf("outcome %+v, %v", o, err)
	}
	phases := []string{"OPN", "GIX", "DSP", "GCX", "GTK", "GOX", "FCX"}
	if got, want := phasesOf(p.names(), phases), phasesOf(s.order, phases); !slices.Equal(got, want) {
		t.Errorf("phases %v, those of the capture %v", got, want)
	}
}

// phasesOf lists the phases by their first occurrence.
func phasesOf(names, phases []string) (out []string) {
	for _, n := range names {
		if slices.Contains(phases, n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// TestVectorsCapturedClearTracksAreRefused plays the captured GTK as it was:
// tracks without a KSN.
func TestVectorsCapturedClearTracksAreRefused(t *testing.T) {
	s := captureOf(t)
	b := s.book(t)
	b.gtk = s.answers["GTK"][0]
	_, dev := start(t, b, nil)
	_, err := begin(t, dev).Read(limited(t, 30*time.Second), s.terms())
	if !errors.Is(err, drivers.ErrRefused) {
		t.Fatalf("Read: %v, want ErrRefused", err)
	}
}
