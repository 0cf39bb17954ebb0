package abecs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
	"tillbridge/emv"
	"tillbridge/p2pe"
)

func sentParam(t *testing.T, p *pad, name string, id ID) string {
	t.Helper()
	r, ok := p.find(name)
	if !ok {
		t.Fatalf("no %s was sent", name)
	}
	v, ok := r.Find(id)
	if !ok {
		t.Fatalf("%s without %s", name, id)
	}
	return string(v)
}

func TestChipSaleWithOnlinePIN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		ctx := limited(t, time.Minute)
		pay := begin(t, dev)
		card, err := pay.Read(ctx, tenEuros())
		if err != nil {
			t.Fatal(err)
		}
		if card.Entry != emv.EntryContact || card.AID != "A0000000041010" || card.MaskedPAN != "541333******4111" || card.BIN6 != "541333" ||
			card.Last4 != "4111" || card.PANSequence != 1 || card.ServiceCode != "201" || card.CryptogramMade {
			t.Errorf("card %+v", card)
		}
		d := card.Data
		if d.Scheme != p2pe.SchemeTDESDUKPT || d.KSN != "FFFF9876543210E00001" || d.KeyVariant != "data-request" || d.Mode != "ECB" ||
			string(d.PAN) != "PPPPPPPP" || len(d.Track2) != 24 || d.DeviceSerial != "7200032211005539" {
			t.Errorf("envelope %+v", d)
		}
		o, err := pay.Authorize(ctx, tenEuros().Amounts)
		if err != nil {
			t.Fatal(err)
		}
		if o.Decision != emv.OnlineRequest || o.CVMText != "online PIN" || o.PIN.KSN != "FFFF9876543210E00007" || o.CID != "80" || o.Cryptogram != "0102030405060708" {
			t.Errorf("outcome %+v", o)
		}
		if sentParam(t, p, "GOX", Amount) != "000000001000" || sentParam(t, p, "GOX", Currency) != "978" || sentParam(t, p, "GOX", Acquirer) != "01" || sentParam(t, p, "GOX", MethodPIN) != "3" {
			t.Error("GOX does not ask for 10.00 EUR with DUKPT")
		}
		o, err = pay.Complete(ctx, emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00", IssuerAuth: []byte("12345678"), Scripts: []byte("\x72\x01\x00")})
		if err != nil || o.Decision != emv.Approved || o.ReversalNeeded {
			t.Errorf("outcome %+v, %v", o, err)
		}
		if sentParam(t, p, "FCX", FCXOptions) != "0000" || sentParam(t, p, "FCX", ARC) != "00" || sentParam(t, p, "FCX", EMVDataIn) != "\x91\x0812345678\x72\x01\x00" {
			t.Error("FCX does not carry the host's answer")
		}
		if err := dev.(drivers.CardRemover).RemoveCard(ctx, "REMOVE CARD"); err != nil {
			t.Error(err)
		}
		dev.Close()
		if got := p.names(); !slices.Equal(got, []string{"CAN", "OPN", "GIX", "CAN", "GCX", "GTK", "GOX", "FCX", "RMC", "CLO"}) {
			t.Errorf("sent %v", got)
		}
	})
}

func TestCompletionByWhatTheHostDid(t *testing.T) {
	declines := answer("FCX", param(FCXResult, "100"), param(EMVDataOut, strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01\x00", 1)))
	for _, c := range []struct {
		name     string
		host     emv.HostResponse
		card     []byte // nil: the card approves
		option   string
		arc      string
		decision emv.Decision
		reversal bool
	}{
		{"approved by both", emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}, nil, "0000", "00", emv.Approved, false},
		{"approved by the host, declined by the card", emv.HostResponse{Reached: true, Sent: true, Approved: true, ARC: "00"}, declines, "0000", "00", emv.Declined, true},
		{"declined by the host", emv.HostResponse{Reached: true, Sent: true, ARC: "51"}, declines, "1000", "51", emv.Declined, false},
		{"declined by the host, approved by the card", emv.HostResponse{Reached: true, Sent: true, ARC: "51"}, nil, "1000", "51", emv.Declined, false},
		{"silent after sending", emv.HostResponse{Sent: true}, declines, "1000", "Z3", emv.Declined, true},
		{"silent after sending, the card gives a TC", emv.HostResponse{Sent: true}, nil, "1000", "Z3", emv.Declined, true},
		{"nothing was sent, the card approves offline", emv.HostResponse{}, nil, "2000", "", emv.Approved, false},
		{"nothing was sent, the card declines", emv.HostResponse{}, declines, "2000", "", emv.Declined, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := chipBook()
				if c.card != nil {
					b.fcx = c.card
				}
				p, dev := start(t, b, nil)
				ctx := limited(t, time.Minute)
				pay := begin(t, dev)
				if _, err := pay.Read(ctx, tenEuros()); err != nil {
					t.Fatal(err)
				}
				if _, err := pay.Authorize(ctx, tenEuros().Amounts); err != nil {
					t.Fatal(err)
				}
				o, err := pay.Complete(ctx, c.host)
				if err != nil || o.Decision != c.decision || o.ReversalNeeded != c.reversal {
					t.Errorf("%v, reversal %t, %v", o.Decision, o.ReversalNeeded, err)
				}
				if got := sentParam(t, p, "FCX", FCXOptions); got != c.option {
					t.Errorf("FCX option %s, want %s", got, c.option)
				}
				r, _ := p.find("FCX")
				if arc, _ := r.Find(ARC); string(arc) != c.arc {
					t.Errorf("ARC %q, want %q", arc, c.arc)
				}
			})
		})
	}
}

