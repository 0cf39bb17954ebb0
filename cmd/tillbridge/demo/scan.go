package demo

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"tillbridge/p2pe/mask"
)

// canary is a secret of the run that must be found nowhere, in every form in
// which it could stand.
type canary struct {
	what  string
	forms [][]byte
}

// cardCanary are the forms of a card number.
func cardCanary(pan string) canary {
	c := canary{what: "card number"}
	packed := pan
	if len(packed)%2 == 1 {
		packed += "F"
	}
	bcd, _ := hex.DecodeString(packed)
	wide := make([]byte, 0, 2*len(pan))
	for _, u := range utf16.Encode([]rune(pan)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	c.forms = append(c.forms, []byte(pan), bcd, wide, []byte(hex.EncodeToString([]byte(pan))),
		[]byte(strings.ToUpper(hex.EncodeToString([]byte(pan)))))
	c.forms = append(c.forms, base64Forms([]byte(pan))...)
	return c
}

// keyCanary are the forms of a key.
func keyCanary(hexKey string) canary {
	raw, _ := hex.DecodeString(hexKey)
	c := canary{what: "key"}
	c.forms = append(c.forms, raw, []byte(strings.ToUpper(hexKey)), []byte(strings.ToLower(hexKey)))
	c.forms = append(c.forms, base64Forms(raw)...)
	return c
}

// base64Forms are what stands in base64 text wherever the bytes begin.
func base64Forms(b []byte) [][]byte {
	var out [][]byte
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), b...))
		// The first and last characters also carry neighbouring bits.
		from := (shift*8 + 5) / 6
		if shift == 0 {
			from = 0
		}
		out = append(out, []byte(text[from:len(text)-1]))
	}
	return out
}

// search reads every file below dir and looks for canaries; in text it also
// looks for any card number. In a device's memory (bytes written as base64) only
// canaries are looked for: there, any digits can be met by chance. It returns what was read and where something was
// found, without showing it.
func search(dir string, canaries []canary, skip, memory func(path string) bool) (Leaks, []string, error) {
	var l Leaks
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() || skip(path) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		l.Artefacts++
		l.Bytes += int64(len(data))
		rel, _ := filepath.Rel(dir, path)
		for _, c := range canaries {
			for _, form := range c.forms {
				if bytes.Contains(data, form) {
					l.Findings++
					found = append(found, c.what+" in "+rel)
				}
			}
		}
		if !bytes.ContainsRune(data, 0) && !memory(path) { // text
			for range mask.ScanText(string(data)) {
				l.Findings++
				found = append(found, "something like a card number in "+rel)
			}
		}
		return nil
	})
	return l, found, err
}
