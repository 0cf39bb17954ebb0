package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Role is what a credential may do.
type Role string

// The roles of design/payments.md section 3, and that of the control channel.
const (
	RolePOS        Role = "pos"
	RoleManager    Role = "pos_manager"
	RoleTechnician Role = "technician"
	RoleCRM        Role = "crm"
	RoleReadOnly   Role = "readonly"
	RoleLocal      Role = "local" // never given to a key
)

func (r Role) may(n need) bool {
	switch n {
	case open, read:
		return true
	case take:
		return r == RolePOS || r == RoleManager || r == RoleLocal
	case manager:
		return r == RoleManager || r == RoleLocal
	}
	return false
}

// Credential is one key and what it may do. It holds the key's hash only.
type Credential struct {
	ID       string // the scope of idempotency keys
	Register string // empty: every register
	Role     Role
	Hash     Hash
}

// sees reports whether the credential may see what belongs to the register.
func (c Credential) sees(register string) bool {
	return c.Register == "" || c.Register == register
}

// Hash is the SHA-256 of a key. Keys are 256 random bits, so that a slow hash
// would protect nothing.
type Hash [sha256.Size]byte

// NewKey makes a key to be shown once, and its hash to be kept.
func NewKey() (Key, Hash) {
	var b [32]byte
	rand.Read(b[:]) // never fails
	k := Key("tbk_" + base64.RawURLEncoding.EncodeToString(b[:]))
	return k, HashOf(string(k))
}

// Key is a key in clear; it prints as *** unless it is asked for by Reveal.
type Key string

// Reveal returns the text to show to the person who pairs a till.
func (k Key) Reveal() string { return string(k) }

// Format implements fmt.Formatter: *** for every verb.
func (k Key) Format(f fmt.State, _ rune) { f.Write([]byte("***")) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON implements json.Marshaler.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

// HashOf hashes a key as it came.
func HashOf(key string) Hash { return sha256.Sum256([]byte(key)) }

// String is the form in which a hash is kept: "sha256:" and hex.
func (h Hash) String() string { return "sha256:" + hex.EncodeToString(h[:]) }

// ParseHash reads the form of [Hash.String].
func ParseHash(s string) (Hash, error) {
	var h Hash
	rest, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(rest)
	if !ok || err != nil || len(b) != len(h) {
		return h, fmt.Errorf("api key hash is not sha256: and 64 hex digits")
	}
	copy(h[:], b)
	return h, nil
}

// Keyring holds the credentials. It may change while it is used.
type Keyring struct {
	mu   sync.RWMutex
	list []Credential
}

// NewKeyring returns a Keyring of these credentials.
func NewKeyring(list ...Credential) *Keyring { return &Keyring{list: list} }

// Set replaces the credentials.
func (k *Keyring) Set(list []Credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append([]Credential(nil), list...)
}

// find returns the credential of a key. Every hash is compared, in constant time.
func (k *Keyring) find(key string) (Credential, bool) {
	h := HashOf(key)
	k.mu.RLock()
	defer k.mu.RUnlock()
	var found Credential
	ok := false
	for _, c := range k.list {
		if subtle.ConstantTimeCompare(c.Hash[:], h[:]) == 1 {
			found, ok = c, true
		}
	}
	return found, ok
}

func (s *Server) authenticate(r *http.Request, n need) (Credential, error) {
	if n == open {
		return Credential{}, nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return Credential{}, &Error{ErrorCode: "auth.missing", Detail: "send Authorization: Bearer and the register's key"}
	}
	c, ok := s.o.Keys.find(strings.TrimSpace(key))
	if !ok {
		return Credential{}, &Error{ErrorCode: "auth.unknown_key", Detail: "this key is not known here, or was revoked"}
	}
	s.lastPOS.Store(time.Now().UnixNano())
	if !c.Role.may(n) {
		return Credential{}, &Error{ErrorCode: "auth.role", Detail: "a key with role " + string(c.Role) + " may not do this"}
	}
	return c, nil
}

// guardHost refuses requests that name another machine: a web page whose name
// was made to resolve to 127.0.0.1 sends its own name.
func (s *Server) guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
		if !s.hosts[host] {
			s.fail(w, r, &Error{ErrorCode: "auth.host", Detail: "the Host header names another machine; use http://127.0.0.1"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guardOrigin lets web pages in only from listed origins, and answers their
// preflight requests.
func (s *Server) guardOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origins := r.Header.Values("Origin")
		if len(origins) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Origin")
		if len(origins) > 1 || !s.origins[origins[0]] {
			s.fail(w, r, &Error{ErrorCode: "auth.origin", Detail: "web pages of this origin are not allowed; add it to api.origins in the configuration"})
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Expose-Headers", "Location, Idempotency-Replayed, Preference-Applied, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Prefer, Last-Event-ID")
			h.Set("Access-Control-Max-Age", "600")
			if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
				h.Set("Access-Control-Allow-Private-Network", "true")
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
