package tlv

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

type vector struct {
	Fn   string                     `json:"fn"`
	In   map[string]json.RawMessage `json:"in"`
	Out  json.RawMessage            `json:"out"`
	Test string                     `json:"test"`
}

func TestVectorsTLV(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "emv", "tlv") {
		var doc struct {
			Vectors []vector `json:"vectors"`
		}
		readJSON(t, file, &doc)
		for _, v := range doc.Vectors {
			n++
			t.Run(fmt.Sprintf("%d/%.60s", n, v.Test), func(t *testing.T) { runVector(t, v) })
		}
	}
	vectortest.Ran(t, "tlv", n)
}

func runVector(t *testing.T, v vector) {
	var simple, flatten bool
	for key, raw := range v.In {
		var err error
		switch key {
		case "data", "tlv":
		case "simple":
			err = json.Unmarshal(orFalse(raw), &simple)
		case "flatten":
			err = json.Unmarshal(orFalse(raw), &flatten)
		case "convert": // a callback of the recorded test; the values are hex either way
		default:
			t.Fatalf("unknown input %q", key)
		}
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	switch v.Fn {
	case "tlv.decode":
		var text string
		if err := json.Unmarshal(v.In["data"], &text); err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Parse(data, &Options{OneByteLength: simple})
		var want map[string]any
		if json.Unmarshal(v.Out, &want) != nil || want["error"] != nil || want["raises"] != nil {
			if err == nil {
				t.Fatalf("decoded; want an error (%s)", v.Out)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := asMap(&tree, -1, flatten); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	case "tlv.encode":
		got, err := encodeJSON(json.NewDecoder(bytes.NewReader(v.In["tlv"])), simple)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(v.Out, &want); err != nil {
			t.Fatal(err)
		}
		if g := fmt.Sprintf("%X", got); g != strings.ToUpper(want) {
			t.Errorf("got %s, want %s", g, want)
		}
	default:
		t.Fatalf("unknown function %q", v.Fn)
	}
}

func orFalse(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return json.RawMessage("false")
	}
	return raw
}

func asMap(tree *Tree, at int, flatten bool) map[string]any {
	out := map[string]any{}
	for i, e := range tree.Children(at) {
		switch {
		case !e.Tag.Constructed():
			out[e.Tag.String()] = fmt.Sprintf("%X", e.Value)
		case flatten:
			maps.Copy(out, asMap(tree, i, true))
		default:
			out[e.Tag.String()] = asMap(tree, i, false)
		}
	}
	return out
}

// encodeJSON keeps the order of the keys, as the recorded call did.
func encodeJSON(d *json.Decoder, simple bool) ([]byte, error) {
	var out []byte
	if _, err := d.Token(); err != nil { // {
		return nil, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		tag, err := ParseTag(key.(string))
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		var value []byte
		if raw[0] == '{' {
			value, err = encodeJSON(json.NewDecoder(bytes.NewReader(raw)), simple)
		} else {
			value, err = hex.DecodeString(strings.Trim(string(raw), `"`))
		}
		if err != nil {
			return nil, err
		}
		if simple {
			if out, err = AppendOneByte(out, tag, value); err != nil {
				return nil, err
			}
		} else {
			out = Append(out, tag, value)
		}
	}
	return out, nil
}

var (
	pairRE  = regexp.MustCompile(`\b([0-9A-F]{2}(?:[0-9A-F]{2}){0,2})=([0-9A-F]*)\b`)
	tagRE   = regexp.MustCompile(`\b[0-9A-F]{2}(?:[0-9A-F]{2}){0,2}\b`)
	bytesRE = regexp.MustCompile(`PDOL data is (\d+) bytes`)
)

// The field reports carry their expectation in words; what of it can be
// checked is read from the words, and every report must at least be read
// without a panic in every mode.
func TestVectorsTLVField(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "emv", "tlv-field") {
		var doc struct {
			Vectors []struct {
				Name, Expect string
				Hex          *string
			} `json:"vectors"`
		}
		readJSON(t, file, &doc)
		for _, v := range doc.Vectors {
			n++
			t.Run(v.Name, func(t *testing.T) {
				if v.Hex == nil {
					switch {
					case strings.Contains(v.Name, "trailing 00"):
						data := append(Append(nil, 0x9C, []byte{0}), 0, 0, 0)
						if tree, err := Parse(data, nil); err != nil || tree.Len() != 1 {
							t.Errorf("%d elements, %v; want 1 and no error", tree.Len(), err)
						}
					case strings.Contains(v.Name, "GPO"), strings.Contains(v.Name, "READ RECORD"):
						// checked in emv/apdu: TestVectorsTLVFieldCommands
					default:
						t.Logf("no bytes are given: %s", v.Expect)
					}
					return
				}
				data, err := hex.DecodeString(*v.Hex)
				if err != nil {
					t.Fatal(err)
				}
				for _, mode := range []Mode{Tolerant, ZeroPadding, Strict} {
					Parse(data, &Options{Mode: mode})
				}
				tree, err := Parse(data, nil)
				checked := 0
				for _, m := range pairRE.FindAllStringSubmatch(v.Expect, -1) {
					checked++
					tag, _ := ParseTag(m[1])
					if got, ok := tree.Find(tag); !ok || fmt.Sprintf("%X", got) != m[2] {
						t.Errorf("%s: found %t, value %X, want %s", m[1], ok, got, m[2])
					}
				}
				if before, _, ok := strings.Cut(v.Expect, " found"); ok {
					for _, s := range tagRE.FindAllString(before, -1) {
						checked++
						tag, err := ParseTag(s)
						if err != nil {
							t.Fatal(err)
						}
						if _, ok := tree.Find(tag); !ok {
							t.Errorf("%s is not found", s)
						}
					}
				}
				if m := bytesRE.FindStringSubmatch(v.Expect); m != nil {
					checked++
					want, _ := strconv.Atoi(m[1])
					pdol, _ := tree.Find(0x9F38)
					d, err := ParseDOL(pdol)
					if err != nil || d.Size() != want {
						t.Errorf("DOL of %d bytes, %v; want %d", d.Size(), err, want)
					}
				}
				if strings.Contains(v.Expect, "strict BER: error") {
					checked++
					if _, err := Parse(data, &Options{Mode: Strict}); err == nil {
						t.Error("no error in strict mode")
					}
				} else if err != nil && !(errors.Is(err, ErrTruncated) && checked > 0) {
					// Two reports lost a padding byte: their template is one byte
					// short. All is found, and the error is still told.
					t.Errorf("tolerant: %v", err)
				}
				if checked == 0 {
					t.Logf("nothing of %q is checked but that it reads", v.Expect)
				}
			})
		}
	}
	vectortest.Ran(t, "tlv-field", n)
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
