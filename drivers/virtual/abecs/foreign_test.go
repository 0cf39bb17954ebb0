package abecs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillbridge/drivers/virtual/port"
)

// The hosts of these tests were written by others: their bytes, recorded once,
// are played to the pad on a pty. What the pad answers is read here by a small
// reading of the protocol's text that shares nothing with the driver, the pad
// or package frame.

// padSaid is one answer of the pad.
type padSaid struct {
	head   string // command and status
	blocks []byte // the data of all blocks together
}

// playHost plays a transcript of testdata/foreign and returns what the pad
// said and its books.
func playHost(t *testing.T, name string) ([]padSaid, []Payment) {
	t.Helper()
	if !port.HavePTY {
		t.Skip("no pty here")
	}
	b, err := os.ReadFile(filepath.Join("testdata", "foreign", name))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: t.TempDir(), Cards: testCards(), Keys: testKeys(t), Serial: "VP000001"}
	var steps []string
	var lines [][]byte // the first byte is the mark
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		word, rest, _ := strings.Cut(s.Text(), " ")
		switch word {
		case "#":
		case "clear":
			o.Clear = true
		case "do":
			steps = append(steps, rest)
		case ">", "<":
			v, err := hex.DecodeString(rest)
			if err != nil || len(v) == 0 {
				t.Fatalf("%s: %q: %v", name, s.Text(), err)
			}
			lines = append(lines, append([]byte(word), v...))
		default:
			t.Fatalf("%s: %q is no line of a transcript", name, s.Text())
		}
	}
	p, ready := serve(t, o)
	for _, s := range steps {
		if r := p.do(s); r["ok"] != true {
			t.Fatal(r)
		}
	}
	line, err := os.OpenFile(ready["addr"].(string), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	_ = line.SetDeadline(time.Now().Add(time.Minute))
	var said []padSaid
	var rest []byte
	for i, l := range lines {
		mark, was := l[0], l[1:]
		if mark == '>' {
			if _, err := line.Write(was); err != nil {
				t.Fatalf("line %d of the run: %v", i, err)
			}
			continue
		}
		n := 0
		for n = unitSize(rest); n == 0; n = unitSize(rest) {
			buf := make([]byte, 1024)
			k, err := line.Read(buf)
			if err != nil {
				t.Fatalf("line %d of the run, the pad said % X then and % X now: %v", i, was, rest, err)
			}
			rest = append(rest, buf[:k]...)
		}
		unit := rest[:n:n]
		rest = rest[n:]
		if len(unit) == 1 || len(was) == 1 {
			if !bytes.Equal(unit, was) {
				t.Fatalf("line %d of the run: % X then, % X now", i, was, unit)
			}
			continue
		}
		now, err := readPacket(unit)
		if err != nil {
			t.Fatalf("line %d of the run: %v", i, err)
		}
		then, err := readPacket(was)
		if err != nil {
			t.Fatalf("line %d of the run, as recorded: %v", i, err)
		}
		if now.head != then.head {
			t.Fatalf("line %d of the run: %s then, %s now", i, then.head, now.head)
		}
		said = append(said, now)
	}
	raw, err := json.Marshal(p.do(`{"do":"books"}`)["books"])
	if err != nil {
		t.Fatal(err)
	}
	var books []Payment
	if err := json.Unmarshal(raw, &books); err != nil {
		t.Fatal(err)
	}
	return said, books
}

// unitSize is the size of the packet or the single byte at the start of b, 0
// while it is not whole. The two bytes behind the ETB are the CRC as it is.
func unitSize(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if b[0] != 0x16 {
		return 1
	}
	if i := bytes.IndexByte(b, 0x17); i > 0 && len(b) >= i+3 {
		return i + 3
	}
	return 0
}

