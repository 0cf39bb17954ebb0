package oda

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrKeyFile is matched by every error of [ParseKeyFile] about the file's form.
var ErrKeyFile = errors.New("oda: the file of certification authority keys is refused")

// KeyFile is what a file of keys holds.
type KeyFile struct {
	Store *Store
	// Expired are keys that were left out because their last day is over, as
	// "RID index". A card under one of them is not authenticated.
	Expired []string
	// Revoked is the number of issuer certificates on the revocation list.
	Revoked int
}

// keyEntry is one key as the file writes it. What public collections add for
// people is read over; anything else is a mistake, an expiry under another name
// for example.
type keyEntry struct {
	RID      string `json:"rid"`
	Index    string `json:"index"`
	Modulus  string `json:"modulus"`
	Exponent string `json:"exponent"`
	SHA1     string `json:"sha1"`
	Expiry   string `json:"expiry"` // YYYY-MM-DD, or nothing
	Env      string `json:"env"`    // live or test, over the file's

	Note             any `json:"note"`
	Bits             any `json:"bits"`
	Sources          any `json:"sources"`
	PublishedMatches any `json:"published_sha1_matches"`
	Conflict         any `json:"conflict"`
	ExponentConflict any `json:"exponent_conflict"`
}

type keyDocument struct {
	Note    any        `json:"note"`
	Env     string     `json:"env"`
	Keys    []keyEntry `json:"keys"`
	Revoked []struct {
		RID    string `json:"rid"`
		Index  string `json:"index"`
		Serial string `json:"serial"`
	} `json:"revoked"`
}

// ParseKeyFile reads a JSON file of certification authority keys for one
// environment:
//
//	{"env": "live",
//	 "keys":    [{"rid": "A000000003", "index": "92", "modulus": "…", "exponent": "03", "sha1": "…", "expiry": "2031-12-31"}],
//	 "revoked": [{"rid": "A000000003", "index": "92", "serial": "001234"}]}
//
// All values are hex but the dates. The sum is that of Book 2 section 11.2.2 and
// is required: a digit that was typed wrong shows there and nowhere else. A key
// of another environment, with a wrong sum, with an exponent other than 3 and
// 65537 or given twice refuses the whole file with [ErrKeyFile] and its reason;
// a key whose last day is before today is left out and named. A name that an
// object has twice refuses the file too: a second "revoked" would void the first.
func ParseKeyFile(b []byte, env Environment, today Date) (*KeyFile, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrKeyFile}, args...)...)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // editors on Windows write it
	if name := repeated(b); name != "" {
		return nil, bad("%q is there twice in one object, and only one of the two would count: keep one", name)
	}
	var doc keyDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, bad("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, bad("something follows the closing brace")
	}
	if len(doc.Keys) == 0 {
		return nil, bad(`it has no "keys"`)
	}
	f := &KeyFile{Store: NewStore(env)}
	seen := map[keyID]int{}
	for i, e := range doc.Keys {
		k, err := e.key()
		if err != nil {
			return nil, bad("key %d: %w", i+1, err)
		}
		name := fmt.Sprintf("%s %02X", k.RID, k.Index)
		of := Environment(e.Env)
		if of == "" {
			of = Environment(doc.Env)
		}
		if of == "" {
			return nil, bad(`key %d (%s): nothing says whether it is a live or a test key: set "env"`, i+1, name)
		}
		id := keyID{k.RID, k.Index}
		if first, ok := seen[id]; ok {
			return nil, bad("key %d (%s) is there already, as key %d: keep the one that the acquirer gave", i+1, name, first)
		}
		seen[id] = i + 1
		if err := f.Store.Add(of, k); err != nil {
			return nil, bad("key %d (%s): %w", i+1, name, err)
		}
		if !k.Expiry.zero() && today.After(k.Expiry) {
			delete(f.Store.keys, id)
			f.Expired = append(f.Expired, name)
		}
	}
	for i, r := range doc.Revoked {
		rid, index, serial := unhexed(r.RID, 5), unhexed(r.Index, 1), unhexed(r.Serial, 3)
		if rid == nil || index == nil || serial == nil {
			return nil, bad("revoked %d: rid has 10 hex digits, index 2 and serial 6", i+1)
		}
		f.Store.Revoke(RID(rid), index[0], [3]byte(serial))
	}
	f.Revoked = len(doc.Revoked)
	return f, nil
}

// repeated returns a name that an object of b has twice, as encoding/json
// compares names: in capitals or not. It stops at what is not JSON.
func repeated(b []byte) string {
	type level struct {
		names map[string]bool // nil in an array
		value bool            // what comes next is a value
	}
	var open []level
	dec := json.NewDecoder(bytes.NewReader(b))
	for {
		t, err := dec.Token()
		if err != nil {
			return ""
		}
		if d, ok := t.(json.Delim); ok && (d == '}' || d == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			at := &open[n-1]
			if name, ok := t.(string); ok && !at.value {
				// Some letters beyond ASCII fold to ASCII ones (s, k).
				fold := strings.ToLower(strings.ToUpper(name))
				if at.names[fold] {
					return name
				}
				at.names[fold], at.value = true, true
				continue
			}
			at.value = false
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
	}
}

func (e *keyEntry) key() (CAKey, error) {
	rid, index := unhexed(e.RID, 5), unhexed(e.Index, 1)
	modulus, exponent, sum := unhexed(e.Modulus, 0), unhexed(e.Exponent, 0), unhexed(e.SHA1, 20)
	switch {
	case rid == nil || index == nil:
		return CAKey{}, errors.New("rid has 10 hex digits and index 2")
	case modulus == nil || exponent == nil:
		return CAKey{}, errors.New("modulus and exponent are hex")
	case sum == nil:
		return CAKey{}, errors.New("sha1 has 40 hex digits: take it from the same paper as the key, it is not computed here")
	}
	k := CAKey{RID: RID(rid), Index: index[0], Modulus: modulus, Exponent: bytes.TrimLeft(exponent, "\x00"), Sum: sum}
	if e.Expiry != "" {
		t, err := time.Parse("2006-01-02", e.Expiry)
		if err != nil {
			return CAKey{}, errors.New("expiry is a date such as 2031-12-31")
		}
		k.Expiry = Date{t.Year(), int(t.Month()), t.Day()}
	}
	return k, nil
}

// unhexed returns n bytes (any number but none where n is 0), or nil.
func unhexed(s string, n int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 || n != 0 && len(b) != n {
		return nil
	}
	return b
}
