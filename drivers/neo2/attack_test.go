package neo2_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/neo2"
	virtual "tillbridge/drivers/virtual/neo2"
	"tillbridge/emv"
	"tillbridge/emv/virtualcard"
)

// aReader plays a reader by hand: answer gets every command and may write what
// it likes. Commands of opening are answered beforehand.
func aReader(t *testing.T, answer func(ctx context.Context, f neo2.Frame, write func(command, status byte, data []byte)), play func(t *testing.T, d drivers.Device)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		host, device := drivertest.Pipe(drivertest.PipeOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		var served sync.WaitGroup
		served.Go(func() {
			line := device.Stream()
			d := neo2.Decoder{Dir: neo2.ToReader}
			write := func(command, status byte, data []byte) {
				b, _ := neo2.Append(nil, neo2.FromReader, neo2.Frame{Command: command, Code: status, Data: data})
				line.Write(b)
			}
			b := make([]byte, 4096)
			for {
				n, err := line.Read(b)
				d.Feed(b[:n])
				for {
					f, ok, _ := d.Next()
					if !ok {
						break
					}
					switch f.Command {
					case 0x18, 0x05:
						write(f.Command, 0, nil)
					case 0x29:
						write(f.Command, 0, []byte{'V', 'P', '3', f.Code + 0x20})
					case 0x81, 0xC7:
						write(f.Command, 2, nil)
					default:
						f.Data = append([]byte(nil), f.Data...)
						served.Go(func() { answer(ctx, f, write) })
					}
				}
				if err != nil {
					return
				}
			}
		})
		defer served.Wait()
		defer cancel()
		defer host.Close()
		dev, err := neo2.New().Open(t.Context(), host, drivers.Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		play(t, dev)
	})
}

// A reader that says "more follows", or asks for its display, without end does
// not hold a step for ever, also where the caller sets no time.
func TestPromisesWithoutEndAreGivenUp(t *testing.T) {
	for name, again := range map[string]func(write func(command, status byte, data []byte)){
		"63":    func(write func(byte, byte, []byte)) { write(0x60, 0x63, nil) },
		"61-01": func(write func(byte, byte, []byte)) { write(0x61, 0x01, []byte("WAIT")) },
		"pings": func(write func(byte, byte, []byte)) { write(0x18, 0x00, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			aReader(t, func(ctx context.Context, f neo2.Frame, write func(byte, byte, []byte)) {
				if f.Command != 0x60 {
					return
				}
				for n := 0; ctx.Err() == nil && n < 20000; n++ { // five and a half hours
					again(write)
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
					}
				}
			}, func(t *testing.T, d drivers.Device) {
				s, err := d.(drivers.CardSession).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, err := s.Read(t.Context(), terms(1000, emv.EntryContact)); err == nil {
					t.Error("a card was read")
				}
				if took := time.Since(began); took > 15*time.Minute {
					t.Errorf("it waited for %s", took)
				}
			})
		})
	}
}

// A step out of order changes nothing of the payment under way.
func TestASecondReadDoesNotChangeTheAmount(t *testing.T) {
	counterOf(t, virtual.Options{}, func(t *testing.T, r *virtual.Reader, d drivers.Device) {
		s, err := d.(drivers.CardSession).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		steps(t, r, insert)
		if _, err := s.Read(t.Context(), terms(1000, emv.EntryContact)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), terms(9000, emv.EntryContact)); !errors.Is(err, neo2.ErrOrder) {
			t.Errorf("a second read: %v", err)
		}
		if o, err := s.Authorize(t.Context(), amounts(1000)); err != nil || o.Decision != emv.OnlineRequest {
			t.Errorf("the first amount: %s %v", o.Decision, err)
		}
	})
}

// exchangeable is a line whose far end can be put on another reader.
type exchangeable struct {
	drivers.Transport
	mu  sync.Mutex
	now drivers.Transport
}

func (e *exchangeable) line() drivers.Transport {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *exchangeable) Read(ctx context.Context, p []byte) (int, error) { return e.line().Read(ctx, p) }
func (e *exchangeable) Write(ctx context.Context, p []byte) (int, error) {
	return e.line().Write(ctx, p)
}

