package profile

import (
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/p2pe"
	"tillbridge/p2pe/mask"
)

// Bits of the two status bytes of the enhanced format.
const (
	clearTrack1    = 1 << 0 // masked or clear data of the track are there
	clearFixedKey  = 1 << 3 // a fixed key, no DUKPT
	clearAES       = 1 << 4 // bits 4 and 5: 0 TDES, 1 AES, others not read here
	clearAlgorithm = 3 << 4
	clearPINKey    = 1 << 6 // the PIN variant, else the data variant
	clearSerial    = 1 << 7

	cipherTrack1  = 1 << 0
	cipherHash1   = 1 << 3
	cipherSession = 1 << 6
	cipherKSN     = 1 << 7
)

const (
	idtechHash    = 20
	idtechSession = 8
	idtechSerial  = 10
)

// idtechText reads the binary form, or the form of a reader that types: hex
// digits for everything but the masked tracks, and lengths, LRC and sum over
// the characters.
type idtechText struct {
	b    []byte
	keys bool // typed characters
}

// take returns the next n bytes, decoded.
func (r *idtechText) take(n int) ([]byte, error) {
	width := n
	if r.keys {
		width = 2 * n
	}
	if n < 0 || width > len(r.b) {
		return nil, fmt.Errorf("%w: it ends early", ErrForm)
	}
	part := r.b[:width]
	r.b = r.b[width:]
	if !r.keys {
		return part, nil
	}
	out := make([]byte, n)
	if _, err := hex.Decode(out, part); err != nil {
		return nil, fmt.Errorf("%w: a character is not hex", ErrForm)
	}
	return out, nil
}

