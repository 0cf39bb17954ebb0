package replay

import (
	"encoding/hex"
	"strings"

	"tillbridge/emv"
	"tillbridge/emv/contact"
	"tillbridge/emv/oda"
	"tillbridge/emv/tlv"
)

// plan is how a recording is replayed: where it is entered, what the terminal
// was, what the issuer said.
type plan struct {
	before   [][]byte // commands ahead of the flow, as recorded
	fragment *contact.Fragment
	terms    emv.Terms
	host     *emv.HostResponse
	apps     []contact.Application
	keys     *oda.Store
	seen     map[tlv.Tag][]byte // the terminal's data as the recording shows them
	numbers  []byte
	verify   [][]byte // VERIFY commands as recorded
	// told: tvr and kind are what the first GENERATE AC carried and asked.
	told bool
	tvr  contact.TVR
	kind byte
}

func hexText(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Instructions of the flow.
const (
	insSelect  = 0xA4
	insOptions = 0xA8
	insRecord  = 0xB2
	insAC      = 0xAE
	insIssuer  = 0x82
	insVerify  = 0x20
	insData    = 0xCA
	insFetch   = 0xC0
	insDynamic = 0x88
	insNumber  = 0x84
)

func newPlan(r Recording, list []Exchange, o *Options) *plan {
	p := &plan{keys: o.Keys, seen: map[tlv.Tag][]byte{}, numbers: r.Numbers}
	p.harvest(r, list, o)
	p.enter(list)
	p.applications(list)
	p.issuer(list)
	p.time()
	return p
}

// known are the applications of a terminal that shows no list of its own.
var known = []string{
	"A000000003", "A000000004", "A000000025", "A000000065", "A000000152", "A000000324", "A000000333", "A000000277",
	"A000000651", "A000000042", "A000000359", "A000000121", "A000000384", "A000000524", "A000000228", "A000000154",
	"D276000025", "A000000005",
}

// config is the terminal that the recording shows.
func (p *plan) config(r *replay) contact.Config {
	c := contact.Config{Applications: p.apps, Keys: p.keys, PlaintextPIN: true, UnauthenticatedOffline: true, Random: &numbers{p.numbers}, Pad: &pad{plan: p, card: r.card}}
	if v := p.seen[0x9F33]; len(v) == 3 {
		c.Capabilities, c.NoCapabilities = [3]byte(v), true
		// A terminal that said it does SDA is replayed as one.
		keys := oda.NewStore(oda.Test)
		if p.keys != nil {
			*keys = *p.keys
		}
		keys.AllowSDA = v[2]&0x80 != 0
		c.Keys = keys
	}
	if v := p.seen[0x9F35]; len(v) == 1 {
		c.Type = v[0]
	}
	if v := p.seen[0x9F40]; len(v) == 5 {
		c.Additional = [5]byte(v)
	}
	if v := p.seen[0x9F1A]; len(v) == 2 {
		if n, err := tlv.Numeric(v); err == nil && n <= 999 {
			c.Country = int(n)
		}
	}
	c.ForceOnline = p.told && p.tvr.Has(contact.ForcedOnline)
	if p.told && p.tvr.Has(contact.OnExceptionFile) {
		c.Cards, c.CardKey = listed{}, []byte("replay")
	}
	for t, v := range p.seen {
		switch t {
		// What the kernel computes, or has from the terms.
		case 0x95, 0x9B, 0x9F34, 0x9F37, 0x8A, 0x91, 0x9F02, 0x9F03, 0x81, 0x9F04, 0x5F2A, 0x5F36, 0x9A, 0x9F21, 0x9C, 0x9F06, 0x9F1B, 0x9F09, 0x99, 0x98:
			continue
		}
		if !t.Constructed() {
			c.Data = tlv.Append(c.Data, t, v)
		}
	}
	return c
}

// listed is the exception file of a terminal that said that it holds the card.
type listed struct{}

func (listed) Listed(contact.CardHash) bool             { return true }
func (listed) OfflineTotal(contact.CardHash, int) int64 { return 0 }

// numbers gives the recorded unpredictable numbers, then always the same: a
// replay is no payment, and two replays of a recording shall not differ. Other
// readers of it select nothing at random.
type numbers struct{ left []byte }

func (n *numbers) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0xFF
	}
	if len(b) == 4 {
		copy(b, []byte{0x5E, 0xED, 0x5E, 0xED})
		if len(n.left) >= 4 {
			copy(b, n.left[:4])
			n.left = n.left[4:]
		}
	}
	return len(b), nil
}
