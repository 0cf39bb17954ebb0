package abecs

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"tillbridge/drivers"
)

// CHP exchanges bytes with the card in the slot, beside the pad's kernel: for
// loyalty and identity cards. Its block is the slot (0), the operation (0 off,
// 1 power on, 2 exchange), the length of the bytes in three digits and the
// bytes in hex; the answer is a length in three digits and hex.

// Chip is the card in the slot, for applications that are no payment. It is
// deliberately not a drivers.APDUChannel: a payment must not be run over it,
// and commands that return a card number or take a PIN are refused.
type Chip struct{ d *device }

// ChipOf returns the chip access of a device of this driver.
func ChipOf(d drivers.Device) (*Chip, bool) {
	dev, ok := d.(*device)
	if !ok {
		return nil, false
	}
	return &Chip{dev}, true
}

// Power resets the card and returns its ATR.
func (c *Chip) Power(ctx context.Context) ([]byte, error) { return c.do(ctx, '1', nil) }

// PowerOff takes the card's power.
func (c *Chip) PowerOff(ctx context.Context) error {
	_, err := c.do(ctx, '0', nil)
	return err
}

// Transmit exchanges an APDU. It fails with drivers.ErrRefused for those that
// read records, payment data or files, or verify a PIN.
func (c *Chip) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	return c.do(ctx, '2', command)
}

func (c *Chip) do(ctx context.Context, op byte, data []byte) ([]byte, error) {
	block := fmt.Appendf(nil, "0%c%03d%s", op, len(data), strings.ToUpper(hex.EncodeToString(data)))
	packet, err := AppendCommand(nil, "CHP", block)
	if err != nil {
		return nil, c.d.fail("CHP", err)
	}
	unlock, err := c.d.begin(ctx, "CHP")
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := c.d.send(ctx, packet, false)
	if err != nil {
		return nil, err
	}
	b := r.Block(0)
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 3 {
		return nil, c.d.fail("CHP", ErrMalformed)
	}
	n, ok := number(b[:3])
	if !ok || len(b) != 3+2*n {
		return nil, c.d.fail("CHP", ErrMalformed)
	}
	out := make([]byte, n)
	if _, err := hex.Decode(out, b[3:]); err != nil {
		return nil, c.d.fail("CHP", ErrMalformed)
	}
	return out, nil
}

// harmless are the instructions that return neither payment records nor take a
// PIN: SELECT, GET RESPONSE, GET CHALLENGE.
var harmless = map[byte]bool{0xA4: true, 0xC0: true, 0x84: true}

func checkAPDU(r Request) error {
	b := r.Block(0)
	if len(b) < 2 {
		return fmt.Errorf("%w: CHP without an operation", ErrMalformed)
	}
	if b[1] != '2' {
		return nil
	}
	apdu := make([]byte, len(b[min(5, len(b)):])/2)
	if _, err := hex.Decode(apdu, b[min(5, len(b)):]); err != nil || len(apdu) < 4 {
		return fmt.Errorf("%w: CHP without an APDU", ErrMalformed)
	}
	if !harmless[apdu[1]] {
		return fmt.Errorf("%w (CHP: instruction %02X may return card data or take a PIN)", drivers.ErrRefused, apdu[1])
	}
	return nil
}
