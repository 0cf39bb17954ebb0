package mask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/slogtest"
)

type holder struct {
	Card  string
	inner string
}

type valuer struct{ pan string }

func (v valuer) LogValue() slog.Value { return slog.GroupValue(slog.String("n", v.pan)) }

type angry struct{}

func (angry) Error() string { panic("no") }

func TestHandlerRemovesNumbersEverywhere(t *testing.T) {
	const pan = "4111111111111111"
	wrapped := fmt.Errorf("read card %s: %w", pan, errors.New("short"))
	for _, c := range []struct {
		name string
		log  func(*slog.Logger)
	}{
		{"message", func(l *slog.Logger) { l.Info("card " + pan) }},
		{"value", func(l *slog.Logger) { l.Info("card", "n", pan) }},
		{"grouped value", func(l *slog.Logger) { l.Info("card", "n", "4111-1111-1111-1111") }},
		{"key", func(l *slog.Logger) { l.Info("card", pan, 1) }},
		{"int", func(l *slog.Logger) { l.Info("card", "n", 4111111111111111) }},
		{"uint", func(l *slog.Logger) { l.Info("card", "n", uint64(4111111111111111)) }},
		{"float", func(l *slog.Logger) { l.Info("card", "n", float64(4111111111111111)) }},
		{"error", func(l *slog.Logger) { l.Info("card", "err", wrapped) }},
		{"error in a group", func(l *slog.Logger) { l.Info("card", slog.Group("g", slog.Any("err", wrapped))) }},
		{"bytes", func(l *slog.Logger) { l.Info("card", "b", []byte(pan)) }},
		{"struct", func(l *slog.Logger) { l.Info("card", "s", holder{Card: pan}) }},
		{"hidden field", func(l *slog.Logger) { l.Info("card", "s", holder{inner: pan}) }},
		{"pointer", func(l *slog.Logger) { l.Info("card", "s", &holder{Card: pan}) }},
		{"map", func(l *slog.Logger) { l.Info("card", "s", map[string]any{"a": []string{pan}}) }},
		{"log valuer", func(l *slog.Logger) { l.Info("card", "v", valuer{pan}) }},
		{"with", func(l *slog.Logger) { l.With("n", pan).Info("card") }},
		{"with group", func(l *slog.Logger) { l.WithGroup("g").With("n", pan).Info("card") }},
		{"group name", func(l *slog.Logger) { l.WithGroup(pan).Info("card", "a", 1) }},
		{"message then value", func(l *slog.Logger) { l.Info("card 41111111", "rest", "11111111") }},
		{"values side by side", func(l *slog.Logger) { l.Info("card", "a", "4111", "b", "1111", "c", "1111", "d", "1111") }},
		{"values in a group", func(l *slog.Logger) { l.Info("card", slog.Group("g", "a", "41111111", "b", "11111111")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, text := range []bool{true, false} {
				var out bytes.Buffer
				var h slog.Handler = slog.NewJSONHandler(&out, nil)
				if text {
					h = slog.NewTextHandler(&out, nil)
				}
				c.log(slog.New(NewHandler(h)))
				got := out.String()
				if !strings.Contains(got, "card") {
					t.Fatalf("no line was written")
				}
				squeezed := strings.NewReplacer("-", "", " ", "").Replace(got)
				if Known(pan).In([]byte(got)) >= 0 || strings.Contains(squeezed, pan) || strings.Count(got, "1111") > 0 {
					t.Errorf("text=%v: the number came through", text)
				}
			}
		})
	}
}

func TestHandlerLeavesTheRestAlone(t *testing.T) {
	var plainOut, maskedOut bytes.Buffer
	drop := &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(g) == 0 {
			return slog.Attr{}
		}
		return a
	}}
	for _, l := range []*slog.Logger{
		slog.New(slog.NewJSONHandler(&plainOut, drop)), slog.New(NewHandler(slog.NewJSONHandler(&maskedOut, drop))),
	} {
		l.Info("payment stored", "id", "pay_01938f6e-5d4e-7cc2-9b0e-4f2d8c1a3b5e", "amount", 1250, "stan", "123456", "ok", true,
			"err", errors.New("timeout"), slog.Group("card", "masked", "411111******1111", "last4", "1111"), "ratio", 0.5)
		l.With("register", "R1").WithGroup("g").Warn("x", "a", 1, "v", valuer{"7"})
	}
	if plainOut.String() != maskedOut.String() {
		t.Errorf("changed:\n%s%s", plainOut.String(), maskedOut.String())
	}
}

func TestHandlerObeysSlogRules(t *testing.T) {
	var out bytes.Buffer
	err := slogtest.TestHandler(NewHandler(slog.NewJSONHandler(&out, nil)), func() []map[string]any {
		var all []map[string]any
		for line := range strings.Lines(out.String()) {
			m := map[string]any{}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHandlerSurvivesAValueThatPanics(t *testing.T) {
	var out bytes.Buffer
	slog.New(NewHandler(slog.NewTextHandler(&out, nil))).Info("x", "err", angry{})
	if !strings.Contains(out.String(), "cannot be printed") {
		t.Error(out.String())
	}
}

func TestErrorKeepsItsChain(t *testing.T) {
	cause := errors.New("short")
	err := Error(fmt.Errorf("card 4111111111111111: %w", cause))
	if !errors.Is(err, cause) || Contains(err.Error()) {
		t.Error("chain or text wrong")
	}
	if Error(nil) != nil || Error(cause) != cause {
		t.Error("clean errors are changed")
	}
}

func TestWriterFindsNumbersOverWriteBorders(t *testing.T) {
	const pan = "4111111111111111"
	random := rand.New(rand.NewPCG(1, 2))
	text := strings.Repeat("line without\n", 50) + "card " + pan + " one\n" +
		strings.Repeat("y", 70000) + " 4111 1111 1111 1111 " + strings.Repeat("z", 70000) + "\nlast " + pan
	for range 20 {
		var out bytes.Buffer
		w := NewWriter(&out)
		for rest := text; rest != ""; {
			n := min(len(rest), 1+random.IntN(3000))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if want := Redact(text); out.String() != want {
			t.Fatalf("%d bytes out, want %d", out.Len(), len(want))
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriterReportsTheErrorBehindIt(t *testing.T) {
	if _, err := NewWriter(full{}).Write([]byte("a\n")); err == nil {
		t.Error("no error")
	}
}

func BenchmarkHandler(b *testing.B) {
	l := slog.New(NewHandler(slog.DiscardHandler))
	_ = l
	h := NewHandler(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelError}))
	r := slog.Record{Message: "payment approved"}
	r.AddAttrs(slog.String("id", "pay_01938f6e-5d4e-7cc2-9b0e-4f2d8c1a3b5e"), slog.Int("amount", 1250), slog.String("ksn", "FFFF9876543210E00001"))
	b.ReportAllocs()
	for b.Loop() {
		h2 := &Handler{discard{}}
		if err := h2.Handle(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	_ = h
}

type discard struct{ slog.Handler }

func (discard) Handle(context.Context, slog.Record) error { return nil }
