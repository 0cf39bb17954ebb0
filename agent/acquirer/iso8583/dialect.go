package iso8583

import (
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Dialect is the message specification of one host, as data.
type Dialect struct {
	Name   string       `json:"name"`
	Length LengthHeader `json:"length"`
	// Header is the fixed part before the MTI (a TPDU) in hex, or empty.
	Header string `json:"header,omitempty"`
	Format Format `json:"format"`
	// Constants are elements that every request carries with the same value.
	Constants map[int]string `json:"constants,omitempty"`
	// Messages are the messages by operation: the acquirer kinds ("sale", ...)
	// and "advice", "reversal", "inquiry", "echo". An operation that is missing
	// is answered with acquirer.ErrUnsupported.
	Messages map[string]Operation `json:"messages"`
	// ReversalBy says how a reversal names its original: "original" by DE90 and a
	// STAN of its own, "stan" by carrying the original's STAN.
	ReversalBy string `json:"reversal_by"`

	codec  *Codec
	header []byte
}

// Operation is the message of one operation. Elements of a request that the
// format does not have are left out.
type Operation struct {
	Request    string `json:"request"`              // MTI
	Response   string `json:"response"`             // MTI
	Repeat     string `json:"repeat,omitempty"`     // MTI of later attempts, or empty: the same
	Processing string `json:"processing,omitempty"` // DE3
	Condition  string `json:"condition,omitempty"`  // DE25, "00" when empty
	Function   string `json:"function,omitempty"`   // DE70
}

//go:embed dialects/*.json
var builtin embed.FS

// Named returns a built-in dialect: "ascii87" or "bcd87".
func Named(name string) (*Dialect, error) {
	raw, err := builtin.ReadFile("dialects/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("iso8583: no built-in dialect %q: use ascii87 or bcd87, or give a file", name)
	}
	return ParseDialect(raw)
}

// ParseDialect reads a dialect from JSON. Unknown members are refused.
func ParseDialect(raw []byte) (*Dialect, error) {
	var d Dialect
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("iso8583: read dialect: %w", err)
	}
	var err error
	if d.header, err = hex.DecodeString(d.Header); err != nil || len(d.header) != d.Format.Header {
		return nil, fmt.Errorf("iso8583: dialect %q: header is not %d bytes of hex", d.Name, d.Format.Header)
	}
	if d.codec, err = NewCodec(d.Format); err != nil {
		return nil, err
	}
	if _, err := d.Length.append(nil, 0); err != nil {
		return nil, err
	}
	switch d.ReversalBy {
	case "original", "stan":
	default:
		return nil, fmt.Errorf("iso8583: dialect %q: reversal_by %q: use original or stan", d.Name, d.ReversalBy)
	}
	if _, ok := d.Format.Fields[90]; !ok && d.ReversalBy == "original" {
		return nil, fmt.Errorf("iso8583: dialect %q: reversal_by original needs a layout for DE90", d.Name)
	}
	for _, id := range []int{4, 11, 37, 38, 39, 41} {
		if _, ok := d.Format.Fields[id]; !ok {
			return nil, fmt.Errorf("iso8583: dialect %q: DE%d has no layout and every operation needs it", d.Name, id)
		}
	}
	for name, op := range d.Messages {
		if !known[name] {
			return nil, fmt.Errorf("iso8583: dialect %q: no operation is called %q", d.Name, name)
		}
		if !digits(op.Request, 4) || !digits(op.Response, 4) || op.Repeat != "" && !digits(op.Repeat, 4) {
			return nil, fmt.Errorf("iso8583: dialect %q: %s: a message type is not four digits", d.Name, name)
		}
	}
	for _, name := range []string{"sale", "reversal", "echo"} {
		if _, ok := d.Messages[name]; !ok {
			return nil, fmt.Errorf("iso8583: dialect %q has no message for %s: a host that cannot do it must not be used", d.Name, name)
		}
	}
	return &d, nil
}

var known = map[string]bool{"sale": true, "authorization": true, "refund": true, "void": true, "capture": true, "verify": true,
	"advice": true, "reversal": true, "inquiry": true, "echo": true}

// has reports whether the dialect has an element.
func (d *Dialect) has(id int) bool { _, ok := d.Format.Fields[id]; return ok }

// number returns n zero-filled to the width of element id.
func (d *Dialect) number(id int, text string) string {
	width := d.codec.spec.Fields[id].Spec().Length
	if len(text) < width && strings.HasPrefix(d.Format.Fields[id], "fix ") {
		return strings.Repeat("0", width-len(text)) + text
	}
	return text
}
