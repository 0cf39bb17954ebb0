package abecs

import (
	"errors"
	"fmt"
	"strconv"
)

// Status codes of the protocol's table that this pad answers.
const (
	statOK        = 0
	statNoSecure  = 3
	statF1        = 4
	statBack      = 8
	statBadPacket = 9
	statBadCall   = 10
	statBadParam  = 11
	statTimeout   = 12
	statCancel    = 13
	statMissing   = 19
	statVersion   = 20
	statTable     = 21
	statInternal  = 40
	statMag       = 41
	statNoKey     = 42
	statNoCard    = 43
	statCrypto    = 46
	statMute      = 60
	statChipComms = 61
	statCardBad   = 68
	statCardData  = 69
	statNoApp     = 70
	statBlocked   = 79
	statCTLSComms = 81
	statOtherIF   = 87
)

// Identifiers of parameters.
const (
	inIDList   = 0x0001
	inMethodP  = 0x0002
	inMethodD  = 0x0003
	inTagList  = 0x0004
	inEMVData  = 0x0005
	inCEXOpt   = 0x0006
	inTracks   = 0x0007
	inOpen     = 0x0008
	inKeyIdx   = 0x0009
	inTimeout  = 0x000C
	inDataIn   = 0x000F
	inAcquirer = 0x0010
	inAppType  = 0x0011
	inAIDList  = 0x0012
	inAmount   = 0x0013
	inCashback = 0x0014
	inDate     = 0x0015
	inTime     = 0x0016
	inGCXOpt   = 0x0017
	inGOXOpt   = 0x0018
	inFCXOpt   = 0x0019
	inTrmPar   = 0x001A
	inMessage  = 0x001B
	inARC      = 0x001C
	inIV       = 0x001D
	inMenu     = 0x0020
	inType     = 0x0021
	inCurrency = 0x0022
	inPANMask  = 0x0023
	inModulus  = 0x0024
	inExponent = 0x0025

	outSerial   = 0x8001
	outEvent    = 0x8040
	outTrack1M  = 0x8041
	outTrack2M  = 0x8042
	outTrack1   = 0x8044
	outTrack1K  = 0x8047
	outPAN      = 0x804A
	outPANK     = 0x804B
	outKSN      = 0x804C
	outValue    = 0x804D
	outDataOut  = 0x804E
	outCardType = 0x804F
	outICCStat  = 0x8050
	outAIDInfo  = 0x8051
	outPANM     = 0x8052
	outPSN      = 0x8053
	outEMVData  = 0x8054
	outHolder   = 0x8055
	outGOX      = 0x8056
	outPINBlock = 0x8057
	outFCX      = 0x8058
	outScripts  = 0x8059
	outLabel    = 0x805B
	outIssuer   = 0x805C
	outExpiry   = 0x805D
	outDevice   = 0x8060
	outKRand    = 0x8063
)

const (
	maxBlock   = 999
	maxPayload = 2049
)

var errForm = errors.New("abecs: command is not well formed")

// param is one parameter of a command or a response.
type param struct {
	id    uint16
	value []byte
}

// command is a parsed command: its id and its blocks.
type command struct {
	id     string
	blocks [][]byte
	raw    []byte // what follows the id
}

// parseCommand reads id and blocks. Whether the blocks hold parameters depends
// on the command.
func parseCommand(p []byte) (command, error) {
	if len(p) < 3 {
		return command{}, errForm
	}
	c := command{id: string(p[:3]), raw: p[3:]}
	for rest := c.raw; len(rest) > 0; {
		n, ok := digits(rest, 3)
		if !ok || n > len(rest)-3 {
			return c, errForm
		}
		c.blocks = append(c.blocks, rest[3:3+n])
		rest = rest[3+n:]
	}
	return c, nil
}

// digits reads the first n characters as a decimal number.
func digits(p []byte, n int) (int, bool) {
	if len(p) < n {
		return 0, false
	}
	v := 0
	for _, c := range p[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = 10*v + int(c-'0')
	}
	return v, true
}

// params reads the parameters of all blocks; none is split between two.
func (c command) params() (params, error) {
	var list params
	for _, b := range c.blocks {
		for len(b) > 0 {
			if len(b) < 4 {
				return nil, errForm
			}
			id, n := uint16(b[0])<<8|uint16(b[1]), int(b[2])<<8|int(b[3])
			if n > len(b)-4 {
				return nil, errForm
			}
			list = append(list, param{id, b[4 : 4+n]})
			b = b[4+n:]
		}
	}
	return list, nil
}

// params are the parameters of a command in their order.
type params []param

func (l params) get(id uint16) ([]byte, bool) {
	for _, p := range l {
		if p.id == id {
			return p.value, true
		}
	}
	return nil, false
}

// text is the value of a parameter, or def where it is absent or of another
// length than n.
func (l params) text(id uint16, n int, def string) string {
	if v, ok := l.get(id); ok && len(v) == n {
		return string(v)
	}
	return def
}

// number is a parameter of n decimal digits; ok is false where it is there and
// malformed.
func (l params) number(id uint16, n int) (v int64, there, ok bool) {
	p, there := l.get(id)
	if !there {
		return 0, false, true
	}
	if len(p) != n {
		return 0, true, false
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, true, false
		}
	}
	v, err := strconv.ParseInt(string(p), 10, 64)
	return v, true, err == nil
}

// missing returns whether one of ids is absent.
func (l params) missing(ids ...uint16) bool {
	for _, id := range ids {
		if _, ok := l.get(id); !ok {
			return true
		}
	}
	return false
}

// answer is a response before it is framed.
type answer struct {
	status int
	params params
	block  []byte // a block of fixed fields instead of parameters
}

func fail(status int) answer { return answer{status: status} }

func (a *answer) add(id uint16, v []byte)     { a.params = append(a.params, param{id, v}) }
func (a *answer) addText(id uint16, v string) { a.add(id, []byte(v)) }

// appendAnswer writes a response: id, status and, for status 000, the blocks.
func appendAnswer(dst []byte, id string, a answer) []byte {
	dst = fmt.Appendf(dst, "%s%03d", id, a.status)
	if a.status != statOK {
		return dst
	}
	if a.block != nil {
		return append(fmt.Appendf(dst, "%03d", len(a.block)), a.block...)
	}
	var block []byte
	flush := func() {
		if len(block) > 0 {
			dst = append(fmt.Appendf(dst, "%03d", len(block)), block...)
			block = nil
		}
	}
	for _, p := range a.params {
		if 4+len(p.value) > maxBlock {
			continue // cannot be written in this protocol
		}
		if len(block)+4+len(p.value) > maxBlock {
			flush()
		}
		block = append(block, byte(p.id>>8), byte(p.id), byte(len(p.value)>>8), byte(len(p.value)))
		block = append(block, p.value...)
	}
	flush()
	return dst
}

// String counts the parameters: their values may be card data.
func (l params) String() string { return fmt.Sprintf("%d parameters", len(l)) }
