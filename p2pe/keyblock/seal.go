package keyblock

import (
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"tillbridge/p2pe/internal/derive"
)

// Seal writes a block of version B or D. kbpk is as for [Open]; random gives
// the padding of the key, which hides its length up to the longest of its
// algorithm. A PB block is added where the header needs it; h must hold none.
func Seal(h Header, key, kbpk []byte, random io.Reader) (string, error) {
	if h.Version != 'B' && h.Version != 'D' {
		return "", fmt.Errorf("%w: blocks are written as B or D, not %c", ErrVersion, h.Version)
	}
	keys, err := protect(h.Version, kbpk)
	if err != nil {
		return "", err
	}
	_, size := macLen(h.Version)
	longest := len(key)
	switch h.Algorithm {
	case 'T':
		longest = max(longest, 24)
	case 'A':
		longest = max(longest, 32)
	}
	payload := make([]byte, (2+longest+size-1)/size*size)
	defer clear(payload)
	if _, err := io.ReadFull(random, payload[2+len(key):]); err != nil {
		return "", fmt.Errorf("keyblock: read random padding: %w", err)
	}
	payload[0], payload[1] = byte(8*len(key)>>8), byte(8*len(key))
	copy(payload[2:], key)
	if len(key) >= 1<<13 {
		return "", fmt.Errorf("%w: %d bytes", ErrKey, len(key))
	}
	if _, err := unpack(payload, h.Algorithm); err != nil {
		return "", err
	}
	clearPart, err := appendHeader(h, size, 2*(len(payload)+size), random)
	if err != nil {
		return "", err
	}
	return seal(clearPart, payload, keys), nil
}

// seal enciphers a payload of whole blocks behind its header.
func seal(clearPart string, payload []byte, keys protection) string {
	mac := derive.NewCMAC(keys.mac).Append(nil, append([]byte(clearPart), payload...))
	out := make([]byte, len(payload))
	cipher.NewCBCEncrypter(keys.encrypt, mac).CryptBlocks(out, payload)
	return clearPart + strings.ToUpper(hex.EncodeToString(out)+hex.EncodeToString(mac))
}

// appendHeader writes header and optional blocks, padded to whole cipher
// blocks, and checks that they read back as they were given.
func appendHeader(h Header, size, rest int, random io.Reader) (string, error) {
	var blocks strings.Builder
	for _, b := range h.Blocks {
		if b.ID == "PB" {
			return "", fmt.Errorf("%w: padding is added here, give none", ErrFormat)
		}
		appendOptional(&blocks, b.ID, b.Data)
	}
	count := len(h.Blocks)
	if over := blocks.Len() % size; over != 0 {
		pad := size - over
		if pad < 4 {
			pad += size
		}
		fill := make([]byte, pad-4)
		if _, err := io.ReadFull(random, fill); err != nil {
			return "", fmt.Errorf("keyblock: read random padding: %w", err)
		}
		const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
		for i := range fill {
			fill[i] = letters[fill[i]%32]
		}
		appendOptional(&blocks, "PB", string(fill))
		count++
	}
	context := h.Context
	if context == 0 {
		context = '0'
	}
	total := headerLen + blocks.Len() + rest
	s := fmt.Sprintf("%c%04d%s%c%c%s%c%02d%c0%s", h.Version, total, h.Usage, h.Algorithm, h.Mode, h.KeyVersion, h.Exportability, count, context, blocks.String())
	back, end, err := parseHeader(s)
	if err != nil {
		return "", err
	}
	if total > longestBlock || end != len(s) || back.Usage != h.Usage || back.KeyVersion != h.KeyVersion {
		return "", fmt.Errorf("%w: a header field has a wrong length", ErrFormat)
	}
	return s, nil
}

func appendOptional(w *strings.Builder, id, data string) {
	if n := 4 + len(data); n <= 0xff {
		fmt.Fprintf(w, "%s%02X%s", id, n, data)
		return
	}
	fmt.Fprintf(w, "%s0004%04X%s", id, 10+len(data), data)
}
