package drivertest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	. "tillbridge/drivers/transcript"
)

// toyFields is what the toy protocol says is card data: the word after "card".
func toyFields(_ Direction, turn []byte) []Span {
	var spans []Span
	for at := 0; ; {
		i := bytes.Index(turn[at:], []byte("card "))
		if i < 0 {
			return spans
		}
		start := at + i + len("card ")
		end := start
		for end < len(turn) && turn[end] != '|' {
			end++
		}
		spans = append(spans, Span{Start: start, End: end})
		at = end
	}
}

// record plays one toy session and returns its transcript.
func record(t *testing.T, o RecordOptions) []byte {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		host, device := Pipe(PipeOptions{})
		done := make(chan struct{})
		go func() { toyPeer(device.Stream()); close(done) }()
		r := Record(host, &out, o)
		dev, err := (&toyDriver{}).Open(t.Context(), r, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := dev.(*toyDevice).ask(t.Context(), "sale 1000"); err != nil || a != "approved 1000" {
			t.Fatal(a, err)
		}
		dev.Close()
		<-done
	})
	return out.Bytes()
}

func TestRecordRedactsByField(t *testing.T) {
	text := record(t, RecordOptions{Fields: func(d Direction, turn []byte) []Span {
		spans := toyFields(d, turn)
		if i := bytes.Index(turn, []byte("0001")); i >= 0 { // no card number: only the field knows
			spans = append(spans, Span{Start: i, End: i + 4})
		}
		return spans
	}})
	for _, secret := range []string{toyPAN, "0001 card"} {
		if bytes.Contains(text, []byte(hex.EncodeToString([]byte(secret)))) {
			t.Error("a field of the protocol stands in the transcript")
		}
	}
	entries, err := ParseTranscript(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]int{}
	for _, e := range entries {
		for _, c := range e.Cut {
			why[c.Why]++
		}
	}
	if why["field"] != 2 || why["leak scanner"] != 0 {
		t.Errorf("cuts: %v", why)
	}
}

func TestRecordScansWhatTheFieldsLeave(t *testing.T) {
	text := record(t, RecordOptions{})
	if bytes.Contains(text, []byte(hex.EncodeToString([]byte(toyPAN)))) {
		t.Error("a card number that no field named stands in the transcript")
	}
	if !bytes.Contains(text, []byte("leak scanner")) {
		t.Error("the leak scanner cut nothing")
	}
}

func TestRecordLongTurn(t *testing.T) {
	piece := "abcd " + toyPAN + " "
	text := bytes.Repeat([]byte(piece), 3100)
	for at := range len(piece) { // the border falls on every byte of a number
		var out bytes.Buffer
		r := Record(lineOf(text), &out, RecordOptions{})
		b := make([]byte, MaxTurn+1+at)
		for got := 0; got < len(text); {
			n, err := r.Read(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		entries, err := ParseTranscript(&out)
		if err != nil {
			t.Fatal(err)
		}
		parts := 0
		var all []byte
		for _, e := range entries {
			all = append(all, e.Data...)
			if e.Dir == Read {
				parts++
			}
		}
		if len(all) != len(text) || parts < 2 {
			t.Errorf("%d bytes in %d parts, sent %d", len(all), parts, len(text))
		}
		if bytes.Contains(all, []byte(toyPAN)) {
			t.Errorf("a card number stands in a long turn, read in pieces of %d", len(b))
		}
	}
}

// lineOf is a line on which a device has sent text.
func lineOf(text []byte) drivers.Transport {
	host, device := Pipe(PipeOptions{Room: len(text), Merge: true})
	device.Write(context.Background(), text)
	return host
}

func TestPlayback(t *testing.T) {
	entries, err := ParseTranscript(bytes.NewReader(record(t, RecordOptions{})))
	if err != nil {
		t.Fatal(err)
	}
	refit := func(turn []byte) []byte { // the checksum of the line that was cut
		var out []byte
		for _, line := range bytes.SplitAfter(turn, []byte("\n")) {
			if seq, words, ok := toyParse(line, false); ok {
				plus, _, _ := bytes.Cut(line, []byte("#"))
				out = append(append(out, plus...), toyLine(seq, words)...)
				continue
			}
			out = append(out, line...)
		}
		return out
	}
	play := func(t *testing.T, sale string) (string, *Player, error) {
		p := Playback(entries, PlaybackOptions{Refit: refit})
		dev, err := (&toyDriver{}).Open(t.Context(), p, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a, err := dev.(*toyDevice).ask(ctx, sale)
		return a, p, err
	}
	synctest.Test(t, func(t *testing.T) {
		a, p, err := play(t, "sale 1000")
		if err != nil || a != "approved 1000" || len(p.Rest()) != 0 {
			t.Errorf("%q %v, %d turns left", a, err, len(p.Rest()))
		}
		if _, _, err := play(t, "sale 1001"); !errors.Is(err, ErrPlayback) {
			t.Errorf("another amount: %v", err)
		}
		p.Close()
		if _, err := p.Read(t.Context(), make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

func FuzzParseTranscript(f *testing.F) {
	f.Add([]byte(`{"dir":"read","at_us":5,"data":"0616","pieces":[1,1],"cut":[{"at":1,"len":1,"why":"field","mark":"00"}]}` + "\n"))
	f.Add([]byte(`{"dir":"ended","at_us":5,"text":"closed"}`))
	f.Add([]byte(`{"dir":"wrote","data":"00","pieces":[2]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		entries, err := ParseTranscript(bytes.NewReader(in))
		if err != nil && !errors.Is(err, ErrTranscript) {
			t.Fatal(err)
		}
		p := Playback(entries, PlaybackOptions{AnyWrite: true})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for len(p.Rest()) > 0 {
			n := len(p.Rest())
			if p.Rest()[0].Dir == Read {
				for len(p.Rest()) == n {
					if _, err := p.Read(ctx, make([]byte, 4)); err != nil {
						t.Fatal(err)
					}
				}
				continue
			}
			if _, err := p.Write(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	})
}
