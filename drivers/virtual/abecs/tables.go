package abecs

import (
	"strconv"
	"strings"
)

// tableLoad is a load between TLI and TLE.
type tableLoad struct {
	acquirer, version string
	records           []string
}

// tli begins a load: acquirer and version.
func (s *session) tli(c command) answer {
	if len(c.blocks) != 1 || len(c.blocks[0]) != 12 {
		return fail(statBadParam)
	}
	b := string(c.blocks[0])
	if _, ok := digits([]byte(b), 2); !ok {
		return fail(statBadParam)
	}
	s.tables = &tableLoad{acquirer: b[:2], version: b[2:]}
	if v, ok := s.pad.vault.version(b[:2]); ok && v == b[2:] {
		return answer{}
	}
	return fail(statVersion)
}

// tlr takes records; each begins with its own length.
func (s *session) tlr(c command) answer {
	if s.tables == nil {
		return fail(statBadCall)
	}
	if len(c.blocks) != 1 || len(c.blocks[0]) < 2 {
		return fail(statBadParam)
	}
	rest := string(c.blocks[0])
	n, ok := digits([]byte(rest), 2)
	rest = rest[2:]
	for range n {
		k, good := digits([]byte(rest), 3)
		if !ok || !good || k < 8 || k > len(rest) || !tableRecord(rest[:k]) {
			s.tables = nil
			return fail(statTable)
		}
		s.tables.records = append(s.tables.records, rest[:k])
		rest = rest[k:]
	}
	if rest != "" {
		s.tables = nil
		return fail(statTable)
	}
	return answer{}
}

// tle ends a load: from here the new tables are the pad's.
func (s *session) tle(command) answer {
	t := s.tables
	if t == nil {
		return fail(statBadCall)
	}
	s.tables = nil
	if err := s.pad.vault.setTables(t.acquirer, t.version, t.records); err != nil {
		return fail(statTable)
	}
	return answer{}
}

// gts tells the table version of an acquirer.
func (s *session) gts(c command) answer {
	if len(c.blocks) != 1 || len(c.blocks[0]) != 2 {
		return fail(statBadParam)
	}
	v, _ := s.pad.vault.version(string(c.blocks[0]))
	if v == "" {
		v = "0000000000"
	}
	return answer{block: []byte(v)}
}

func recordAcquirer(r string) string {
	if len(r) < 6 {
		return ""
	}
	return r[4:6]
}

// tableRecord reports whether a record is one that this pad can take.
func tableRecord(r string) bool {
	switch r[3] {
	case '1':
		_, ok := parseApplication(r)
		return ok
	case '2': // CA public key
		return len(r) == 611
	case '3': // certificate revocation
		return true
	}
	return false
}

// fields cuts a record into pieces of fixed length.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) text(n int) string {
	if len(f.rest) < n {
		f.bad = true
		return strings.Repeat("0", n)
	}
	v := f.rest[:n]
	f.rest = f.rest[n:]
	return v
}

func (f *fields) hex(n int) []byte {
	v := bcd(f.text(n))
	if v == nil {
		f.bad = true
	}
	return v
}

func (f *fields) number(n, base int) int64 {
	v, err := strconv.ParseInt(f.text(n), base, 64)
	if err != nil {
		f.bad = true
	}
	return v
}

// parseApplication reads an AID record of 284, 314 or 340 characters.
func parseApplication(r string) (*application, bool) {
	if len(r) != 284 && len(r) != 314 && len(r) != 340 {
		return nil, false
	}
	f := &fields{rest: r[4:]}
	a := &application{acquirer: f.text(2), record: f.text(2)}
	n := int(f.number(2, 10))
	name := f.text(32)
	if n < 5 || n > 16 {
		return nil, false
	}
	if a.aid = bcd(name[:2*n]); a.aid == nil {
		return nil, false
	}
	a.kind = int(f.number(2, 10))
	a.label = strings.TrimSpace(f.text(16))
	f.text(2)
	for range 3 {
		a.versions = append(a.versions, f.hex(4))
	}
	a.country, a.currency = f.text(3), f.text(3)
	a.exponent = int(f.number(1, 10))
	a.merchant, a.mcc, a.terminal = f.text(15), f.text(4), f.text(8)
	a.caps, a.addCaps = f.hex(6), f.hex(10)
	if b := f.hex(2); len(b) == 1 {
		a.terminalType = b[0]
	}
	a.tacDefault, a.tacDenial, a.tacOnline = f.hex(10), f.hex(10), f.hex(10)
	a.floor = f.number(8, 16)
	f.text(2)
	a.ctlsMode = f.text(1)[0]
	if a.ctlsMode == '0' {
		a.ctlsMode = 0
	}
	a.ctlsLimit = f.number(8, 16)
	f.text(8)
	a.ctlsCVM = f.number(8, 16)
	f.text(5)
	a.tdol, a.ddol = f.hex(40), f.hex(40)
	return a, !f.bad
}

// applications are the table's, or the pad's own where none was loaded.
func (p *Pad) applications() []*application {
	var list []*application
	for _, r := range p.vault.tables() {
		if len(r) > 3 && r[3] == '1' {
			if a, ok := parseApplication(r); ok {
				list = append(list, a)
			}
		}
	}
	if len(list) > 0 {
		return list
	}
	for i, d := range []struct {
		aid, label string
		kind       int
	}{
		{"A0000000031010", "CREDITO", 1}, {"A0000000032010", "DEBITO", 2},
		{"A0000000041010", "CREDITO", 1}, {"A0000000043060", "DEBITO", 2},
		{"A00000002501", "CREDITO", 1}, {"A0000000651010", "CREDITO", 1},
		{"A0000001523010", "CREDITO", 1}, {"A000000333010102", "CREDITO", 1},
		{"A0000006510101", "CREDITO", 1},
	} {
		list = append(list, &application{
			acquirer: "01", record: twoDigits(i + 1), aid: bcd(d.aid), kind: d.kind, label: d.label,
			versions: [][]byte{{0x00, 0x8C}, {0x00, 0x8D}, {0x00, 0x96}, {0x00, 0x02}, {0x00, 0x01}},
			country:  "076", currency: "986", exponent: 2, merchant: "VIRTUAL PAD    ", mcc: "5999", terminal: "VPAD0001",
			caps: []byte{0xE0, 0x68, 0x00}, addCaps: []byte{0x70, 0x00, 0xF0, 0xA0, 0x01}, terminalType: 0x22,
			tacDefault: bcd("DC4000A800"), tacDenial: bcd("0010000000"), tacOnline: bcd("DC4004F800"),
			ctlsMode: '1', ctlsLimit: 99999999, ctlsCVM: 5000,
		})
	}
	return list
}

func twoDigits(n int) string { return string([]byte{'0' + byte(n/10%10), '0' + byte(n%10)}) }

// application is an entry of the AID table (record type 1 of chapter 5).
type application struct {
	acquirer, record string
	aid              []byte
	kind             int
	label            string
	versions         [][]byte // 9F09
	country          string
	currency         string
	exponent         int
	merchant         string
	mcc              string
	terminal         string
	caps             []byte // 9F33
	addCaps          []byte // 9F40
	terminalType     byte   // 9F35
	tacDefault       []byte
	tacDenial        []byte
	tacOnline        []byte
	floor            int64
	tdol, ddol       []byte
	ctlsMode         byte // 0: not contactless
	ctlsLimit        int64
	ctlsCVM          int64
}
