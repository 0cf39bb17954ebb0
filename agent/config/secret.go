package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// Secret is a reference to a secret: "file:PATH" or "env:NAME". It is not the
// secret, so it may be printed.
type Secret string

// Value reads the secret. Spaces and line ends around it are cut off.
func (s Secret) Value() (string, error) {
	kind, where, _ := strings.Cut(string(s), ":")
	var v string
	switch kind {
	case "file":
		b, err := os.ReadFile(where)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		v = string(b)
	case "env":
		v = os.Getenv(where)
	default:
		return "", fmt.Errorf("a secret is given as file:PATH or env:NAME, never as text in the file")
	}
	v = strings.TrimSpace(v)
	if v == "" {
		return "", fmt.Errorf("secret %s is empty", s)
	}
	return v, nil
}

// Fingerprint is the first eight hex digits of the secret's SHA-256, or why it
// cannot be read.
func (s Secret) Fingerprint() string {
	if s == "" {
		return ""
	}
	v, err := s.Value()
	if err != nil {
		return "unreadable"
	}
	sum := sha256.Sum256([]byte(v))
	return hex.EncodeToString(sum[:4])
}

func (s Secret) fault() string {
	kind, where, ok := strings.Cut(string(s), ":")
	if s == "" || ok && where != "" && (kind == "file" || kind == "env") {
		return ""
	}
	return `a secret is given as "file:PATH" or "env:NAME", never as text in the file`
}
