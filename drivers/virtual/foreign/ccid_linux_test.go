package foreign

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"tillbridge/drivers/virtual/ccid"
	"tillbridge/drivers/virtual/port"
)

// plugTwin plays a virtual reader on a pty as a serial reader and lets pcscd
// drive it with libccid.
func plugTwin(t *testing.T, r *ccid.Reader) *twin {
	t.Helper()
	line, pty, err := port.OpenPTY()
	if err != nil {
		t.Fatal(err)
	}
	tw := newTwin(line)
	end := make(chan error, 1)
	go func() { end <- r.Serve(context.Background(), tw) }()
	t.Cleanup(func() { line.Close(); <-end })
	daemon(t, "tillbridge twin", pty+":GemPCTwin", twinDriver)
	return tw
}

// TestLibccidPaysThroughTheVirtualReader is a purchase by programs that know
// nothing of us, at the exchange level at which the host has most to do: the
// T=1 blocks and the T=0 procedure are libccid's, the reader's and the card's
// side ours.
func TestLibccidPaysThroughTheVirtualReader(t *testing.T) {
	alone(t)
	for _, protocol := range []string{"T=1", "T=0"} {
		t.Run(protocol, func(t *testing.T) {
			card := testCard(t, protocol == "T=0")
			r, err := ccid.New(&ccid.Options{Level: ccid.TPDU, Card: card})
			if err != nil {
				t.Fatal(err)
			}
			tw := plugTwin(t, r)
			if got := run(t, "", "opensc-tool", "--reader", "0", "--atr"); !strings.Contains(strings.ReplaceAll(got, ":", ""), hex.EncodeToString(card.ATR())) {
				t.Errorf("answer to reset: %s", got)
			}
			visit := scriptor(protocol)
			if protocol == "T=0" {
				visit = opensc // fetches what a T=0 card holds ready
			}
			commands, answers := purchase(t, visit)
			last := len(answers) - 1
			cryptogram(t, "first GENERATE AC", answers[last-1], 0x80, card.ATCNow())
			cryptogram(t, "second GENERATE AC", answers[last], 0x40, card.ATCNow())

			// The card's side: each command of the last visit once, in this
			// order, with the answers that the program printed.
			done := r.Executed()
			if protocol == "T=0" {
				done = joined(done)
			}
			if len(done) < len(commands) {
				t.Fatalf("the card saw %d commands of %d", len(done), len(commands))
			}
			for i, e := range done[len(done)-len(commands):] {
				sent := strings.ToLower(strings.ReplaceAll(commands[i], " ", ""))
				if got := hex.EncodeToString(e.Command); got != sent && !(protocol == "T=0" && got == strings.TrimSuffix(sent, "00")) {
					t.Errorf("command %d reached the card with %d bytes as %.10s, sent was %.10s", i, len(e.Command), got, sent)
				}
				if hex.EncodeToString(e.Answer) != strings.ToLower(answers[i]) {
					t.Errorf("answer %d: the program printed another than the card gave", i)
				}
			}
			if tw.refused != 0 {
				t.Errorf("%d frames with a wrong sum", tw.refused)
			}
		})
	}
}

// joined puts together what a T=0 card executes for one command of the host:
// 61xx and GET RESPONSE, or 6Cxx and the command once more with that length.
func joined(done []ccid.Executed) (out []ccid.Executed) {
	for i := 0; i < len(done); i++ {
		e := done[i]
		for i+1 < len(done) && len(e.Answer) >= 2 && (e.Answer[len(e.Answer)-2] == 0x61 || e.Answer[len(e.Answer)-2] == 0x6C) {
			i++
			e.Answer = append(append([]byte(nil), e.Answer[:len(e.Answer)-2]...), done[i].Answer...)
		}
		out = append(out, e)
	}
	return out
}

// TestLibccidRecoversWhatTheReaderSpoils: the faults are of a kind that a host
// has to get over by the standard, so a foreign one does. Not here: the reader's time extension (bStatus 80), because libccid waits for a
// repeated command before each message of a serial reader, and takes the
// message behind an extension for one.
func TestLibccidRecoversWhatTheReaderSpoils(t *testing.T) {
	alone(t)
	card := testCard(t, false)
	r, err := ccid.New(&ccid.Options{Level: ccid.TPDU, Card: card})
	if err != nil {
		t.Fatal(err)
	}
	plugTwin(t, r)
	directory := command("00 A4 04 00", []byte("1PAY.SYS.DDF01"))
	commands := []string{directory, directory, directory, directory}
	for _, faults := range [][]ccid.Fault{{ccid.WTX}, {ccid.BadLRC}, {ccid.WTX, ccid.WTX, ccid.BadLRC}} {
		what := fmt.Sprint(faults)
		before := len(r.Executed())
		r.Do("", "", "") // libccid sets up the card, at most twice, and the first command
		r.Do(faults...)
		answers := scriptor("T=1")(t, commands)
		for _, a := range answers {
			good(t, what, a)
		}
		if n := len(r.Executed()) - before; n != len(commands) {
			t.Errorf("%s: the card executed %d commands for %d", what, n, len(commands))
		}
	}
}

// TestPcscdSeesTheCardComeAndGo: the slot's changes, as pcscd shows them.
func TestPcscdSeesTheCardComeAndGo(t *testing.T) {
	alone(t)
	r, err := ccid.New(&ccid.Options{Level: ccid.TPDU, Empty: true})
	if err != nil {
		t.Fatal(err)
	}
	plugTwin(t, r)
	shows := func(word string) func() bool {
		return func() bool {
			for line := range strings.SplitSeq(run(t, "", "opensc-tool", "--list-readers"), "\n") {
				if strings.Contains(line, "tillbridge twin") {
					return strings.Contains(line, word)
				}
			}
			return false
		}
	}
	until(t, "an empty slot", shows(" No "))
	card := testCard(t, false)
	for range 3 {
		r.Insert(card)
		until(t, "the card", shows(" Yes "))
		good(t, "SELECT", scriptor("T=1")(t, []string{command("00 A4 04 00", []byte("1PAY.SYS.DDF01"))})[0])
		r.Remove()
		until(t, "an empty slot again", shows(" No "))
	}
}

var _ io.ReadWriteCloser = (*twin)(nil)
