package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tillbridge/agent/api"
)

// decode reads the body into a request type. An empty body is an empty object
// where optional is set.
func (c *call) decode(into any, optional bool) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, api.MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &Error{ErrorCode: "request.too_large", Detail: "the body has more than " + strconv.Itoa(api.MaxBody) + " bytes"}
		}
		return &Error{ErrorCode: "request.not_json", Detail: "the body ended early"}
	}
	if len(body) == 0 && optional {
		return nil
	}
	// A web page can send other types without asking first, so this check is
	// also a guard.
	if kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" || (params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8")) {
		return &Error{ErrorCode: "request.media_type", Detail: "send Content-Type: application/json in UTF-8"}
	}
	return api.Decode(body, into)
}

// claim reads Idempotency-Key. meaning is the checked request with its
// defaults: its JSON, not the text that came, is what "the same body" means.
func (c *call) claim(meaning any) (Claim, error) {
	values := c.r.Header.Values("Idempotency-Key")
	if len(values) > 1 {
		return Claim{}, &Error{ErrorCode: "request.key_invalid", Detail: "Idempotency-Key stands more than once"}
	}
	text := ""
	if len(values) == 1 {
		text = values[0]
	}
	key, err := api.CheckKey(text)
	if err != nil {
		return Claim{}, err
	}
	canonical, err := json.Marshal(meaning)
	if err != nil {
		return Claim{}, err
	}
	h := sha256.New()
	io.WriteString(h, c.r.Method+"\n"+c.r.URL.Path+"\n")
	h.Write(canonical)
	return Claim{Credential: c.cred.ID, Key: key, Digest: hex.EncodeToString(h.Sum(nil))}, nil
}

// wait reads Prefer: wait=N (RFC 7240): how long the caller is willing to wait.
func (c *call) wait(longest time.Duration) time.Duration {
	for _, v := range c.r.Header.Values("Prefer") {
		for p := range strings.SplitSeq(v, ",") {
			p, _, _ = strings.Cut(p, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			// A preference that cannot be read is ignored, as the RFC says.
			if n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`)); err == nil && n > 0 {
				return min(time.Duration(min(n, 1<<20))*time.Second, longest)
			}
		}
	}
	return 0
}

// reply writes a JSON body.
func (c *call) reply(status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	c.w.Write(append(b, '\n'))
	return nil
}
