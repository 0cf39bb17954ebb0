package acquirer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBooksJudge(t *testing.T) {
	sale := func(ref string, amount int64) *Entry {
		return &Entry{Kind: "sale", Code: "00", Reference: ref, Token: "tok_1", Asked: amount, Amount: amount, Currency: "978"}
	}
	with := func(e *Entry, change func(*Entry)) *Entry { change(e); return e }
	for name, c := range map[string]struct {
		entries []*Entry
		double  int
		net     int64
	}{
		"two sales of two payments":      {[]*Entry{sale("a", 10), sale("b", 10)}, 0, 20},
		"one payment twice":              {[]*Entry{sale("a", 10), sale("a", 10)}, 1, 20},
		"one payment three times":        {[]*Entry{sale("a", 10), sale("a", 10), sale("a", 10)}, 2, 30},
		"twice, one reversed":            {[]*Entry{sale("a", 10), with(sale("a", 10), func(e *Entry) { e.Reversed = true })}, 0, 10},
		"twice, one voided":              {[]*Entry{sale("a", 10), with(sale("a", 10), func(e *Entry) { e.VoidedBy = "1" })}, 0, 10},
		"twice, one declined":            {[]*Entry{sale("a", 10), with(sale("a", 10), func(e *Entry) { e.Code, e.Amount = "51", 0 })}, 0, 10},
		"a split tender of two amounts":  {[]*Entry{sale("a", 10), sale("a", 11)}, 0, 21},
		"a split tender over two cards":  {[]*Entry{sale("a", 10), with(sale("a", 10), func(e *Entry) { e.Token = "tok_2" })}, 0, 20},
		"sale and advice of one payment": {[]*Entry{sale("a", 10), with(sale("a", 10), func(e *Entry) { e.Kind = "advice" })}, 1, 20},
		"sale and refund":                {[]*Entry{sale("a", 10), with(sale("a", 4), func(e *Entry) { e.Kind = "refund" })}, 0, 6},
		"no reference":                   {[]*Entry{sale("", 10), sale("", 10)}, 0, 20},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := OpenBooks("")
			if err != nil {
				t.Fatal(err)
			}
			b.d.Entries = c.entries
			if s := b.Summary(); s.DoubleCharges != c.double || s.Net["978"] != c.net {
				t.Errorf("%d double charges, net %d; want %d and %d", s.DoubleCharges, s.Net["978"], c.double, c.net)
			}
		})
	}
}

func TestBooksHoldNoCardNumber(t *testing.T) {
	const pan = "4761739001010010"
	path := filepath.Join(t.TempDir(), "books.json")
	b, err := OpenBooks(path)
	if err != nil {
		t.Fatal(err)
	}
	token, par := b.token(pan)
	b.d.Entries = append(b.d.Entries, &Entry{Kind: "sale", Code: "00", Token: token, PAR: par, Masked: mask(pan)})
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), pan) || !strings.Contains(string(raw), "476173******0010") {
		t.Error("the file holds the number, or not its masked form")
	}
	again, err := OpenBooks(path)
	if err != nil {
		t.Fatal(err)
	}
	if tok, _ := again.token(pan); tok != token {
		t.Error("the token changed with a restart")
	}
	if len(par) != 29 {
		t.Errorf("a payment account reference of %d characters", len(par))
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBooks(path); err == nil {
		t.Error("damaged books were opened")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	k := NewKeys()
	c := cardData{pan: "4761739001010010"}
	for _, v := range []any{c, &c, struct{ C cardData }{c}} {
		raw, _ := json.Marshal(v)
		if strings.Contains(string(raw), "47617") {
			t.Error("card data in JSON")
		}
	}
	if k.String() != "***" || strings.Contains(string(mustText(k, c)), k.TDESBDK) || strings.Contains(string(mustText(k, c)), c.pan) {
		t.Error("a secret prints")
	}
}

func mustText(values ...any) string {
	var b strings.Builder
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			fmt.Fprintf(&b, verb, v)
		}
	}
	return b.String()
}
