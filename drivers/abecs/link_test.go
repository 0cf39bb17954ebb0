package abecs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/frame"
	"tillbridge/emv"
)

// once makes a raw hook that acts on the first command of a name alone.
func once(name string, f func(p *pad, clear []byte)) func(*pad, string, []byte) bool {
	done := false
	return func(p *pad, n string, clear []byte) bool {
		if n != name || done {
			return false
		}
		done = true
		f(p, clear)
		return true
	}
}

func show(t *testing.T, dev drivers.Device) error {
	t.Helper()
	return dev.(drivers.Display).Display(limited(t, time.Minute), "HELLO")
}

func TestNAKIsAnsweredWithTheSamePacketThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		naks := 2
		p.raw = func(p *pad, name string, _ []byte) bool {
			if name != "DSP" || naks == 0 {
				return false
			}
			naks--
			p.line.Write([]byte{frame.ByteNAK})
			return true
		}
		if err := show(t, dev); err != nil || p.count("DSP") != 3 {
			t.Errorf("after two NAK: %v, %d sent", err, p.count("DSP"))
		}
		naks = 100
		if err := show(t, dev); !errors.Is(err, ErrNAK) || p.count("DSP") != 6 {
			t.Errorf("NAK for ever: %v, %d sent", err, p.count("DSP")-3)
		}
	})
}

func TestNoAcknowledgementEndsAfterTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(*pad, []byte) {})
		from := time.Now()
		if err := show(t, dev); !errors.Is(err, ErrNoAnswer) || time.Since(from) != ackWait {
			t.Errorf("%v after %v", err, time.Since(from))
		}
		// The next command begins with CAN.
		cans := p.count("CAN")
		if err := show(t, dev); err != nil || p.count("CAN") != cans+1 {
			t.Errorf("next: %v, %d CAN", err, p.count("CAN")-cans)
		}
	})
}

func TestAnswerOfACommandThatWaitsForNobodyEndsAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}) })
		from := time.Now()
		if err := show(t, dev); !errors.Is(err, ErrNoAnswer) || time.Since(from) != answerWait {
			t.Errorf("%v after %v", err, time.Since(from))
		}
	})
}

func TestACustomerMayTakeMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		p.raw = once("GCX", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			time.Sleep(3 * time.Minute)
			p.reply(answerNTM("INSERT CARD"))
			time.Sleep(3 * time.Minute)
			p.reply(b.gcx)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if _, err := begin(t, dev).Read(ctx, tenEuros()); err != nil {
			t.Errorf("Read: %v", err)
		}
	})
}

func answerNTM(text string) []byte { return append([]byte("NTM000032"), s32(text)...) }

func TestABrokenAnswerIsAskedForAgainAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			wire := append([]byte(nil), p.frame([]byte("DSP000"))...)
			wire[len(wire)-1] ^= 1
			p.line.Write(wire)
		})
		from := time.Now()
		if err := show(t, dev); err != nil || p.count("NAK") != 1 || time.Since(from) < quietWait {
			t.Errorf("%v, %d NAK after %v", err, p.count("NAK"), time.Since(from))
		}
	})
}

func TestAnAnswerThatIsAlwaysBrokenEndsAfterThreeNAK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			p.frame([]byte("DSP000"))
			p.last[len(p.last)-1] ^= 1
			p.line.Write(p.last)
		})
		if err := show(t, dev); !errors.Is(err, ErrNoise) || p.count("NAK") != tries {
			t.Errorf("%v, %d NAK", err, p.count("NAK"))
		}
	})
}

func TestHalfAnAnswerThenSilenceIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			p.line.Write(p.frame([]byte("DSP000"))[:9])
		})
		if err := show(t, dev); err != nil || p.count("NAK") != 1 {
			t.Errorf("%v, %d NAK", err, p.count("NAK"))
		}
	})
}

func TestABabblerEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("DSP", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			for range 2000 {
				if _, err := p.line.Write([]byte{frame.ByteSYN, 0x13, 0x00}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		from := time.Now()
		if err := show(t, dev); err == nil || time.Since(from) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(from))
		}
	})
}

func TestStaleAnswersAreNotPaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		pay := begin(t, dev)
		ctx := limited(t, time.Minute)
		if _, err := pay.Read(ctx, tenEuros()); err != nil {
			t.Fatal(err)
		}
		// An answer of the right name that comes before the pad took the
		// command belongs to something earlier, and so does one of another name
		// after it.
		old := answer("GOX", param(GOXResult, "000000"), param(EMVDataOut, strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01\x40", 1)))
		p.raw = once("GOX", func(p *pad, _ []byte) {
			p.reply(old)
			p.line.Write([]byte{frame.ByteACK})
			p.reply(b.gtk)
			p.reply(b.gox)
		})
		o, err := pay.Authorize(ctx, tenEuros().Amounts)
		if err != nil || o.Decision != emv.OnlineRequest {
			t.Errorf("outcome %v, %v; the stale one said approved", o.Decision, err)
		}
	})
}

func TestALateAnswerAfterADeadlineMeetsCAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		p.raw = once("DSP", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			time.Sleep(3 * time.Second)
			p.reply([]byte("DSP000"))
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		from := time.Now()
		err := dev.(drivers.Display).Display(ctx, "A")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(from) > time.Second+abandonWait {
			t.Errorf("%v after %v", err, time.Since(from))
		}
		if err := show(t, dev); err != nil {
			t.Errorf("next command: %v", err)
		}
	})
}