// chars returns the next n characters as they stand.
func (r *idtechText) chars(n int) (string, error) {
	if n > len(r.b) {
		return "", fmt.Errorf("%w: it ends early", ErrForm)
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s, nil
}

// parseIDTech reads the enhanced encrypted output of magnetic stripe readers.
func parseIDTech(data []byte) (p2pe.Envelope, error) {
	var none p2pe.Envelope
	r, err := idtechFrame(data)
	if err != nil {
		return none, err
	}
	head, err := r.take(7)
	if err != nil {
		return none, err
	}
	kind, lengths, clear, cipher := head[0], head[2:5], head[5], head[6]
	if kind&0x80 == 0 {
		return none, fmt.Errorf("%w: it is the reader's original format, not the enhanced one: set the reader to enhanced output", ErrForm)
	}
	if cipher&7 == 0 {
		if clear&7 != 0 {
			return none, ErrEncryptionOff
		}
		return none, fmt.Errorf("%w: no track was read: swipe again", ErrForm)
	}
	e := p2pe.Envelope{
		Scheme: p2pe.SchemeTDESDUKPT, DeviceProfile: IDTech, KeyVariant: p2pe.VariantDataRequest, Algorithm: "TDEA", Mode: "CBC",
		Padding: p2pe.PaddingZero, EncryptionState: fmt.Sprintf("clear=%02X encrypted=%02X", clear, cipher),
	}
	block := 8
	switch clear & clearAlgorithm {
	case 0:
	case clearAES:
		// DUKPT keys of a TDES kind may drive AES as well; the serial number
		// decides below.
		e.Algorithm, block = "AES-128", 16
	default:
		return none, fmt.Errorf("%w: its status names an algorithm that is neither TDES nor AES", ErrForm)
	}
	if clear&clearPINKey != 0 {
		e.KeyVariant = p2pe.VariantPIN
	}
	if clear&clearFixedKey != 0 {
		return none, fmt.Errorf("%w: the reader uses a fixed key: have DUKPT keys loaded", ErrAttribution)
	}
	if cipher&cipherKSN == 0 {
		return none, fmt.Errorf("%w: no key serial number came: set the reader to send it", ErrForm)
	}
	var masked [3]string
	for i := range masked {
		if clear&(clearTrack1<<i) == 0 || lengths[i] == 0 {
			continue
		}
		if masked[i], err = r.chars(int(lengths[i])); err != nil {
			return none, err
		}
		if mask.Contains(masked[i]) {
			return none, ErrLeak
		}
	}
	// The encrypted part has no length: it is the track, rounded up to blocks.
	for i := range 3 {
		if cipher&(cipherTrack1<<i) == 0 || lengths[i] == 0 {
			continue
		}
		ct, err := r.take((int(lengths[i]) + block - 1) / block * block)
		if err != nil {
			return none, err
		}
		switch i {
		case 0:
			e.Track1 = append([]byte(nil), ct...)
		case 1:
			e.Track2 = append([]byte(nil), ct...)
		}
	}
	if cipher&cipherSession != 0 {
		if _, err := r.take(idtechSession); err != nil {
			return none, err
		}
	}
	for i := range 3 {
		if cipher&(cipherHash1<<i) != 0 {
			if _, err := r.take(idtechHash); err != nil {
				return none, err
			}
		}
	}
	if clear&clearSerial != 0 {
		serial, err := r.take(idtechSerial)
		if err != nil {
			return none, err
		}
		e.DeviceSerial = strings.TrimRight(string(serial), "\x00 ")
		for i := range len(e.DeviceSerial) {
			if c := e.DeviceSerial[i]; c < 0x20 || c > 0x7e {
				return none, fmt.Errorf("%w: its serial number is not text", ErrForm)
			}
		}
	}
	size := len(r.b)
	if r.keys {
		size /= 2
	}
	if size != 10 && size != 12 {
		return none, fmt.Errorf("%w: %d bytes stand where a key serial number of 10 or 12 should", ErrForm, size)
	}
	ksn, err := r.take(size)
	if err != nil {
		return none, err
	}
	e.KSN = p2pe.KSNOf(ksn)
	if e.KSN.Scheme() == p2pe.SchemeAESDUKPT {
		if e.Algorithm != "AES-128" {
			return none, fmt.Errorf("%w: an AES key serial number and TDES data", ErrAttribution)
		}
		e.Scheme, e.KeyVariant = p2pe.SchemeAESDUKPT, p2pe.VariantAESDataEncrypt
	}
	for _, i := range []int{1, 0} {
		if masked[i] == "" || e.MaskedPAN != "" {
			continue
		}
		n, err := maskedNumber(masked[i])
		if err != nil {
			return none, err
		}
		if err := fillMasked(&e, n); err != nil {
			return none, err
		}
	}
	return e, nil
}

// idtechFrame checks STX, length, LRC, sum and ETX and returns what stands
// between. The length counts what LRC and sum are over: bytes, or the typed
// characters.
func idtechFrame(data []byte) (*idtechText, error) {
	binary := len(data) > 6 && data[0] == 0x02
	typed := len(data) > 12 && data[0] == '0' && data[1] == '2'
	r := &idtechText{b: data, keys: typed}
	if !binary && !typed {
		return nil, fmt.Errorf("%w: it does not begin with STX", ErrForm)
	}
	head, err := r.take(3)
	if err != nil {
		return nil, err
	}
	n := int(head[1]) | int(head[2])<<8
	if n > len(r.b) {
		return nil, fmt.Errorf("%w: its length says %d and %d are there: it was cut", ErrForm, n, len(r.b))
	}
	body := r.b[:n]
	r.b = r.b[n:]
	trailer, err := r.take(3)
	if err != nil {
		return nil, err
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("%w: %d characters follow its end", ErrForm, len(r.b))
	}
	var lrc, sum byte
	for _, c := range body {
		lrc ^= c
		sum += c
	}
	if trailer[0] != lrc || trailer[1] != sum || trailer[2] != 0x03 {
		return nil, fmt.Errorf("%w: its checksums are wrong: swipe again", ErrForm)
	}
	return &idtechText{b: body, keys: typed}, nil
}
