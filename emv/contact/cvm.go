package contact

import "errors"

// ErrCVMList: tag 8E is not amounts X and Y and whole rules.
var ErrCVMList = errors.New("contact: the CVM list is malformed")

// Method is a cardholder verification method: bits 6 to 1 of the first byte of
// a CVM rule (Book 3 Annex C3, table 39).
type Method byte

// The methods that this kernel knows.
const (
	FailCVM                 Method = 0x00
	PlaintextPIN            Method = 0x01
	OnlinePIN               Method = 0x02
	PlaintextPINSignature   Method = 0x03
	EncipheredPIN           Method = 0x04
	EncipheredPINSignature  Method = 0x05
	Signature               Method = 0x1E
	NoCVM                   Method = 0x1F
	noneChosen              byte   = 0x3F
	applyNext               byte   = 0x40
	methodMask              byte   = 0x3F
	resultUnknown           byte   = 0x00
	resultFailed            byte   = 0x01
	resultSuccessful        byte   = 0x02
	capPlaintextPIN         byte   = 0x80 // 9F33 byte 2 (Book 4 Annex A2)
	capOnlinePIN            byte   = 0x40
	capSignature            byte   = 0x20
	capEncipheredPIN        byte   = 0x10
	capNoCVM                byte   = 0x08
	conditionAlways         byte   = 0x00
	conditionUnattendedCash byte   = 0x01
	conditionOther          byte   = 0x02
	conditionSupported      byte   = 0x03
	conditionManualCash     byte   = 0x04
	conditionCashback       byte   = 0x05
	conditionUnderX         byte   = 0x06
	conditionOverX          byte   = 0x07
	conditionUnderY         byte   = 0x08
	conditionOverY          byte   = 0x09
)

// PINStatus is how PIN entry and verification ended. It never holds a digit.
type PINStatus int

// The ends of PIN entry. The zero value proves nothing and counts as a pad
// that does not work.
const (
	PINPadNotWorking PINStatus = iota
	PINVerified                // offline: the card accepted; online: a PIN was entered
	PINRejected                // the card refused the PIN and has no try left
	PINBlocked                 // no try was left before entry
	PINBypassed                // the cardholder or cashier chose not to enter one
	PINWrong                   // offline: the card refused and has tries left; asked again
	PINNoKey                   // the card has no key under which a PIN can be enciphered
)

// CVMData is what one transaction brings to cardholder verification.
type CVMData struct {
	// Supported is bit 5 of AIP byte 1: the card supports the function.
	Supported bool
	List      []byte // 8E, nil when absent
	// Capabilities is byte 2 of 9F33.
	Capabilities byte
	// Amount in minor units of the transaction currency (9F02).
	Amount int64
	// ApplicationCurrency is true when 9F42 is there and equals 5F2A. Conditions
	// on the amounts X and Y hold in no other currency.
	ApplicationCurrency bool
	UnattendedCash      bool
	ManualCash          bool
	Cashback            bool
}

// CVMResult is what cardholder verification found.
type CVMResult struct {
	Bits      []Bit   // for the TVR
	Performed bool    // for TSI bit 7
	Result    [3]byte // 9F34 (Book 4 section 6.3.4.5)
	// Method is the method that succeeded; meaningful when Successful.
	Method     Method
	Successful bool
	// Signature is set when the receipt has to be signed.
	Signature bool
}

// CVM goes through the card's CVM list (Book 3 section 10.5). enter is called
// for methods with a PIN; an error from it ends the transaction (the customer
// cancelled, the card was pulled) and is returned as it is.
func CVM(d CVMData, enter func(Method) (PINStatus, error)) (CVMResult, error) {
	r := CVMResult{Result: [3]byte{noneChosen, 0, 0}}
	if !d.Supported || d.List == nil || len(d.List) == 8 {
		return r, nil
	}
	if len(d.List) < 10 || len(d.List)%2 != 0 {
		return r, ErrCVMList
	}
	x, y := be32(d.List), be32(d.List[4:])
	r.Performed = true
	r.Result = [3]byte{noneChosen, 0, resultFailed}
	for rules := d.List[8:]; len(rules) > 0; rules = rules[2:] {
		code, condition := rules[0], rules[1]
		method := Method(code & methodMask)
		if !holds(condition, method, d, x, y) {
			continue
		}
		done, err := r.try(method, condition, d, enter)
		if err != nil {
			return r, err
		}
		if done {
			return r, nil
		}
		if method == FailCVM || code&applyNext == 0 {
			break
		}
	}
	r.Bits = append(r.Bits, CVMFailed)
	return r, nil
}

