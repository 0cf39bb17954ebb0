package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"tillbridge/drivers"
	"tillbridge/emv/oda"
)

// pieces is a stream that comes in pieces.
type pieces struct {
	drivers.Transport
	left [][]byte
}

func (p *pieces) Read(_ context.Context, b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, context.DeadlineExceeded
	}
	n := copy(b, p.left[0])
	p.left = p.left[1:]
	return n, nil
}

// A message is whole wherever the stream was cut, also after a Read that ran
// out of time in its middle, and two that came together are two.
func TestTransfersAreWholeMessages(t *testing.T) {
	one, two := []byte{0x80, 1, 2, 3}, bytes.Repeat([]byte{7}, 300)
	stream := append(framed(one), framed(two)...)
	for cut := range len(stream) {
		p := &pieces{left: [][]byte{stream[:cut]}}
		tr := &transfers{Transport: p}
		buf := make([]byte, 1024)
		var got [][]byte
		for range 5 {
			n, err := tr.Read(t.Context(), buf)
			if errors.Is(err, context.DeadlineExceeded) && len(p.left) == 0 && len(got) < 2 {
				p.left = [][]byte{stream[cut:]} // later
				cut = len(stream)
				continue
			}
			if err != nil {
				break
			}
			got = append(got, bytes.Clone(buf[:n]))
		}
		if len(got) != 2 || !bytes.Equal(got[0], one) || !bytes.Equal(got[1], two) {
			t.Fatalf("%d messages", len(got))
		}
	}
	if _, err := (&transfers{Transport: &pieces{left: [][]byte{{0xFF, 0xFF, 0xFF, 0xFF}}}}).Read(t.Context(), make([]byte, 8)); !errors.Is(err, errMessage) {
		t.Errorf("a length that lies: %v", err)
	}
}

func TestSimReaderTakesCommands(t *testing.T) {
	in, commands := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := serveReader(context.Background(), in, out, "127.0.0.1:0")
		out.Close()
		done <- err
	}()
	dec := json.NewDecoder(answers)
	line := func() (m map[string]any) {
		t.Helper()
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	ready := line()
	k, err := oda.ParseKeyFile([]byte(ready["ca_keys"].(string)), oda.Test, oda.Date{Year: 2026, Month: 12, Day: 1})
	if err != nil || k.Store.Len() != 6 {
		t.Errorf("the authority's file: %v", err)
	}
	for command, ok := range map[string]bool{
		`{"do":"insert","card":"visa-credit"}`: true, `{"do":"insert","card":"none"}`: false, `{"do":"remove"}`: true,
		`{"do":"fault","fault":"removed"}`: true, `{"do":"cards"}`: true, `{"do":"dance"}`: false, `{`: false,
	} {
		if _, err := io.WriteString(commands, command+"\n"); err != nil {
			t.Fatal(err)
		}
		if m := line(); m["ok"] != ok {
			t.Errorf("%s: %v", command, m)
		}
	}
	commands.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
