package abecs

import (
	"fmt"
	"strings"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
)

var (
	_ drivers.Redactor  = (*Driver)(nil)
	_ drivers.Describer = (*Driver)(nil)
)

// public are the commands whose bytes hold no card data, in either direction.
// What is not among them is cut out of a trace whole: before the secure channel
// a pad may answer in clear what nobody asked for.
var public = map[string]bool{"OPN": true, "CLO": true, "CLX": true, "GIX": true, "DSP": true, "DEX": true, "TLI": true,
	"TLR": true, "TLE": true, "GTS": true, "RMC": true, "MNU": true, "GKY": true, "NTM": true, "ERR": true}

// piece is a part of a recorded line: a frame, a control byte, or bytes that
// belong to neither.
type piece struct {
	start, end   int
	frame        bool
	body, bodyTo int // of a frame: its payload as it was stuffed
	control      frame.Event
}

// pieces cuts recorded bytes up. It reports the frame that the end cut off as
// well, and the rest of one whose beginning is missing as bytes of nothing.
func pieces(wire []byte) []piece {
	var out []piece
	for i := 0; i < len(wire); {
		p := piece{start: i}
		switch b := wire[i]; {
		case b == frame.ByteSYN:
			j := i + 1
			for j < len(wire) && wire[j] != frame.ByteSYN && wire[j] != frame.ByteETB {
				j++
			}
			p.frame, p.body, p.bodyTo, p.end = true, i+1, j, j
			if j < len(wire) && wire[j] == frame.ByteETB {
				p.end = min(j+3, len(wire))
			}
		case controls[b] != frame.None:
			p.control, p.end = controls[b], i+1
		default:
			j := i + 1
			for j < len(wire) && wire[j] != frame.ByteSYN {
				j++
			}
			p.end = j
		}
		out = append(out, p)
		i = p.end
	}
	return out
}

var controls = map[byte]frame.Event{frame.ByteEOT: frame.EOT, frame.ByteACK: frame.ACK, frame.ByteNAK: frame.NAK, frame.ByteCAN: frame.CAN}

// CardData returns what has to be cut out of a trace: all but name and status
// of a clear packet that may hold card data, and bytes that belong to no
// packet. Encrypted packets stay: their key is in no trace.
func (*Driver) CardData(fromDevice bool, wire []byte) []drivers.Span {
	var out []drivers.Span
	for _, p := range pieces(wire) {
		from, to := p.start, p.end
		switch {
		case p.control != frame.None:
			continue
		case p.frame:
			from, to = p.body, p.bodyTo
			body := wire[from:to]
			if len(body) > 0 && body[0] == secureMark {
				continue
			}
			if name, ok := clearName(body); ok {
				if public[name] {
					continue
				}
				from += 3
				if fromDevice {
					if _, ok := number(body[3:min(6, len(body))]); ok {
						from += min(3, to-from)
					}
				}
			}
		}
		if from < to {
			out = append(out, drivers.Span{Start: from, End: to})
		}
	}
	return out
}

func clearName(body []byte) (string, bool) {
	if len(body) < 3 {
		return "", false
	}
	for _, c := range body[:3] {
		if c < 'A' || c > 'Z' {
			return "", false
		}
	}
	return string(body[:3]), true
}

// Describe says what recorded bytes are, one line a frame, without their data.
func (*Driver) Describe(fromDevice bool, wire []byte) []string {
	var out []string
	for _, p := range pieces(wire) {
		switch {
		case p.control != frame.None:
			out = append(out, p.control.String())
		case p.frame:
			out = append(out, describe(fromDevice, wire[p.start:p.end], wire[p.body:p.bodyTo]))
		default:
			out = append(out, fmt.Sprintf("%d bytes outside of a packet", p.end-p.start))
		}
	}
	return out
}

func describe(fromDevice bool, wire, body []byte) string {
	var d frame.DC3
	n, ev, bad := d.Feed(wire)
	note := ""
	switch {
	case ev == frame.Message && n == len(wire):
		body = d.Payload()
	case bad == nil:
		note = " (cut off)"
	default:
		note = " (checksum or stuffing wrong: damaged, or card data was cut out)"
	}
	if len(body) > 0 && body[0] == secureMark {
		return fmt.Sprintf("encrypted packet, %d bytes%s", len(body), note)
	}
	name, ok := clearName(body)
	if !ok {
		return fmt.Sprintf("packet without a name, %d bytes%s", len(body), note)
	}
	if !fromDevice {
		line := name
		if r, err := ParseRequest(body); err != nil && note == "" {
			note = " (not in the protocol's form)"
		} else if err == nil && withParams[name] {
			line += ids(r.blocks)
		}
		return fmt.Sprintf("%s, %d bytes%s", line, len(body), note)
	}
	st, ok := number(body[3:min(6, len(body))])
	if !ok || len(body) < 6 {
		return fmt.Sprintf("%s without a status%s", name, note)
	}
	line := name + " " + Status(st).digits()
	if st != 0 {
		return line + ": " + strings.TrimPrefix(Status(st).Error(), "abecs: ") + note
	}
	if r, err := Parse(body); err != nil && note == "" {
		note = " (not in the protocol's form)"
	} else if err == nil && withParams[name] {
		line += ids(r.blocks)
	}
	return fmt.Sprintf("%s, %d bytes%s", line, len(body), note)
}

// ids lists parameters with their lengths.
func ids(blocks []byte) string {
	var list []string
	for p, err := range params(blocks) {
		if err != nil {
			list = append(list, "?")
			break
		}
		list = append(list, p.String())
	}
	if len(list) == 0 {
		return ""
	}
	return " " + strings.Join(list, " ")
}
