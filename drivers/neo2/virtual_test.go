package neo2_test

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/profile"
)

// counterOf opens the driver on a virtual reader in a synctest bubble.
func counterOf(t *testing.T, o virtual.Options, play func(t *testing.T, r *virtual.Reader, d drivers.Device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if o.Key == nil {
			o.Key = newKey()
		}
		if o.Cards == nil {
			o.Cards = map[string]*virtualcard.Card{"visa": theCard()}
		}
		port := drivers.Port{Path: "line"}
		if o.HID {
			port.Kind = drivers.KindHID
		}
		host, device := drivertest.Pipe(drivertest.PipeOptions{Port: port})
		r, err := virtual.New(o)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); r.Run(context.Background(), device.Stream()) }()
		defer func() { host.Close(); <-done }()
		dev, err := neo2.New().Open(t.Context(), host, drivers.Config{Name: "reader", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		defer dev.Close()
		play(t, r, dev)
	})
}

// steps are what the customer does and what goes wrong.
func steps(t *testing.T, r *virtual.Reader, list ...virtual.Step) {
	t.Helper()
	for _, s := range list {
		if err := r.Do(s); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	insert = virtual.Step{Do: "insert", Card: "visa", AfterMS: 500}
	tap    = virtual.Step{Do: "tap", Card: "visa", AfterMS: 500}
	swipe  = virtual.Step{Do: "swipe", Card: "visa", AfterMS: 500}
)

func fault(name string) virtual.Step { return virtual.Step{Do: "fault", Fault: name} }

func both(t *testing.T, f func(t *testing.T, hid bool)) {
	for name, hid := range map[string]bool{"serial": false, "hid": true} {
		t.Run(name, func(t *testing.T) { f(t, hid) })
	}
}

func TestChipSale(t *testing.T) {
	for name, c := range map[string]struct {
		host     emv.HostResponse
		faults   []virtual.Step
		want     emv.Decision
		reversal bool
		final    string
		arc      string
	}{
		"approved":                         {approval, nil, emv.Approved, false, "approved", "00"},
		"declined by the host":             {emv.HostResponse{Reached: true, Sent: true, ARC: "51"}, nil, emv.Declined, false, "declined", "51"},
		"declined with an approving code":  {emv.HostResponse{Reached: true, Sent: true, ARC: "00"}, nil, emv.Declined, false, "declined", "05"},
		"declined by the card":             {approval, []virtual.Step{fault("card-declines")}, emv.Declined, true, "declined", "00"},
		"silence after something was sent": {emv.HostResponse{Sent: true}, nil, emv.Declined, true, "declined", "05"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, hid bool) {
				counterOf(t, virtual.Options{HID: hid, Asks: true}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
					steps(t, r, append(c.faults, insert)...)
					card, o, err := pay(t.Context(), d, terms(1000, emv.EntryContact), c.host)
					if err != nil {
						t.Fatal(err)
					}
					if o.Decision != c.want || o.ReversalNeeded != c.reversal {
						t.Errorf("outcome %s, reversal %v: want %s, %v", o.Decision, o.ReversalNeeded, c.want, c.reversal)
					}
					if card.Entry != emv.EntryContact || card.AID != "A0000000031010" || card.CryptogramMade {
						t.Errorf("card %s %s", card.Entry, card.AID)
					}
					b := r.Books()
					if len(b) != 1 || b[0].Amount != 1000 || b[0].Currency != "978" || b[0].Final != c.final || b[0].Host != c.arc {
						t.Errorf("books %+v", b)
					}
				})
			})
		})
	}
}

// The card is asked for AAC, and not by "unable to go online", when the host
// stays silent after something was sent (R5).
func TestSilenceOfTheHostAsksForAAC(t *testing.T) {
	counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		steps(t, r, insert)
		_, o, err := pay(t.Context(), d, terms(1000, emv.EntryContact), emv.HostResponse{Sent: true})
		if err != nil {
			t.Fatal(err)
		}
		b := r.Books()
		if o.CID != "00" || !o.ReversalNeeded || len(b) != 1 || b[0].Final != "declined" || b[0].Host == "" {
			t.Errorf("CID %s, reversal %v, books %+v", o.CID, o.ReversalNeeded, b)
		}
	})
}

