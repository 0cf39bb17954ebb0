package acquirer

import "fmt"

// Tables of DE63. In a request: KE scheme|profile|variant|algorithm|mode|
// padding|KSN, IV, CP C1 C2 CT ciphertexts, CJ a JWE, KD CM clear parts and MAC
// of what software encrypted, PK PIN format and KSN, PB a long
// PIN block, TK token, PT partial approval allowed, RS reason of a reversal, OS
// original of an inquiry. In an answer: TK token, PR payment account
// reference, HR host reference, TX text, ST state of an original.
type tables map[string][]byte

func parseTables(b []byte) (tables, error) {
	t := tables{}
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, bad("DE63 ends inside a table")
		}
		n, err := length(b[:2], "bcd")
		if err != nil || n < 2 || n > len(b)-2 {
			return nil, bad("DE63: a table has a wrong length")
		}
		t[string(b[2:4])] = b[4 : 2+n]
		b = b[2+n:]
	}
	return t, nil
}

// addTable appends one table to DE63 of m.
func (m message) addTable(id string, data string) {
	if data == "" {
		return
	}
	n := len(data) + 2
	raw := fmt.Sprintf("%c%c%s%s", 0, 0, id, data)
	b := []byte(raw)
	b[0], b[1] = byte(n/1000<<4|n/100%10), byte(n/10%10<<4|n%10)
	m.de[63] = append(m.de[63], b...)
}
