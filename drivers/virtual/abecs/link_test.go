package abecs

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers/frame"
)

func TestLink(t *testing.T) {
	gix := []byte("GIX006\x00\x01\x00\x02\x80\x01")
	synctest.Test(t, func(t *testing.T) {
		p := newPad(t, Options{Clear: true})
		h := join(t, p)
		h.ask([]byte("OPN"))

		bad := frame.AppendDC3(nil, gix)
		bad[len(bad)-1] ^= 1
		h.line.Write(bad)
		if _, c, _ := h.packet(time.Second); c != frame.ByteNAK {
			t.Errorf("a wrong checksum is answered by %02X", c)
		}
		h.line.Write(frame.AppendDC3(nil, gix)[:5])
		time.Sleep(interByte + time.Second)
		if st, _, _ := h.ask(gix); st != "GIX000" {
			t.Errorf("after half a packet and silence: %s", st)
		}
		h.line.Write([]byte{frame.ByteNAK})
		if st, _, _ := h.hear("GIX"); st != "GIX000" {
			t.Errorf("NAK: %s", st)
		}
		for _, f := range []string{"drop-ack", "nak", "bad-crc", "duplicate", "noise", "drop-response"} {
			if err := p.Do(Step{Do: "fault", Fault: f}); err != nil {
				t.Fatal(err)
			}
			h.line.Write(frame.AppendDC3(nil, gix))
			var controls []byte
			packets, broken := 0, 0
			for {
				_, c, err := h.packet(5 * time.Second)
				if err != nil && strings.HasPrefix(err.Error(), "nothing") {
					break
				}
				switch {
				case err != nil:
					broken++
				case c != 0:
					controls = append(controls, c)
				default:
					packets++
				}
			}
			want := map[string]struct {
				controls        string
				packets, broken int
			}{
				"drop-ack": {"", 1, 0}, "nak": {"\x15", 0, 0}, "bad-crc": {"\x06", 0, 1}, "duplicate": {"\x06", 2, 0},
				"noise": {"\x06", 1, 0}, "drop-response": {"\x06", 0, 0},
			}[f]
			if string(controls) != want.controls || packets != want.packets || broken != want.broken {
				t.Errorf("%s: controls %X, %d packets, %d broken", f, controls, packets, broken)
			}
		}
		p.Do(Step{Do: "fault", Fault: "late", MS: 15000})
		h.say(gix)
		start := time.Now()
		if st, _, _ := h.hear("GIX"); st != "GIX000" || time.Since(start) < 15*time.Second {
			t.Errorf("late: %s after %v", st, time.Since(start))
		}
		p.Do(Step{Do: "fault", Fault: "split", MS: 200})
		if st, _, _ := h.ask(gix); st != "GIX000" {
			t.Errorf("split: %s", st)
		}
		p.Do(Step{Do: "fault", Fault: "hang-up"})
		h.say(gix)
		if _, _, err := h.packet(time.Second); err == nil {
			t.Error("hang-up: a whole packet came")
		}
	})
}
