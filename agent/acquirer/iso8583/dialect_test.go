package iso8583

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
)

func TestDialectsRefuseWhatCannotWork(t *testing.T) {
	good, err := builtin.ReadFile("dialects/ascii87.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"unknown member":      {`"name": "ascii87"`, `"nome": "ascii87"`},
		"unknown layout":      {`"fix 6 ascii"`, `"fix 6 runes"`},
		"layout without size": {`"fix 6 ascii"`, `"fix six ascii"`},
		"unknown encoding":    {`"bitmap": "binary"`, `"bitmap": "octal"`},
		"header of no size":   {`"name": "ascii87"`, `"name": "ascii87", "header": "6000"`},
		"unknown reversal":    {`"reversal_by": "original"`, `"reversal_by": "prayer"`},
		"no DE90":             {`"90": "fix 42 ascii"`, `"91": "fix 42 ascii"`},
		"no DE39":             {`"39": "fix 2 ascii"`, `"40": "fix 2 ascii"`},
		"no reversal":         {`"reversal": {`, `"advice": {`},
		"unknown operation":   {`"sale": {`, `"bet": {`},
		"MTI of letters":      {`"request": "0800"`, `"request": "08A0"`},
		"unknown length":      {`"kind": "binary"`, `"kind": "roman"`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Replace(good, []byte(edit[0]), []byte(edit[1]), 1)
			if bytes.Equal(bad, good) {
				t.Fatal("the edit changes nothing")
			}
			if _, err := ParseDialect(bad); err == nil || !strings.Contains(err.Error(), "iso8583") {
				t.Errorf("accepted, or a bare error: %v", err)
			}
		})
	}
	if _, err := Named("latin"); err == nil {
		t.Error("an unknown name was accepted")
	}
}

func TestReversalNamesItsOriginal(t *testing.T) {
	at := time.Date(2026, 11, 30, 23, 59, 58, 0, time.FixedZone("", 3600))
	sale := tokenSale(7)
	sale.Time, sale.Reference = at, "pay_1"
	rv := acquirer.Reversal{STAN: 8, Time: at.Add(time.Minute), Original: sale.AsOriginal(acquirer.Result{}), Attempt: 2}
	for name, want := range map[string]map[int]string{
		"ascii87": {0: "0421", 3: "000000", 4: "000000000100", 11: "000008", 62: "pay_1", 90: "0200000007113022595800000000000000000000" + "00"},
		"bcd87":   {0: "0401", 3: "000000", 4: "000000000100", 11: "000007", 12: "235958", 13: "1130", 62: "pay_1"},
	} {
		d, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := d.reverse(rv)
		if err != nil {
			t.Fatal(err)
		}
		for id, v := range want {
			got := m.Text(id)
			if id == 0 {
				got = m.MTI
			}
			if got != v {
				t.Errorf("%s DE%d: %q, want %q", name, id, got, v)
			}
		}
		if m.Text(38) != "" || m.Text(37) != "" {
			t.Errorf("%s: a reversal of a lost answer cites an answer", name)
		}
	}
}

func TestHostTimeTakesTheNearestYear(t *testing.T) {
	for _, c := range []struct{ asked, date, clock, want string }{
		{"2026-12-31T23:59:50Z", "0101", "000010", "2027-01-01T00:00:10Z"},
		{"2027-01-01T00:00:10Z", "1231", "235950", "2026-12-31T23:59:50Z"},
		{"2026-06-15T12:00:00+02:00", "0615", "120001", "2026-06-15T12:00:01+02:00"},
		{"2026-06-15T12:00:00Z", "0000", "000000", "0001-01-01T00:00:00Z"},
		{"2026-06-15T12:00:00Z", "0231", "000000", "0001-01-01T00:00:00Z"},
	} {
		asked, _ := time.Parse(time.RFC3339, c.asked)
		m := Message{MTI: "0210", Fields: map[int][]byte{13: []byte(c.date), 12: []byte(c.clock)}}
		if got := hostTime(m, asked).Format(time.RFC3339); got != c.want {
			t.Errorf("%s %s asked %s: %s, want %s", c.date, c.clock, c.asked, got, c.want)
		}
	}
}