func TestAnotherAmountIsNeverAccepted(t *testing.T) {
	for name, data := range map[string]string{
		"amount":         strings.Replace(emv1000, "\x10\x00\x9F\x03", "\x01\x00\x9F\x03", 1),
		"other amount":   strings.Replace(emv1000, "\x9F\x03\x06\x00\x00\x00\x00\x00\x00", "\x9F\x03\x06\x00\x00\x00\x00\x00\x01", 1),
		"currency":       strings.Replace(emv1000, "\x09\x78", "\x08\x40", 1),
		"no amount":      "\x9F\x27\x01\x80",
		"not even a TLV": "\x9F\x02\x20\x00",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := chipBook()
				b.gox = answer("GOX", param(GOXResult, "000000"), param(EMVDataOut, data))
				_, dev := start(t, b, nil)
				ctx := limited(t, time.Minute)
				pay := begin(t, dev)
				if _, err := pay.Read(ctx, tenEuros()); err != nil {
					t.Fatal(err)
				}
				o, err := pay.Authorize(ctx, tenEuros().Amounts)
				if err == nil || o.Decision != "" || name != "not even a TLV" && !errors.Is(err, ErrAmount) {
					t.Errorf("%v, %v", o.Decision, err)
				}
				if _, err := pay.Complete(ctx, emv.HostResponse{}); !errors.Is(err, ErrOrder) {
					t.Errorf("the payment goes on: %v", err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		ctx := limited(t, time.Minute)
		pay := begin(t, dev)
		if _, err := pay.Read(ctx, tenEuros()); err != nil {
			t.Fatal(err)
		}
		a := tenEuros().Amounts
		a.Amount = 2000
		if _, err := pay.Authorize(ctx, a); !errors.Is(err, ErrAmount) || p.count("GOX") != 0 {
			t.Errorf("authorising another amount than the one read: %v", err)
		}
	})
}

func TestADeclineIsADeclineWhateverTheCryptogram(t *testing.T) {
	for _, c := range []struct {
		result, cid string
		want        emv.Decision
	}{
		{"000000", "\x40", emv.Approved}, {"100000", "\x00", emv.Declined}, {"200000", "\x80", emv.OnlineRequest},
		{"000000", "\x00", emv.Declined}, {"200000", "\x00", emv.Declined},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := chipBook()
			b.gox = answer("GOX", param(GOXResult, c.result), param(EMVDataOut, strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01"+c.cid, 1)))
			_, dev := start(t, b, nil)
			ctx := limited(t, time.Minute)
			pay := begin(t, dev)
			if _, err := pay.Read(ctx, tenEuros()); err != nil {
				t.Fatal(err)
			}
			if o, err := pay.Authorize(ctx, tenEuros().Amounts); err != nil || o.Decision != c.want {
				t.Errorf("GOX %s with CID %X: %v, %v; want %v", c.result, c.cid, o.Decision, err, c.want)
			}
		})
	}
}

func TestContactlessTurnsToContactWhereThePadSaysSo(t *testing.T) {
	for _, status := range []string{"083", "084", "085", "082", "087"} {
		synctest.Test(t, func(t *testing.T) {
			b := chipBook()
			p, dev := start(t, b, nil)
			p.raw = once("GCX", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}); p.reply([]byte("GCX" + status)) })
			if _, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros()); err != nil {
				t.Errorf("%s: %v", status, err)
			}
			if got := sentParam(t, p, "GCX", GCXOptions); got != "00000" || p.count("GCX") != 2 {
				t.Errorf("%s: last GCX with %s, %d sent", status, got, p.count("GCX"))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		n := 0
		p.answer = func(name string, r Request) [][]byte {
			if name == "GCX" {
				if n++; n <= 2 {
					return [][]byte{[]byte("GCX081")}
				}
				if n == 3 {
					return [][]byte{[]byte("GCX086")}
				}
			}
			return b.reply(name, r)
		}
		if _, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros()); err != nil {
			t.Fatal(err)
		}
		if p.count("GCX") != 4 || p.count("DSP") != 1 || sentParam(t, p, "GCX", GCXOptions) != "00000" {
			t.Errorf("sent %v", p.names())
		}
	})
}

func TestEntriesThatAreNotAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		if _, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros(emv.EntrySwipe)); !errors.Is(err, ErrEntry) {
			t.Errorf("a chip where only swipes are allowed: %v", err)
		}
		if got := sentParam(t, p, "GCX", GCXOptions); got != "00000" {
			t.Errorf("contactless was offered: %s", got)
		}
	})
}

// swipeBook is a pad where a card is swiped.
func swipeBook(service, chipStatus string) *book {
	b := chipBook()
	b.gcx = answer("GCX", param(CardType, "00"), param(ChipStatus, chipStatus), param(PAN, "541333******4111"), param(Track2Cut, "541333******4111=2512"+service))
	return b
}

func TestSwipes(t *testing.T) {
	for _, c := range []struct {
		service, chip string
		err           error
		pin           bool
	}{
		{"101", "0", nil, false}, {"120", "0", nil, true}, {"121", "0", nil, false}, {"106", "0", nil, true},
		{"201", "0", ErrUseChip, false}, {"601", "0", ErrUseChip, false}, {"201", "1", nil, false}, {"201", "2", nil, false}, {"", "0", ErrUseChip, false},
	} {
		t.Run("service code "+c.service+" chip "+c.chip, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, dev := start(t, swipeBook(c.service, c.chip), nil)
				ctx := limited(t, time.Minute)
				pay := begin(t, dev)
				_, err := pay.Read(ctx, tenEuros())
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Fatalf("Read: %v, want %v", err, c.err)
				}
				if err != nil {
					return
				}
				o, err := pay.Authorize(ctx, tenEuros().Amounts)
				if err != nil || o.Decision != emv.OnlineRequest || o.PIN.Empty() == c.pin || o.Signature == c.pin {
					t.Errorf("outcome %+v, %v", o, err)
				}
				names := p.names()
				if slices.Contains(names, "GPN") != c.pin || slices.Contains(names, "GOX") {
					t.Errorf("sent %v", names)
				}
				if c.pin && slices.Index(names, "GPN") > slices.Index(names, "GTK") {
					t.Error("GPN after GTK: the pad has no card number left")
				}
				// The host is silent: there is no card to ask, only a reversal.
				o, err = pay.Complete(ctx, emv.HostResponse{Sent: true})
				if err != nil || o.Decision != emv.Declined || !o.ReversalNeeded || slices.Contains(p.names(), "FCX") {
					t.Errorf("silent host: %+v, %v", o, err)
				}
			})
		})
	}
}

func TestAFallbackHasToBeAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := swipeBook("201", "0")
		p, dev := start(t, b, nil)
		n := 0
		p.answer = func(name string, r Request) [][]byte {
			if name == "GCX" {
				if n++; n%2 == 1 {
					return [][]byte{[]byte("GCX076")}
				}
			}
			return b.reply(name, r)
		}
		ctx := limited(t, time.Minute)
		if card, err := begin(t, dev).Read(ctx, tenEuros()); err != nil || card.Entry != emv.EntrySwipe {
			t.Errorf("fallback: %v, %v", card.Entry, err)
		}
		if _, err := begin(t, dev).Read(ctx, tenEuros(emv.EntryContact)); !errors.Is(err, Fallback) {
			t.Errorf("fallback where no swipe is allowed: %v", err)
		}
	})
}

