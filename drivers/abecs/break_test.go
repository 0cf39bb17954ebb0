package abecs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
	"tillbridge/emv"
	"tillbridge/p2pe"
)

// The pad's word and the card's contradict each other: the card's counts, and
// an approval that nobody can clear is none.
func TestApprovalWithoutTheCardsWord(t *testing.T) {
	tc := strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01\x40", 1)
	for _, c := range []struct {
		name, data string
		want       emv.Decision
		bad        bool
	}{
		{"TC", tc, emv.Approved, false},
		{"ARQC", emv1000, emv.OnlineRequest, false},
		{"AAC", strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01\x00", 1), emv.Declined, false},
		{"no cryptogram", strings.Replace(tc, "\x9F\x26\x08", "\x9F\x4C\x08", 1), "", true},
		{"no data", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := chipBook()
				b.gox = answer("GOX", param(GOXResult, "000000"), param(EMVDataOut, c.data))
				_, dev := start(t, b, nil)
				ctx := limited(t, time.Minute)
				pay := begin(t, dev)
				if _, err := pay.Read(ctx, tenEuros()); err != nil {
					t.Fatal(err)
				}
				o, err := pay.Authorize(ctx, tenEuros().Amounts)
				if c.bad != (err != nil) || !c.bad && o.Decision != c.want || c.bad && o.Decision == emv.Approved {
					t.Errorf("%v, %v", o.Decision, err)
				}
			})
		})
	}
}

// A step that ends and the Cancel that ended it must not meet at the link.
func TestCancelNeverFindsItsOwnStepBusy(t *testing.T) {
	p, dev := start(t, chipBook(), nil)
	waiting := make(chan struct{}, 1)
	p.raw = func(p *pad, name string, _ []byte) bool {
		if name != "GCX" {
			return false
		}
		p.line.Write([]byte{frame.ByteACK})
		waiting <- struct{}{}
		return true
	}
	for range 50 {
		ctx := limited(t, time.Minute)
		pay := begin(t, dev)
		done := make(chan struct{})
		go func() { defer close(done); pay.Read(ctx, tenEuros()) }()
		<-waiting
		if err := pay.Cancel(ctx); err != nil {
			t.Fatal(err)
		}
		<-done
	}
}

func TestGuardRefusesAParameterTwice(t *testing.T) {
	for name, p := range map[string][]Param{
		"GTK": {{Tracks, []byte("1010")}, {MethodData, []byte("50")}, {MethodData, nil}},
		"GCX": {{PANMask, []byte("0604")}, {PANMask, []byte("1900")}},
		"GOX": {{TagList, []byte{0x95}}, {TagList, []byte{0x57}}},
	} {
		if err := CheckCommand(mustParams(t, name, p...)); !errors.Is(err, drivers.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A parameter that is cut off hides what follows from us and not from the pad.
	if err := CheckCommand([]byte("GOX008\x00\x04\x00\x09\x95\x57\x00\x00")); err == nil {
		t.Error("a parameter that lies about its length passes")
	}
	for _, tag := range []string{"\x70", "\x77", "\x9F\x0B", "\x80"} {
		if err := CheckCommand(mustParams(t, "GOX", Param{TagList, []byte(tag)})); !errors.Is(err, drivers.ErrRefused) {
			t.Errorf("tag %X: %v", tag, err)
		}
	}
}

func TestMethod30UsesThePINVariant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), map[string]string{"data_method": "30"})
		pay := begin(t, dev)
		card, err := pay.Read(limited(t, time.Minute), tenEuros())
		if err != nil || card.Data.KeyVariant != p2pe.VariantPIN || card.Data.Mode != "ECB" || sentParam(t, p, "GTK", MethodData) != "30" {
			t.Errorf("%+v, %v", card.Data, err)
		}
	})
}

// One packet of OPN that the line spoils must not cost a whole open.
func TestOpenOnceMoreAfterNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, host := newPad(chipBook())
		spoilt := 0
		p.raw = func(p *pad, name string, _ []byte) bool {
			if name == "OPN" && spoilt == 0 {
				spoilt++
				return true // no acknowledgement
			}
			return false
		}
		dev, err := testDriver.Open(t.Context(), host, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		dev.Close()
		<-p.done
		if spoilt != 1 || p.count("OPN") != 2 {
			t.Errorf("sent %v", p.names())
		}
	})
}

func TestLoadOfNoTablesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		if err := dev.(drivers.TableLoader).LoadTables(t.Context(), "TEST000001", nil); err == nil || p.count("TLI") != 0 {
			t.Errorf("%v, sent %v: a pad without tables takes no card", err, p.names())
		}
	})
}

func TestParseTables(t *testing.T) {
	record := "2840" // length 284
	good := "# ours\nTEST000001\r\n\n" + "3002" + strings.Repeat("0", 296) + "\n"
	got, err := ParseTables([]byte(good))
	if err != nil || got.Version != "TEST000001" || len(got.Records) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty": "", "no records": "TEST000001\n", "short version": "TEST\n" + good, "lies": "TEST000001\n" + record,
		"not ascii": "TEST000001\n007\xC71AB\n", "version of zeros": strings.Replace(good, "TEST000001", "0000000000", 1),
	} {
		if _, err := ParseTables([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTablesFileThatIsMissingFailsTheOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, host := newPad(chipBook())
		_, err := testDriver.Open(t.Context(), host, drivers.Config{Params: map[string]string{"tables": filepath.Join(t.TempDir(), "none")}})
		if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		<-p.done
	})
}
