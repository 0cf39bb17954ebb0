package zvt

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
)

var (
	_ drivers.Redactor  = Driver{}
	_ drivers.Describer = Driver{}
)

// wireAPDU is an APDU in recorded bytes. at maps its bytes, and the place
// behind the last, to where they stand on the wire: on a serial line DLE is
// doubled.
type wireAPDU struct {
	raw   []byte
	at    []int
	whole bool
	// damaged: its checksum is wrong, or it stands outside any frame. Which of
	// its bytes are what cannot be said.
	damaged bool
}

// known reports whether the bytes begin with a command or reply of the
// protocol, so that their fields can be found.
func (w wireAPDU) known() bool {
	if len(w.raw) < 3 {
		return false
	}
	c := Command(w.raw[0])<<8 | Command(w.raw[1])
	return c.IsReply() || commandNames[c] != ""
}

// apdusOf finds the APDUs in recorded bytes: in DLE frames, or bare as on TCP.
// controls are the acknowledgements between frames.
func apdusOf(wire []byte) (list []wireAPDU, controls []byte) {
	start := 0
	for start < len(wire) && (wire[start] == frame.ByteACK || wire[start] == frame.ByteNAK) {
		start++
	}
	framed := start == len(wire)
	for i := 0; i+1 < len(wire) && !framed; i++ {
		// A bare APDU holds DLE STX only behind its command.
		framed = wire[i] == frame.ByteDLE && wire[i+1] == frame.ByteSTX && (i == start || i < 2)
	}
	if framed {
		return framedAPDUs(wire)
	}
	for at := 0; at < len(wire); {
		if wire[at] == 0 {
			at++ // left behind an APDU: see Reassembler.Next
			continue
		}
		n := len(wire) - at
		_, used, err := Scan(wire[at:])
		if err == nil {
			n = used
		}
		w := wireAPDU{raw: wire[at : at+n], whole: err == nil}
		for i := range n + 1 {
			w.at = append(w.at, at+i)
		}
		list = append(list, w)
		at += n
	}
	return list, nil
}

// maxStray is how many bytes outside frames are left as they are.
const maxStray = 3

func framedAPDUs(wire []byte) (list []wireAPDU, controls []byte) {
	stray := 0
	strayed := func(i int) {
		if i-stray > maxStray {
			w := wireAPDU{damaged: true}
			for k := stray; k < i; k++ {
				w.raw, w.at = append(w.raw, wire[k]), append(w.at, k)
			}
			w.at = append(w.at, i)
			list = append(list, w)
		}
	}
	defer func() { strayed(len(wire)) }()
	for i := 0; i < len(wire); {
		if i+1 >= len(wire) || wire[i] != frame.ByteDLE || wire[i+1] != frame.ByteSTX {
			if wire[i] == frame.ByteACK || wire[i] == frame.ByteNAK {
				controls = append(controls, wire[i])
			}
			i++
			continue
		}
		strayed(i)
		var w wireAPDU
		for i += 2; i < len(wire); i++ {
			b := wire[i]
			if b == frame.ByteDLE && i+1 < len(wire) {
				if wire[i+1] == frame.ByteETX {
					w.whole = true
					break
				}
				if wire[i+1] == frame.ByteSTX {
					break // a new frame
				}
				w.raw, w.at = append(w.raw, b), append(w.at, i)
				if wire[i+1] == frame.ByteDLE {
					i++
				}
				continue
			}
			w.raw, w.at = append(w.raw, b), append(w.at, i)
		}
		w.at = append(w.at, min(i, len(wire)))
		if w.whole {
			end := frame.AppendDLE(nil, w.raw)
			end = end[len(end)-4:] // DLE ETX and the checksum
			have := wire[i:min(i+4, len(wire))]
			w.damaged = !bytes.HasPrefix(end, have)
			i += len(have)
		}
		list = append(list, w)
		stray = i
	}
	return list, controls
}

// cardBMPs hold card data, or a password.
var cardBMPs = map[byte]bool{bmpExpiry: true, bmpPAN: true, bmpTrack1: true, bmpTrack2: true, bmpTrack3: true, bmpSyncChip: true,
	bmpCVV: true, bmpOfflineChip: true, bmpGeldKarte: true, bmpPassword: true}