func TestClearCardDataIsRefused(t *testing.T) {
	for name, gtk := range map[string][]byte{
		"track 2 without KSN": answer("GTK", param(Track2, "5413330089604111")),
		"number without KSN":  answer("GTK", param(PANData, "54133300896041"), param(Track2, "tttttttt"), param(Track2KSN, testKSN)),
		"track 1 without KSN": answer("GTK", param(Track1, "B5413330089604111"), param(Track2, "tttttttt"), param(Track2KSN, testKSN)),
		"not whole blocks":    answer("GTK", param(Track2, "5413330089604111D2512"), param(Track2KSN, testKSN)),
	} {
		synctest.Test(t, func(t *testing.T) {
			b := chipBook()
			b.gtk = gtk
			_, dev := start(t, b, nil)
			_, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros())
			if !errors.Is(err, drivers.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil && strings.Contains(err.Error(), "54133300") {
				t.Errorf("%s: the error shows the number", name)
			}
		})
	}
}

func TestNumberAndTrackOfDifferentKeysLeaveTheTrack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		b.gtk = answer("GTK", param(PANData, "PPPPPPPP"), param(PANKSN, testPKSN), param(Track2, "tttttttt"), param(Track2KSN, testKSN))
		_, dev := start(t, b, map[string]string{"data_method": "51", "data_slot": "7"})
		card, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros())
		if err != nil || card.Data.PAN != nil || string(card.Data.Track2) != "tttttttt" || card.Data.KSN != "FFFF9876543210E00001" || card.Data.Mode != "CBC" || len(card.Data.IV) != 8 {
			t.Errorf("%+v, %v", card.Data, err)
		}
	})
}

func TestAPadThatDoesNotMaskIsMasked(t *testing.T) {
	for in, want := range map[string]string{
		"5413330089604111":    "541333******4111",
		"541333******4111":    "541333******4111",
		"4111":                "",
		"MMMMMMMMMMMMMMMM":    "****************",
		"6799990100000000019": "679999*********0019",
	} {
		if got, _, _ := maskedPAN(in); got != want {
			t.Errorf("%d characters: %s, want %s", len(in), got, want)
		}
	}
}

func TestStatusBecomesWhatTheCustomerDid(t *testing.T) {
	for status, want := range map[string]error{"013": drivers.ErrCancelled, "012": drivers.ErrTimeout, "043": drivers.ErrCardGone} {
		synctest.Test(t, func(t *testing.T) {
			b := chipBook()
			b.gox = []byte("GOX" + status)
			_, dev := start(t, b, nil)
			ctx := limited(t, time.Minute)
			pay := begin(t, dev)
			if _, err := pay.Read(ctx, tenEuros()); err != nil {
				t.Fatal(err)
			}
			_, err := pay.Authorize(ctx, tenEuros().Amounts)
			var de *drivers.DeviceError
			if !errors.Is(err, want) || !errors.As(err, &de) || de.Raw != status {
				t.Errorf("%s: %v", status, err)
			}
			if s, ok := errors.AsType[Status](err); !ok || s.Code() != "device.abecs."+status {
				t.Errorf("%s: no code", status)
			}
		})
	}
}

func TestCancelWhileTheCustomerThinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		pay := begin(t, dev)
		ctx := limited(t, time.Hour)
		if _, err := pay.Read(ctx, tenEuros()); err != nil {
			t.Fatal(err)
		}
		p.raw = once("GOX", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}) })
		done := make(chan error, 1)
		go func() { _, err := pay.Authorize(ctx, tenEuros().Amounts); done <- err }()
		synctest.Wait()
		if err := pay.Cancel(ctx); err != nil {
			t.Errorf("Cancel: %v", err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Authorize: %v", err)
		}
		if _, err := pay.Complete(ctx, emv.HostResponse{}); !errors.Is(err, ErrOrder) {
			t.Errorf("Complete after Cancel: %v", err)
		}
		if err := pay.Cancel(ctx); err != nil {
			t.Errorf("second Cancel: %v", err)
		}
	})
}

func TestStepsOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		ctx := limited(t, time.Minute)
		first := begin(t, dev)
		if _, err := first.Authorize(ctx, tenEuros().Amounts); !errors.Is(err, ErrOrder) {
			t.Errorf("Authorize first: %v", err)
		}
		if _, err := first.Complete(ctx, emv.HostResponse{}); !errors.Is(err, ErrOrder) {
			t.Errorf("Complete first: %v", err)
		}
		second := begin(t, dev)
		if _, err := first.Read(ctx, tenEuros()); !errors.Is(err, ErrOrder) {
			t.Errorf("a payment after the next one began: %v", err)
		}
		if _, err := second.Read(ctx, tenEuros()); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Read(ctx, tenEuros()); !errors.Is(err, ErrOrder) || p.count("GCX") != 1 {
			t.Errorf("second Read: %v, %d GCX", err, p.count("GCX"))
		}
	})
}

