package engine

import (
	"strings"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/payment"
	"tillbridge/emv"
	"tillbridge/p2pe/mask"
)

func fillCard(p *payment.Payment, c emv.Card) {
	p.Card.Entry, p.Card.PANSequence = string(c.Entry), c.PANSequence
	p.Card.Masked, p.Card.Last4, p.Card.BIN6, p.Card.PAR = checkedMask(c.MaskedPAN), c.Last4[max(0, len(c.Last4)-4):], c.BIN6[:min(6, len(c.BIN6))], c.Data.PAR
	p.EMV.AID, p.EMV.AppLabel = c.AID, c.Label
	p.Card.Brand = brandOf(c.AID, c.Label)
}

// checkedMask keeps a device's masked number only if it shows no more than may
// be shown.
func checkedMask(masked string) string {
	if masked != "" && mask.CheckMasked(masked) != nil {
		return ""
	}
	return masked
}

// safeText bounds a text of a device and takes out what looks like a card
// number: drivers promise as much, and this is kept for years.
func safeText(s string, most int) string {
	// Redacted before it is cut: a cut number is no longer known as one. A text
	// of unbounded length is cut first, far behind what is kept.
	s = mask.Redact(s[:min(len(s), 4*most+64)])
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

func fillOutcome(p *payment.Payment, o emv.Outcome) {
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&p.EMV.TVR, o.TVR)
	set(&p.EMV.TSI, o.TSI)
	set(&p.EMV.CVM, o.CVM)
	set(&p.EMV.CVMText, o.CVMText)
	set(&p.EMV.ARC, o.ARC)
	set(&p.EMV.Cryptogram, o.Cryptogram)
}

func fillHost(p *payment.Payment, res acquirer.Result) {
	p.Host.ResponseCode, p.Host.ApprovalCode, p.Host.RRN = res.ResponseCode, res.ApprovalCode, res.RRN
	if res.ARC != "" {
		p.EMV.ARC = res.ARC
	}
	if res.Token != "" {
		p.Card.Token, p.Card.TokenDomain = res.Token, "acquirer"
	}
	if res.PAR != "" {
		p.Card.PAR = res.PAR
	}
	if !res.HostTime.IsZero() {
		p.Host.AcquirerTime = res.HostTime.Format(time.RFC3339)
	}
}

func reasonOf(o emv.Outcome) string {
	if len(o.Reasons) == 0 {
		return ""
	}
	return ": " + safeText(o.Reasons[0].Text, 160)
}

func groupOf(c acquirer.Class) payment.DeclineGroup {
	switch c {
	case acquirer.ClassNever:
		return payment.DeclineNever
	case acquirer.ClassLater:
		return payment.DeclineLater
	case acquirer.ClassNewData:
		return payment.DeclineData
	case acquirer.ClassOperator:
		return payment.DeclineSetup
	}
	return payment.DeclineOther
}

// brandOf names the scheme by the registered identifier of the application
// (ISO/IEC 7816-5); where it is not known the label serves.
func brandOf(aid, label string) string {
	if len(aid) >= 10 {
		switch aid[:10] {
		case "A000000003":
			return "visa"
		case "A000000004":
			return "mastercard"
		case "A000000025":
			return "amex"
		case "A000000152":
			return "discover"
		case "A000000065":
			return "jcb"
		case "A000000333":
			return "unionpay"
		case "A000000277":
			return "interac"
		case "A000000651":
			return "elo"
		}
	}
	return label
}
