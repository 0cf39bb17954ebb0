package ccid_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"tillbridge/agent/vectortest"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
)

// A host of the test's own: bytes as the class specification and the captured
// session have them, none of this project's driver.

// plain is a card that answers every command with as many bytes as P1 says.
type plain struct{ atr string }

func (p plain) ATR() []byte { b, _ := hex.DecodeString(p.atr); return b }
func (plain) Reset()        {}
func (plain) Transmit(_ context.Context, c []byte) ([]byte, error) {
	return append(bytes.Repeat([]byte{0xA5}, int(c[2])), 0x90, 0x00), nil
}

const (
	atrT0 = "3B600000"
	atrT1 = "3BE000008131204535"
)

type host struct {
	t    *testing.T
	line io.ReadWriter
}

func serve(t *testing.T, o virtual.Options) (*host, *virtual.Reader) {
	t.Helper()
	r, err := virtual.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	far, device := drivertest.Pipe(drivertest.PipeOptions{})
	var served sync.WaitGroup
	served.Go(func() { _ = r.Serve(context.Background(), device.Stream()) })
	t.Cleanup(func() { far.Close(); served.Wait() })
	h := &host{t, far.Stream()}
	if !o.Empty {
		h.expect("notice of the card", "5003")
	}
	return h, r
}

func (h *host) expect(what, want string) {
	h.t.Helper()
	b := make([]byte, 1024)
	n, err := h.line.Read(b)
	if got := hex.EncodeToString(b[:n]); err != nil || !strings.EqualFold(got, strings.ReplaceAll(want, " ", "")) {
		h.t.Fatalf("%s: %s, %v; want %s", what, got, err, want)
	}
}

func (h *host) ask(what, send, want string) {
	h.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(send, " ", ""))
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.line.Write(b); err != nil {
		h.t.Fatal(err)
	}
	h.expect(what, want)
}

// Table 6.1-1 and the sections behind it, message by message.
func TestMessagesAreAnsweredByTheClassSpecification(t *testing.T) {
	h, r := serve(t, virtual.Options{Level: virtual.Short, Card: plain{atrT0}})
	h.ask("state, not powered", "65 00000000 00 07 000000", "81 00000000 00 07 01 00 00")
	h.ask("exchange without power", "6F 05000000 00 08 00 0000 80CA010000", "80 00000000 00 08 41 FE 00")
	h.ask("power", "62 00000000 00 09 01 0000", "80 04000000 00 09 00 00 00"+atrT0)
	h.ask("parameters", "6C 00000000 00 0A 000000", "82 05000000 00 0A 00 00 00 110000 0A00")
	h.ask("parameters of T=1, wrong length", "61 05000000 00 0B 01 0000 1110004500", "82 00000000 00 0B 40 01 00")
	h.ask("another slot", "65 00000000 01 0C 000000", "81 00000000 01 0C 40 05 00")
	h.ask("a length that lies", "6F 06000000 00 0D 00 0000 80CA010000", "80 00000000 00 0D 40 01 00")
	h.ask("exchange", "6F 05000000 00 0E 00 0000 80CA020000", "80 04000000 00 0E 00 00 00 A5A5 9000")
	h.ask("a chain at a level that has none", "6F 05000000 00 0F 00 0100 80CA020000", "80 00000000 00 0F 40 08 00")
	h.ask("a command that it does not have", "69 00000000 00 10 000000", "80 00000000 00 10 40 00 00")
	h.ask("power off", "63 00000000 00 11 000000", "81 00000000 00 11 01 00 00")
	if n := len(r.Executed()); n != 1 {
		t.Errorf("%d commands reached the card", n)
	}
	r.Remove()
	h.expect("card out", "5002")
	h.ask("state, empty", "65 00000000 00 12 000000", "81 00000000 00 12 02 00 00")
	h.ask("power, empty", "62 00000000 00 13 000000", "80 00000000 00 13 42 FE 00")
	r.Insert(plain{atrT0})
	h.expect("card in", "5003")
}

// Section 5.3.1: after ABORT on the control endpoint every command fails until
// the message with the same number came.
func TestAbortNeedsBothEndpoints(t *testing.T) {
	h, r := serve(t, virtual.Options{Level: virtual.Short, Card: plain{atrT0}})
	h.ask("power", "62 00000000 00 00 01 0000", "80 04000000 00 00 00 00 00"+atrT0)
	if _, err := r.Control(0x21, 1, 0x0500, 0, nil); err != nil {
		t.Fatal(err)
	}
	h.ask("exchange meanwhile", "6F 05000000 00 01 00 0000 80CA010000", "80 00000000 00 01 40 FF 00")
	h.ask("abort with another number", "72 00000000 00 04 000000", "81 00000000 00 04 40 FF 00")
	h.ask("abort", "72 00000000 00 05 000000", "81 00000000 00 05 00 00 00")
	h.ask("exchange", "6F 05000000 00 06 00 0000 80CA010000", "80 03000000 00 06 00 00 00 A5 9000")
}