// A reader that was put on the same serial cable in place of another gets no
// payment: its ciphertext would be booked under the other one's number.
func TestAnotherReaderOnTheSameCable(t *testing.T) {
	for name, first := range map[string]func(ctx context.Context, d drivers.Device) error{
		"health": func(ctx context.Context, d drivers.Device) error { _, err := d.Health(ctx); return err },
		"payment": func(ctx context.Context, d drivers.Device) error {
			_, _, err := pay(ctx, d, terms(1000, emv.EntryContact), approval)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ends []drivers.Transport
				var readers []*virtual.Reader
				var done sync.WaitGroup
				for _, serial := range []string{"0123456789ABCDEF", "FEDCBA9876543210"} {
					host, device := drivertest.Pipe(drivertest.PipeOptions{})
					r, err := virtual.New(virtual.Options{Serial: serial, Key: newKey(), Cards: map[string]*virtualcard.Card{"visa": theCard()}})
					if err != nil {
						t.Fatal(err)
					}
					done.Go(func() { r.Run(context.Background(), device.Stream()) })
					ends, readers = append(ends, host), append(readers, r)
				}
				defer func() { ends[0].Close(); ends[1].Close(); done.Wait() }()
				line := &exchangeable{Transport: ends[0], now: ends[0]}
				dev, err := neo2.New().Open(t.Context(), line, drivers.Config{Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer dev.Close()
				line.mu.Lock()
				line.now = ends[1]
				line.mu.Unlock()
				steps(t, readers[1], insert)
				if err := first(t.Context(), dev); !errors.Is(err, neo2.ErrOther) {
					t.Errorf("err %v; want ErrOther", err)
				}
				if b := readers[1].Books(); len(b) != 0 {
					t.Errorf("the other reader took a payment: %+v", b)
				}
			})
		})
	}
}

// stray slips reports in that belong to nothing: too short, of an unknown id, a
// last one without a first.
type stray struct {
	drivers.Transport
	rnd *rand.Rand
}

func (s *stray) Read(ctx context.Context, p []byte) (int, error) {
	if s.rnd.IntN(12) == 0 {
		report := make([]byte, 64)
		for i := range report {
			report[i] = byte(s.rnd.Uint32())
		}
		switch s.rnd.IntN(6) {
		case 0:
			report = report[:1+s.rnd.IntN(63)]
		case 1:
			report[0] = 0
		case 2:
			report[0] = 5 + byte(s.rnd.IntN(250))
		default:
			report[0] = 1 + byte(s.rnd.IntN(4))
		}
		return copy(p, report), nil
	}
	n, err := s.Transport.Read(ctx, p)
	if n > 0 && s.rnd.IntN(60) == 0 {
		n = s.rnd.IntN(n + 1) // cut off
	}
	return n, err
}

// Reports of a wrong length or id end in the right payment or in an error, and
// no card is asked twice.
func TestStrayReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		through := 0
		all := scale(100, 3000)
		for seed := range all {
			host, device := drivertest.Pipe(drivertest.PipeOptions{Port: drivers.Port{Kind: drivers.KindHID, Path: "hid"}})
			c := newCounter([]string{"insert", "tap"}[seed%2], true)
			r, err := virtual.New(c.o)
			if err != nil {
				t.Fatal(err)
			}
			steps(t, r, virtual.Step{Do: "auto", Card: "visa", Entry: c.entry, AfterMS: 100})
			c.readers = append(c.readers, r)
			var served sync.WaitGroup
			served.Go(func() { r.Run(context.Background(), device.Stream()) })
			outcome := ""
			dev, err := neo2.New().Open(t.Context(), &stray{host, rand.New(rand.NewPCG(uint64(seed), 9))}, drivers.Config{Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				outcome, err = saleOf(2500).Run(ctx, dev)
				cancel()
				dev.Close()
			}
			host.Close()
			served.Wait()
			if err == nil {
				through++
			}
			if wrong := c.books("sale 2500", outcome, err); wrong != nil {
				t.Errorf("seed %d: %v", seed, wrong)
			}
		}
		t.Logf("%d of %d payments came through", through, all)
		if through == 0 || through == all {
			t.Error("reports that spoil nothing, or everything, show nothing")
		}
	})
}

// Nothing that is logged, returned or printed under any verb holds the card's
// number or track, whatever the reader gives out.
func TestNothingShowsTheCard(t *testing.T) {
	pan := theCard().PAN()
	track := strings.ReplaceAll(theCard().Track2(), "D", "=")
	for _, f := range []string{"", "encryption-off", "clear-data", "no-attribution", "wrong-attribution", "no-ksn", "odd-result", "wrong-amount", "bad-crc"} {
		for way, step := range map[string]virtual.Step{"insert": insert, "tap": tap, "swipe": swipe} {
			synctest.Test(t, func(t *testing.T) {
				host, device := drivertest.Pipe(drivertest.PipeOptions{})
				r, err := virtual.New(virtual.Options{Key: newKey(), Cards: map[string]*virtualcard.Card{"visa": theCard()}})
				if err != nil {
					t.Fatal(err)
				}
				var served sync.WaitGroup
				served.Go(func() { r.Run(context.Background(), device.Stream()) })
				var out bytes.Buffer
				log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
				dev, err := neo2.New().Open(t.Context(), host, drivers.Config{Log: log})
				if err != nil {
					t.Fatal(err)
				}
				steps(t, r, step)
				if f != "" {
					steps(t, r, fault(f))
				}
				card, o, err := pay(t.Context(), dev, terms(1000), approval)
				log.Info("end", "card", card, "outcome", o, "err", err, "terms", terms(1000))
				for _, v := range []any{card, o, err, card.Data} {
					fmt.Fprintf(&out, "%v %+v %#v %s %x %q\n", v, v, v, v, v, v)
				}
				dev.Close()
				host.Close()
				served.Wait()
				for _, secret := range []string{pan, pan[4:14], track, hex.EncodeToString([]byte(pan)), hex.EncodeToString([]byte(pan[6:12]))} {
					if strings.Contains(strings.ToLower(out.String()), strings.ToLower(secret)) {
						t.Errorf("%s %s: the card shows", f, way)
					}
				}
			})
		}
	}
}

