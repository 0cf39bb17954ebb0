package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestBufferNeverPrints(t *testing.T) {
	b, err := Take([]byte("4111111111111111"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Destroy()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", b)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T"} {
		text := fmt.Sprintf(verb, b)
		if verb != "%T" && text != "***" && verb != "%p" {
			t.Errorf("%s prints %d characters that are not ***", verb, len(text))
		}
		log.WriteString(text)
	}
	if _, err := json.Marshal(struct{ B *Buffer }{b}); err == nil {
		t.Error("a secret became JSON")
	}
	if _, err := b.MarshalText(); err == nil {
		t.Error("a secret became text")
	}
	for _, form := range []string{"4111111111111111", "34313131", "NDExMTEx", "52 49 49"} {
		if strings.Contains(log.String(), form) {
			t.Fatalf("the secret is in the output, form %d characters long", len(form))
		}
	}
}

func TestTakeErasesItsSource(t *testing.T) {
	src := []byte("key material")
	b, err := Take(src)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(src, make([]byte, len(src))) {
		t.Error("the source was not erased")
	}
	if string(b.Bytes()) != "key material" || b.Len() != 12 {
		t.Error("the buffer holds something else")
	}
	long := make([]byte, MaxLen+1)
	long[0] = 1
	if _, err := Take(long); err == nil || long[0] != 0 {
		t.Error("too long a secret was taken, or left")
	}
}

func TestDestroyLeavesNothing(t *testing.T) {
	b, err := New(5000)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Bytes()) != 5000 || cap(b.Bytes()) != 5000 {
		t.Errorf("%d bytes of %d", len(b.Bytes()), cap(b.Bytes()))
	}
	b.Destroy()
	b.Destroy()
	if b.Bytes() != nil || b.Len() != 0 || b.Locked() {
		t.Error("a destroyed buffer still gives bytes")
	}
	var none *Buffer
	none.Destroy()
	if none.Len() != 0 {
		t.Error("no buffer has a length")
	}
	for _, n := range []int{-1, 0, MaxLen + 1} {
		if _, err := New(n); err == nil {
			t.Errorf("New(%d) gives a buffer", n)
		}
	}
}

func TestDoRuns(t *testing.T) {
	ran := false
	Do(func() { ran = true })
	if !ran {
		t.Error("Do did not run its function")
	}
}

func BenchmarkTake(b *testing.B) {
	b.ReportAllocs()
	src := make([]byte, 32)
	for b.Loop() {
		s, err := Take(src)
		if err != nil {
			b.Fatal(err)
		}
		s.Destroy()
	}
}