// T=0 as a card speaks it: five bytes, data or an answer, never both.
func TestT0Card(t *testing.T) {
	h, r := serve(t, virtual.Options{Level: virtual.TPDU, Card: plain{atrT0}})
	h.ask("power", "62 00000000 00 00 01 0000", "80 04000000 00 00 00 00 00"+atrT0)
	h.ask("wrong Le", "6F 05000000 00 01 00 0000 80CA030000", "80 02000000 00 01 00 00 00 6C03")
	h.ask("right Le", "6F 05000000 00 02 00 0000 80CA030003", "80 05000000 00 02 00 00 00 A5A5A5 9000")
	h.ask("data, the answer waits", "6F 07000000 00 03 00 0000 80AE030002 0102", "80 02000000 00 03 00 00 00 6103")
	h.ask("GET RESPONSE of a part", "6F 05000000 00 04 00 0000 00C0000002", "80 04000000 00 04 00 00 00 A5A5 6101")
	h.ask("of the rest, wrong Le", "6F 05000000 00 05 00 0000 00C0000009", "80 02000000 00 05 00 00 00 6C01")
	h.ask("of the rest", "6F 05000000 00 06 00 0000 00C0000001", "80 03000000 00 06 00 00 00 A5 9000")
	h.ask("data and Le in one TPDU", "6F 08000000 00 07 00 0000 80AE030002 0102 00", "80 00000000 00 07 40 01 00")
	h.ask("four bytes", "6F 04000000 00 08 00 0000 80AE0300", "80 00000000 00 08 40 01 00")
	if n := len(r.Executed()); n != 2 {
		t.Errorf("the card was asked %d times", n)
	}
}

// T=1 as a card speaks it: numbers, chains both ways, field size, repetition.
func TestT1Card(t *testing.T) {
	h, r := serve(t, virtual.Options{Level: virtual.TPDU, Card: plain{atrT1}})
	h.ask("power", "62 00000000 00 00 01 0000", "80 09000000 00 00 00 00 00"+atrT1)
	h.ask("field size", "6F 05000000 00 01 00 0000 00C1010AC A", "80 05000000 00 01 00 00 00 00E1010AEA")
	h.ask("chained command", "6F 08000000 00 02 00 0000 0020048 0CA0C00 62", "80 04000000 00 02 00 00 00 00900090")
	h.ask("its end, chained answer", "6F 05000000 00 03 00 0000 0040010041", "80 0E000000 00 03 00 00 00 00200A A5A5A5A5A5A5A5A5A5A5 2A")
	h.ask("a damaged R-block", "6F 04000000 00 04 00 0000 00900091", "80 04000000 00 04 00 00 00 00810081")
	h.ask("the same block once more", "6F 04000000 00 05 00 0000 00800080", "80 0E000000 00 05 00 00 00 00200A A5A5A5A5A5A5A5A5A5A5 2A")
	h.ask("the rest", "6F 04000000 00 06 00 0000 00900090", "80 08000000 00 06 00 00 00 004004 A5A59000 D4")
	h.ask("a number that was used", "6F 09000000 00 07 00 0000 00400580CA010000 0E", "80 04000000 00 07 00 00 00 00820082")
	h.ask("resynchronisation", "6F 04000000 00 08 00 0000 00C000C0", "80 04000000 00 08 00 00 00 00E000E0")
	h.ask("numbers from 0", "6F 09000000 00 09 00 0000 00000580CA010000 4E", "80 07000000 00 09 00 00 00 000003 A59000 36")
	if n := len(r.Executed()); n != 2 {
		t.Errorf("the card was asked %d times", n)
	}
}

// The captured session of a reader by others: what its host sent gets answers
// of the same type, number and state here.
func TestVectorsCCIDReader(t *testing.T) {
	n := 0
	for _, path := range vectortest.Files(t, "drivers", "ccid") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Frames []struct{ Direction, Hex string }
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		var atr string
		for _, v := range f.Frames {
			if b := strings.ReplaceAll(v.Hex, " ", ""); strings.HasPrefix(b, "80") && len(b) > 24 && (b[20:22] == "3b" || b[20:22] == "3B") {
				atr = b[20:]
				break
			}
		}
		if atr == "" {
			continue
		}
		h, _ := serve(t, virtual.Options{Level: virtual.TPDU, Card: plain{atr}})
		for i, v := range f.Frames {
			if n++; v.Direction != "host->reader" || i+1 >= len(f.Frames) || f.Frames[i+1].Direction != "reader->host" {
				continue
			}
			sent, err := hex.DecodeString(strings.ReplaceAll(v.Hex, " ", ""))
			want, err2 := hex.DecodeString(strings.ReplaceAll(f.Frames[i+1].Hex, " ", ""))
			if err != nil || err2 != nil || len(sent) < 10 || len(want) < 10 || sent[0] == 0x6F {
				continue
			}
			if _, err := h.line.Write(sent); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 1024)
			k, err := h.line.Read(got)
			if err != nil || k < 10 || got[0] != want[0] || !bytes.Equal(got[5:7], want[5:7]) || got[7]>>6 != want[7]>>6 {
				t.Errorf("frame %d: %X answered with %X, captured is %X", i, sent, got[:k], want)
			}
			if sent[0] == 0x62 && !bytes.Equal(got[10:k], want[10:]) {
				t.Errorf("frame %d: the answer to reset is %X", i, got[10:k])
			}
		}
	}
	vectortest.Ran(t, "ccid", n)
}
