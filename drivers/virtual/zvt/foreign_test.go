package zvt

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers/virtual/port"
)

// The hosts of these tests were written by others: their bytes, recorded once,
// are played to the terminal over its real ports. What the terminal answers is
// read here by a small reading of the protocol's documents that shares nothing
// with the driver, the terminal or package frame.

// hostRun is a transcript of testdata/foreign.
type hostRun struct {
	serial bool
	steps  []string // commands to the terminal's process
	lines  []hostLine
}

type hostLine struct {
	host  bool
	bytes []byte
}

func loadHostRun(t *testing.T, name string) hostRun {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "foreign", name))
	if err != nil {
		t.Fatal(err)
	}
	var run hostRun
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		word, rest, _ := strings.Cut(s.Text(), " ")
		switch word {
		case "#":
		case "link":
			run.serial = rest == "serial"
		case "do":
			run.steps = append(run.steps, rest)
		case ">", "<":
			v, err := hex.DecodeString(rest)
			if err != nil || len(v) == 0 {
				t.Fatalf("%s: %q: %v", name, s.Text(), err)
			}
			run.lines = append(run.lines, hostLine{word == ">", v})
		default:
			if s.Text() != "#" && s.Text() != "" {
				t.Fatalf("%s: %q is no line of a transcript", name, s.Text())
			}
		}
	}
	return run
}

// told is what the terminal said in a run, read anew.
type told struct {
	completions []string            // data of 06 0F
	aborts      []string            // data of 06 1E
	status      []map[string]string // fields of 04 0F by their id, in hex
	lines       []string            // 06 D1
	blocks      []printedBlock      // 06 D3
	replies     []string            // 80 00 and 84 xx
}

type printedBlock struct {
	kind  string
	lines []string
}

// playHost plays a transcript and returns what the terminal said and its books.
func playHost(t *testing.T, name string) (told, Books) {
	t.Helper()
	run := loadHostRun(t, name)
	p := serve(t, Options{Password: "123456", Serial: run.serial, Dir: t.TempDir()})
	for _, s := range run.steps {
		p.must(s)
	}
	addr := p.ready["addr"].(string)
	var line io.ReadWriteCloser
	if run.serial {
		f, err := os.OpenFile(addr, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.SetDeadline(time.Now().Add(time.Minute))
		line = f
	} else {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		line = c
	}
	defer line.Close()
	var got told
	var rest []byte
	for i, l := range run.lines {
		if l.host {
			if _, err := line.Write(l.bytes); err != nil {
				t.Fatalf("line %d of the run: %v", i, err)
			}
			continue
		}
		unit, err := readUnit(line, &rest, run.serial)
		if err != nil {
			t.Fatalf("line %d of the run, the terminal said %x then and %x now: %v", i, l.bytes, rest, err)
		}
		if len(unit) == 1 || len(l.bytes) == 1 { // an acknowledgement of the serial link
			if !bytes.Equal(unit, l.bytes) {
				t.Fatalf("line %d of the run: % X then, % X now", i, l.bytes, unit)
			}
			continue
		}
		was := l.bytes
		if run.serial {
			if unit, err = unframe(unit); err == nil {
				was, err = unframe(was)
			}
			if err != nil {
				t.Fatalf("line %d of the run: %v", i, err)
			}
		}
		if !bytes.Equal(unit[:2], was[:2]) {
			t.Fatalf("line %d of the run: the terminal said % X then and % X now", i, was, unit)
		}
		if err := got.hear(unit); err != nil {
			t.Fatalf("line %d of the run, % X: %v", i, unit, err)
		}
	}
	b, err := json.Marshal(p.must(`{"do":"books"}`)["books"])
	if err != nil {
		t.Fatal(err)
	}
	var books Books
	if err := json.Unmarshal(b, &books); err != nil {
		t.Fatal(err)
	}
	return got, books
}

// readUnit returns the next APDU of a TCP line, or the next acknowledgement or
// frame of a serial one.
func readUnit(r io.Reader, rest *[]byte, serial bool) ([]byte, error) {
	for {
		if n := unitSize(*rest, serial); n > 0 {
			u := (*rest)[:n:n]
			*rest = (*rest)[n:]
			return u, nil
		}
		b := make([]byte, 512)
		n, err := r.Read(b)
		if err != nil {
			return nil, err
		}
		*rest = append(*rest, b[:n]...)
	}
}

func unitSize(b []byte, serial bool) int {
	switch {
	case len(b) == 0:
		return 0
	case serial && b[0] != 0x10:
		return 1
	case serial:
		for i := 2; i+1 < len(b); i++ {
			if b[i] != 0x10 {
				continue
			}
			if b[i+1] == 0x03 {
				return min(i+4, len(b)) * boolInt(len(b) >= i+4)
			}
			i++ // a doubled 10
		}
		return 0
	}
	if len(b) < 3 {
		return 0
	}
	head, n := 3, int(b[2])
	if n == 0xFF {
		if len(b) < 5 {
			return 0
		}
		head, n = 5, int(b[4])<<8+int(b[3])
	}
	return (head + n) * boolInt(len(b) >= head+n)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unframe takes an APDU out of 10 02 … 10 03 and checks its CRC: reflected,
// polynomial 8408, from 0, over the APDU and the 03, low byte first.
func unframe(b []byte) ([]byte, error) {
	if len(b) < 6 || b[0] != 0x10 || b[1] != 0x02 || b[len(b)-4] != 0x10 || b[len(b)-3] != 0x03 {
		return nil, fmt.Errorf("% X is no frame", b)
	}
	body := bytes.ReplaceAll(b[2:len(b)-4], []byte{0x10, 0x10}, []byte{0x10})
	crc := uint16(0)
	for _, x := range append(slices.Clone(body), 0x03) {
		crc ^= uint16(x)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x8408
			} else {
				crc >>= 1
			}
		}
	}
	if want := []byte{byte(crc), byte(crc >> 8)}; !bytes.Equal(want, b[len(b)-2:]) {
		return nil, fmt.Errorf("% X has the CRC % X, its bytes give % X", b, b[len(b)-2:], want)
	}
	return body, nil
}

