package agent

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"time"
)

// name makes a path element of a configured name.
func name(s, otherwise string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
	if s == "" {
		return otherwise
	}
	return s
}

// zoneName is the machine's zone, or UTC when it has no IANA name.
func zoneName() string {
	if n := time.Local.String(); n != "Local" {
		return n
	}
	return "UTC"
}

// pinned is an HTTP transport that trusts these authorities alone.
func pinned(pool *x509.CertPool) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t
}
