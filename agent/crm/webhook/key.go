package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Key is a symmetric Standard Webhooks key of 24 to 64 bytes. It prints as ***.
type Key struct{ secret []byte }

// ParseKey reads "whsec_" + base64, as receivers show it. The error says
// nothing of the text.
func ParseKey(s string) (Key, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "whsec_")
	if !ok {
		return Key{}, &ConfigError{"key", "does not begin with whsec_; copy it whole from the receiver"}
	}
	b, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return Key{}, &ConfigError{"key", "is not base64 after whsec_; copy it whole from the receiver"}
	}
	if len(b) < 24 || len(b) > 64 {
		return Key{}, &ConfigError{"key", "must be 24 to 64 bytes long; make a new one at the receiver"}
	}
	return Key{b}, nil
}

// Sign returns one element of webhook-signature for a message that is sent at
// the Unix time at (seconds).
func (k Key) Sign(id string, at int64, body []byte) string {
	m := hmac.New(sha256.New, k.secret)
	m.Write([]byte(id))
	m.Write([]byte{'.'})
	m.Write(strconv.AppendInt(nil, at, 10))
	m.Write([]byte{'.'})
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// Format implements fmt.Formatter: *** for every verb.
func (k Key) Format(f fmt.State, _ rune) { f.Write([]byte("***")) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON implements json.Marshaler.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }
