package ccid_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/ccid"
	"tillbridge/drivers/drivertest"
	virtual "tillbridge/drivers/virtual/ccid"
)

// hand is a reader played by hand: xfr answers every XfrBlock and may write
// more than one message, or none.
type hand struct {
	descriptor ccid.Descriptor
	atr        []byte
	icc        ccid.ICC // what GetSlotStatus says
	xfr        func(m ccid.Message, write func(b []byte))

	mu   sync.Mutex
	sets [][]byte // data of SetParameters
	sent int      // XfrBlocks
}

// tpdu is a reader of the TPDU level that does everything by itself.
func tpdu() ccid.Descriptor {
	return ccid.Descriptor{BCD: 0x110, Voltages: 7, Protocols: 3, MaxIFSD: 254, MaxMessage: 271, MaxBusySlots: 1,
		Features: 0x10000 | ccid.AutoParameters | ccid.AutoActivate | ccid.AutoVoltage | ccid.AutoClock | ccid.AutoBaud | ccid.AutoPPS}
}

// Control answers the configuration descriptor.
func (h *hand) Control(_ context.Context, requestType, request byte, _, _ uint16, data []byte) (int, error) {
	if requestType != 0x80 || request != 6 {
		return 0, nil
	}
	body := append([]byte{9, 4, 0, 0, 3, 0x0B, 0, 0, 0}, h.descriptor.Append(nil)...)
	body = append(body, 7, 5, 0x81, 3, 0x40, 0, 0xFF, 7, 5, 0x82, 2, 0x40, 0, 0, 7, 5, 0x03, 2, 0x40, 0, 0)
	head := []byte{9, 2, 0, 0, 1, 1, 0, 0xE0, 50}
	binary.LittleEndian.PutUint16(head[2:], uint16(len(head)+len(body)))
	return copy(data, append(head, body...)), nil
}

type handLine struct {
	*drivertest.End
	*hand
}

// open serves the reader in a synctest bubble and opens it.
func (h *hand) open(t *testing.T, play func(t *testing.T, r *ccid.Reader)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port, Room: 1 << 20})
		var all sync.WaitGroup
		all.Go(func() {
			line := device.Stream()
			defer line.Close()
			write := func(b []byte) { _, _ = line.Write(b) }
			buf := make([]byte, 1<<17)
			for {
				n, err := line.Read(buf)
				if err != nil {
					return
				}
				m, err := ccid.ParseMessage(bytes.Clone(buf[:n]))
				if err != nil {
					return
				}
				reply := ccid.Message{Type: ccid.SlotStatus, Seq: m.Seq, P1: byte(h.icc)}
				switch m.Type {
				case ccid.IccPowerOn:
					reply.Type, reply.Data = ccid.DataBlock, h.atr
				case ccid.SetParameters:
					h.mu.Lock()
					h.sets = append(h.sets, m.Data)
					h.mu.Unlock()
					reply.Type, reply.Data, reply.P3 = ccid.Parameters, m.Data, m.P1
				case ccid.XfrBlock:
					h.mu.Lock()
					h.sent++
					h.mu.Unlock()
					all.Go(func() { h.xfr(m, write) })
					continue
				}
				write(reply.Append(nil))
			}
		})
		d, err := ccid.Driver{}.Open(t.Context(), handLine{host, h}, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		play(t, d.(*ccid.Reader))
		d.Close()
		all.Wait()
	})
}

// numbered is a port that says which interface of the device it is.
type numbered struct {
	drivers.Transport
	*hand
	number int
}

func (n numbered) InterfaceNumber() int { return n.number }

// The descriptor of another interface is not taken for this one's.
func TestInterfaceThatIsNoReader(t *testing.T) {
	for number, ok := range map[int]bool{0: true, 1: false} {
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
		device.Close()
		_, err := ccid.Driver{}.Open(within(t), numbered{host, &hand{descriptor: tpdu()}, number}, drivers.Config{})
		if errors.Is(err, ccid.ErrMessage) == ok {
			t.Errorf("interface %d: %v", number, err)
		}
	}
}

// block is a T=1 block with LRC as an answer to m.
func block(m ccid.Message, pcb byte, inf ...byte) []byte {
	b := append([]byte{0, pcb, byte(len(inf))}, inf...)
	var sum byte
	for _, c := range b {
		sum ^= c
	}
	return ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, Data: append(b, sum)}.Append(nil)
}

