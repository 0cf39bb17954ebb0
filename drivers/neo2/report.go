package neo2

// ReportSize is the size of a HID report with its id, in bytes.
const ReportSize = 64

const reportData = ReportSize - 1

// Report ids.
const (
	reportSingle byte = 1 // a whole frame
	reportFirst  byte = 2
	reportMiddle byte = 3
	reportLast   byte = 4
)

// AppendReports appends the HID reports of one frame: whole reports of
// ReportSize bytes, the last one filled with zeros.
func AppendReports(dst, wire []byte) []byte {
	id := reportSingle
	if len(wire) > reportData {
		id = reportFirst
	}
	for {
		n := min(len(wire), reportData)
		dst = append(dst, id)
		dst = append(dst, wire[:n]...)
		for k := n; k < reportData; k++ {
			dst = append(dst, 0)
		}
		if wire = wire[n:]; len(wire) == 0 {
			return dst
		}
		if id = reportMiddle; len(wire) <= reportData {
			id = reportLast
		}
	}
}

// Reports joins HID reports to frames. The zero value is ready.
type Reports struct {
	buf  []byte
	open bool // a first report was seen and its last not
}

// Feed takes one report and returns the bytes of a frame when it was its last.
// The length comes from the frame's own header and never from trailing zeros:
// a checksum may end in 00. Reports of another size or id, and middle and last
// ones without a first, are skipped. wire is valid until the next Feed.
func (r *Reports) Feed(report []byte) (wire []byte, ok bool) {
	if len(report) != ReportSize {
		r.open = false
		return nil, false
	}
	switch report[0] {
	case reportSingle, reportFirst:
		r.buf = append(r.buf[:0], report[1:]...)
		r.open = report[0] == reportFirst
	case reportMiddle, reportLast:
		if !r.open {
			return nil, false
		}
		r.buf = append(r.buf, report[1:]...)
		if len(r.buf) > headSize+MaxData+tailSize+reportData {
			r.open = false
			return nil, false
		}
		r.open = report[0] == reportMiddle
	default:
		r.open = false
		return nil, false
	}
	if r.open {
		return nil, false
	}
	n, err := size(r.buf)
	if err != nil || n == 0 || n > len(r.buf) {
		return nil, false
	}
	return r.buf[:n], true
}

// Partial reports whether the first report of a frame was seen and its last
// not.
func (r *Reports) Partial() bool { return r.open }

// Reset forgets a half frame.
func (r *Reports) Reset() { r.open = false }