func TestAnAnswerOnItsWayAtTheDeadlineIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		pay := begin(t, dev)
		if _, err := pay.Read(limited(t, time.Minute), tenEuros()); err != nil {
			t.Fatal(err)
		}
		p.raw = func(p *pad, name string, _ []byte) bool {
			switch name {
			case "GOX":
				p.line.Write([]byte{frame.ByteACK})
				return true
			case "CAN":
				p.reply(b.gox)
				p.line.Write([]byte{frame.ByteEOT})
				p.raw = nil
				return true
			}
			return false
		}
		o, err := pay.Authorize(limited(t, time.Second), tenEuros().Amounts)
		if err != nil || o.Decision != emv.OnlineRequest {
			t.Errorf("%v, %v", o.Decision, err)
		}
	})
}

func TestDuplicatedAnswersDoNotDisturb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = func(p *pad, name string, _ []byte) bool {
			if name != "DSP" {
				return false
			}
			p.line.Write([]byte{frame.ByteACK})
			wire := p.frame([]byte("DSP000"))
			p.line.Write(append(append([]byte(nil), wire...), wire...))
			return true
		}
		for range 3 {
			if err := show(t, dev); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAClearAnswerInTheChannelIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		p.raw = once("GCX", func(p *pad, _ []byte) {
			p.line.Write([]byte{frame.ByteACK})
			p.line.Write(frame.AppendDC3(nil, b.gcx))
		})
		if _, err := begin(t, dev).Read(limited(t, time.Minute), tenEuros()); !errors.Is(err, ErrChannel) {
			t.Errorf("Read: %v, want ErrChannel", err)
		}
	})
}

func TestAPadThatWasRestartedIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		pay := begin(t, dev)
		ctx := limited(t, time.Minute)
		if _, err := pay.Read(ctx, tenEuros()); err != nil {
			t.Fatal(err)
		}
		p.key = nil // power off and on
		if _, err := pay.Authorize(ctx, tenEuros().Amounts); !errors.Is(err, NoChannel) {
			t.Errorf("Authorize: %v, want the lost channel", err)
		}
		if _, err := pay.Authorize(ctx, tenEuros().Amounts); !errors.Is(err, ErrOrder) {
			t.Errorf("the payment goes on after a restart: %v", err)
		}
		if err := show(t, dev); err != nil || p.count("OPN") != 2 {
			t.Errorf("next: %v, %d OPN", err, p.count("OPN"))
		}
		if n := p.count("GOX"); n != 0 {
			t.Errorf("GOX was sent again, %d times", n)
		}
	})
}

func TestAnotherPadBehindTheSamePathIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chipBook()
		p, dev := start(t, b, nil)
		b.info[Serial] = "9999"
		p.key = nil
		if err := show(t, dev); err == nil {
			t.Fatal("a pad without channel took a command")
		}
		if err := show(t, dev); !errors.Is(err, ErrOther) {
			t.Errorf("%v, want ErrOther", err)
		}
		if _, err := dev.Health(limited(t, time.Minute)); !errors.Is(err, ErrOther) {
			t.Errorf("Health: %v, want ErrOther", err)
		}
	})
}

func TestCloseEndsARunningStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("GCX", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}) })
		pay := begin(t, dev)
		done := make(chan error, 1)
		go func() { _, err := pay.Read(context.Background(), tenEuros()); done <- err }()
		synctest.Wait()
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("Read ended without an error")
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSecondCallerIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, dev := start(t, chipBook(), nil)
		p.raw = once("GCX", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}) })
		pay := begin(t, dev)
		done := make(chan error, 1)
		go func() { _, err := pay.Read(context.Background(), tenEuros()); done <- err }()
		synctest.Wait()
		if err := show(t, dev); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%v, want ErrBusy", err)
		}
		if err := pay.Cancel(limited(t, time.Minute)); err != nil {
			t.Errorf("Cancel: %v", err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Read: %v", err)
		}
		if err := show(t, dev); err != nil {
			t.Errorf("after Cancel: %v", err)
		}
	})
}

func TestUnplugIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, host := newPad(chipBook())
		dev, err := testDriver.Open(t.Context(), host, drivers.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { dev.Close(); <-p.done }()
		p.raw = once("GCX", func(p *pad, _ []byte) { p.line.Write([]byte{frame.ByteACK}); host.Unplug() })
		from := time.Now()
		_, err = begin(t, dev).Read(limited(t, time.Hour), tenEuros())
		if !errors.Is(err, drivers.ErrUnplugged) || time.Since(from) > time.Second {
			t.Errorf("%v after %v", err, time.Since(from))
		}
	})
}

func TestAnOldPadIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, host := newPad(chipBook())
		p.raw = func(p *pad, name string, _ []byte) bool {
			if name != "OPN" {
				return false
			}
			p.line.Write([]byte{frame.ByteACK})
			p.line.Write(frame.AppendDC3(nil, []byte("OPN000")))
			return true
		}
		_, err := testDriver.Open(t.Context(), host, drivers.Config{})
		<-p.done
		if !errors.Is(err, errNoChannel) || !strings.Contains(err.Error(), "2.12") {
			t.Errorf("Open: %v", err)
		}
		if p.count("GIX") != 0 {
			t.Error("an old pad was sent a command that it does not know")
		}
	})
}