// A card that asks for time is given it: twenty times its waiting time of 1.6 s
// is more than the reader's own time.
func TestACardGetsTheTimeThatItAsksFor(t *testing.T) {
	h := &hand{descriptor: tpdu(), atr: echo{}.ATR(), xfr: func(m ccid.Message, write func([]byte)) {
		switch pcb := m.Data[1]; {
		case pcb == 0xC1:
			write(block(m, 0xE1, m.Data[3]))
		case pcb&0x80 == 0:
			write(block(m, 0xC3, 20))
		case pcb == 0xE3:
			if m.P1 != 20 {
				write(block(m, 0x82)) // the reader would not wait
				return
			}
			time.Sleep(25 * time.Second)
			write(block(m, 0x00, 0x90, 0x00))
		}
	}}
	h.open(t, func(t *testing.T, r *ccid.Reader) {
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Transmit(within(t), []byte{0x80, 0xAE, 0x80, 0, 0}); err != nil || !bytes.Equal(got, []byte{0x90, 0}) {
			t.Errorf("%X, %v", got, err)
		}
	})
}

// One that asks for time for ever is given up, also where the caller sets none.
func TestACardThatAsksForTimeForEver(t *testing.T) {
	h := &hand{descriptor: tpdu(), atr: echo{}.ATR(), xfr: func(m ccid.Message, write func([]byte)) {
		if m.Data[1] == 0xC1 {
			write(block(m, 0xE1, m.Data[3]))
			return
		}
		time.Sleep(5 * time.Second)
		write(block(m, 0xC3, 4))
	}}
	h.open(t, func(t *testing.T, r *ccid.Reader) {
		if _, err := r.Power(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := r.Transmit(t.Context(), []byte{0x80, 0xAE, 0x80, 0, 0})
		if took := time.Since(began); err == nil || took > 15*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		if _, err := r.Transmit(t.Context(), []byte{0x80, 0xAE, 0x80, 0, 0}); !errors.Is(err, ccid.ErrPower) {
			t.Errorf("the card was used on: %v", err)
		}
	})
}

// A card in specific mode (TA2 with bit 5 clear) speaks at the speed of TA1
// from the start: a reader that is told its parameters is told that one (EMV
// Book 1 section 8.3.3.5). In negotiable mode the card stays at the default.
func TestParametersFollowTheAnswerToReset(t *testing.T) {
	lrc := func(b ...byte) []byte {
		var sum byte
		for _, c := range b[1:] {
			sum ^= c
		}
		return append(b, sum)
	}
	for name, c := range map[string]struct {
		atr  []byte
		want []byte
	}{
		"T=0, nothing said":        {[]byte{0x3B, 0x60, 0, 0}, []byte{0x11, 0, 0, 10, 0}},
		"T=0, negotiable, TA1 13":  {[]byte{0x3B, 0x70, 0x13, 0, 0}, []byte{0x11, 0, 0, 10, 0}},
		"T=0, specific, TA1 13":    {[]byte{0x3B, 0xF0, 0x13, 0, 0x05, 0x10, 0x00}, []byte{0x13, 0, 5, 10, 0}},
		"T=0, specific, no TA1":    {[]byte{0x3B, 0xE0, 0, 0, 0x10, 0x00}, []byte{0x11, 0, 0, 10, 0}},
		"T=0, specific, implicit":  {[]byte{0x3B, 0xF0, 0x13, 0, 0, 0x10, 0x10}, []byte{0x11, 0, 0, 10, 0}},
		"T=0, waiting time of TC2": {[]byte{0x3B, 0xE0, 0, 0, 0x40, 0x0A + 7}, []byte{0x11, 0, 0, 17, 0}},
		"T=0, inverse":             {[]byte{0x3F, 0x60, 0, 0}, []byte{0x11, 2, 0, 10, 0}},
		"T=1, specific, TA1 12":    {lrc(0x3B, 0xF0, 0x12, 0, 0, 0x91, 0x01, 0x71, 0xFE, 0x45, 0x00), []byte{0x12, 0x10, 0, 0x45, 0, 0xFE, 0}},
		"T=1, CRC":                 {lrc(0x3B, 0xE0, 0, 0, 0x81, 0x71, 0x20, 0x45, 0x01), []byte{0x11, 0x11, 0, 0x45, 0, 0x20, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := tpdu()
			d.Features = 0x10000 | ccid.AutoVoltage
			h := &hand{descriptor: d, atr: c.atr}
			h.open(t, func(t *testing.T, r *ccid.Reader) {
				if _, err := r.Power(within(t)); err != nil {
					t.Fatal(err)
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				if len(h.sets) != 1 || !bytes.Equal(h.sets[0], c.want) {
					t.Errorf("the reader was told %X, want %X", h.sets, c.want)
				}
			})
		})
	}
}

// Commands meant for a card that was taken out do not go to the one that came
// in its place, also in a reader that powers it by itself.
func TestAnotherCardDoesNotGetTheCommands(t *testing.T) {
	ok := func(m ccid.Message) []byte {
		return ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, Data: []byte{0x90, 0}}.Append(nil)
	}
	swap := func(write func([]byte)) {
		write([]byte{ccid.NotifySlotChange, 2})
		write([]byte{ccid.NotifySlotChange, 3})
	}
	d := tpdu()
	d.Features = d.Features&^0x70000 | 0x20000
	for name, c := range map[string]struct {
		after func(t *testing.T, h *hand, r *ccid.Reader)
		xfr   func(m ccid.Message, write func([]byte))
	}{
		"told between answer and command": {nil, func(m ccid.Message, write func([]byte)) { write(ok(m)); swap(write) }},
		"told before the answer":          {nil, func(m ccid.Message, write func([]byte)) { swap(write); write(ok(m)) }},
		"seen by the state of the slot": {func(t *testing.T, h *hand, r *ccid.Reader) {
			h.icc = ccid.Inactive
			if _, err := r.Health(within(t)); err != nil {
				t.Error(err)
			}
		}, func(m ccid.Message, write func([]byte)) { write(ok(m)) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hand{descriptor: d, atr: echo{t0: true}.ATR(), xfr: c.xfr}
			h.open(t, func(t *testing.T, r *ccid.Reader) {
				if _, err := r.Power(within(t)); err != nil {
					t.Fatal(err)
				}
				_, first := r.Transmit(within(t), []byte{0x80, 0x10, 1, 1, 0})
				if first != nil && !errors.Is(first, drivers.ErrCardGone) {
					t.Errorf("the command before: %v", first)
				}
				if c.after != nil {
					c.after(t, h, r)
				}
				synctest.Wait()
				for range 2 {
					_, err := r.Transmit(within(t), []byte{0x80, 0x10, 2, 2, 0})
					if err == nil {
						continue // it was under way when the notice came
					}
					if !errors.Is(err, ccid.ErrPower) && !errors.Is(err, drivers.ErrCardGone) {
						t.Errorf("the next command: %v", err)
					}
				}
				h.mu.Lock()
				sent := h.sent
				h.mu.Unlock()
				if want := map[string]int{"told between answer and command": 2}[name]; sent > max(1, want) {
					t.Errorf("%d commands went out", sent)
				}
				if name == "seen by the state of the slot" {
					h.icc = ccid.Active
				}
				if _, err := r.Power(within(t)); err != nil {
					t.Errorf("power anew: %v", err)
				}
			})
		})
	}
}

// The pieces of a chained command hold data from their first byte on.
func TestTraceOfAPiece(t *testing.T) {
	data := []byte{0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11}
	for _, level := range []byte{ccid.ChainEnd, ccid.ChainMiddle} {
		m := ccid.Message{Type: ccid.XfrBlock, P2: level, Data: data}
		wire := m.Append(nil)
		left := bytes.Clone(wire)
		for _, s := range (ccid.Driver{}).CardData(false, wire) {
			clear(left[s.Start:s.End])
		}
		if bytes.Contains(left, data[:3]) {
			t.Errorf("level %02X: data stay", level)
		}
		for _, line := range (ccid.Driver{}).Describe(false, wire) {
			if strings.Contains(line, "4111") {
				t.Errorf("level %02X: %s", level, line)
			}
		}
	}
	// A turn holds all messages until the other side speaks.
	answer := ccid.Message{Type: ccid.DataBlock, Data: append(bytes.Clone(data), 0x90, 0)}.Append(nil)
	command := ccid.Message{Type: ccid.XfrBlock, Data: append([]byte{0, 0xDA, 0, 0, 8}, data...)}.Append(nil)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct {
		from bool
		wire []byte
	}{
		"notice, answer":          {true, join([]byte{0x50, 3}, answer)},
		"time, answer":            {true, join(ccid.Message{Type: ccid.DataBlock, P1: 0x80}.Append(nil), answer)},
		"state, answer":           {true, join(ccid.Message{Type: ccid.SlotStatus}.Append(nil), answer)},
		"parameters, answer":      {true, join(ccid.Message{Type: ccid.Parameters, Data: make([]byte, 7)}.Append(nil), answer)},
		"status word, answer":     {true, join(ccid.Message{Type: ccid.DataBlock, Data: []byte{0x61, 9}}.Append(nil), answer)},
		"answer, notice, answer":  {true, join(answer, []byte{0x50, 2}, answer)},
		"the rest of an answer":   {true, answer[9:]},
		"answer to reset, answer": {true, join(ccid.Message{Type: ccid.DataBlock, Data: echo{}.ATR()}.Append(nil), answer)},
		"abort, command":          {false, join(ccid.Message{Type: ccid.Abort}.Append(nil), command)},
		"parameters, command":     {false, join(ccid.Message{Type: ccid.SetParameters, Data: make([]byte, 5)}.Append(nil), command)},
		"command, command":        {false, join(command, command)},
	} {
		left := bytes.Clone(c.wire)
		for _, s := range (ccid.Driver{}).CardData(c.from, c.wire) {
			clear(left[s.Start:s.End])
		}
		if bytes.Contains(left, data[:3]) {
			t.Errorf("%s: data stay", name)
		}
	}
	// What only calls itself something else is hidden as well.
	for _, kind := range []byte{ccid.SlotStatus, ccid.Parameters, ccid.DataRate, ccid.NotifySlotChange} {
		wire := append([]byte{kind, 40, 0, 0, 0, 0, 1, 0, 0, 0}, bytes.Repeat(data, 5)...)
		left := bytes.Clone(wire)
		for _, s := range (ccid.Driver{}).CardData(true, wire) {
			clear(left[s.Start:s.End])
		}
		if bytes.Contains(left, data[:4]) {
			t.Errorf("type %02X: data stay", kind)
		}
	}
}

// A reader that has only the second protocol of the card asks for it (ISO/IEC
// 7816-3 section 9), and goes on only when the card says the same.
func TestProtocolIsAskedFor(t *testing.T) {
	both := []byte{0x3B, 0xE0, 0, 0, 0x80, 0x71, 0xFE, 0x45, 0x00}
	both = append(both, 0xE0^0x80^0x71^0xFE^0x45)
	specific := []byte{0x3B, 0xE0, 0, 0, 0x90, 0x00, 0x71, 0xFE, 0x45, 0x00}
	specific = append(specific, 0xE0^0x90^0x71^0xFE^0x45)
	for name, c := range map[string]struct {
		atr    []byte
		answer []byte
		ok     bool
		sent   int
	}{
		"agreed":                       {both, []byte{0xFF, 0x01, 0xFE}, true, 1},
		"another protocol":             {both, []byte{0xFF, 0x00, 0xFF}, false, 1},
		"with a speed nobody asked":    {both, []byte{0xFF, 0x11, 0x13, 0xFD}, false, 1},
		"damaged":                      {both, []byte{0xFF, 0x01, 0xFF}, false, 1},
		"nothing":                      {both, nil, false, 1},
		"specific mode of the other":   {specific, []byte{0xFF, 0x01, 0xFE}, false, 0},
		"only the other is there":      {[]byte{0x3B, 0x60, 0, 0}, []byte{0xFF, 0x01, 0xFE}, false, 0},
		"T=1 alone needs no asking":    {echo{}.ATR(), nil, true, 0},
		"a protocol that nobody knows": {[]byte{0x3B, 0xE0, 0, 0, 0x0E, 0xEE}, nil, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := tpdu()
			d.Protocols, d.Features = 2, 0x10000|ccid.AutoVoltage
			h := &hand{descriptor: d, atr: c.atr, xfr: func(m ccid.Message, write func([]byte)) {
				write(ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, Data: c.answer}.Append(nil))
			}}
			h.open(t, func(t *testing.T, r *ccid.Reader) {
				_, err := r.Power(within(t))
				if (err == nil) != c.ok {
					t.Errorf("power: %v", err)
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.sent != c.sent || c.ok && (len(h.sets) != 1 || h.sets[0][1]&0x10 == 0) {
					t.Errorf("%d blocks went to the card, the reader was told %X", h.sent, h.sets)
				}
			})
		})
	}
}

