package zvt

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"testing"

	"tillbridge/drivers/frame"
)

func TestCommandsThatAreRefused(t *testing.T) {
	p := serve(t, Options{})
	r := dial(t, p.ready["addr"].(string))
	if _, end := r.run("06 01 0A 04 000000001000 49 0978"); end != "846b00" {
		t.Errorf("a sale before the registration: %s", end)
	}
	if _, end := r.run("06 00 06 000000 98 0840"); end != "841e036f0978" {
		t.Errorf("registration in another currency: %s", end)
	}
	if _, end := r.run("06 00 06 123456 98 0978"); end != "849a00" {
		t.Errorf("registration with a wrong password: %s", end)
	}
	r.run(hello)
	for command, want := range map[string]string{
		"06 01 0A 04 000000001000 49 0840":         "846f00", // currency
		"06 01 07 04 000000000000":                 "84c800", // amount
		"06 01 07 04 00000000100A":                 "849a00", // no digit
		"06 01 0E 04 000000001000 04 000000002000": "849a00", // two amounts
		"06 01 00":               "849a00",
		"06 01 01 FF":            "849a00",
		"06 C0 00":               "84a500", // would show a card
		"06 30 03 000000":        "849a00", // no receipt
		"06 30 06 111111 870001": "849a00",
		"06 66 00":               "848300",
		"08 40 01 08":            "84fd00",
	} {
		if _, end := r.run(command); end != want {
			t.Errorf("%s: %s, want %s", command, end, want)
		}
	}
	if n := p.books("sales"); n != 0.0 {
		t.Errorf("%v sales", n)
	}
}

func TestMaskedNumbers(t *testing.T) {
	for name, want := range map[string]string{"visa": "eeeeeeeeeeee1111", "amex": "eeeeeeeeeee0005f"} {
		if got := hex.EncodeToString(cards[name].masked()); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// pieces is a line that brings bytes and then ends.
type pieces struct {
	io.Reader
	io.Writer
}

func (pieces) Close() error { return nil }

// FuzzLine: whatever a register sends, the terminal does not fail, and nobody
// pays where no customer is.
func FuzzLine(f *testing.F) {
	reg, _ := hex.DecodeString("06000600000098097880000006010a04000000001000490978800000")
	f.Add(reg, false)
	f.Add(frame.AppendDLE(frame.AppendDLE(nil, reg[:9]), reg[12:25]), true)
	f.Add([]byte{0x10, 0x02, 0x06, 0x01, 0x10, 0x03, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		term, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		_ = term.Run(context.Background(), pieces{bytes.NewReader(b), io.Discard}, framed)
		if books := term.Books(); books.Sales != 0 || books.Net["978"] != 0 {
			t.Fatalf("somebody paid: %+v", books)
		}
		_, _ = bitmaps(b)
		_, _ = object(b, 0x26)
	})
}
