package replay

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

func load(t testing.TB) (out []Recording) {
	t.Helper()
	for _, f := range vectortest.Files(t, "emv", "transcripts") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list, err := Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out = append(out, list...)
	}
	return out
}

func testKeys(t testing.TB) *Options {
	t.Helper()
	raw, err := os.ReadFile(vectortest.Folder(t, "emv", "ca-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := ParseKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &Options{Keys: keys}
}

// TestVectorsTranscripts replays every recording, strictly and loosely. What
// holds for each of them is checked for each; the public ones have their
// outcome and last command stated in expected.
func TestVectorsTranscripts(t *testing.T) {
	list := load(t)
	o := testKeys(t)
	stated := 0
	for _, r := range list {
		for _, strict := range []bool{true, false} {
			o.Strict = strict
			rep := Run(context.Background(), r, o)
			check(t, r, rep, strict)
			mode := 0
			if !strict {
				mode = 1
			}
			want, ok := expected[r.Name]
			if !ok {
				t.Logf("%s: strict %v: %s at %s after %s", r.Name, strict, rep.Outcome, rep.Step, rep.LastCommand)
				continue
			}
			stated++
			got := [3]string{rep.Entry, rep.Outcome, rep.LastCommand}
			w := [3]string{want.entry, want.of[mode].outcome, want.of[mode].last}
			if got != w {
				t.Errorf("%s, strict %v: %q, want %q", r.Name, strict, got, w)
			}
		}
	}
	vectortest.Ran(t, "transcripts", len(list))
	if stated < 2*len(expected) {
		t.Logf("%d of %d expectations were met by a recording", stated/2, len(expected))
	}
}

// check holds for every recording: nothing that was not said, nothing said
// twice, nothing secret, and always an end.
func check(t *testing.T, r Recording, rep Report, strict bool) {
	t.Helper()
	answered := rep.Sent - rep.Unmatched
	if rep.Outcome == "" || rep.Entry == "" || rep.Outcome == OutcomeError {
		t.Errorf("%s, strict %v: entry %q, outcome %q: %s", r.Name, strict, rep.Entry, rep.Outcome, rep.Error)
	}
	if answered+rep.Unused != len(r.Exchanges) || answered < 0 || rep.Unmatched != len(rep.Missing) {
		t.Errorf("%s, strict %v: %d answers and %d unused of %d exchanges", r.Name, strict, answered, rep.Unused, len(r.Exchanges))
	}
	if answered == 0 {
		t.Errorf("%s, strict %v: not one command of the recording was sent", r.Name, strict)
	}
	if rep.Unused > 0 && rep.Outcome == OutcomeAnswered {
		t.Errorf("%s, strict %v: stopped early", r.Name, strict)
	}
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ToUpper(string(b))
	for _, n := range learn(r.commands()).numbers {
		if strings.Contains(text, hexText(n)) {
			t.Errorf("%s, strict %v: the report holds a card number", r.Name, strict)
		}
	}
}

// TestPrintExpected prints the table below for new recordings.
func TestPrintExpected(t *testing.T) {
	if os.Getenv("PRINT") == "" {
		t.Skip("PRINT is not set")
	}
	o := testKeys(t)
	for _, r := range load(t) {
		o.Strict = true
		a := Run(context.Background(), r, o)
		o.Strict = false
		b := Run(context.Background(), r, o)
		t.Logf("ROW\t%q: {%q, [2]end{{%q, %q}, {%q, %q}}},", r.Name, a.Entry, a.Outcome, a.LastCommand, b.Outcome, b.LastCommand)
	}
}
