package crm

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// decodeSecret reads the form in which receivers show a symmetric secret.
func decodeSecret(s string) ([]byte, error) {
	const prefix = "whsec_"
	if !strings.HasPrefix(s, prefix) {
		return nil, errors.New("sandbox crm: secret does not begin with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(s[len(prefix):])
	if err != nil || len(key) < 16 {
		return nil, errors.New("sandbox crm: secret is no base64 of 16 bytes or more")
	}
	return key, nil
}

// authentic checks the three headers of Standard Webhooks over the body. It
// returns what is wrong, or nothing.
func (s *Server) authentic(h http.Header, body []byte, now time.Time) string {
	id, stamp, list := h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature")
	if id == "" || stamp == "" || list == "" {
		return "webhook-id, webhook-timestamp or webhook-signature is missing"
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "webhook-timestamp is no number"
	}
	if d := now.Sub(time.Unix(seconds, 0)); d > s.o.Tolerance || d < -s.o.Tolerance {
		return "webhook-timestamp is too far from now"
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	for one := range strings.FieldsSeq(list) {
		version, text, _ := strings.Cut(one, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return ""
		}
	}
	return "no signature fits"
}
