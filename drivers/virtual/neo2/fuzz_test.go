package neo2

import (
	"testing"
	"time"
)

func FuzzReceiver(f *testing.F) {
	f.Add([]byte("ViVOtech2\x00\x18\x01\x00\x00\xB3\xCD"), true)
	f.Add([]byte("ViVOtech2\x00\x18\x01\xFF\x00\xB3\xCD"), false)
	f.Fuzz(func(t *testing.T, p []byte, hid bool) {
		rx := receiver{hid: hid}
		step := 7
		if hid {
			step = 64
		}
		n := 0
		for len(p) > 0 {
			k := min(step, len(p))
			n += len(rx.take(p[:k], time.Time{}))
			p = p[k:]
		}
		if len(rx.buf) > maxFrame+step {
			t.Fatalf("%d bytes held, %d frames", len(rx.buf), n)
		}
	})
}