// A tap makes its cryptogram in Read; the ciphertext opens to the card.
func TestTapAndItsCiphertext(t *testing.T) {
	for name, plain := range map[string]bool{"marked objects": false, "plain objects": true} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, hid bool) {
				key := newKey()
				counterOf(t, virtual.Options{HID: hid, Key: key, Plain: plain}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
					steps(t, r, tap)
					card, o, err := pay(t.Context(), d, terms(2599), approval)
					if err != nil {
						t.Fatal(err)
					}
					if !card.CryptogramMade || card.Outcome.Decision != emv.OnlineRequest || o.Decision != emv.Approved {
						t.Errorf("made %v, %s, %s", card.CryptogramMade, card.Outcome.Decision, o.Decision)
					}
					if err := profile.Check(&card.Data, &profile.Expect{Serial: "0123456789ABCDEF"}); err != nil {
						t.Errorf("the envelope is not of its profile: %v", err)
					}
					if len(card.Outcome.Field55) == 0 || bytes.Contains(card.Outcome.Field55, []byte{0xDF, 0xEE}) {
						t.Error("field 55")
					}
					if !plain && (card.MaskedPAN == "" || strings.Count(card.MaskedPAN, "*") < 6) {
						t.Errorf("masked number %s", card.MaskedPAN)
					}
					if clear := open(t, key, card.Data); !strings.Contains(clear, theCard().PAN()) {
						t.Error("the ciphertext does not open to the card's number")
					}
				})
			})
		})
	}
}

// open deciphers an envelope's track as the acquirer does.
func open(t *testing.T, key *virtual.InitialKey, e p2pe.Envelope) string {
	t.Helper()
	raw, _ := hex.DecodeString(key.Key)
	state, err := dukpt.Load(raw, p2pe.KSN(key.KSN))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		tx, err := state.Next()
		if err != nil {
			t.Fatal(err)
		}
		if tx.KSN() != e.KSN {
			continue
		}
		k, err := dukpt.DataKey(tx, dukpt.Request)
		if err != nil {
			t.Fatal(err)
		}
		b := k.Bytes()
		c, err := des.NewTripleDESCipher(append(append([]byte(nil), b...), b[:8]...))
		if err != nil {
			t.Fatal(err)
		}
		data := e.TLV57
		if len(data) == 0 {
			data = e.Track2
		}
		out := make([]byte, len(data))
		cipher.NewCBCDecrypter(c, make([]byte, 8)).CryptBlocks(out, data)
		return hex.EncodeToString(out) + string(out)
	}
	t.Fatal("a KSN that is not the reader's")
	return ""
}

func TestSwipe(t *testing.T) {
	key := newKey()
	counterOf(t, virtual.Options{Key: key}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		steps(t, r, swipe)
		card, o, err := pay(t.Context(), d, terms(400), approval)
		if err != nil {
			t.Fatal(err)
		}
		if card.Entry != emv.EntrySwipe || card.CryptogramMade || o.Decision != emv.Approved || len(card.Data.Track2) == 0 {
			t.Errorf("%s %s", card.Entry, o.Decision)
		}
		if err := profile.Check(&card.Data, nil); err != nil {
			t.Errorf("the envelope is not of its profile: %v", err)
		}
		if clear := open(t, key, card.Data); !strings.Contains(clear, theCard().PAN()) {
			t.Error("the ciphertext does not open to the card's number")
		}
	})
}

