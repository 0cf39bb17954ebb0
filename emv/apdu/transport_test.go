package apdu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

type exchange struct{ Capdu, Rapdu string }

var errEnd = errors.New("the recording ends")

// recorded answers the recorded commands in their order.
type recorded struct {
	t    *testing.T
	left []exchange
}

func (r *recorded) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	if len(r.left) == 0 {
		return nil, errEnd // the published list is a fragment
	}
	e := r.left[0]
	r.left = r.left[1:]
	if got := fmt.Sprintf("%X", cmd); got != strings.ToUpper(e.Capdu) {
		r.t.Errorf("sent %s, recorded is %s", got, e.Capdu)
		return nil, errEnd
	}
	return unhex(r.t, e.Rapdu), nil
}

// The transport tests of another project (names with "_ttl_"): each begins
// with the command that its first exchange carries, and every recorded byte
// must be sent, in order.
func TestVectorsTranscriptsTransport(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "emv", "transcripts") {
		var doc struct {
			Transcripts []struct {
				Name, Level string
				Exchanges   []exchange
			}
		}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range doc.Transcripts {
			if !strings.Contains(tr.Name, "_ttl_") || len(tr.Exchanges) == 0 {
				continue
			}
			n++
			t.Run(tr.Name, func(t *testing.T) {
				line := &recorded{t, tr.Exchanges}
				cmd := unhex(t, tr.Exchanges[0].Capdu)
				var x Exchanger = Follow{line}
				if tr.Level == "TPDU" {
					x = T0{T0Bytes{line}}
					cmd = tpduCommand(t, tr.Exchanges)
				}
				got, err := x.Transmit(t.Context(), cmd)
				if err != nil && !errors.Is(err, errEnd) && !errors.Is(err, ErrResponse) && !errors.Is(err, ErrCommand) {
					t.Error(err)
				}
				if len(line.left) > 0 {
					t.Errorf("%d exchanges are not sent; the answer is %d bytes, %v", len(line.left), len(got), err)
				}
				last := tr.Exchanges[len(tr.Exchanges)-1].Rapdu
				if err == nil && len(last) == 4 && !strings.HasSuffix(fmt.Sprintf("%X", got), last) {
					t.Errorf("the answer does not end with %s", last)
				}
			})
		}
	}
	if n == 0 {
		t.Skip("vectors transcripts skipped: none is about the transport")
	}
	vectortest.Ran(t, "transcripts", n)
}

// tpduCommand is the command APDU that a recorded T=0 exchange is of.
func tpduCommand(t *testing.T, list []exchange) []byte {
	head := unhex(t, list[0].Capdu)
	if len(head) < 5 {
		return head
	}
	c := Command{CLA: head[0], INS: head[1], P1: head[2], P2: head[3]}
	switch {
	case len(list) > 1 && len(list[0].Rapdu) == 2: // a procedure byte: the data follow
		c.Data = unhex(t, list[1].Capdu)
		c.Le = LeShort
	case c.INS == 0xB2 || c.INS == 0xC0 || c.INS == 0xCA:
		if c.Le = int(head[4]); c.Le == 0 {
			c.Le = LeShort
		}
	case head[4] > 0: // refused before the data were sent
		c.Data = make([]byte, head[4])
	}
	return c.Bytes()
}

func TestT0ProcedureBytes(t *testing.T) {
	for _, c := range []struct {
		name, tpdu, want string
		pairs            []string
		err              error
	}{
		{"all data at once", "0020008002 0102", "9000", []string{"0020008002>20", "0102>9000"}, nil},
		{"byte by byte", "0020008002 0102", "9000", []string{"0020008002>DF", "01>DF", "02>9000"}, nil},
		{"one, then the rest", "0020008003 010203", "63C2", []string{"0020008003>6060DF", "01>20", "0203>6063C2"}, nil},
		{"answer at once", "00B2010C03", "AABBCC9000", []string{"00B2010C03>B2AABBCC9000"}, nil},
		{"answer byte by byte", "00B2010C02", "AABB9000", []string{"00B2010C02>4DAA4DBB9000"}, nil},
		{"answer that looks like a status", "00B2010C02", "90609000", []string{"00B2010C02>60B290609000"}, nil},
		{"unknown procedure byte", "00B2010C02", "", []string{"00B2010C02>15"}, ErrProcedure},
		{"nothing", "00B2010C02", "", []string{"00B2010C02>"}, ErrResponse},
		{"half a status", "00B2010C02", "", []string{"00B2010C02>90"}, ErrResponse},
	} {
		s := &script{t, c.pairs}
		got, err := (T0Bytes{s}).Transmit(t.Context(), unhex(t, c.tpdu))
		if !errors.Is(err, c.err) || fmt.Sprintf("%X", got) != c.want || len(s.pairs) > 0 {
			t.Errorf("%s: %X %v, want %s %v", c.name, got, err, c.want, c.err)
		}
	}
}