func TestReadCardMakesNoCryptogram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		card, err := dev.(drivers.SecureReader).ReadCard(limited(t, time.Minute), tenEuros())
		if err != nil || card.Data.Empty() {
			t.Fatalf("%+v, %v", card, err)
		}
		if sentParam(t, p, "GCX", GCXOptions) != "00000" || sentParam(t, p, "GCX", Amount) != "000000000000" || p.count("GOX") != 0 {
			t.Error("reading a card offered a tap, an amount or a cryptogram")
		}
		if _, err := dev.(drivers.SecureReader).ReadCard(limited(t, time.Minute), tenEuros(emv.EntryContactless)); !errors.Is(err, ErrEntry) {
			t.Errorf("contactless alone: %v", err)
		}
	})
}

func TestScreenMenuAndKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		ctx := limited(t, time.Minute)
		d := dev.(drivers.Display)
		if err := d.Display(ctx, "TOTAL\n10.00"); err != nil {
			t.Fatal(err)
		}
		r, _ := p.find("DSP")
		if got := string(r.Block(0)); got != fmt.Sprintf("%-16s%-16s", "TOTAL", "10.00") {
			t.Errorf("DSP %q", got)
		}
		if err := d.Display(ctx, "THREE\nLINES\nOF TEXT"); err != nil {
			t.Fatal(err)
		}
		r, _ = p.find("DEX")
		if got := string(r.Block(0)); got != "019THREE\rLINES\rOF TEXT" {
			t.Errorf("DEX %q", got)
		}
		if err := d.Display(ctx, "caf\xE9"); err == nil {
			t.Error("a character that the pad does not have was sent")
		}
		in := dev.(drivers.Input)
		if i, err := in.Menu(ctx, "TIP?", []string{"NONE", "10 %"}); err != nil || i != 1 {
			t.Errorf("Menu: %d, %v", i, err)
		}
		if _, err := in.Menu(ctx, "", nil); err == nil {
			t.Error("a menu without options was sent")
		}
		if _, err := in.Menu(ctx, "", []string{"ONLY"}); err == nil {
			t.Error("choice 2 of 1 was taken")
		}
		if k, err := in.Key(ctx); err != nil || k != "f3" {
			t.Errorf("Key: %q, %v", k, err)
		}
	})
}

func TestTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		ctx := limited(t, time.Minute)
		tl := dev.(drivers.TableLoader)
		if v, err := tl.TableVersion(ctx); err != nil || v != "1807202408" {
			t.Errorf("version %q, %v", v, err)
		}
		aid := "284" + "1" + strings.Repeat("0", 280)
		key := "611" + "2" + strings.Repeat("0", 607)
		if err := tl.LoadTables(ctx, "2026113001", []string{aid, aid, aid, aid, key}); err != nil {
			t.Fatal(err)
		}
		if p.count("TLI") != 1 || p.count("TLR") != 2 || p.count("TLE") != 1 {
			t.Errorf("sent %v", p.names())
		}
		r, _ := p.find("TLI")
		if got := string(r.Block(0)); got != "002026113001" {
			t.Errorf("TLI %q", got)
		}
		for name, records := range map[string][]string{
			"length lies": {"285" + aid[3:]}, "unknown kind": {"284" + "9" + aid[4:]}, "empty": {""}, "too long": {"999" + "1" + strings.Repeat("0", 995)},
		} {
			if err := tl.LoadTables(ctx, "2026113001", records); err == nil {
				t.Errorf("%s: loaded", name)
			}
		}
		if err := tl.LoadTables(ctx, "v1", nil); err == nil {
			t.Error("a version of two characters was loaded")
		}
		p.answer = func(name string, r Request) [][]byte { return [][]byte{[]byte(name + "021")} }
		if err := tl.LoadTables(ctx, "2026113001", []string{aid}); !errors.Is(err, TableWrite) {
			t.Errorf("a pad that cannot write: %v", err)
		}
	})
}

