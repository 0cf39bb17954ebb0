package contact

import (
	"context"
	"testing"

	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// recorded answers from memory: a whole transaction without the card's time.
// The numbers are fixed, so that the recorded signatures hold.
type recorded struct {
	answers [][]byte
	at      int
}

func (r *recorded) Transmit(context.Context, []byte) ([]byte, error) {
	a := r.answers[r.at]
	r.at++
	return a, nil
}

type fixedRandom struct{}

func (fixedRandom) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0xA5
	}
	return len(b), nil
}

// BenchmarkTransaction is the kernel's own time for a sale that the card
// approves offline, from selection to the cryptogram.
func BenchmarkTransaction(b *testing.B) {
	for name, profile := range map[string]string{"DDA": "jcb", "CDA": "no-cvm"} {
		b.Run(name, func(b *testing.B) {
			card := cardOf(b, profile, func(p *virtualcard.Profile) {
				p.CVMList, p.IACOnline, p.Country, p.Currency = "00000000000000001F00", "F870ACF800", 840, 840
			})
			config := testConfig(b)
			config.Random, config.Encrypter = fixedRandom{}, nil
			r := &recorded{}
			w := &wire{card: card}
			w.change = func(_ int, _, a []byte) []byte { r.answers = append(r.answers, a); return a }
			tm := terms(1234)
			once := func(t emv.Transceiver) int {
				s, err := New(t, config)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Read(context.Background(), tm); err != nil {
					b.Fatal(err)
				}
				out, err := s.Authorize(context.Background(), tm.Amounts)
				if err != nil || out.Decision != emv.Approved || !s.authentic {
					b.Fatalf("%s %v %v", out.Decision, out.Reasons, err)
				}
				return s.Commands()
			}
			commands := once(w)
			b.ReportAllocs()
			for b.Loop() {
				r.at = 0
				once(r)
			}
			b.ReportMetric(float64(commands), "C-APDUs/op")
		})
	}
}
