package foreign

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// testCard is a card that needs no PIN and no issuer's word: it ends a
// purchase by itself.
func testCard(t *testing.T, t0 bool) *virtualcard.Card {
	t.Helper()
	p, err := virtualcard.Named("no-cvm")
	if err != nil {
		t.Fatal(err)
	}
	c, err := virtualcard.New(&virtualcard.Options{Seed: 1, T0: t0}, p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// terminal is what the test's terminal knows: 10.00 euro, in Germany.
var terminal = map[tlv.Tag]string{
	0x9F02: "000000001000", 0x9F1A: "0276", 0x5F2A: "0978", 0x9A: "261201", 0x9C: "00", 0x9F37: "01020304",
	0x9F35: "22", 0x8A: "3030", 0x95: "0000008000",
}

func known(tag tlv.Tag) ([]byte, bool) {
	text, ok := terminal[tag]
	if !ok {
		return nil, false
	}
	b, err := hex.DecodeString(text)
	return b, err == nil
}

// command is a command APDU with data and Le.
func command(head string, data []byte) string {
	return fmt.Sprintf("%s %02X %s00", head, len(data), spaced(data))
}

func spaced(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		fmt.Fprintf(&s, "%02X ", x)
	}
	return s.String()
}

// good takes a status word of success off an answer.
func good(t *testing.T, what, answer string) []byte {
	t.Helper()
	b, err := hex.DecodeString(answer)
	if err != nil || len(b) < 2 {
		t.Fatalf("%s: no answer", what)
	}
	if !strings.HasSuffix(answer, "9000") {
		t.Fatalf("%s: %s", what, answer[len(answer)-4:])
	}
	return b[:len(b)-2]
}

// purchase pays 10.00 euro with the card in the reader, through a program of
// others. It takes several visits, each from the directory on, as what a visit
// asks is made from what the visit before brought. It returns the last visit.
func purchase(t *testing.T, visit visit) (commands, answers []string) {
	t.Helper()
	commands = []string{command("00 A4 04 00", []byte("1PAY.SYS.DDF01")), "00 B2 01 0C 00"}
	answers = visit(t, commands)
	good(t, "SELECT of the directory", answers[0])
	name, ok := tlv.Find(good(t, "READ RECORD of the directory", answers[1]), 0x4F)
	if !ok {
		t.Fatal("the directory names no application")
	}

	commands = append(commands, command("00 A4 04 00", name))
	var dol tlv.DOL
	answers = visit(t, commands)
	if b, ok := tlv.Find(good(t, "SELECT of the application", answers[2]), 0x9F38); ok {
		var err error
		if dol, err = tlv.ParseDOL(b); err != nil {
			t.Fatal(err)
		}
	}
	commands = append(commands, command("80 A8 00 00", tlv.Append(nil, 0x83, dol.Append(nil, known))))
	answers = visit(t, commands)
	options := good(t, "GET PROCESSING OPTIONS", answers[3])
	files, ok := tlv.Find(options, 0x94)
	if b, format1 := tlv.Find(options, 0x80); format1 {
		files, ok = b[2:], true
	}
	if !ok || len(files)%4 != 0 {
		t.Fatal("no application file locator")
	}
	first := len(commands)
	for ; len(files) > 0; files = files[4:] {
		for record := files[1]; record <= files[2]; record++ {
			commands = append(commands, fmt.Sprintf("00 B2 %02X %02X 00", record, files[0]|4))
		}
	}
	answers = visit(t, commands)
	var lists [2]tlv.DOL
	for i, a := range answers[first:] {
		record := good(t, fmt.Sprintf("READ RECORD %d", i), a)
		for j, tag := range []tlv.Tag{0x8C, 0x8D} {
			b, ok := tlv.Find(record, tag)
			if !ok {
				continue
			}
			var err error
			if lists[j], err = tlv.ParseDOL(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lists[0] == nil || lists[1] == nil {
		t.Fatal("the records hold no CDOL")
	}
	commands = append(commands,
		command("80 AE 80 00", lists[0].Append(nil, known)), // online, please
		command("80 AE 40 00", lists[1].Append(nil, known)), // the host said yes
	)
	return commands, visit(t, commands)
}

// cryptogram judges the answer to a GENERATE AC: its kind, and the counter.
func cryptogram(t *testing.T, what, answer string, kind byte, counter uint16) {
	t.Helper()
	b := good(t, what, answer)
	cid, _ := tlv.Find(b, 0x9F27)
	atc, _ := tlv.Find(b, 0x9F36)
	ac, _ := tlv.Find(b, 0x9F26)
	if len(cid) != 1 || cid[0] != kind || len(ac) != 8 {
		t.Errorf("%s: cryptogram information %X, want %02X", what, cid, kind)
	}
	if want := fmt.Sprintf("%04X", counter); fmt.Sprintf("%X", atc) != want {
		t.Errorf("%s: counter %X, the card's is %s", what, atc, want)
	}
}
