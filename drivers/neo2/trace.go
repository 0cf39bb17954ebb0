package neo2

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"tillbridge/drivers"
	"tillbridge/emv/tlv"
)

// CardData says where card data stands in recorded bytes: the values of the
// sensitive objects, the records of stripes, PIN blocks. Of HID reports and of
// what cannot be read everything behind a frame's header counts as card data,
// and without a header all of it: a turn may begin within a frame.
func (Driver) CardData(fromDevice bool, wire []byte) []drivers.Span {
	dir := direction(fromDevice)
	var spans []drivers.Span
	if len(wire) > 0 && len(wire)%ReportSize == 0 && wire[0] >= reportSingle && wire[0] <= reportLast {
		for at := 0; at < len(wire); at += ReportSize {
			from := 1
			if bytes.HasPrefix(wire[at+1:], []byte(tag)) {
				from = 1 + headSize
				if wire[at] == reportSingle && !fromDevice {
					continue // the commands of the host hold no card data
				}
			}
			spans = append(spans, drivers.Span{Start: at + from, End: at + ReportSize})
		}
		return spans
	}
	for at := 0; at < len(wire); {
		if i := bytes.Index(wire[at:], []byte(tag)); i != 0 {
			if i < 0 {
				i = len(wire) - at
			}
			spans = append(spans, drivers.Span{Start: at, End: at + i})
			at += i
			continue
		}
		n, err := size(wire[at:])
		if err == nil && n > 0 && n <= len(wire)-at {
			if f, err := Parse(dir, wire[at:at+n]); err == nil {
				for _, s := range dataSpans(f, dir) {
					spans = append(spans, drivers.Span{Start: at + s.Start, End: at + s.End})
				}
				at += n
				continue
			}
		}
		return append(spans, drivers.Span{Start: min(at+headSize, len(wire)), End: len(wire)})
	}
	return spans
}

func direction(fromDevice bool) Direction {
	if fromDevice {
		return FromReader
	}
	return ToReader
}

// dataSpans are the spans within one frame.
func dataSpans(f Frame, dir Direction) []drivers.Span {
	if dir == ToReader || len(f.Data) == 0 {
		return nil
	}
	skip, known := lead(f)
	if !known {
		return []drivers.Span{{Start: headSize, End: headSize + len(f.Data)}}
	}
	var spans []drivers.Span
	w := Walk(f.Data[min(skip, len(f.Data)):])
	for w.Next() {
		o := w.Object()
		if hide(o.Tag) {
			end := headSize + skip + w.at
			spans = append(spans, drivers.Span{Start: end - len(o.Value), End: end})
		}
	}
	if w.Err() != nil {
		return []drivers.Span{{Start: headSize, End: headSize + len(f.Data)}}
	}
	return spans
}

// lead is how many bytes stand before the data objects of an answer. known is
// false for answers whose form is not.
func lead(f Frame) (n int, known bool) {
	switch f.Command {
	case 0x02, 0x03:
		if f.Data[0] == 0xFF {
			return 0, true // the objects of a failure, without attribution
		}
		return 1, true
	case 0x60:
		// 60-10 answers with objects, the others with a result of two bytes.
		if len(f.Data) >= 2 && f.Data[0] == 0 && Status(f.Code) == OK {
			return 2, true
		}
		return 0, true
	case 0x18, 0x05, 0x29, 0xC7, 0x81:
		return len(f.Data), true // they say nothing of a card
	}
	return 0, false
}

func hide(t tlv.Tag) bool {
	return slices.Contains(sensitive, t) || slices.Contains(dropped, t) && t != 0x5F24 || t.Constructed()
}

// Describe says what recorded bytes mean, one line a frame, without data.
func (Driver) Describe(fromDevice bool, wire []byte) []string {
	dir := direction(fromDevice)
	var d Decoder
	d.Dir = dir
	if len(wire) > 0 && len(wire)%ReportSize == 0 && wire[0] >= reportSingle && wire[0] <= reportLast {
		var r Reports
		var lines []string
		for ; len(wire) > 0; wire = wire[ReportSize:] {
			if w, ok := r.Feed(wire[:ReportSize]); ok {
				lines = append(lines, Driver{}.Describe(fromDevice, append([]byte(nil), w...))...)
			} else {
				lines = append(lines, fmt.Sprintf("HID report %02X: part of a frame", wire[0]))
			}
		}
		return lines
	}
	d.Feed(wire)
	var lines []string
	for {
		f, ok, err := d.Next()
		switch {
		case ok:
			lines = append(lines, describe(f, dir))
		case err != nil:
			lines = append(lines, "broken frame")
		default:
			if d.Partial() || len(lines) == 0 {
				lines = append(lines, "part of a frame")
			}
			return lines
		}
	}
}

var names = map[byte]string{0x18: "ping", 0x05: "cancel", 0x02: "activate", 0x03: "result", 0x60: "contact", 0x29: "identity", 0xC7: "encryption",
	0x81: "keys", fromReader: "request of the reader"}

func describe(f Frame, dir Direction) string {
	name := names[f.Command]
	if name == "" {
		name = "command"
	}
	if dir == ToReader {
		return fmt.Sprintf("%s %02X-%02X, %d bytes", name, f.Command, f.Code, len(f.Data))
	}
	return fmt.Sprintf("%s %02X: %s, %d bytes", name, f.Command, strings.TrimPrefix(Status(f.Code).Error(), "neo2: "), len(f.Data))
}