// try performs one method whose condition holds.
func (r *CVMResult) try(m Method, condition byte, d CVMData, enter func(Method) (PINStatus, error)) (bool, error) {
	need, known := capabilityOf(m)
	switch {
	case m == FailCVM:
		r.Result = [3]byte{byte(m), condition, resultFailed}
		return false, nil
	case !known:
		r.Bits = append(r.Bits, CVMUnrecognised)
		return false, nil
	case d.Capabilities&need != need:
		// A signature that cannot be taken says nothing of the PIN pad.
		if hasPIN(m) && need&^d.Capabilities&^capSignature != 0 {
			r.Bits = append(r.Bits, PINPadMissing)
		}
		return false, nil
	}
	if hasPIN(m) {
		status, err := enter(m)
		if err != nil {
			return false, err
		}
		if bit, failed := pinBit(status); failed {
			if bit != 0 {
				r.Bits = append(r.Bits, bit)
			}
			r.Result = [3]byte{byte(m), condition, resultFailed}
			return false, nil
		}
	}
	outcome := resultSuccessful
	switch m {
	case OnlinePIN:
		r.Bits = append(r.Bits, OnlinePINEntered)
		outcome = resultUnknown
	case Signature, PlaintextPINSignature, EncipheredPINSignature:
		r.Signature = true
		outcome = resultUnknown
	}
	r.Method, r.Successful = m, true
	r.Result = [3]byte{byte(m), condition, outcome}
	return true, nil
}

// pinBit returns the TVR bit of a PIN entry that failed; a rejected PIN whose
// tries are used up sets the try limit.
func pinBit(s PINStatus) (Bit, bool) {
	switch s {
	case PINVerified:
		return 0, false
	case PINRejected, PINBlocked:
		return PINTryLimitExceeded, true
	case PINBypassed:
		return PINNotEntered, true
	case PINNoKey:
		return 0, true
	}
	return PINPadMissing, true
}

// capabilityOf returns the bits of 9F33 byte 2 that a method needs, and
// whether the method is known.
func capabilityOf(m Method) (byte, bool) {
	switch m {
	case FailCVM:
		return 0, true
	case PlaintextPIN:
		return capPlaintextPIN, true
	case OnlinePIN:
		return capOnlinePIN, true
	case PlaintextPINSignature:
		return capPlaintextPIN | capSignature, true
	case EncipheredPIN:
		return capEncipheredPIN, true
	case EncipheredPINSignature:
		return capEncipheredPIN | capSignature, true
	case Signature:
		return capSignature, true
	case NoCVM:
		return capNoCVM, true
	}
	return 0, false
}

func hasPIN(m Method) bool {
	switch m {
	case PlaintextPIN, OnlinePIN, PlaintextPINSignature, EncipheredPIN, EncipheredPINSignature:
		return true
	}
	return false
}

// holds judges a condition code (Book 3 Annex C3, table 40). An unknown
// condition never holds.
func holds(condition byte, m Method, d CVMData, x, y int64) bool {
	switch condition {
	case conditionAlways:
		return true
	case conditionUnattendedCash:
		return d.UnattendedCash
	case conditionOther:
		return !d.UnattendedCash && !d.ManualCash && !d.Cashback
	case conditionSupported:
		need, known := capabilityOf(m)
		return known && d.Capabilities&need == need
	case conditionManualCash:
		return d.ManualCash
	case conditionCashback:
		return d.Cashback
	case conditionUnderX:
		return d.ApplicationCurrency && d.Amount < x
	case conditionOverX:
		return d.ApplicationCurrency && d.Amount > x
	case conditionUnderY:
		return d.ApplicationCurrency && d.Amount < y
	case conditionOverY:
		return d.ApplicationCurrency && d.Amount > y
	}
	return false
}

func be32(b []byte) int64 {
	return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
}
