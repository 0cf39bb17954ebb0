package contact

import (
	"errors"
	"fmt"
	"strings"
)

// ErrExplain says that a value is none of the objects that [Explain] knows, or
// has another length.
var ErrExplain = errors.New("contact: nothing to explain")

type bitText struct {
	at   int // byte
	mask byte
	text string
}

var explained = map[string]struct {
	size int
	name string
	bits []bitText
}{
	"AIP": {2, "application interchange profile (82)", []bitText{
		{0, 0x40, "SDA supported"}, {0, 0x20, "DDA supported"}, {0, 0x10, "cardholder verification supported"},
		{0, 0x08, "terminal risk management is to be performed"}, {0, 0x04, "issuer authentication by EXTERNAL AUTHENTICATE"},
		{0, 0x01, "CDA supported"},
	}},
	"CAPABILITIES": {3, "terminal capabilities (9F33)", []bitText{
		{0, 0x80, "manual key entry"}, {0, 0x40, "magnetic stripe"}, {0, 0x20, "IC with contacts"},
		{1, capPlaintextPIN, "plaintext PIN for offline verification"}, {1, capOnlinePIN, "enciphered PIN for online verification"},
		{1, capSignature, "signature"}, {1, capEncipheredPIN, "enciphered PIN for offline verification"}, {1, capNoCVM, "no CVM required"},
		{2, 0x80, "SDA"}, {2, 0x40, "DDA"}, {2, 0x20, "card capture"}, {2, 0x08, "CDA"},
	}},
	"AUC": {2, "application usage control (9F07)", []bitText{
		{0, aucDomesticCash, "domestic cash"}, {0, aucForeignCash, "international cash"}, {0, aucDomesticGoods, "domestic goods"},
		{0, aucForeignGoods, "international goods"}, {0, aucDomesticServices, "domestic services"},
		{0, aucForeignServices, "international services"}, {0, aucATM, "at ATMs"}, {0, aucNotATM, "at terminals other than ATMs"},
		{1, aucDomesticCashback, "domestic cashback"}, {1, aucForeignCashback, "international cashback"},
	}},
}

// Explained lists the objects that [Explain] knows.
func Explained() []string {
	return []string{"TVR", "TSI", "CVM", "CVMLIST", "CID", "AIP", "CAPABILITIES", "AUC"}
}

// Explain says what a value means, in the books' words, a line each. kind is
// one of [Explained] in any case, or the tag; IAC and TAC read as TVR. The
// error is [ErrExplain] and shows no value.
func Explain(kind string, v []byte) ([]string, error) {
	kind = strings.ToUpper(kind)
	switch kind {
	case "95", "IAC", "TAC", "9F0D", "9F0E", "9F0F":
		kind = "TVR"
	case "9B":
		kind = "TSI"
	case "9F34":
		kind = "CVM"
	case "8E":
		kind = "CVMLIST"
	case "9F27":
		kind = "CID"
	case "82":
		kind = "AIP"
	case "9F33", "CAPS":
		kind = "CAPABILITIES"
	case "9F07":
		kind = "AUC"
	}
	wrong := func(n string) error { return fmt.Errorf("%w: %s has %s, not %d", ErrExplain, kind, n, len(v)) }
	switch kind {
	case "TVR":
		if len(v) != 5 {
			return nil, wrong("5 bytes")
		}
		return orNothing(TVR(v).Names()), nil
	case "TSI":
		if len(v) != 2 {
			return nil, wrong("2 bytes")
		}
		return orNothing(TSI(v).Names()), nil
	case "CVM":
		if len(v) != 3 {
			return nil, wrong("3 bytes")
		}
		if v[0]&methodMask == noneChosen {
			if v[2] == resultFailed {
				return []string{"no method was performed: failed"}, nil
			}
			return []string{"no method was performed"}, nil
		}
		result := map[byte]string{resultUnknown: "result unknown", resultFailed: "failed", resultSuccessful: "successful"}[v[2]]
		if result == "" {
			result = fmt.Sprintf("result %02X is not defined", v[2])
		}
		return []string{Method(v[0] & methodMask).String(), conditionText(v[1]), result}, nil
	case "CVMLIST":
		if len(v) < 8 || len(v)%2 != 0 || len(v) > 252 {
			return nil, wrong("8 bytes and whole rules")
		}
		out := []string{fmt.Sprintf("amount X %d, amount Y %d, in minor units of the application currency", be32(v), be32(v[4:]))}
		for r := v[8:]; len(r) > 0; r = r[2:] {
			line := Method(r[0]&methodMask).String() + ", " + conditionText(r[1])
			if r[0]&applyNext != 0 {
				line += "; else the next rule"
			} else {
				line += "; else fail"
			}
			out = append(out, line)
		}
		return out, nil
	case "CID":
		if len(v) != 1 {
			return nil, wrong("1 byte")
		}
		out := []string{KindName(v[0])}
		if v[0]&8 != 0 {
			out = append(out, "advice required")
		}
		switch v[0] & 7 {
		case 1:
			out = append(out, "service not allowed")
		case 2:
			out = append(out, "PIN try limit exceeded")
		case 3:
			out = append(out, "issuer authentication failed")
		}
		return out, nil
	}
	e, ok := explained[kind]
	if !ok {
		return nil, fmt.Errorf("%w: choose one of %s", ErrExplain, strings.Join(Explained(), ", "))
	}
	if len(v) != e.size {
		return nil, wrong(fmt.Sprintf("%d bytes", e.size))
	}
	var out []string
	for _, b := range e.bits {
		if v[b.at]&b.mask != 0 {
			out = append(out, b.text)
		}
	}
	return orNothing(out), nil
}

