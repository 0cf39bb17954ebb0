package abecs

import (
	"bytes"
	"testing"
	"testing/synctest"

	"tillbridge/drivers/frame"
)

func FuzzParseCommand(f *testing.F) {
	f.Add([]byte("GIX006\x00\x01\x00\x02\x80\x01"))
	f.Add([]byte("OPN"))
	f.Add([]byte("CEX010\x00\x06\x00\x06011000"))
	f.Add([]byte("TLR00701004x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := parseCommand(in)
		if err != nil {
			return
		}
		l, err := c.params()
		if err != nil {
			return
		}
		back := appendAnswer(nil, c.id, answer{params: l})
		again, err := parseCommand(append([]byte(c.id), back[6:]...))
		if err != nil {
			t.Fatalf("%q does not come back: %v", in, err)
		}
		l2, err := again.params()
		if err != nil || len(l2) > len(l) {
			t.Fatalf("%v, %d of %d parameters", err, len(l2), len(l))
		}
	})
}

func FuzzSecure(f *testing.F) {
	ch, err := newChannel(bytes.Repeat([]byte{7}, 16))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ch.seal([]byte("GIX")))
	f.Add([]byte{secureMark})
	f.Fuzz(func(t *testing.T, in []byte) {
		clear, err := ch.open(in)
		if err == nil && !bytes.Equal(ch.seal(clear)[:1], in[:1]) {
			t.Fatal("a packet opens that is none")
		}
		back, err := ch.open(ch.seal(in))
		if err != nil || !bytes.Equal(back, in) {
			t.Fatal("what is sealed does not open")
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(aidRecord("02", "07", "A0000000031010"))
	f.Add("0071")
	f.Fuzz(func(t *testing.T, r string) {
		if a, ok := parseApplication(r); ok && (len(a.aid) < 5 || len(a.caps) != 3) {
			t.Fatal("a record is taken that cannot be used")
		}
		openSecure([]byte(r))
	})
}

// FuzzPad sends any bytes to a pad; it answers CAN with EOT after them.
func FuzzPad(f *testing.F) {
	open := frame.AppendDC3(nil, []byte("OPN"))
	f.Add(open)
	f.Add(append(open[:len(open):len(open)], frame.AppendDC3(nil, gcxOf("000000000100", "10000"))...))
	f.Add(frame.AppendDC3(nil, []byte("TLI012000000000001")))
	f.Add([]byte{frame.ByteSYN, 'O', 'P'})
	f.Fuzz(func(t *testing.T, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			p := newPad(t, Options{Clear: true})
			h := join(t, p)
			h.line.Write(in)
			for {
				if _, ok := h.byte(10 * interByte); !ok {
					break
				}
			}
			h.cancel()
		})
	})
}