// Whatever comes before the answer (of another command, slot or type, with a
// length that lies, a request for time, a notice of the card) is not taken for
// it.
func TestOnlyTheAnswerIsTaken(t *testing.T) {
	d := tpdu()
	d.Features = d.Features&^0x70000 | 0x40000
	rnd := rand.New(rand.NewPCG(7, 7))
	h := &hand{descriptor: d, atr: echo{}.ATR()}
	h.xfr = func(m ccid.Message, write func([]byte)) {
		wrong := ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, Data: []byte{0xBA, 0xD0, 0x90, 0x00}}
		for range rnd.IntN(6) {
			x := wrong
			switch rnd.IntN(9) {
			case 0:
				x.Seq = m.Seq - byte(1+rnd.IntN(255))
			case 1:
				x.Slot = 1 + byte(rnd.IntN(255))
			case 2:
				x.Type = []byte{ccid.Parameters, ccid.EscapeAnswer, ccid.DataRate, ccid.SlotStatus}[rnd.IntN(4)]
			case 3:
				b := x.Append(nil)
				b[1+rnd.IntN(4)]++
				write(b)
				continue
			case 4:
				write(x.Append(nil)[:1+rnd.IntN(13)])
				continue
			case 5:
				x.P1, x.P2, x.Data = 0x80, byte(rnd.IntN(4)), nil
			case 6:
				write([]byte{ccid.NotifySlotChange, 1})
				continue
			case 7:
				x.Seq, x.P1, x.P2 = m.Seq+1, 0x42, 0xFE
			case 8:
				x.Type = ccid.XfrBlock // an echo of what was sent
			}
			write(x.Append(nil))
		}
		answer, _ := echo{}.Transmit(context.Background(), m.Data)
		write(ccid.Message{Type: ccid.DataBlock, Seq: m.Seq, Data: answer}.Append(nil))
	}
	h.open(t, func(t *testing.T, r *ccid.Reader) {
		if _, err := r.Power(within(t)); err != nil {
			t.Fatal(err)
		}
		for i := range scale(600, 20000) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			command := []byte{0x80, 0x10, byte(i & 3), byte(i), 0}
			got, err := r.Transmit(ctx, command)
			want, _ := echo{}.Transmit(ctx, command)
			cancel()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("exchange %d: %X, %v", i, got, err)
			}
		}
	})
}

