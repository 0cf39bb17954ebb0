package bdk_test

import (
	"bytes"
	"crypto/aes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tillbridge/p2pe"
	"tillbridge/p2pe/bdk"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
	"tillbridge/p2pe/internal/derive"
)

func key(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(31*i + 7)
	}
	return b
}

func TestCountersNoDeviceUsesAreRefused(t *testing.T) {
	tdes := must[*bdk.Base](t)(bdk.New(p2pe.SchemeTDESDUKPT, key(16)))
	aesBase := must[*bdk.Base](t)(bdk.New(p2pe.SchemeAESDUKPT, key(16)))
	for _, c := range []struct {
		name string
		base *bdk.Base
		ksn  p2pe.KSN
		want error
	}{
		{"tdes counter zero", tdes, "FFFF9876543210E00000", p2pe.ErrKSN},
		{"tdes eleven bits", tdes, "FFFF9876543210E007FF", p2pe.ErrKSN},
		{"tdes all bits", tdes, "FFFF9876543210FFFFFF", p2pe.ErrKSN},
		{"aes counter zero", aesBase, "123456789012345600000000", p2pe.ErrKSN},
		{"aes seventeen bits", aesBase, "12345678901234560001FFFF", p2pe.ErrKSN},
		{"aes update counter", aesBase, "1234567890123456FFFFFFFF", p2pe.ErrKSN},
		{"aes serial under tdes key", tdes, "123456789012345600000001", bdk.ErrBase},
		{"tdes serial under aes key", aesBase, "FFFF9876543210E00001", bdk.ErrBase},
		{"no serial", aesBase, "", bdk.ErrBase},
		{"tdes last", tdes, "FFFF9876543210FFF800", nil},
		{"aes last", aesBase, "1234567890123456FFFF0000", nil},
		{"stripped serial", tdes, "9876543210E00001", nil},
	} {
		if _, err := c.base.Transaction(c.ksn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestStrippedSerialIsTheSameDevice(t *testing.T) {
	base := must[*bdk.Base](t)(bdk.New(p2pe.SchemeTDESDUKPT, key(16)))
	a := must[*dukpt.Transaction](t)(base.Transaction("9876543210E00001"))
	b := must[*dukpt.Transaction](t)(base.Transaction("FFFF9876543210E00001"))
	if !bytes.Equal(derive.Reveal(a), derive.Reveal(b)) {
		t.Error("keys differ")
	}
}

func TestNewRefusesWrongSizes(t *testing.T) {
	for n := range 40 {
		_, err := bdk.New(p2pe.SchemeTDESDUKPT, key(n))
		if (err == nil) != (n == 16) {
			t.Errorf("tdes %d bytes: %v", n, err)
		}
		_, err = bdk.New(p2pe.SchemeAESDUKPT, key(n))
		if (err == nil) != (n == 16 || n == 24 || n == 32) {
			t.Errorf("aes %d bytes: %v", n, err)
		}
	}
	if _, err := bdk.New(p2pe.SchemeJWE, key(16)); !errors.Is(err, bdk.ErrBase) {
		t.Errorf("jwe: %v", err)
	}
}

func TestBasePrintsNothing(t *testing.T) {
	base := must[*bdk.Base](t)(bdk.New(p2pe.SchemeTDESDUKPT, key(16)))
	for _, verb := range []string{"%v", "%+v", "%#v", "%d", "%x", "%s"} {
		if out := fmt.Sprintf(verb, base) + fmt.Sprintf(verb, *base); out != "******" {
			t.Errorf("%s: %s", verb, out)
		}
	}
}

func TestPINBlocksRoundTrip(t *testing.T) {
	const pan, other = "4111111111111111", "5555555555554444"
	random := strings.NewReader(strings.Repeat("\x0a\x0b\x0c\x0d\x0e\x0f\x01\x02", 200))
	for _, format := range []int{0, 1, 2, 3, 4} {
		for n := 4; n <= 12; n++ {
			number := "987654321098"[:n]
			block := must[[]byte](t)(pin.Encode(format, number, pan, random))
			k := key(16)
			sealed := must[[]byte](t)(pin.Encipher(k, block, pan))
			opened := must[[]byte](t)(pin.Decipher(k, sealed, pan))
			if got := must[string](t)(pin.Decode(format, opened, pan)); got != number {
				t.Errorf("format %d, %d digits: the PIN does not come back", format, n)
			}
			if format == 0 {
				if _, err := pin.Decode(format, block, other); !errors.Is(err, pin.ErrBlock) {
					t.Errorf("%d digits: another card number is accepted: %v", n, err)
				}
			}
			if format == 4 {
				if wrong := must[[]byte](t)(pin.Decipher(k, sealed, other)); bytes.Equal(wrong, block) {
					t.Error("format 4 is not bound to the card number")
				}
			}
		}
	}
	for name, f := range map[string]func() ([]byte, error){
		"three digits":  func() ([]byte, error) { return pin.Encode(0, "123", pan, nil) },
		"thirteen":      func() ([]byte, error) { return pin.Encode(0, "1234567890123", pan, nil) },
		"letters":       func() ([]byte, error) { return pin.Encode(0, "12AB", pan, nil) },
		"short number":  func() ([]byte, error) { return pin.Encode(0, "1234", "411111111111", nil) },
		"format 5":      func() ([]byte, error) { return pin.Encode(5, "1234", pan, nil) },
		"nothing to go": func() ([]byte, error) { return pin.Encode(1, "1234", pan, strings.NewReader("")) },
	} {
		if _, err := f(); !errors.Is(err, pin.ErrBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Sixteen set bits: sixteen steps.
func BenchmarkHostAES128SixteenBits(b *testing.B) {
	initial := initialKey(b)
	b.ReportAllocs()
	for b.Loop() {
		tx, err := bdk.Transaction(initial, "1234567890123456FFFF0000")
		if err != nil {
			b.Fatal(err)
		}
		tx.Erase()
	}
}

// The same against its floor, sixteen key set-ups and sixteen blocks, taken in
// turn so that a busy machine slows both alike. ns/op is of the pair.
func BenchmarkHostAES128SixteenBitsOfFloor(b *testing.B) {
	initial := initialKey(b)
	k, block := key(16), make([]byte, 16)
	var own, floor time.Duration
	for b.Loop() {
		start := time.Now()
		for range 8 {
			bdk.Transaction(initial, "1234567890123456FFFF0000")
		}
		middle := time.Now()
		for range 8 * 16 {
			c, _ := aes.NewCipher(k)
			c.Encrypt(block, block)
		}
		own += middle.Sub(start)
		floor += time.Since(middle)
	}
	b.ReportMetric(float64(floor)/float64(own), "floor/op")
}

func initialKey(b *testing.B) []byte {
	base, err := bdk.New(p2pe.SchemeAESDUKPT, key(16))
	if err != nil {
		b.Fatal(err)
	}
	initial, err := base.Initial("123456789012345600000000")
	if err != nil {
		b.Fatal(err)
	}
	return initial
}

func BenchmarkHostTDESTenBits(b *testing.B) {
	base, _ := bdk.New(p2pe.SchemeTDESDUKPT, key(16))
	initial, _ := base.Initial("FFFF9876543210E00000")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bdk.Transaction(initial, "FFFF9876543210FFF800"); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(0, []byte("\x04\x12\x74\xED\xCB\xA9\x87\x6F"), "4012345678909")
	f.Add(4, []byte("\x44\x12\x34\xAA\xAA\xAA\xAA\xAA\x2F\x69\xAD\xDE\x2E\x9E\x7A\xCE"), "4111111111111111")
	f.Fuzz(func(t *testing.T, format int, block []byte, pan string) {
		if p, err := pin.Decode(format, block, pan); err == nil && (len(p) < 4 || len(p) > 12) {
			t.Fatalf("a PIN of %d digits", len(p))
		}
	})
}
