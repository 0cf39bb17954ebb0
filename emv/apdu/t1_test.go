package apdu

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// cardT1 is the card's side, written from ISO/IEC 7816-3 section 11: it keeps
// its own numbers and repeats its last block when asked.
type cardT1 struct {
	ifsc, ifsd int
	crc        bool
	ns, nr     byte
	in, out    []byte
	last       []byte
	ran        int // commands executed
	handle     func([]byte) []byte
	wtx        byte // ask for this extension once before the next answer
	newIFSC    byte // ask for this field size once
	held       bool
}

func (c *cardT1) say(pcb byte, inf []byte) []byte {
	c.last = Block{0, pcb, inf}.Append(nil, c.crc)
	return c.last
}

func (c *cardT1) answer() []byte {
	switch {
	case c.newIFSC != 0:
		v := c.newIFSC
		c.newIFSC, c.held = 0, true
		c.ifsc = int(v)
		return c.say(0xC1, []byte{v})
	case c.wtx != 0:
		v := c.wtx
		c.wtx, c.held = 0, true
		return c.say(0xC3, []byte{v})
	}
	c.held = false
	n := min(len(c.out), c.ifsd)
	pcb := c.ns << 6
	if n < len(c.out) {
		pcb |= 0x20
	}
	inf := c.out[:n]
	c.out = c.out[n:]
	c.ns ^= 1
	return c.say(pcb, inf)
}

func (c *cardT1) receive(raw []byte) []byte {
	b, err := ParseBlock(raw, c.crc)
	if err != nil {
		code := byte(2)
		if errors.Is(err, ErrCheck) {
			code = 1
		}
		out := Block{0, 0x80 | c.nr<<4 | code, nil}.Append(nil, c.crc)
		return out
	}
	switch {
	case b.PCB&0x80 == 0:
		if b.PCB>>6&1 != c.nr || len(b.INF) > c.ifsc {
			return Block{0, 0x82 | c.nr<<4, nil}.Append(nil, c.crc)
		}
		c.nr ^= 1
		c.in = append(c.in, b.INF...)
		if b.PCB&0x20 != 0 {
			return c.say(0x80|c.nr<<4, nil)
		}
		c.ran++
		c.out = append([]byte(nil), c.handle(c.in)...)
		c.in = nil
		return c.answer()
	case b.PCB&0xC0 == 0x80:
		if b.PCB>>4&1 == c.ns && (len(c.out) > 0) && b.PCB&15 == 0 {
			return c.answer() // our block arrived
		}
		return c.last
	case b.PCB == 0xC0:
		c.ns, c.nr, c.in, c.out = 0, 0, nil, nil
		c.last = nil
		return c.say(0xE0, nil)
	case b.PCB == 0xC1:
		c.ifsd = int(b.INF[0])
		return c.say(0xE1, b.INF)
	case b.PCB == 0xE1 || b.PCB == 0xE3:
		if c.held {
			return c.answer()
		}
	}
	return c.last
}

func newCardT1() *cardT1 {
	return &cardT1{ifsc: 32, ifsd: 32, handle: func(b []byte) []byte {
		return append(bytes.Repeat(b, 3), 0x90, 0x00)
	}}
}

// run exchanges one command; line may damage or lose blocks: it returns what
// arrives.
func run(t *T1, c *cardT1, cmd []byte, line func(dir string, b []byte) []byte) ([]byte, int, error) {
	s, err := t.Begin(cmd)
	wtx := 1
	for i := 0; err == nil && !s.Done; i++ {
		if i > 10000 {
			return nil, wtx, errors.New("no end")
		}
		wtx = max(wtx, s.WTX)
		var back []byte
		if got := line("out", s.Send); got != nil {
			back = line("in", c.receive(append([]byte(nil), got...)))
		}
		s, err = t.Receive(back)
	}
	return s.Response, wtx, err
}

func clean(_ string, b []byte) []byte { return b }

