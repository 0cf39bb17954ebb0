package virtualcard

import (
	"fmt"
	"io"
	"strings"

	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
)

// application is one payment application: what was personalised, what lives on
// from transaction to transaction, and the current transaction.
type application struct {
	p       Profile
	aid     []byte
	aip     [2]byte
	pdol    tlv.DOL
	cdol1   tlv.DOL
	cdol2   tlv.DOL
	records map[[2]byte][]byte // SFI, record number
	afl     []byte
	layout  cryptogram.Layout
	keys    cryptogram.Issuer // this card's keys
	icc     *rsaKey

	// Lives on.
	atc, lastOnline uint16
	tries           int
	pin             string
	blocked         bool
	cardBlock       bool
	offline         int  // consecutive offline transactions
	authFailed      bool // issuer authentication failed last time
	unfinished      bool // the last online transaction was not completed
	scripts         byte // script commands since the last AC
	scriptFailed    bool

	tx transaction
}

// transaction is forgotten with the next selection.
type transaction struct {
	started   bool
	step      int // GENERATE AC commands answered
	pdolData  []byte
	cdol1Data []byte
	first     byte // type of the first cryptogram
	ac        [8]byte
	un        [4]byte
	pinDone   bool
	pinOK     bool
	authDone  bool
	authOK    bool
	approved  bool // by the card status update
	macFailed bool
}

func (a *application) newTransaction() { a.tx = transaction{} }

func (p Profile) track2() string {
	t := p.PAN + "D" + p.Expiry + p.ServiceCode + "0000000000"
	if len(t) > 37 {
		t = t[:37]
	}
	return t
}

func (a *application) priority() byte {
	b := a.p.Priority & 0x0F
	if a.p.Confirm {
		b |= 0x80
	}
	return b
}

// last four bytes of every CDOL are the unpredictable number.
const commonDOL = "9F02069F03069F1A0295055F2A029A039C019F3704"

func newApplication(p Profile, issuer cryptogram.Issuer, ca *CA, random io.Reader) (*application, error) {
	a := &application{p: p, tries: p.PINTries, pin: p.PIN, blocked: p.Blocked, records: map[[2]byte][]byte{}}
	var err error
	if a.aid, err = unhex(p.AID); err != nil {
		return nil, err
	}
	if len(a.aid) < 5 || len(a.aid) > 16 {
		return nil, fmt.Errorf("an AID has 5 to 16 bytes, not %d", len(a.aid))
	}
	if a.layout, err = cryptogram.LayoutOf(a.aid, a.iadTemplate()); err != nil {
		return nil, err
	}
	if a.keys, err = issuer.Card(a.layout, p.PAN, p.PSN); err != nil {
		return nil, err
	}
	pdol, err := unhex(p.PDOL)
	if err != nil {
		return nil, err
	}
	if a.pdol, err = tlv.ParseDOL(pdol); err != nil {
		return nil, err
	}
	authLen := "0A"
	if a.layout.Answer == 2 {
		authLen = "08"
	}
	c1, c2 := commonDOL, "8A02"+commonDOL
	if p.IssuerAuth == AuthInAC {
		c2 = "8A0291" + authLen + commonDOL
	}
	for _, d := range []struct {
		text string
		to   *tlv.DOL
	}{{c1, &a.cdol1}, {c2, &a.cdol2}} {
		raw, err := unhex(d.text)
		if err != nil {
			return nil, err
		}
		if *d.to, err = tlv.ParseDOL(raw); err != nil {
			return nil, err
		}
	}
	a.aip[0] = 0x18 // cardholder verification, terminal risk management
	switch p.ODA {
	case ODASDA:
		a.aip[0] |= 0x40
	case ODADDA:
		a.aip[0] |= 0x20
	case ODACDA:
		a.aip[0] |= 0x21
	}
	if p.IssuerAuth == AuthExternal {
		a.aip[0] |= 0x04
	}
	return a, a.personalise(ca, random)
}