// Card data counts only as ciphertext with its KSN under an attribution that
// says so.
func TestWhatIsNotEncryptedIsRefused(t *testing.T) {
	for _, name := range []string{"encryption-off", "clear-data", "no-attribution", "wrong-attribution", "no-ksn"} {
		for way, step := range map[string]virtual.Step{"insert": insert, "tap": tap, "swipe": swipe} {
			for _, entries := range [][]emv.Entry{{emv.EntryContact}, nil} {
				if len(entries) == 1 && way != "insert" {
					continue
				}
				t.Run(name+" "+way, func(t *testing.T) {
					both(t, func(t *testing.T, hid bool) {
						counterOf(t, virtual.Options{HID: hid}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
							steps(t, r, fault(name), step)
							card, _, err := pay(t.Context(), d, terms(1000, entries...), approval)
							if !errors.Is(err, drivers.ErrRefused) {
								t.Errorf("err %v; want one matching ErrRefused", err)
							}
							if !card.Data.Empty() || card.MaskedPAN != "" {
								t.Error("card data left the driver")
							}
							if err != nil && strings.Contains(err.Error(), theCard().PAN()[6:12]) {
								t.Error("the error shows the number")
							}
							// The reader is usable afterwards.
							steps(t, r, virtual.Step{Do: "fault", Fault: "clear"}, insert)
							if _, o, err := pay(t.Context(), d, terms(1000), approval); err != nil || o.Decision != emv.Approved {
								t.Errorf("the payment after it: %s %v", o.Decision, err)
							}
						})
					})
				})
			}
		}
	}
}

// A cryptogram over something else is never taken.
func TestAnotherAmountIsNeverTaken(t *testing.T) {
	for _, name := range []string{"wrong-amount", "wrong-currency"} {
		for way, step := range map[string]virtual.Step{"insert": insert, "tap": tap} {
			t.Run(name+" "+way, func(t *testing.T) {
				counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
					steps(t, r, fault(name), step)
					if _, o, err := pay(t.Context(), d, terms(1000), approval); !errors.Is(err, neo2.ErrAmount) || o.Decision == emv.Approved {
						t.Errorf("%s %v", o.Decision, err)
					}
				})
			})
		}
	}
}

// A result code that no table knows is no approval.
func TestUnknownResultIsNoApproval(t *testing.T) {
	counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		steps(t, r, fault("odd-result"), insert)
		if _, o, err := pay(t.Context(), d, terms(1000), approval); err == nil || o.Decision == emv.Approved {
			t.Errorf("%s %v", o.Decision, err)
		}
		if b := r.Books(); len(b) != 1 || b[0].Final != "" {
			t.Errorf("the payment went on: %+v", b)
		}
	})
}

func TestCardTakenAway(t *testing.T) {
	for _, at := range []string{"60-10", "60-11", "60-12"} {
		t.Run(at, func(t *testing.T) {
			counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
				steps(t, r, virtual.Step{Do: "pull", At: at}, insert)
				if _, o, err := pay(t.Context(), d, terms(1000, emv.EntryContact), approval); !errors.Is(err, emv.ErrCardRemoved) || o.Decision != "" {
					t.Errorf("%s %v", o.Decision, err)
				}
			})
		})
	}
	t.Run("tap", func(t *testing.T) {
		counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
			steps(t, r, virtual.Step{Do: "pull", At: "02-40"}, tap)
			if _, _, err := pay(t.Context(), d, terms(1000), approval); !errors.Is(err, emv.ErrCardRemoved) {
				t.Error(err)
			}
		})
	})
}

func TestNobodyComes(t *testing.T) {
	for _, entries := range [][]emv.Entry{{emv.EntryContact}, nil} {
		counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			if _, _, err := pay(ctx, d, terms(1000, entries...), approval); !errors.Is(err, emv.ErrNoCard) {
				t.Errorf("%v: %v", entries, err)
			}
		})
	}
}

