package iso8583

import "fmt"

// Table is one entry of DE63: two bytes of BCD length (counting what follows),
// two letters, data. The ids used here:
//
//	KE  how the card data is enciphered: scheme|profile|variant|algorithm|mode|padding|KSN
//	IV  initialisation vector, raw
//	CP C1 C2 CT  ciphertext of PAN, track 1, track 2, tag 57, raw
//	CJ  JWE compact form
//	CM  MAC over the envelope's canonical bytes (p2pe.Envelope), raw
//	KD  beside CM, the fields under the MAC that no other table holds: serial, masked number, BIN, last four, service code, PAR, encryption state, each behind one byte of length
//	PK  PIN block: format digit, KSN in hex
//	PB  PIN block of 16 bytes, raw (one of 8 bytes is in DE52)
//	PT  "1": a partial approval may be offered
//	RS  reason of a reversal
//	TK PR HR TX  answer: token, PAR, host reference, text
//	OS  the original of an inquiry where there is no DE90: MTI, STAN, local MMDDhhmmss
//	ST  answer to an inquiry: A, D or R, then DE39 of the original
type Table struct {
	ID   string
	Data []byte
}

// AppendTables adds the packed form of tables to dst.
func AppendTables(dst []byte, tables []Table) ([]byte, error) {
	for _, t := range tables {
		n := len(t.Data) + 2
		if len(t.ID) != 2 || n > 9999 {
			return nil, fmt.Errorf("iso8583: table %q cannot be packed", t.ID)
		}
		dst, _ = LengthHeader{Kind: "bcd"}.append(dst, n)
		dst = append(append(dst, t.ID...), t.Data...)
	}
	return dst, nil
}

// ParseTables reads DE63. Its error is a [*FormatError].
func ParseTables(b []byte) ([]Table, error) {
	var out []Table
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, &FormatError{"unpack", 63, "ends inside a table"}
		}
		n := 0
		for _, c := range b[:2] {
			if c>>4 > 9 || c&0xF > 9 {
				return nil, &FormatError{"unpack", 63, "a table's length is not packed digits"}
			}
			n = n*100 + int(c>>4)*10 + int(c&0xF)
		}
		if n < 2 || n > len(b)-2 {
			return nil, &FormatError{"unpack", 63, "a table's length is wrong"}
		}
		out = append(out, Table{ID: string(b[2:4]), Data: append([]byte(nil), b[4:2+n]...)})
		b = b[2+n:]
	}
	return out, nil
}
