package frame

// LRC is the exclusive or of all bytes (PAX, Concert, T=1 by default).
func LRC(b []byte) byte {
	var x byte
	for _, c := range b {
		x ^= c
	}
	return x
}

// CRC is one CRC-16 over the polynomial x^16+x^12+x^5+1. Use [XModem],
// [Kermit], [CCITTFalse] or [X25].
type CRC struct {
	table     [256]uint16
	ahead     [3][256]uint16 // table, one to three zero bytes later; not reflected alone
	init, out uint16
	reflected bool
}

// The four CRC-16. The check value is the sum of the digits "123456789".
var (
	// XModem: init 0, not reflected; check 31C3. ABECS, high byte first.
	XModem = newCRC(0x0000, 0x0000, false)
	// Kermit: init 0, reflected (0x8408); check 2189. ZVT, low byte first; its
	// documents call it "CRC-XModem".
	Kermit = newCRC(0x0000, 0x0000, true)
	// CCITTFalse: init FFFF, not reflected; check 29B1. ID TECH NEO 2: low
	// byte first towards the reader, high byte first from it.
	CCITTFalse = newCRC(0xFFFF, 0x0000, false)
	// X25: init FFFF, reflected, final complement; check 906E. The CRC of T=1
	// blocks (ISO/IEC 7816-3 section 11.3.4, after ISO/IEC 13239).
	X25 = newCRC(0xFFFF, 0xFFFF, true)
)

func newCRC(init, out uint16, reflected bool) *CRC {
	c := &CRC{init: init, out: out, reflected: reflected}
	for i := range c.table {
		var v uint16
		if reflected {
			v = uint16(i)
			for range 8 {
				if v&1 != 0 {
					v = v>>1 ^ 0x8408
				} else {
					v >>= 1
				}
			}
		} else {
			v = uint16(i) << 8
			for range 8 {
				if v&0x8000 != 0 {
					v = v<<1 ^ 0x1021
				} else {
					v <<= 1
				}
			}
		}
		c.table[i] = v
	}
	for i, v := range c.table {
		for k := range c.ahead {
			v = v<<8 ^ c.table[byte(v>>8)]
			c.ahead[k][i] = v
		}
	}
	return c
}

// Init is the state before the first byte.
func (c *CRC) Init() uint16 { return c.init }

// Update adds bytes to a state.
func (c *CRC) Update(state uint16, b []byte) uint16 {
	if c.reflected {
		for _, x := range b {
			state = state>>8 ^ c.table[byte(state)^x]
		}
		return state
	}
	for len(b) >= 4 { // four bytes a step: the table look-ups do not wait for one another
		state = c.ahead[2][byte(state>>8)^b[0]] ^ c.ahead[1][byte(state)^b[1]] ^ c.ahead[0][b[2]] ^ c.table[b[3]]
		b = b[4:]
	}
	for _, x := range b {
		state = state<<8 ^ c.table[byte(state>>8)^x]
	}
	return state
}

// UpdateByte adds one byte to a state.
func (c *CRC) UpdateByte(state uint16, x byte) uint16 {
	if c.reflected {
		return state>>8 ^ c.table[byte(state)^x]
	}
	return state<<8 ^ c.table[byte(state>>8)^x]
}

// Final turns a state into the checksum.
func (c *CRC) Final(state uint16) uint16 { return state ^ c.out }

// Sum is the checksum of b.
func (c *CRC) Sum(b []byte) uint16 { return c.Final(c.Update(c.init, b)) }
