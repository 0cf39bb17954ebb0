package profile

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"tillbridge/p2pe/mask"
)

// checkJWE judges a compact JWE (RFC 7516 section 7.1) that this program did
// not make: its header names RSA-OAEP-256 or ECDH-ES with A256GCM and nothing
// that changes how it is read, and its parts are as long as those make them. A
// part that is readable text with a card number is [ErrLeak].
func checkJWE(jwe string) error {
	// Before its form: text with a number is no JWE, and is to be called a leak.
	if !strings.HasPrefix(jwe, "ey") && mask.Contains(jwe) {
		return ErrLeak
	}
	texts := strings.Split(jwe, ".")
	if len(texts) != 5 {
		return fmt.Errorf("%w: a JWE has five parts", ErrForm)
	}
	var parts [5][]byte
	for i, text := range texts {
		var err error
		if parts[i], err = base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
			return fmt.Errorf("%w: part %d of the JWE is not base64url", ErrForm, i+1)
		}
		if mask.Contains(string(parts[i])) {
			return ErrLeak
		}
	}
	header, err := members(parts[0])
	if err != nil {
		return fmt.Errorf("%w: the header of the JWE is no JSON object with each member once", ErrForm)
	}
	var alg, enc string
	if json.Unmarshal(header["alg"], &alg) != nil || json.Unmarshal(header["enc"], &enc) != nil || enc != "A256GCM" {
		return fmt.Errorf("%w: the JWE is not enciphered with A256GCM", ErrForm)
	}
	if header["zip"] != nil || header["crit"] != nil {
		return fmt.Errorf("%w: the JWE is compressed or extended, which no acquirer link here carries", ErrForm)
	}
	key := len(parts[1])
	switch alg {
	case "RSA-OAEP-256":
		if key < 256 {
			return fmt.Errorf("%w: the key of the JWE is enciphered under RSA of less than 2048 bits", ErrForm)
		}
	case "ECDH-ES":
		if key != 0 || header["epk"] == nil {
			return fmt.Errorf("%w: the JWE is not made as ECDH-ES makes one", ErrForm)
		}
	default:
		return fmt.Errorf("%w: the JWE's key is neither under RSA-OAEP-256 nor ECDH-ES", ErrForm)
	}
	if len(parts[2]) != 12 || len(parts[3]) == 0 || len(parts[4]) != 16 {
		return fmt.Errorf("%w: the JWE's vector, ciphertext or tag has a wrong length", ErrForm)
	}
	return nil
}

// members reads a JSON object and refuses a member that stands twice: readers
// differ in which of the two they take.
func members(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, ErrForm
	}
	out := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if _, twice := out[name]; !ok || twice {
			return nil, ErrForm
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil || d.InputOffset() != int64(len(data)) {
		return nil, ErrForm
	}
	return out, nil
}
