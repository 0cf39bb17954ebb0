package contact

import (
	"context"
	"crypto/rand"
	"io"
	"math/bits"
)

const stepRisk = "risk"

// manageRisk does terminal risk management (Book 3 section 10.6). It is done
// whatever the card's profile says: the profile may be damaged or forged.
func (s *Session) manageRisk(ctx context.Context) error {
	d := RiskData{Amount: s.amounts.Amount, ForceOnline: s.config.ForceOnline, Lower: -1, Upper: -1, ATC: -1, LastOnlineATC: -1}
	if s.config.Cards != nil && len(s.config.CardKey) > 0 {
		h := s.cardHash()
		d.OnException = s.config.Cards.Listed(h)
		d.LogTotal = max(0, s.config.Cards.OfflineTotal(h, s.amounts.CurrencyNumeric))
	}
	var err error
	if d.Random, err = s.percent(); err != nil {
		return err
	}
	lower, upper := s.data.card(0x9F14), s.data.card(0x9F23)
	if len(lower) == 1 && len(upper) == 1 {
		d.Lower, d.Upper = int(lower[0]), int(upper[0])
		if d.ATC, err = s.counter(ctx, 0x9F36); err != nil {
			return err
		}
		if d.LastOnlineATC, err = s.counter(ctx, 0x9F13); err != nil {
			return err
		}
	}
	found := Risk(d, s.chosen.terminal.Risk)
	s.tvr.Set(found...)
	s.tsi.Set(TerminalRiskPerformed)
	return nil
}

func (s *Session) cardHash() CardHash {
	pan := s.data.card(0x5A)
	n, _ := digitsOf(pan)
	return HashCard(s.config.CardKey, pan[:(n+1)/2], s.data.card(0x5F34))
}

// counter is a two-byte counter of the card, -1 when it does not give it.
func (s *Session) counter(ctx context.Context, tag uint16) (int, error) {
	v, ok, err := s.reader.getData(ctx, stepRisk, tag)
	if err != nil || !ok || len(v) != 2 {
		return -1, err
	}
	return int(v[0])<<8 | int(v[1]), nil
}

func (s *Session) random(b []byte) error {
	source := s.config.Random
	if source == nil {
		source = rand.Reader
	}
	if _, err := io.ReadFull(source, b); err != nil {
		return &Error{Step: stepInitiate, Reason: ErrConfig, cause: err}
	}
	return nil
}

// percent is uniform in 1 to 99 (Book 3 section 10.6.2).
func (s *Session) percent() (int, error) {
	var b [8]byte
	if err := s.random(b[:]); err != nil {
		return 0, err
	}
	v := uint64(0)
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	hi, _ := bits.Mul64(v, 99)
	return 1 + int(hi), nil
}

// restrict does processing restrictions (Book 3 section 10.4).
func (s *Session) restrict() {
	today, _ := s.data.from(fromTransaction, 0x9A)
	country, _ := s.data.from(fromTerminal, 0x9F1A)
	found := Restrict(Restrictions{
		CardVersion: s.data.card(0x9F08), TerminalVersion: s.chosen.terminal.Version[:],
		UsageControl: s.data.card(0x9F07), IssuerCountry: s.data.card(0x5F28), TerminalCountry: country,
		Effective: s.data.card(0x5F25), Expiry: s.data.card(0x5F24), Today: [3]byte(today),
		Type: s.terms.Type, Cashback: s.amounts.Other > 0, ATM: s.config.atm(),
	})
	s.tvr.Set(found...)
	for _, b := range found {
		var t TVR
		t.Set(b)
		s.note("restrictions", t.Names()[0], "B3 10.4")
	}
}

// analyse is terminal action analysis over what is known now.
func (s *Session) analyse(host HostState) Action {
	app := s.chosen.terminal
	a := Analyse(s.tvr, ActionCodes{
		IACDefault: s.data.card(0x9F0D), IACDenial: s.data.card(0x9F0E), IACOnline: s.data.card(0x9F0F),
		TACDefault: app.TACDefault, TACDenial: app.TACDenial, TACOnline: app.TACOnline,
	}, host)
	if a.Cryptogram == TC && !s.authentic && !s.config.UnauthenticatedOffline {
		a.Cryptogram = ARQC
		if host != HostPossible {
			a.Cryptogram = AAC
		}
		s.note("taa", "no action code is met, and the card's data were not authenticated: no approval offline", "B3 10.7, own rule")
		return a
	}
	ask := map[byte]string{AAC: "decline", TC: "approve offline", ARQC: "go online"}[a.Cryptogram]
	if a.Code == "" {
		s.note("taa", "no action code is met: "+ask, "B3 10.7")
		return a
	}
	for _, n := range a.Bits.Names() {
		s.note("taa", ask+" ("+a.Code+" code): "+n, "B3 10.7")
	}
	return a
}