// Legend lists what the bits and values of an object can mean, a line each.
func Legend(kind string) ([]string, error) {
	kind = strings.ToUpper(kind)
	line := func(b Bit, name string) string { return fmt.Sprintf("byte %d %02X  %s", b>>8+1, byte(b), name) }
	var out []string
	switch kind {
	case "TVR":
		for _, n := range tvrNames {
			out = append(out, line(n.bit, n.name))
		}
	case "TSI":
		for _, b := range []Bit{ODAPerformed, CVMPerformed, CardRiskPerformed, IssuerAuthPerformed, TerminalRiskPerformed, ScriptPerformed} {
			var t TSI
			t.Set(b)
			out = append(out, line(b, t.Names()[0]))
		}
	case "CVM", "CVMLIST":
		for _, m := range []Method{FailCVM, PlaintextPIN, OnlinePIN, PlaintextPINSignature, EncipheredPIN, EncipheredPINSignature, Signature, NoCVM} {
			out = append(out, fmt.Sprintf("method %02X  %s", byte(m), m))
		}
		for c := conditionAlways; c <= conditionOverY; c++ {
			out = append(out, fmt.Sprintf("condition %02X  %s", c, conditionText(c)))
		}
		if kind == "CVM" {
			out = append(out, "result 00  unknown", "result 01  failed", "result 02  successful")
		}
	case "CID":
		out = []string{"00  AAC, declined", "40  TC, approved", "80  ARQC, go online", "08  advice required"}
	default:
		e, ok := explained[kind]
		if !ok {
			return nil, fmt.Errorf("%w: choose one of %s", ErrExplain, strings.Join(Explained(), ", "))
		}
		for _, b := range e.bits {
			out = append(out, fmt.Sprintf("byte %d %02X  %s", b.at+1, b.mask, b.text))
		}
	}
	return out, nil
}

func orNothing(list []string) []string {
	if len(list) == 0 {
		return []string{"no bit is set"}
	}
	return list
}

// conditionText is a condition code in words (Book 3 Annex C3, table 40).
func conditionText(c byte) string {
	if text, ok := map[byte]string{
		conditionAlways: "always", conditionUnattendedCash: "if unattended cash", conditionOther: "if neither cash nor cashback",
		conditionSupported: "if the terminal supports it", conditionManualCash: "if manual cash", conditionCashback: "if cashback",
		conditionUnderX: "if under X", conditionOverX: "if over X", conditionUnderY: "if under Y", conditionOverY: "if over Y",
	}[c]; ok {
		return text
	}
	return fmt.Sprintf("condition %02X is not defined", c)
}