// readPacket takes a packet apart: 13 and a byte stand for that byte less 20,
// the CRC is polynomial 1021 from 0 over the data and the 17, high byte first.
func readPacket(b []byte) (padSaid, error) {
	var data []byte
	for body := b[1 : len(b)-3]; len(body) > 0; body = body[1:] {
		if body[0] == 0x13 {
			if len(body) < 2 || !bytes.Contains([]byte{0x33, 0x36, 0x37}, body[1:2]) {
				return padSaid{}, fmt.Errorf("% X: a 13 with nothing to it", b)
			}
			data = append(data, body[1]-0x20)
			body = body[1:]
			continue
		}
		data = append(data, body[0])
	}
	crc := uint16(0)
	for _, x := range append(slices.Clone(data), 0x17) {
		crc ^= uint16(x) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	if want := []byte{byte(crc >> 8), byte(crc)}; !bytes.Equal(want, b[len(b)-2:]) {
		return padSaid{}, fmt.Errorf("% X: CRC % X, its bytes give % X", b, b[len(b)-2:], want)
	}
	if len(data) < 6 {
		return padSaid{}, fmt.Errorf("%q is no answer", data)
	}
	said := padSaid{head: string(data[:6])}
	data = data[6:]
	for len(data) > 0 {
		n, err := strconv.Atoi(string(data[:min(3, len(data))]))
		if err != nil || n < 0 || len(data) < 3+n {
			return padSaid{}, fmt.Errorf("%s: %q is no block", said.head, data)
		}
		said.blocks = append(said.blocks, data[3:3+n]...)
		data = data[3+n:]
	}
	if !strings.HasSuffix(said.head, "000") && said.blocks != nil {
		return padSaid{}, fmt.Errorf("%s has data", said.head)
	}
	return said, nil
}

// parameter returns a parameter of an Abecs answer.
func (s padSaid) parameter(t *testing.T, want uint16) string {
	t.Helper()
	for b := s.blocks; len(b) >= 4; {
		id, n := uint16(b[0])<<8|uint16(b[1]), int(b[2])<<8|int(b[3])
		if len(b) < 4+n {
			break
		}
		if id == want {
			return string(b[4 : 4+n])
		}
		b = b[4+n:]
	}
	t.Errorf("%s has no parameter %04X that can be read", s.head, want)
	return ""
}

func heads(said []padSaid) (all []string) {
	for _, s := range said {
		all = append(all, s.head)
	}
	return all
}

// TestForeignHostSells: abecs-rust opens a session, asks who the pad is, shows
// a text and is paid 10.00 with a chip.
func TestForeignHostSells(t *testing.T) {
	said, books := playHost(t, "abecs-rust.txt")
	want := []string{"OPN000", "GIX000", "DSP000", "ERR010", "NTM000", "GCX000", "GOX019", "GOX000", "FCX000", "RMC000", "CLO000"}
	if !slices.Equal(heads(said), want) {
		t.Fatalf("the pad answered %v, want %v", heads(said), want)
	}
	info, card, first, final := said[1], said[5], said[7], said[8]
	if info.parameter(t, 0x8001) != "VP000001" || info.parameter(t, 0x8007) != "2.12" {
		t.Error("the pad does not say who it is")
	}
	if text := said[4].blocks; len(text) != 32 {
		t.Errorf("a notification of %d characters", len(text))
	}
	if len(books) != 1 {
		t.Fatalf("books: %+v", books)
	}
	b := books[0]
	if b.Amount != 1000 || b.Currency != "986" || b.Entry != "contact" || b.First != "online" || b.Final != "approved" {
		t.Errorf("books: %+v", b)
	}
	if card.parameter(t, 0x804F) != "03" || !strings.HasSuffix(card.parameter(t, 0x8052), b.Card[len(b.Card)-4:]) {
		t.Error("the card told is not the one booked")
	}
	if first.parameter(t, 0x8056)[:1] != "2" || final.parameter(t, 0x8058)[:1] != "0" {
		t.Error("the results of GOX and FCX are not online and approved")
	}
	// The objects asked for are 9F26, 9F27 and 95, in that order.
	ac, err := hex.DecodeString(b.Cryptogram)
	if err != nil || len(ac) != 8 {
		t.Fatalf("the cryptogram booked: %q", b.Cryptogram)
	}
	if !strings.HasPrefix(first.parameter(t, 0x8054), "\x9F\x26\x08"+string(ac)+"\x9F\x27\x01\x80\x95\x05") {
		t.Error("the EMV data of GOX are not the request that is booked")
	}
	if got := final.parameter(t, 0x8054); len(got) < 15 || got[11:15] != "\x9F\x27\x01\x40" {
		t.Error("the EMV data of FCX are not a certificate")
	}
}

// TestForeignHostRefused: bcpinpad and go-pinpad open no session that the
// protocol knows; their packets are acknowledged, their commands refused and
// nothing is booked.
func TestForeignHostRefused(t *testing.T) {
	for name, want := range map[string][]string{
		"bcpinpad.txt":  {"ERR010", "DSP010"},
		"go-pinpad.txt": {"OPN011", "GTS010", "DSP010", "ERR010", "RMC010", "CLO010"},
	} {
		t.Run(name, func(t *testing.T) {
			said, books := playHost(t, name)
			if !slices.Equal(heads(said), want) {
				t.Errorf("the pad answered %v, want %v", heads(said), want)
			}
			if len(books) != 0 {
				t.Errorf("books: %+v", books)
			}
		})
	}
}