// hear takes one APDU of the terminal.
func (g *told) hear(b []byte) error {
	data := b[3:]
	if b[2] == 0xFF {
		data = b[5:]
	}
	switch cmd := fmt.Sprintf("%02X %02X", b[0], b[1]); {
	case b[0] == 0x80 || b[0] == 0x84:
		g.replies = append(g.replies, cmd)
	case cmd == "06 0F":
		g.completions = append(g.completions, hex.EncodeToString(data))
	case cmd == "06 1E":
		g.aborts = append(g.aborts, hex.EncodeToString(data))
	case cmd == "04 FF":
		if len(data) < 1 || len(data) > 2 && data[2] != 0x06 {
			return fmt.Errorf("an intermediate status is a byte, a timeout and a container")
		}
	case cmd == "04 0F":
		f, err := statusFields(data)
		if err != nil {
			return err
		}
		g.status = append(g.status, f)
	case cmd == "06 D1":
		if len(data) < 1 {
			return fmt.Errorf("a line without attribute")
		}
		g.lines = append(g.lines, string(data[1:]))
	case cmd == "06 D3":
		if len(data) < 1 || data[0] != 0x06 {
			return fmt.Errorf("a text block is a container")
		}
		inner, err := berValue(data[1:])
		if err != nil {
			return err
		}
		var block printedBlock
		err = eachObject(inner, func(tag string, v []byte) error {
			switch tag {
			case "1f07":
				block.kind = hex.EncodeToString(v)
			case "25":
				return eachObject(v, func(tag string, v []byte) error {
					if tag == "07" {
						block.lines = append(block.lines, string(v))
					}
					return nil
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
		g.blocks = append(g.blocks, block)
	default:
		return fmt.Errorf("the protocol gives a terminal no command %s here", cmd)
	}
	return nil
}

// statusFields reads the bitmaps of 04 0F. The sizes are those of the table of
// bitmaps in PA00P015; -2 and -3 are LLVAR and LLLVAR.
func statusFields(b []byte) (map[string]string, error) {
	sizes := map[byte]int{0x04: 6, 0x0B: 3, 0x0C: 3, 0x0D: 2, 0x0E: 2, 0x17: 2, 0x19: 1, 0x22: -2, 0x27: 1, 0x29: 4, 0x2A: 15,
		0x37: 3, 0x3B: 8, 0x3C: -3, 0x49: 2, 0x60: -3, 0x87: 2, 0x88: 3, 0x8A: 1, 0x8B: -2, 0x8C: 1, 0xA0: 1}
	out := map[string]string{}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		n, known := sizes[id]
		switch {
		case id == 0x06:
			v, err := berValue(b)
			if err != nil {
				return nil, err
			}
			if err := eachObject(v, func(string, []byte) error { return nil }); err != nil {
				return nil, err
			}
			out["06"] = hex.EncodeToString(v)
			return out, nil
		case !known:
			return nil, fmt.Errorf("no bitmap %02X", id)
		case n < 0:
			digits := -n
			n = 0
			if len(b) < digits {
				return nil, fmt.Errorf("bitmap %02X is cut off", id)
			}
			for _, d := range b[:digits] {
				if d < 0xF0 || d > 0xF9 {
					return nil, fmt.Errorf("bitmap %02X: length % X", id, b[:digits])
				}
				n = n*10 + int(d&15)
			}
			b = b[digits:]
		}
		if len(b) < n {
			return nil, fmt.Errorf("bitmap %02X is cut off", id)
		}
		name := hex.EncodeToString([]byte{id})
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("bitmap %02X twice", id)
		}
		out[name] = hex.EncodeToString(b[:n])
		b = b[n:]
	}
	return out, nil
}

// berValue returns the value behind a length that reaches to the end.
func berValue(b []byte) ([]byte, error) {
	v, rest, err := berCut(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("% X behind a container", rest)
	}
	return v, err
}

func berCut(b []byte) (v, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n, size := int(b[0]), 1
	if n >= 0x80 {
		size = 1 + n&0x7F
		if size > 3 || len(b) < size {
			return nil, nil, fmt.Errorf("length % X", b[:1])
		}
		n = 0
		for _, x := range b[1:size] {
			n = n<<8 | int(x)
		}
	}
	if len(b) < size+n {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return b[size : size+n], b[size+n:], nil
}

func eachObject(b []byte, f func(tag string, v []byte) error) error {
	for len(b) > 0 {
		n := 1
		if b[0]&0x1F == 0x1F {
			for n < len(b) && b[n]&0x80 != 0 {
				n++
			}
			n++
		}
		if n > len(b) {
			return io.ErrUnexpectedEOF
		}
		tag := hex.EncodeToString(b[:n])
		v, rest, err := berCut(b[n:])
		if err != nil {
			return fmt.Errorf("object %s: %w", tag, err)
		}
		if err := f(tag, v); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// matches compares what a status information said with a record of the books.
func (r Record) matches(f map[string]string) error {
	want := map[string]string{
		"27": fmt.Sprintf("%02x", r.Result), "0b": fmt.Sprintf("%06d", r.Trace),
		"87": fmt.Sprintf("%04d", r.Receipt), "49": fmt.Sprintf("%04d", r.Currency),
		"0c": r.At.Local().Format("150405"), "0d": r.At.Local().Format("0102"),
	}
	amount := r.Amount
	if r.Result != 0 {
		amount = r.Asked
	}
	want["04"] = fmt.Sprintf("%012d", amount)
	for id, v := range want {
		if f[id] != v {
			return fmt.Errorf("bitmap %s says %q, the books %q", id, f[id], v)
		}
	}
	if r.Last4 != "" && !strings.HasSuffix(strings.TrimRight(f["22"], "f"), r.Last4) {
		return fmt.Errorf("the number told ends otherwise than the one booked")
	}
	return nil
}

// forForeign checks what both runs have in common: 10.00 paid, a second
// payment of that amount declined, an end of day.
func (g told) forForeign(t *testing.T, books Books, declined int64, endOfDay int) {
	t.Helper()
	if books.Sales != 1 || books.Declined != 1 || books.DoubleCharges != 0 || books.Net["978"] != 1000 {
		t.Errorf("books: %+v", books)
	}
	if len(books.Records) != 3 || books.Records[0].Kind != KindSale || books.Records[0].Amount != 1000 || !books.Records[0].Closed ||
		books.Records[1].Kind != KindSale || books.Records[1].Asked != declined || books.Records[1].Result != 5 || books.Records[2].Kind != KindEndOfDay {
		t.Fatalf("records: %+v", books.Records)
	}
	if len(g.status) != endOfDay+1 {
		t.Fatalf("%d status informations", len(g.status))
	}
	for i, r := range map[int]Record{0: books.Records[0], 1: books.Records[1], endOfDay: books.Records[2]} {
		if err := r.matches(g.status[i]); err != nil {
			t.Errorf("status information %d: %v", i, err)
		}
	}
	// First and last receipt, then a count and six bytes for each card: the
	// fifth is VISA.
	if want := "00010001" + strings.Repeat("00000000000000", 4) + "01000000001000" + strings.Repeat("00000000000000", 2); g.status[endOfDay]["60"] != want {
		t.Errorf("totals %s, want %s", g.status[endOfDay]["60"], want)
	}
	for _, r := range g.replies {
		if r != "80 00" {
			t.Errorf("a reply %s", r)
		}
	}
}

// TestForeignHostOverTCP: bezahl-online/zvt registers, asks for the state,
// shows a text, is paid, is declined, aborts, closes the day and logs off.
func TestForeignHostOverTCP(t *testing.T) {
	g, books := playHost(t, "bezahl-online-zvt.txt")
	g.forForeign(t, books, 500, 3)
	if g.status[2]["27"] != "6c" || g.status[2]["04"] != "" {
		t.Errorf("the aborted payment: %v", g.status[2])
	}
	if want := []string{"05", "6c"}; !slices.Equal(g.aborts, want) {
		t.Errorf("aborts %v, want %v", g.aborts, want)
	}
	registered := "1900" + "2952000001" + "490978"
	if want := []string{registered, "00", "", registered}; !slices.Equal(g.completions, want) {
		t.Errorf("completions %q, want %q", g.completions, want)
	}
	if len(g.blocks) != 2 || g.blocks[0].kind != "02" || g.blocks[1].kind != "03" || len(g.lines) != 0 {
		t.Fatalf("printed: %+v, %q", g.blocks, g.lines)
	}
	if !slices.Contains(g.blocks[0].lines, "Betrag 10.00 (978)") || !slices.Contains(g.blocks[0].lines, "K U N D E N B E L E G") {
		t.Errorf("receipt: %q", g.blocks[0].lines)
	}
	if slices.Contains(g.blocks[1].lines, "K U N D E N B E L E G") {
		t.Errorf("the receipt of the end of day is a customer's: %q", g.blocks[1].lines)
	}
}

// TestForeignHostOverSerial: ecrterm registers, asks for the state, shows a
// text, is paid 10.00, is declined, closes the day and logs off.
func TestForeignHostOverSerial(t *testing.T) {
	if !port.HavePTY {
		t.Skip("no pty here")
	}
	g, books := playHost(t, "ecrterm-serial.txt")
	g.forForeign(t, books, 550, 2)
	if want := []string{"05"}; !slices.Equal(g.aborts, want) {
		t.Errorf("aborts %v, want %v", g.aborts, want)
	}
	registered := "1900" + "2952000001" + "490978"
	version := "f0f1f5" + hex.EncodeToString([]byte("VIRTUAL-ZVT 1.0")) + "00"
	if want := []string{registered, version, "", registered}; !slices.Equal(g.completions, want) {
		t.Errorf("completions %q, want %q", g.completions, want)
	}
	if len(g.blocks) != 0 || !slices.Contains(g.lines, "Betrag 10.00 (978)") || !slices.Contains(g.lines, "Bitte Beleg f\x81r R\x81ckgabe aufbewahren") {
		t.Errorf("printed: %q, %+v", g.lines, g.blocks)
	}
}