func TestT1ChainsBothWays(t *testing.T) {
	for _, crc := range []bool{false, true} {
		for _, n := range []int{4, 5, 31, 32, 33, 64, 65, 261} {
			c := newCardT1()
			c.crc = crc
			eng := NewT1(&T1Options{CRC: crc})
			for round := range 3 {
				cmd := bytes.Repeat([]byte{byte(n)}, n)
				got, _, err := run(eng, c, cmd, clean)
				if err != nil || !bytes.Equal(got, append(bytes.Repeat(cmd, 3), 0x90, 0)) || c.ran != round+1 {
					t.Fatalf("crc %t, %d bytes, round %d: %d bytes, %v, ran %d", crc, n, round, len(got), err, c.ran)
				}
			}
		}
	}
}

func TestT1FirstBlockAnnouncesTheFieldSize(t *testing.T) {
	eng := NewT1(nil)
	s, err := eng.Begin([]byte{0, 0xA4, 4, 0})
	if err != nil || fmt.Sprintf("%X", s.Send) != "00C101FE3E" {
		t.Fatalf("%X %v", s.Send, err)
	}
	if _, err := eng.Begin([]byte{0, 0xA4, 4, 0}); !errors.Is(err, ErrT1Busy) {
		t.Errorf("second Begin: %v", err)
	}
	if s, err = eng.Receive([]byte{0x00, 0xE1, 0x01, 0xFE, 0x1E}); err != nil || fmt.Sprintf("%X", s.Send) != "00000400A40400A4" {
		t.Fatalf("%X %v", s.Send, err)
	}
	if s, err = eng.Receive([]byte{0, 0, 2, 0x90, 0, 0x92}); err != nil || !s.Done || fmt.Sprintf("%X", s.Response) != "9000" {
		t.Fatalf("%+v %v", s, err)
	}
	// The next command carries N(S) = 1.
	if s, _ = eng.Begin([]byte{0, 0xB2, 1, 12, 0}); s.Send[1] != 0x40 {
		t.Errorf("second I-block has PCB %02X", s.Send[1])
	}
}

func TestT1WaitingTimeAndFieldSizeOfTheCard(t *testing.T) {
	c := newCardT1()
	c.wtx, c.newIFSC = 9, 10
	eng := NewT1(nil)
	got, wtx, err := run(eng, c, []byte{0, 0xA4, 4, 0}, clean)
	if err != nil || wtx != 9 || len(got) != 14 {
		t.Fatalf("%d bytes, WTX %d, %v", len(got), wtx, err)
	}
	s, _ := eng.Begin(bytes.Repeat([]byte{1}, 25))
	if s.Send[2] != 10 || s.Send[1]&0x20 == 0 {
		t.Errorf("block of %d bytes, PCB %02X after the card asked for 10", s.Send[2], s.Send[1])
	}
}

