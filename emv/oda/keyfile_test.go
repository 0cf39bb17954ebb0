package oda

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

var keyDay = Date{2026, 12, 1}

// fileKey is a key as a file writes it.
func fileKey(index byte, change func(m map[string]any)) map[string]any {
	modulus := make([]byte, 128)
	for i := range modulus {
		modulus[i] = byte(i*7) | 1
	}
	k := CAKey{RID: RID{0xA0, 0, 0, 0, 3}, Index: index, Modulus: modulus, Exponent: []byte{3}}
	sum := k.SHA1()
	m := map[string]any{"rid": "A000000003", "index": fmt.Sprintf("%02X", index), "modulus": hex.EncodeToString(modulus), "exponent": "03", "sha1": hex.EncodeToString(sum[:])}
	if change != nil {
		change(m)
	}
	return m
}

func keyFile(t testing.TB, env string, keys ...map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"env": env, "keys": keys, "revoked": []any{map[string]any{"rid": "A000000003", "index": "92", "serial": "001234"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyFile(t *testing.T) {
	f, err := ParseKeyFile(keyFile(t, "live",
		fileKey(0x92, func(m map[string]any) { m["expiry"] = "2026-12-01"; m["sources"] = []any{"a paper"} }),
		fileKey(0x94, func(m map[string]any) { m["expiry"] = "2026-11-30" }),
		fileKey(0x95, func(m map[string]any) { m["env"] = "live"; m["exponent"] = "000003" })), Live, keyDay)
	if err != nil {
		t.Fatal(err)
	}
	if f.Store.Len() != 2 || f.Revoked != 1 || !f.Store.revoked[revocation{keyID{RID{0xA0, 0, 0, 0, 3}, 0x92}, [3]byte{0, 0x12, 0x34}}] {
		t.Errorf("%d keys, %d revoked", f.Store.Len(), f.Revoked)
	}
	if len(f.Expired) != 1 || f.Expired[0] != "A000000003 94" {
		t.Errorf("expired: %v", f.Expired)
	}
	if _, ok := f.Store.Key(RID{0xA0, 0, 0, 0, 3}, 0x94); ok {
		t.Error("a key whose last day is over is used")
	}
}

// TestKeyFileSaysNothingTwice: of a name that is there twice the reader of JSON
// takes the last, so that a revocation or an expiry would be lost unseen.
func TestKeyFileSaysNothingTwice(t *testing.T) {
	good := string(keyFile(t, "live", fileKey(0x92, func(m map[string]any) { m["expiry"] = "2026-11-30" })))
	if _, err := ParseKeyFile([]byte("\ufeff"+good), Live, keyDay); err != nil {
		t.Errorf("a byte order mark: %v", err)
	}
	for name, change := range map[string][2]string{
		"a second, empty revocation list": {`"env":`, `"revoked":[{"rid":"A000000003","index":"92","serial":"001234"}],"env":`},
		"a second list of keys":           {`"env":`, `"keys":[],"env":`},
		"a second expiry in capitals":     {`"exponent":`, `"EXPIRY":"2031-12-31","exponent":`},
		"a letter that folds to s":        {`"env":`, `"keyſ":[],"env":`},
		"a second environment":            {`"env":`, `"env":"test","env":`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: nothing is changed", name)
		}
		if _, err := ParseKeyFile([]byte(text), Live, keyDay); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyFileRefusals(t *testing.T) {
	one := func(change func(m map[string]any)) []byte { return keyFile(t, "live", fileKey(0x92, change)) }
	set := func(key string, v any) []byte { return one(func(m map[string]any) { m[key] = v }) }
	for name, c := range map[string]struct {
		file   []byte
		text   string
		reason error
	}{
		"no JSON":               {[]byte("keys"), "", nil},
		"something behind":      {append(one(nil), '{', '}'), "closing brace", nil},
		"no keys":               {[]byte(`{"env":"live"}`), "no \"keys\"", nil},
		"unknown field":         {set("expires", "2020-01-01"), "expires", nil},
		"sum missing":           {set("sha1", ""), "same paper", nil},
		"sum wrong":             {set("sha1", strings.Repeat("00", 20)), "", ErrSum},
		"digit of modulus":      {one(func(m map[string]any) { m["modulus"] = "0f" + m["modulus"].(string)[2:] }), "", ErrSum},
		"exponent 2":            {set("exponent", "02"), "neither 3", ErrKey},
		"exponent no hex":       {set("exponent", "3"), "hex", nil},
		"short modulus":         {set("modulus", "B5A5"), "modulus of 2", ErrKey},
		"rid":                   {set("rid", "A00000"), "10 hex digits", nil},
		"expiry":                {set("expiry", "12/31"), "a date such as", nil},
		"test key":              {set("env", "test"), "test key for a live store", ErrConflict},
		"environment not said":  {keyFile(t, "", fileKey(0x92, nil)), "live or a test key", nil},
		"twice":                 {keyFile(t, "live", fileKey(0x92, nil), fileKey(0x92, nil)), "there already, as key 1", nil},
		"revoked without value": {[]byte(strings.Replace(string(one(nil)), "001234", "12", 1)), "serial 6", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseKeyFile(c.file, Live, keyDay)
			if f != nil || !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), c.text) || c.reason != nil && !errors.Is(err, c.reason) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Each key of the public collection, as a file of its own, is taken or refused
// as it stands there.
func TestVectorsKeyFile(t *testing.T) {
	raw, err := os.ReadFile(vectortest.Folder(t, "emv", "ca-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range doc.Keys {
		n++
		env, _ := k["env"].(string)
		if env == "" {
			env = "live"
		}
		if expiry, _ := k["expiry"].(string); strings.HasSuffix(expiry, " 2999") {
			k["expiry"] = "2999-12-31" // written for people there
		}
		one, err := json.Marshal(map[string]any{"env": "live", "keys": []any{k}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseKeyFile(one, Environment(env), keyDay)
		expiry, _ := k["expiry"].(string)
		exponent, _ := k["exponent"].(string)
		modulus, _ := k["modulus"].(string)
		switch {
		case strings.TrimLeft(exponent, "0") == "2", len(modulus) > 2*248:
			if !errors.Is(err, ErrKey) {
				t.Errorf("%v %v: exponent %s, %d bits: %v", k["rid"], k["index"], exponent, 4*len(modulus), err)
			}
		case err != nil:
			t.Errorf("%v %v: %v", k["rid"], k["index"], err)
		case (expiry != "" && expiry < "2026-12-01") != (len(f.Expired) == 1) || f.Store.Len()+len(f.Expired) != 1:
			t.Errorf("%v %v, to %q: %d keys, %d expired", k["rid"], k["index"], expiry, f.Store.Len(), len(f.Expired))
		}
	}
	vectortest.Ran(t, "ca-key-files", n)
	if _, err := ParseKeyFile(raw, Live, keyDay); !errors.Is(err, ErrKeyFile) {
		t.Errorf("a collection with test and live keys side by side: %v", err)
	}
}

func FuzzParseKeyFile(f *testing.F) {
	f.Add(keyFile(f, "live", fileKey(0x92, nil)))
	f.Add([]byte(`{"keys":[{}],"revoked":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKeyFile(b, Live, keyDay)
		if (k == nil) == (err == nil) || err != nil && !errors.Is(err, ErrKeyFile) {
			t.Fatalf("%v and %v", k, err)
		}
	})
}