// personalise writes the records (Book 3 Annex B of the data, Book 2 sections
// 5.1 to 6.4 for the chain).
func (a *application) personalise(ca *CA, random io.Reader) error {
	p := a.p
	var err error
	digits := func(s string, n int) []byte {
		b, e := tlv.AppendDigits(nil, s, n)
		if e != nil && err == nil {
			err = e
		}
		return b
	}
	hexed := func(s string) []byte {
		b, e := unhex(s)
		if e != nil && err == nil {
			err = e
		}
		return b
	}
	number := func(v, n int) []byte {
		b, e := tlv.AppendNumeric(nil, uint64(v), n)
		if e != nil && err == nil {
			err = e
		}
		return b
	}
	// A record is its data objects with the profile's padding between them.
	record := func(pairs ...any) []byte {
		var body []byte
		for i := 0; i+1 < len(pairs); i += 2 {
			v := pairs[i+1].([]byte)
			if len(v) == 0 {
				continue
			}
			body = append(tlv.Append(body, tlv.Tag(pairs[i].(int)), v), p.Padding...)
		}
		return body
	}
	track2 := p.track2()
	if len(track2)%2 == 1 {
		track2 += "F"
	}
	if len(p.Expiry) != 4 || len(p.PSN) != 2 {
		return fmt.Errorf("expiry is YYMM, the PAN sequence number two digits")
	}
	signed := record(0x5A, digits(p.PAN, 0), 0x5F24, hexed(p.Expiry+"31"), 0x5F25, hexed("200101"),
		0x5F28, number(p.Country, 2), 0x5F34, hexed(p.PSN), 0x9F07, hexed(p.AUC), 0x8E, hexed(p.CVMList),
		0x9F0D, hexed(p.IACDefault), 0x9F0E, hexed(p.IACDenial), 0x9F0F, hexed(p.IACOnline),
		0x9F42, number(p.Currency, 2), 0x9F4A, []byte{0x82})
	sfi := byte(1)
	if p.SignedSFI != 0 {
		sfi = byte(p.SignedSFI)
	}
	var lists []byte
	for _, d := range []struct {
		tag tlv.Tag
		dol tlv.DOL
	}{{0x8C, a.cdol1}, {0x8D, a.cdol2}} {
		lists = append(tlv.Append(lists, d.tag, tlv.AppendDOL(nil, d.dol)), p.Padding...)
	}
	lists = append(lists, record(0x9F08, []byte{0, 2}, 0x5F30, number(atoi(p.ServiceCode), 2), 0x57, hexed(track2),
		0x5F20, []byte(p.Cardholder))...)
	if p.LowerOffline > 0 {
		lists = append(lists, record(0x9F14, []byte{byte(p.LowerOffline)}, 0x9F23, []byte{byte(p.UpperOffline)})...)
	}
	put := func(sfi, n byte, body []byte) {
		rec := tlv.Append(nil, 0x70, body)
		if len(rec) > 254 && err == nil {
			err = fmt.Errorf("record %d of file %d has %d bytes", n, sfi, len(rec))
		}
		a.records[[2]byte{sfi, n}] = rec
	}
	put(sfi, 1, signed)
	put(2, 1, lists)
	a.afl = []byte{sfi << 3, 1, 1, 1, 2 << 3, 1, 1, 0}
	if err != nil || p.ODA == ODANone {
		return err
	}
	static := signed
	if sfi > 10 {
		static = a.records[[2]byte{sfi, 1}]
	}
	static = append(append([]byte(nil), static...), a.aip[:]...)

	issuer := ca.issuer
	mmyy := hexed(p.Expiry[2:] + p.Expiry[:2])
	header := append([]byte{0x02}, digits(p.PAN[:6], 4)...)
	header = append(append(header, mmyy...), 0, 0, 1, 1, 1, issuerBytes, 1)
	cert, rest := ca.key.certify(header, issuer.modulus(), nil)
	put(3, 1, record(0x8F, []byte{ca.Index}, 0x9F32, []byte{3}, 0x92, rest, 0x90, cert))
	n := byte(2)
	if p.ODA == ODASDA {
		ssad := issuer.signPadded([]byte{0x03, 1, 0xDA, 0xC1}, static)
		put(3, n, record(0x93, ssad))
	} else {
		if a.icc, err = ca.card(random, p.PAN); err != nil {
			return err
		}
		header = append([]byte{0x04}, digits(p.PAN, 10)...)
		header = append(append(header, mmyy...), 0, 0, 2, 1, 1, cardBytes, 1)
		cert, rest = issuer.certify(header, a.icc.modulus(), static)
		put(3, n, record(0x9F47, []byte{3}, 0x9F48, rest, 0x9F49, hexed("9F3704"), 0x9F46, cert))
	}
	a.afl = append(a.afl, 3<<3, 1, n, 0)
	return err
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

func (a *application) fci() []byte {
	b := tlv.Append(nil, 0x50, []byte(a.p.Label))
	b = tlv.Append(b, 0x87, []byte{a.priority()})
	if len(a.pdol) > 0 {
		b = tlv.Append(b, 0x9F38, tlv.AppendDOL(nil, a.pdol))
	}
	b = tlv.Append(b, 0x5F2D, []byte(a.p.Language))
	if a.p.Preferred != "" {
		b = tlv.Append(b, 0x9F11, []byte{1})
		b = tlv.Append(b, 0x9F12, []byte(a.p.Preferred))
	}
	return fci(a.aid, b)
}

// getProcessingOptions begins a transaction (Book 3 section 6.5.8).
func (a *application) getProcessingOptions(m command) ([]byte, int) {
	if m.p1 != 0 || m.p2 != 0 {
		return nil, swP1P2
	}
	if m.le == 0 {
		return nil, swLength
	}
	if a.p.RefusesGPO || a.tx.started || a.atc == 0xFFFF {
		return nil, swConditions
	}
	if len(m.data) < 2 || m.data[0] != 0x83 || int(m.data[1]) != len(m.data)-2 || int(m.data[1]) != a.pdol.Size() {
		return nil, swData
	}
	a.tx = transaction{started: true, pdolData: append([]byte(nil), m.data[2:]...)}
	a.atc++
	if a.p.Format1 {
		return tlv.Append(nil, 0x80, append(a.aip[:], a.afl...)), swOK
	}
	return tlv.Append(nil, 0x77, append(tlv.Append(nil, 0x82, a.aip[:]), tlv.Append(nil, 0x94, a.afl)...)), swOK
}

func (a *application) readRecord(m command) ([]byte, int) {
	if m.p2&7 != 4 || m.p1 == 0 {
		return nil, swP1P2
	}
	if len(m.data) != 0 || m.le == 0 {
		return nil, swLength
	}
	sfi := m.p2 >> 3
	if rec, ok := a.records[[2]byte{sfi, m.p1}]; ok {
		return rec, swOK
	}
	if _, ok := a.records[[2]byte{sfi, 1}]; ok {
		return nil, swNoRecord
	}
	return nil, swNotFound
}

// getData answers the counters of Book 3 section 6.5.7.
func (a *application) getData(m command) ([]byte, int) {
	switch tag := tlv.Tag(m.p1)<<8 | tlv.Tag(m.p2); tag {
	case 0x9F36:
		return tlv.Append(nil, tag, []byte{byte(a.atc >> 8), byte(a.atc)}), swOK
	case 0x9F13:
		return tlv.Append(nil, tag, []byte{byte(a.lastOnline >> 8), byte(a.lastOnline)}), swOK
	case 0x9F17:
		return tlv.Append(nil, tag, []byte{byte(a.tries)}), swOK
	}
	return nil, swReference
}

// verify is VERIFY (Book 3 section 6.5.12): plaintext PIN with P2 80,
// enciphered with P2 88. The block is ISO 9564-1 format 2.
func (a *application) verify(m command, challenge []byte) int {
	if !a.tx.started {
		return swConditions
	}
	block := m.data
	switch {
	case m.p1 != 0 || m.p2 != 0x80 && m.p2 != 0x88:
		return swP1P2
	case a.tries == 0:
		return swPINBlocked
	case m.p2 == 0x88:
		// Book 2 section 7.2: 7F, block, challenge, random padding.
		if a.icc == nil || len(m.data) != a.icc.size() || len(challenge) != 8 {
			return swConditions
		}
		plain := a.icc.apply(m.data)
		if plain[0] != 0x7F || string(plain[9:17]) != string(challenge) {
			return swConditions
		}
		block = plain[1:9]
	}
	if len(block) != 8 {
		return swLength
	}
	n := int(block[0] & 15)
	if block[0]>>4 != 2 || n < 4 || n > 12 {
		return swData
	}
	a.tx.pinDone = true
	text := strings.ToUpper(fmt.Sprintf("%x", block[1:]))
	if text == a.pin+strings.Repeat("F", 14-len(a.pin)) && n == len(a.pin) {
		a.tries = a.p.PINTries
		a.tx.pinOK = true
		return swOK
	}
	a.tx.pinOK = false
	a.tries--
	return swWarning | 0xC0 | a.tries
}