// A line that loses and damages blocks: the answer is right or the error says
// so, and no command runs twice.
func TestT1OverABadLine(t *testing.T) {
	failed := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCardT1()
		eng := NewT1(nil)
		rate := 2 + r.IntN(12)
		line := func(_ string, b []byte) []byte {
			switch r.IntN(rate * 2) {
			case 0:
				return nil
			case 1:
				b = append([]byte(nil), b...)
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		}
		cmd := bytes.Repeat([]byte{7}, 4+r.IntN(90))
		got, _, err := run(eng, c, cmd, line)
		switch {
		case err == nil:
			if !bytes.Equal(got, append(bytes.Repeat(cmd, 3), 0x90, 0)) {
				t.Fatalf("seed %d: a wrong answer of %d bytes", seed, len(got))
			}
			if c.ran != 1 {
				t.Fatalf("seed %d: the command ran %d times", seed, c.ran)
			}
		case errors.Is(err, ErrLost), errors.Is(err, ErrCard):
			failed++
			if errors.Is(err, ErrCard) && c.ran != 0 {
				t.Fatalf("seed %d: %v, and the card ran %d commands", seed, err, c.ran)
			}
			if c.ran > 1 {
				t.Fatalf("seed %d: the command ran %d times", seed, c.ran)
			}
		default:
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if failed == 0 || failed > 2900 {
		t.Errorf("%d of 3000 failed: the line is not the one meant", failed)
	}
}

func TestT1DeadCardEndsAndSaysWhetherItMayHaveActed(t *testing.T) {
	silence := func(eng *T1, after int) error {
		c := newCardT1()
		n := 0
		_, _, err := run(eng, c, bytes.Repeat([]byte{1}, 40), func(dir string, b []byte) []byte {
			if dir == "in" {
				if n++; n > after {
					return nil
				}
			}
			return b
		})
		return err
	}
	if err := silence(NewT1(nil), 0); !errors.Is(err, ErrCard) {
		t.Errorf("no answer at all: %v", err)
	}
	if err := silence(NewT1(nil), 1); !errors.Is(err, ErrCard) {
		t.Errorf("half a command: %v", err)
	}
	eng := NewT1(nil)
	if err := silence(eng, 2); !errors.Is(err, ErrLost) {
		t.Errorf("a whole command: %v", err)
	}
	if _, err := eng.Begin([]byte{0, 0xA4, 4, 0}); !errors.Is(err, ErrCard) {
		t.Errorf("a dead card begins again: %v", err)
	}
	eng.Reset()
	if got, _, err := run(eng, newCardT1(), []byte{0, 0xA4, 4, 0}, clean); err != nil || len(got) != 14 {
		t.Errorf("after the reset: %v", err)
	}
}

func TestT1AbortEndsTheExchange(t *testing.T) {
	eng := NewT1(&T1Options{NoIFS: true})
	if _, err := eng.Begin(make([]byte, 50)); err != nil {
		t.Fatal(err)
	}
	s, err := eng.Receive(Block{0, 0xC2, nil}.Append(nil, false))
	if !errors.Is(err, ErrAborted) || errors.Is(err, ErrLost) || s.Send[1] != 0xE2 {
		t.Errorf("%X %v", s.Send, err)
	}
}

func TestT1BlockErrors(t *testing.T) {
	for _, raw := range [][]byte{nil, {0}, {0, 0, 0}, {0, 0, 1, 0}, {0, 0, 255}, append([]byte{0, 0, 255}, make([]byte, 256)...)} {
		if _, err := ParseBlock(raw, false); !errors.Is(err, ErrBlock) {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
	if _, err := ParseBlock([]byte{0, 0, 1, 5, 5}, false); !errors.Is(err, ErrCheck) {
		t.Errorf("wrong LRC: %v", err)
	}
	if s := fmt.Sprintf("%v %x", Block{0, 0, []byte{0x47, 0x61}}, Block{INF: []byte{0x47, 0x61}}); bytes.Contains([]byte(s), []byte("4761")) {
		t.Errorf("%s shows data", s)
	}
}

func FuzzT1(f *testing.F) {
	f.Add([]byte{0, 0xE1, 1, 0xFE, 0x1E, 0, 0, 2, 0x90, 0, 0x92}, false)
	f.Add([]byte{0, 0xC3, 1, 5, 0xC7}, true)
	f.Fuzz(func(t *testing.T, stream []byte, crc bool) {
		for _, o := range []*T1Options{{CRC: crc}, {CRC: crc, NoIFS: true}} {
			eng := NewT1(o)
			s, err := eng.Begin(make([]byte, 60))
			rest := stream
			for range 200 {
				if err != nil || s.Done {
					return
				}
				if len(s.Send) < 4 {
					t.Fatal("neither a block to send nor an end")
				}
				var b []byte
				if n := 4; len(rest) >= n {
					n = min(len(rest), 4+int(rest[2]))
					b, rest = rest[:n], rest[n:]
				}
				s, err = eng.Receive(b)
			}
			t.Fatal("silence does not end the exchange")
		}
	})
}