// Cancel from another goroutine stops a read, and the reader is ready again.
func TestCancelWhileWaiting(t *testing.T) {
	both(t, func(t *testing.T, hid bool) {
		for _, entries := range [][]emv.Entry{{emv.EntryContact}, nil} {
			counterOf(t, virtual.Options{HID: hid}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
				s, err := d.(drivers.CardSession).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				failed := make(chan error, 1)
				go func() {
					_, err := s.Read(t.Context(), terms(1000, entries...))
					failed <- err
				}()
				synctest.Wait()
				if r.Waiting() != "card" {
					t.Fatal("the reader does not wait for a card")
				}
				if err := s.Cancel(t.Context()); err != nil {
					t.Errorf("cancel: %v", err)
				}
				if err := <-failed; !errors.Is(err, emv.ErrCancelled) {
					t.Errorf("read: %v", err)
				}
				synctest.Wait()
				if r.Waiting() != "" {
					t.Error("the reader still waits with the old amount")
				}
				if _, err := s.Read(t.Context(), terms(1000)); !errors.Is(err, neo2.ErrOrder) {
					t.Errorf("a step of a cancelled payment: %v", err)
				}
				steps(t, r, insert)
				if _, o, err := pay(t.Context(), d, terms(300), approval); err != nil || o.Decision != emv.Approved {
					t.Errorf("the next payment: %s %v", o.Decision, err)
				}
			})
		}
	})
}

// Answers lost at each phase: no money command is sent twice, and what ends in
// an error is charged at most once.
func TestLostAnswersAreNotAskedForAgain(t *testing.T) {
	for _, what := range []string{"drop-answer", "bad-crc"} {
		for n := 1; n <= 3; n++ {
			counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
				s, err := d.(drivers.CardSession).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				steps(t, r, insert)
				card, err := s.Read(t.Context(), terms(1000, emv.EntryContact))
				if err != nil || card.Data.Empty() {
					t.Fatal(err)
				}
				steps(t, r, virtual.Step{Do: "fault", Fault: what, N: n})
				// Without the word that more follows the answer itself may still come.
				if o, err := s.Authorize(t.Context(), amounts(1000)); err == nil && (what != "drop-answer" || n > 1) {
					t.Errorf("%s: %s", what, o.Decision)
				}
				steps(t, r, fault("clear"))
				if _, err := s.Authorize(t.Context(), amounts(1000)); !errors.Is(err, neo2.ErrOrder) {
					t.Errorf("%s: the step again: %v", what, err)
				}
				if b := r.Books(); len(b) > 1 {
					t.Errorf("%s: the card was asked %d times", what, len(b))
				}
			})
		}
	}
}

func TestEncryptionIsTurnedOnAtOpen(t *testing.T) {
	counterOf(t, virtual.Options{EncryptionOff: true}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		steps(t, r, tap)
		if _, o, err := pay(t.Context(), d, terms(1000), approval); err != nil || o.Decision != emv.Approved {
			t.Errorf("%s %v", o.Decision, err)
		}
	})
}

func TestReadersWithoutEncryptionOrKeyAreNotOpened(t *testing.T) {
	for name, c := range map[string]struct {
		o    virtual.Options
		want error
		code string
	}{
		"encryption stays off": {virtual.Options{EncryptionOff: true, Locked: true, Key: newKey()}, neo2.ErrEncryption, "device.encryption_off"},
		"no key":               {virtual.Options{}, neo2.ErrKeys, "device.no_key"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, device := drivertest.Pipe(drivertest.PipeOptions{})
				r, err := virtual.New(c.o)
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() { defer close(done); r.Run(context.Background(), device.Stream()) }()
				_, err = neo2.New().Open(t.Context(), host, drivers.Config{})
				if !errors.Is(err, c.want) {
					t.Error(err)
				}
				if coded, ok := errors.AsType[interface {
					error
					Code() string
				}](err); !ok || coded.Code() != c.code {
					t.Error("no code")
				}
				<-done // the driver closed the line
			})
		})
	}
}

// A reader without these commands is judged by each answer alone.
func TestOldReader(t *testing.T) {
	counterOf(t, virtual.Options{Old: true}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		steps(t, r, insert)
		if _, o, err := pay(t.Context(), d, terms(1000), approval); err != nil || o.Decision != emv.Approved {
			t.Errorf("%s %v", o.Decision, err)
		}
		steps(t, r, fault("encryption-off"), insert)
		if _, _, err := pay(t.Context(), d, terms(1000), approval); !errors.Is(err, drivers.ErrRefused) {
			t.Error(err)
		}
	})
}