// stuck is a line on which a write never ends by itself.
type stuck struct {
	*drivertest.End
	*hand
	after int
	n     int
}

func (s *stuck) Write(ctx context.Context, p []byte) (int, error) {
	if s.n++; s.n > s.after {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.End.Write(ctx, p)
}

// A card may ask for hours (BWI 15); a write that is stuck and a reader that is
// silent end all the same.
func TestNoWaitIsLongerThanTheLongest(t *testing.T) {
	atr := []byte{0x3B, 0xE0, 0, 0, 0x81, 0x31, 0x20, 0xF5, 0xE0 ^ 0x81 ^ 0x31 ^ 0x20 ^ 0xF5}
	t.Run("silence", func(t *testing.T) {
		h := &hand{descriptor: tpdu(), atr: atr, xfr: func(ccid.Message, func([]byte)) {}}
		h.open(t, func(t *testing.T, r *ccid.Reader) {
			if _, err := r.Power(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := r.Transmit(t.Context(), []byte{0x80, 0xAE, 0x80, 0, 0}); !errors.Is(err, ccid.ErrNoAnswer) || time.Since(began) > 6*time.Minute {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
	})
	t.Run("a write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, err := virtual.New(&virtual.Options{Level: virtual.TPDU, Card: bwi15{atr}})
			if err != nil {
				t.Fatal(err)
			}
			host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port, Room: 1 << 20})
			var served sync.WaitGroup
			served.Go(func() { _ = v.Serve(context.Background(), device.Stream()) })
			line := &stuck{End: host, hand: &hand{descriptor: tpdu()}, after: 3} // abort, state, power
			d, err := ccid.Driver{}.Open(t.Context(), line, drivers.Config{})
			if err != nil {
				t.Fatal(err)
			}
			r := d.(*ccid.Reader)
			if _, err := r.Power(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err := r.Transmit(t.Context(), []byte{0x80, 0xAE, 0x80, 0, 0}); err == nil || time.Since(began) > time.Minute {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			r.Close()
			served.Wait()
		})
	})
}

type bwi15 struct{ atr []byte }

func (b bwi15) ATR() []byte                                    { return b.atr }
func (bwi15) Reset()                                           {}
func (bwi15) Transmit(context.Context, []byte) ([]byte, error) { return []byte{0x90, 0}, nil }
