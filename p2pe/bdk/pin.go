package bdk

import (
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
)

// PIN opens an enciphered PIN block of a transaction as a host does: format 4
// under the AES-128 PIN key, all others under the two-key TDES one. pan is the
// card number that formats 0, 3 and 4 are bound to. Errors are those of
// p2pe/dukpt/pin; no text holds a digit.
func PIN(t *dukpt.Transaction, format int, block []byte, pan string) (string, error) {
	kind := dukpt.TDES2
	if format == 4 {
		kind = dukpt.AES128
	}
	key, err := pin.Key(t, kind)
	if err != nil {
		return "", err
	}
	defer key.Erase()
	open, err := pin.Decipher(key.Bytes(), block, pan)
	if err != nil {
		return "", err
	}
	defer clear(open)
	return pin.Decode(format, open, pan)
}