// cardTags of a container hold card data: tracks, PAN, holder, expiry.
var cardTags = map[uint32]bool{0x56: true, 0x57: true, 0x5A: true, 0x5F20: true, 0x5F24: true, 0x9F1F: true, 0x9F20: true, 0x9F6B: true}

// maxReply is the longest data of a reply: an error id and a currency, or an
// amount.
const maxReply = 8

// passworded commands begin with the password.
var passworded = map[Command]bool{CmdRegistration: true, CmdRepeatReceipt: true, CmdReversal: true, CmdRefund: true, CmdEndOfDay: true,
	CmdInitialisation: true, CmdStatusEnquiry: true}

// CardData finds PAN, tracks, expiry, CVV, chip data and passwords (BMPs 0E,
// 22, 23, 24, 2D, 2E, 3A, 3D, 92, 9A and EMV tags of the container). What cannot be
// read is cut to its end: behind a known command from the first field that is
// none, else, and where a checksum is wrong, from the third byte.
func (Driver) CardData(fromDevice bool, wire []byte) []drivers.Span {
	var spans []drivers.Span
	list, _ := apdusOf(wire)
	for _, w := range list {
		if !w.whole && bytes.Contains(wire, []byte{frame.ByteDLE, frame.ByteSTX}) {
			// Not to be told apart from frames behind something else: cut both ways.
			framed, _ := framedAPDUs(wire)
			list = append(list, framed...)
			break
		}
	}
	for _, w := range list {
		if w.damaged || !w.known() {
			spans = append(spans, drivers.Span{Start: w.at[min(2, len(w.raw))], End: w.at[len(w.raw)]})
			continue
		}
		head, _, ok := headOf(w.raw)
		if !ok || head > len(w.raw) {
			continue
		}
		cut := func(from, to int) { // offsets in the data
			from, to = min(head+from, len(w.raw)), min(head+to, len(w.raw))
			if from < to {
				spans = append(spans, drivers.Span{Start: w.at[from], End: w.at[to]})
			}
		}
		c, data := Command(w.raw[0])<<8|Command(w.raw[1]), w.raw[head:]
		at := 0
		switch {
		case fromDevice && c.IsReply() && len(data) > maxReply:
			cut(0, len(data)) // no reply is that long: it is something else, damaged
			continue
		case fromDevice && (c == CmdPrintLine || c.IsReply()):
			continue
		case fromDevice && c == CmdAborted:
			at = 1
		case fromDevice && c == CmdIntermediateStatus:
			at = 2
		case fromDevice && c == CmdCompletion && len(data) > 3 && data[0]&0xF0 == 0xF0 && data[1]&0xF0 == 0xF0:
			continue // software version of a status enquiry
		case !fromDevice && passworded[c]:
			cut(0, 3)
			if at = 3; c == CmdRegistration {
				at = 6
			}
		}
		for at < len(data) {
			f, rest, err := NextField(data[at:], at)
			if err != nil {
				cut(at, len(data))
				break
			}
			end := len(data) - len(rest)
			switch {
			case cardBMPs[f.ID]:
				cut(end-len(f.Value), end)
			case f.ID == bmpContainer:
				cardElements(f.Value, end-len(f.Value), 0, cut)
			}
			at = end
		}
	}
	return merged(spans)
}

// merged returns spans in order, none over another, none empty.
func merged(spans []drivers.Span) []drivers.Span {
	slices.SortFunc(spans, func(a, b drivers.Span) int { return cmp.Compare(a.Start, b.Start) })
	var out []drivers.Span
	for _, s := range spans {
		switch n := len(out) - 1; {
		case s.Start >= s.End:
		case n >= 0 && s.Start < out[n].End:
			out[n].End = max(out[n].End, s.End)
		default:
			out = append(out, s)
		}
	}
	return out
}

// cardElements cuts the data objects of a container that stands at an offset.
func cardElements(data []byte, offset, depth int, cut func(from, to int)) {
	for rest := data; len(rest) > 0; {
		e, r, err := NextElement(rest, 0)
		end := offset + len(data) - len(r)
		switch {
		case err != nil:
			cut(offset+len(data)-len(rest), offset+len(data))
			return
		case cardTags[e.Tag]:
			cut(end-len(e.Value), end)
		case e.constructed() && depth < maxContainerDepth:
			cardElements(e.Value, end-len(e.Value), depth+1, cut)
		}
		rest = r
	}
}

