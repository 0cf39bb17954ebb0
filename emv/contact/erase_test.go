package contact

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"tillbridge/emv"
)

// holds counts where a session has a card number.
func (s *Session) holds(pan string) (n int) {
	packed, _ := hex.DecodeString(pan)
	all := [][]byte{s.pdolData, s.cdol1Data, s.cdol2Data, s.reader.buf[:]}
	for _, o := range s.data.at[fromCard] {
		all = append(all, o.value)
	}
	for _, r := range s.signed {
		all = append(all, r.Data)
	}
	for _, b := range all {
		if bytes.Contains(b, packed) {
			n++
		}
	}
	return n
}

// After a session it has nothing of the card's number, and what it gave out is
// as it was.
func TestEraseLeavesNoCardNumber(t *testing.T) {
	card := cardOf(t, "visa-credit", nil)
	s, err := New(card, Config{Country: 840, Applications: []Application{{AID: []byte{0xA0, 0, 0, 0, 3, 0x10, 0x10}, Version: [2]byte{0, 0x96}}}})
	if err != nil {
		t.Fatal(err)
	}
	terms := emv.Terms{Amounts: emv.Amounts{Amount: 1000, Currency: "USD", CurrencyNumeric: 840, Exponent: 2}, Time: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)}
	c, err := s.Read(t.Context(), terms)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Authorize(t.Context(), terms.Amounts)
	if err != nil || s.holds(card.PAN()) < 3 {
		t.Fatalf("%v: the test sees no number", err)
	}
	sent, masked, label := bytes.Clone(out.Field55), c.MaskedPAN, c.Label
	s.Erase()
	if n := s.holds(card.PAN()); n != 0 {
		t.Errorf("the number is still held in %d places", n)
	}
	if !bytes.Equal(sent, out.Field55) || c.MaskedPAN != masked || c.Label != label || len(sent) == 0 {
		t.Error("what the session gave out is changed")
	}
	if _, err := s.Complete(t.Context(), emv.HostResponse{}); !errors.Is(err, emv.ErrCancelled) {
		t.Errorf("it goes on after its end: %v", err)
	}
	s.Erase() // again is fine
}
