package acquirer

// Class is what a response code allows to be done next.
type Class string

// The classes of a response code.
const (
	ClassApproved Class = "approved"
	ClassPartial  Class = "partial"     // approved for the amount in the answer
	ClassNever    Class = "never_retry" // this card must not be sent again
	ClassLater    Class = "retry_later" // the customer may try later or again
	ClassNewData  Class = "new_data"    // another PIN or card data is needed
	ClassOperator Class = "operator"    // the set-up is wrong: no retry, call the operator
	ClassWait     Class = "wait"        // not a result: the real answer follows
	ClassFindOut  Class = "find_out"    // says nothing of this request: inquire or reverse
	ClassDeclined Class = "declined"    // declined, no more is known
	ClassNone     Class = ""            // no code
)

// classes is the table of DE39 in its 1987 form. Sources are in
// knowledge/iso8583.md, section "DE39 and what may be done next": Visa
// categories as published by Checkout.com, the GICC list of Nexi. Codes move
// between categories; correct the table, not the code.
var classes = map[string]Class{
	"00": ClassApproved, "08": ClassApproved, "11": ClassApproved, "10": ClassPartial,
	"04": ClassNever, "07": ClassNever, "12": ClassNever, "14": ClassNever, "15": ClassNever, "41": ClassNever,
	"43": ClassNever, "46": ClassNever, "57": ClassNever, "R1": ClassNever, "R3": ClassNever,
	"03": ClassLater, "19": ClassLater, "51": ClassLater, "59": ClassLater, "61": ClassLater, "62": ClassLater,
	"65": ClassLater, "75": ClassLater, "91": ClassLater, "93": ClassLater, "96": ClassLater,
	"54": ClassNewData, "55": ClassNewData, "82": ClassNewData, "N7": ClassNewData,
	"06": ClassOperator, "30": ClassOperator, "58": ClassOperator, "63": ClassOperator,
	"09": ClassWait,
	"94": ClassFindOut,
}

// Classify returns the class of DE39. Three-digit codes are the action codes
// of ISO 8583:1993. An unknown code is a plain decline; an empty one is
// ClassNone.
func Classify(code string) Class {
	if c, ok := classes[code]; ok {
		return c
	}
	if len(code) == 3 {
		switch code[0] {
		case '0':
			if code == "002" {
				return ClassPartial
			}
			return ClassApproved
		case '2':
			return ClassNever
		case '9':
			switch code {
			case "904":
				return ClassOperator
			case "913":
				return ClassFindOut
			}
			return ClassLater
		}
		return ClassDeclined
	}
	if code == "" {
		return ClassNone
	}
	return ClassDeclined
}

// Outcome returns what the class says of a request: ClassWait, ClassFindOut
// and ClassNone leave it Unknown.
func (c Class) Outcome() Outcome {
	switch c {
	case ClassApproved, ClassPartial:
		return Approved
	case ClassWait, ClassFindOut, ClassNone:
		return Unknown
	}
	return Declined
}

// AckOf returns what DE39 says of a reversal or advice: 00 (and the 4xx of
// 1993) end it, 25 and 21 say that there is nothing to undo, all else keeps
// it queued.
func AckOf(code string) AckState {
	switch code {
	case "00", "400":
		return AckDone
	case "25", "21":
		return AckNotFound
	case "":
		return AckUnknown
	}
	if len(code) == 3 && (code[0] == '4' || code[0] == '0') {
		return AckDone
	}
	return AckRefused
}