// The answer to the read of an earlier payment is known by its KSN, also where
// nothing else in it differs: a DUKPT key is used once.
func TestAnEarlierCardIsNotReadAgain(t *testing.T) {
	for at, entries := range map[string][]emv.Entry{"60-10": {emv.EntryContact}, "02-40": {emv.EntryContactless}} {
		t.Run(at, func(t *testing.T) {
			withEar(t, func(t *testing.T, e *ear, r *virtual.Reader, d drivers.Device) {
				for range 3 {
					steps(t, r, insert, tap)
				}
				if _, o, err := pay(t.Context(), d, terms(1000, entries...), approval); err != nil || o.Decision != emv.Approved {
					t.Fatalf("%s %v", o.Decision, err)
				}
				old := e.got[at]
				if _, o, err := pay(t.Context(), d, terms(1000, entries...), approval); err != nil || o.Decision != emv.Approved {
					t.Fatalf("a second payment: %s %v", o.Decision, err)
				}
				for _, stale := range [][]byte{old, e.got[at]} {
					e.slip[at] = stale
					card, o, err := pay(t.Context(), d, terms(1000, entries...), approval)
					if !errors.Is(err, drivers.ErrRefused) || !card.Data.Empty() {
						t.Errorf("%s %v", o.Decision, err)
					}
				}
			})
		})
	}
}

// An answer to 60-10 that says twice, and differently, what was encrypted is
// refused.
func TestTwoAttributionsAreRefused(t *testing.T) {
	const card = "DFEE120AFFFF9876543211E00001" + "5A08911F3B77C0FEA1D2" + "5710E1887ABCFE0142990011AACCBBEEDD77" + "8407A0000000031010"
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"one": {"DFEE260140" + card, true}, "the same twice": {"DFEE260140" + card + "DFEE260140", true},
		"then off": {"DFEE260140" + card + "DFEE260100", false}, "first off": {"DFEE260100" + card + "DFEE260140", false},
		"then AES": {"DFEE260140" + card + "DFEE260142", false}, "none": {card, false}, "empty": {"DFEE2600" + card, false},
	} {
		t.Run(name, func(t *testing.T) {
			aReader(t, func(_ context.Context, f neo2.Frame, write func(byte, byte, []byte)) {
				b, _ := hex.DecodeString(c.data)
				write(f.Command, 0x63, nil)
				write(f.Command, 0x00, b)
			}, func(t *testing.T, d drivers.Device) {
				s, err := d.(drivers.CardSession).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.Read(t.Context(), terms(1000, emv.EntryContact))
				if c.ok != (err == nil) || !c.ok && (!errors.Is(err, drivers.ErrRefused) || !got.Data.Empty()) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A tap in stripe mode has no cryptogram over the amount; what its answer says
// of the payment is compared all the same, and so is what it says of AES.
func TestTapInStripeMode(t *testing.T) {
	const card = "DFEE120AFFFF9876543211E00001" + "5720E1887ABCFE0142990011AACCBBEEDD77911F3B77C0FEA1D20FF1E2D3C4B5A697"
	const terms978 = "9F0206000000001000 5F2A020978 "
	for name, c := range map[string]struct {
		data string
		ok   bool
	}{
		"TDES": {"D1" + card, true}, "AES": {"D3" + card, true}, "with its terms": {"D1" + card + terms978, true},
		"another amount": {"D1" + card + "9F0206000000009000", false}, "another currency": {"D1" + card + "5F2A020840", false},
		"encryption of chips alone": {"51" + card, false}, "encryption of stripes alone": {"91" + card, false}, "off": {"11" + card, false},
		"an algorithm that nobody knows": {"D5" + card, false}, "clear track": {"D1" + card + "9F6B104111111111111111D291210100000000", false},
		"clear track of the reader's own tag": {"D1" + card + "FFEE1426" + hex.EncodeToString([]byte(";4761739001010119=29122010000000000?xxx")), false},
	} {
		t.Run(name, func(t *testing.T) {
			aReader(t, func(_ context.Context, f neo2.Frame, write func(byte, byte, []byte)) {
				b, err := hex.DecodeString(strings.ReplaceAll(c.data, " ", ""))
				if err != nil {
					t.Error(err)
				}
				write(f.Command, 0x23, b)
			}, func(t *testing.T, d drivers.Device) {
				got, o, err := pay(t.Context(), d, terms(1000, emv.EntryContactless), approval)
				if c.ok != (err == nil) || c.ok && (o.Decision != emv.Approved || !got.CryptogramMade || got.Data.Empty()) || !c.ok && !got.Data.Empty() {
					t.Errorf("%s %v", o.Decision, err)
				}
			})
		})
	}
}
