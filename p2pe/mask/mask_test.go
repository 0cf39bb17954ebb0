package mask

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

func TestTruncateByLengthAndBrand(t *testing.T) {
	for _, c := range []struct{ name, pan, narrow, wide string }{
		{"visa 16", "4111111111111111", "411111******1111", "41111111****1111"},
		{"amex 15", "378282246310005", "378282*****0005", "378282*****0005"},
		{"diners 14", "30569309025904", "3056******5904", "3056******5904"},
		{"visa 13", "4222222222222", "422******2222", "422******2222"},
		{"maestro 12", "501800000009", "50******0009", "50******0009"},
		{"unionpay 19", "6205500000000000004", "620550*********0004", "62055000*******0004"},
		{"unknown 16", "9999999999999999", "999999******9999", "999999******9999"},
		{"unknown 15", "999999999999999", "99999******9999", "99999******9999"},
		{"too short", "41111111111", Hidden, Hidden},
		{"too long", "41111111111111111111", Hidden, Hidden},
		{"separators", "4111 1111 1111 1111", Hidden, Hidden},
		{"letters", "4111111111111x11", Hidden, Hidden},
		{"empty", "", Hidden, Hidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := PAN(c.pan); got != c.narrow {
				t.Errorf("PAN = %s, want %s", got, c.narrow)
			}
			w, _ := TruncateWide(c.pan)
			if got := w.String(); got != c.wide {
				t.Errorf("TruncateWide = %s, want %s", got, c.wide)
			}
		})
	}
}

func TestTruncationNeverShowsMoreThanAllowed(t *testing.T) {
	for n := range 25 {
		for _, first := range []string{"4", "37", "36", "62", "9", "501"} {
			pan := (first + strings.Repeat("1", 25))[:n]
			got := PAN(pan)
			shown := strings.Count(got, "") - 1 - strings.Count(got, "*")
			if shown > 10 || n > 0 && shown > 0 && n-shown < 5 {
				t.Errorf("%d digits: %s shows %d", n, got, shown)
			}
		}
	}
}

func TestCheckMasked(t *testing.T) {
	for _, c := range []struct {
		masked string
		ok     bool
	}{
		{"4124********9990", true}, {"412412******9990", true}, {"41241241****9990", true},
		{"412412XXXXXX9990", true}, {"****************", true},
		{"4111111111111111", false}, {"412412412***9990", false}, {"4124****1***9990", false},
		{"4124*******99901", false}, {"412", false}, {"4124********999a", false},
	} {
		if err := CheckMasked(c.masked); (err == nil) != c.ok {
			t.Errorf("CheckMasked(%s) = %v", c.masked, err)
		}
	}
}

func whitelist(t *testing.T, body string, least uint64) (*Whitelist, error) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return ParseWhitelist(SignWhitelist([]byte(body), private), public, least)
}

func TestWhitelistIsSignedAndRechecked(t *testing.T) {
	const body = "tillbridge-clear-prefixes/1\nversion 7\n603628\n7777771\n"
	w, err := whitelist(t, body, 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, field string
		want        error
	}{
		{"listed gift card", "6036280000000000001", nil},
		{"listed gift track", ";6036280000000000001=25121010000?", nil},
		{"listed other", "7777771234567890", nil},
		{"not listed", "7777721234567890", ErrNotListed},
		{"payment card", "4111111111111111", ErrClearPAN},
		{"payment track", ";4111111111111111=25121010000000000?", ErrClearPAN},
		{"payment card behind a listed one", "7777771234567890 5555555555554444", ErrClearPAN},
		{"payment card in hex", "34313131313131313131313131313131", ErrClearPAN},
		{"no number", "LOYALTY-123456", nil},
	} {
		if err := w.Check([]byte(c.field)); !errors.Is(err, c.want) || (c.want == nil && err != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	var none *Whitelist
	if err := none.Check([]byte("7777771234567890")); !errors.Is(err, ErrNotListed) {
		t.Errorf("no list: %v", err)
	}
}

func TestWhitelistRefusals(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"older than the one in use", "tillbridge-clear-prefixes/1\nversion 6\n603628\n"},
		{"opens a payment range", "tillbridge-clear-prefixes/1\nversion 8\n411111\n"},
		{"prefix too short", "tillbridge-clear-prefixes/1\nversion 8\n60362\n"},
		{"no version", "tillbridge-clear-prefixes/1\n603628\n"},
		{"other kind", "tillbridge-clear-prefixes/2\nversion 8\n603628\n"},
	} {
		if _, err := whitelist(t, c.body, 7); !errors.Is(err, ErrWhitelist) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	public, private, _ := ed25519.GenerateKey(nil)
	file := SignWhitelist([]byte("tillbridge-clear-prefixes/1\nversion 8\n603628\n"), private)
	for i := range file {
		bad := append([]byte(nil), file...)
		bad[i] ^= 1
		if w, err := ParseWhitelist(bad, public, 0); err == nil && i < len(file)-2 {
			t.Fatalf("byte %d changed: accepted version %d", i, w.Version())
		}
	}
}