func TestChipAccessRefusesPaymentData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		p.answer = func(name string, r Request) [][]byte {
			if name == "CHP" {
				return [][]byte{[]byte("CHP0000070029000")}
			}
			return b.reply(name, r)
		}
		c, ok := ChipOf(dev)
		if !ok {
			t.Fatal("no chip access")
		}
		if _, is := dev.(drivers.APDUChannel); is {
			t.Fatal("the pad offers itself as a reader without kernel")
		}
		ctx := limited(t, time.Minute)
		out, err := c.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x00, 0x05, 0xF0, 1, 2, 3, 4})
		if err != nil || !bytes.Equal(out, []byte{0x90, 0x00}) {
			t.Errorf("SELECT: %X, %v", out, err)
		}
		for _, ins := range []byte{0xB2, 0xB0, 0xCA, 0xA8, 0xAE, 0x20} {
			if _, err := c.Transmit(ctx, []byte{0x00, ins, 1, 0x0C, 0}); !errors.Is(err, drivers.ErrRefused) {
				t.Errorf("instruction %02X: %v", ins, err)
			}
		}
		if p.count("CHP") != 1 {
			t.Errorf("%d CHP were sent", p.count("CHP"))
		}
	})
}

func TestGuardRefusesWhatReturnsClearData(t *testing.T) {
	build := func(name string, p ...Param) []byte {
		b, err := AppendParams(nil, name, p...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mask := Param{PANMask, []byte("0604")}
	for name, b := range map[string][]byte{
		"GTK without method":         build("GTK", Param{Tracks, []byte("1111")}),
		"GTK with a master key":      build("GTK", Param{Tracks, []byte("1111")}, Param{MethodData, []byte("10")}),
		"GTK with open digits":       build("GTK", Param{MethodData, []byte("50")}, Param{OpenDigits, []byte("8")}),
		"GCX without mask":           build("GCX", Param{Amount, []byte("000000001000")}),
		"GCX with a wide mask":       build("GCX", Param{PANMask, []byte("0804")}),
		"GCX with tag 57":            build("GCX", mask, Param{TagList, []byte{0x9F, 0x26, 0x57}}),
		"GCX with tag 5A":            build("GCX", mask, Param{TagList, []byte{0x5A}}),
		"GOX with tag 9F6B":          build("GOX", Param{TagList, []byte{0x9F, 0x6B}}),
		"FCX with the holder's name": build("FCX", Param{TagList, []byte{0x5F, 0x20}}),
		"classic card read":          []byte("GCR"),
		"classic event":              []byte("CKE000"),
		"buffer encryption":          build("EBX", Param{DataIn, []byte("12345678")}),
	} {
		if err := CheckCommand(b); !errors.Is(err, drivers.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"GTK with DUKPT": build("GTK", Param{Tracks, []byte("1010")}, Param{MethodData, []byte("50")}),
		"GCX with mask":  build("GCX", mask, Param{TagList, gcxTags}),
		"GOX":            build("GOX", Param{TagList, goxTags}),
		"GIX":            []byte("GIX"),
	} {
		if err := CheckCommand(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettings(t *testing.T) {
	s, err := ParseSettings(nil)
	if err != nil || s.Baud != 19200 || s.DataMethod != "50" || !s.ForceOnline {
		t.Errorf("%+v, %v", s, err)
	}
	for name, v := range map[string]string{"data_method": "00", "data_slot": "100", "acquirer": "1", "customer_wait": "0", "nonsense": "1", "baud": "fast", "swipe_pin": "2", "idle_text": strings.Repeat("x", 33)} {
		if _, err := ParseSettings(map[string]string{name: v}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s = %q: %v", name, v, err)
		}
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	var log strings.Builder
	synctest.Test(t, func(t *testing.T) {
		b := swipeBook("120", "0")
		p, host := newPad(b)
		dev, err := testDriver.Open(t.Context(), host, drivers.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { dev.Close(); <-p.done }()
		ctx := limited(t, time.Minute)
		pay := begin(t, dev)
		card, err := pay.Read(ctx, tenEuros())
		if err != nil {
			t.Fatal(err)
		}
		o, err := pay.Authorize(ctx, tenEuros().Amounts)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := Parse(b.gcx)
		for p := range r.Params() {
			fmt.Fprintf(&log, "%v %+v %#v %s", p, p, p, p)
		}
		fmt.Fprintf(&log, "%v %+v %v %v", r, r, card.Data, o.PIN)
		fmt.Fprintf(&log, "%v %+v %#v", dev.(*device).l.channel, dev.(*device).l.channel, dev.(*device).l.channel)
	})
	for _, secret := range []string{"0123456789ABCDEF", "\x01\x23\x45\x67", "2512120"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}
