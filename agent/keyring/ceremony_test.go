package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/p2pe/secret"
)

func component(t testing.TB, text string) *secret.Buffer {
	t.Helper()
	b, err := ParseComponent([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Components with odd parity.
const (
	partA = "A1B3 C2D5 E6F8 0B1C 2F3D 4C5E 6D7F 8A9B"
	partB = "1F2F3D4C5B6B7A89 0816254343526170"
)

func TestCeremonyOfTwoPeople(t *testing.T) {
	c, err := NewCeremony(TDES, 16)
	if err != nil {
		t.Fatal(err)
	}
	a, b := component(t, partA), component(t, partB)
	want := make([]byte, 16)
	for i := range want {
		want[i] = a.Bytes()[i] ^ b.Bytes()[i]
	}
	setParity(want)
	paper, err := TDES.Of(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]*secret.Buffer{"Anna": a, "Ben": b} {
		if _, err := c.Add(name, part); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if part.Len() != 0 {
			t.Error("a component is left")
		}
	}
	key, err := c.Combine(strings.ToLower(paper.Older))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(key.Bytes(), want) || !oddParity(key.Bytes()) {
		t.Error("another key")
	}
	if _, err := c.Combine(paper.Older); err == nil {
		t.Error("a ceremony gives its key twice")
	}
}

func TestCeremonyRefusals(t *testing.T) {
	start := func(t *testing.T, a Algorithm, n int) *Ceremony {
		c, err := NewCeremony(a, n)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("one person", func(t *testing.T) {
		c := start(t, TDES, 16)
		if _, err := c.Add("Anna", component(t, partA)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add("ANNA", component(t, partB)); !errors.Is(err, ErrHolder) {
			t.Errorf("Anna twice: %v", err)
		}
		if _, err := c.Combine("000000"); !errors.Is(err, ErrHolder) {
			t.Errorf("one component: %v", err)
		}
	})
	t.Run("a mistyped digit", func(t *testing.T) {
		if _, err := start(t, TDES, 16).Add("Anna", component(t, strings.Replace(partA, "A1", "A3", 1))); !errors.Is(err, ErrParity) {
			t.Errorf("parity: %v", err)
		}
		c := start(t, TDES, 16)
		for name, text := range map[string]string{"Anna": partA, "Ben": partB} {
			if _, err := c.Add(name, component(t, text)); err != nil {
				t.Fatal(err)
			}
		}
		if key, err := c.Combine("123456"); !errors.Is(err, ErrCheckValue) || key != nil {
			t.Errorf("check value: %v", err)
		}
	})
	t.Run("the same component twice", func(t *testing.T) {
		c := start(t, TDES, 16)
		if _, err := c.Add("Anna", component(t, partA)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add("Ben", component(t, partA)); !errors.Is(err, ErrComponent) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a component of one pattern", func(t *testing.T) {
		for _, text := range []string{strings.Repeat("00", 16), strings.Repeat("5A", 16), "000102030405060708090A0B0C0D0E0F", strings.Repeat("0123456789ABCDEF", 2)} {
			if _, err := start(t, AES, 16).Add("Anna", component(t, text)); !errors.Is(err, ErrWeak) {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("another length", func(t *testing.T) {
		if _, err := start(t, AES, 32).Add("Anna", component(t, partA)); !errors.Is(err, ErrLength) {
			t.Errorf("%v", err)
		}
		for _, c := range []struct {
			a Algorithm
			n int
		}{{TDES, 8}, {TDES, 32}, {AES, 8}, {AES, 20}, {AES, 0}} {
			if _, err := NewCeremony(c.a, c.n); !errors.Is(err, ErrLength) {
				t.Errorf("%s of %d bytes: %v", c.a, c.n, err)
			}
		}
	})
	t.Run("no hex", func(t *testing.T) {
		for _, text := range []string{"", "A", "zz", "0x12", "12 3"} {
			line := []byte(text)
			if _, err := ParseComponent(line); !errors.Is(err, ErrComponent) {
				t.Errorf("%d characters: %v", len(text), err)
			}
			if !bytes.Equal(line, make([]byte, len(line))) {
				t.Error("the line is left")
			}
		}
	})
}

func TestWeakKeys(t *testing.T) {
	for _, text := range []string{
		"0101010101010101A1B3C2D5E6F80B1C", "A1B3C2D5E6F80B1CFEFEFEFEFEFEFEFE", "1F1F1F1F0E0E0E0EA1B3C2D5E6F80B1C", "A1B3C2D5E6F80B1C01FE01FE01FE01FE",
		"A1B3C2D5E6F80B1CA1B3C2D5E6F80B1C", "A1B3C2D5E6F80B1CA0B2C3D4E7F90A1D", // equal but for parity
		"A1B3C2D5E6F80B1C2F3D4C5E6D7F8A9BA1B3C2D5E6F80B1C", "A1B3C2D5E6F80B1C2F3D4C5E6D7F8A9B2F3D4C5E6D7F8A9B",
	} {
		if err := judgeKey(TDES, unhex(t, text)); !errors.Is(err, ErrWeak) {
			t.Errorf("key of %d digits: %v", len(text), err)
		}
	}
	if err := judgeKey(TDES, unhex(t, "A1B3C2D5E6F80B1C2F3D4C5E6D7F8A9B")); err != nil {
		t.Errorf("a sound key: %v", err)
	}
}

func TestPublishedKeysAreRefused(t *testing.T) {
	n := 0
	for _, set := range []string{"dukpt-aes", "dukpt-tdes", "tr31"} {
		for _, key := range vectorKeys(t, set) {
			n++
			for _, k := range [][]byte{key, parityOf(key)} {
				if !isPublished(k) {
					t.Errorf("%s: a published key of %d bytes is accepted", set, len(k))
				}
			}
		}
	}
	for _, text := range []string{"0123456789ABCDEFFEDCBA9876543210", "FEDCBA9876543210F1F1F1F1F1F1F1F1", "6AC292FAA1315B4D858AB3A3D7D5933A",
		"0123456789ABCDEFFEDCBA98765432100123456789ABCDEF", "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
		"FEDCBA98765432100123456789ABCDEF"} {
		n++
		if !isPublished(unhex(t, text)) {
			t.Error("a published key is accepted")
		}
	}
	t.Logf("%d published keys refused", n)
}

func parityOf(key []byte) []byte {
	k := bytes.Clone(key)
	setParity(k)
	return k
}

// vectorKeys returns the base, initial and protection keys of a public set.
func vectorKeys(t *testing.T, set string) [][]byte {
	var out [][]byte
	for _, file := range vectortest.Files(t, "p2pe", set) {
		if !strings.Contains(file, "public-") {
			continue // sealed sets hold random keys that stand in no book
		}
		var doc struct{ Vectors []map[string]any }
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, v := range doc.Vectors {
			for _, field := range []string{"bdk", "ik", "kbpk", "key"} {
				if text, ok := v[field].(string); ok && (len(text) == 32 || len(text) == 48 || len(text) == 64) {
					out = append(out, unhex(t, text))
				}
			}
		}
	}
	return out
}

func TestCheckValues(t *testing.T) {
	// A key of the payShield sample blocks with the check value printed there.
	v, err := TDES.Of(unhex(t, "5DB50B454F8389ADCE573BE50861F2BF"))
	if err != nil || v.Older != "5C9405" || len(v.CMAC) != 10 {
		t.Fatalf("%+v %v", v, err)
	}
	a, err := AES.Of(unhex(t, "2B7E151628AED2A6ABF7158809CF4F3C"))
	if err != nil || a.Older != "" {
		t.Fatalf("%+v %v", a, err)
	}
	for paper, want := range map[string]bool{v.Older: true, strings.ToLower(v.CMAC): true, v.CMAC[:6]: true, v.CMAC[:4]: false, "": false, v.Older + "00": false} {
		if v.Match(paper) != want {
			t.Errorf("%d characters: %v", len(paper), !want)
		}
	}
}

func TestCeremonyNeverPrints(t *testing.T) {
	c, err := NewCeremony(AES, 16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add("Anna", component(t, protectionHex)); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%v %+v %#v %x %s", c, c, c, c, c)
	if strings.Count(text, "***") != 5 || strings.Contains(strings.ToUpper(text), protectionHex[:8]) {
		t.Errorf("it prints %d characters", len(text))
	}
	if _, err := json.Marshal(c); err == nil {
		t.Error("it became JSON")
	}
}