var commandNames = map[Command]string{
	CmdRegistration: "registration", CmdAuthorisation: "authorisation", CmdLogOff: "log-off", CmdRepeatReceipt: "repeat receipt",
	CmdReservation: "reservation", CmdPartialRelease: "partial release", CmdBookTotal: "book total", CmdRelease: "release",
	CmdReversal: "reversal", CmdRefund: "refund", CmdEndOfDay: "end of day", CmdDiagnosis: "diagnosis", CmdSetTime: "set time",
	CmdInitialisation: "initialisation", CmdAbort: "abort", CmdReadCard: "read card", CmdDisplayText: "display text",
	CmdStatusEnquiry: "status enquiry", CmdChangeBaud: "change baud rate", CmdStatusInformation: "status information",
	CmdIntermediateStatus: "intermediate status", CmdSetDateTime: "set date and time", CmdCompletion: "completion",
	CmdAborted: "aborted", CmdPrintLine: "print line", CmdPrintBlock: "print block", CmdDialUp: "dial up",
	CmdTransmitData: "transmit data", CmdReceiveData: "receive data", CmdHangUp: "hang up",
}

// Describe says what recorded bytes mean, one line an APDU. Of a result it
// names code, amount, currency, trace and receipt, and no card data.
func (Driver) Describe(fromDevice bool, wire []byte) []string {
	list, controls := apdusOf(wire)
	var out []string
	for _, c := range controls {
		out = append(out, map[byte]string{frame.ByteACK: "ACK", frame.ByteNAK: "NAK"}[c])
	}
	for _, w := range list {
		a, _, err := Scan(w.raw)
		if err != nil || w.damaged {
			out = append(out, fmt.Sprintf("%d bytes that are no whole APDU", len(w.raw)))
			continue
		}
		out = append(out, describe(fromDevice, a))
	}
	return out
}

func describe(fromDevice bool, a APDU) string {
	switch {
	case a.Command.IsReply() && a.Command.Positive():
		return a.Command.String() + " positive"
	case a.Command.IsReply():
		return fmt.Sprintf("%s negative: %s", a.Command, ResultText(a.errorID()))
	}
	name := commandNames[a.Command]
	if name == "" {
		name = "unknown command"
	}
	text := fmt.Sprintf("%s %s", a.Command, name)
	switch {
	case a.Command == CmdStatusInformation:
		s, err := ParseStatus(a.Data, CP437)
		if err != nil {
			return text + ": cannot be read to its end"
		}
		var parts []string
		if s.HasResult {
			parts = append(parts, fmt.Sprintf("result %02X (%s)", s.Result, ResultText(s.Result)))
		}
		if s.HasAmount {
			parts = append(parts, fmt.Sprintf("amount %d", s.Amount))
		}
		for _, p := range [][2]string{{"trace", s.Trace}, {"original trace", s.OrigTrace}, {"receipt", s.Receipt}} {
			if p[1] != "" {
				parts = append(parts, p[0]+" "+p[1])
			}
		}
		if s.Currency != 0 {
			parts = append(parts, fmt.Sprintf("currency %03d", s.Currency))
		}
		return text + ": " + strings.Join(parts, ", ")
	case a.Command == CmdIntermediateStatus && len(a.Data) > 0:
		return fmt.Sprintf("%s %02X (%s)", text, a.Data[0], Intermediate{Code: a.Data[0]}.Words())
	case a.Command == CmdAborted && len(a.Data) > 0:
		return fmt.Sprintf("%s: %s", text, ResultText(a.Data[0]))
	case !fromDevice && (a.Command == CmdAuthorisation || a.Command == CmdReservation):
		if f, _ := ParseFields(a.Data); f != nil {
			if v, ok := fieldOf(f, bmpAmount); ok {
				if n, err := BCD(v); err == nil {
					return fmt.Sprintf("%s: amount %d", text, n)
				}
			}
		}
	}
	return fmt.Sprintf("%s (%d bytes)", text, len(a.Data))
}
