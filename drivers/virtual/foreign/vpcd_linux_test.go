package foreign

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"tillbridge/emv/virtualcard"
)

// TestVpcdPaysWithTheVirtualCard: the card's framing is that of vsmartcard's
// vpcd, which here makes a PC/SC reader of it. vpcd opens two slots, the
// second at the next port; without a listener there pcscd ends itself.
func TestVpcdPaysWithTheVirtualCard(t *testing.T) {
	alone(t)
	card, other := testCard(t, false), testCard(t, false)
	first, second := twoListeners(t)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() { cancel(); first.Close(); second.Close(); serving.Wait() })
	for l, c := range map[net.Listener]*virtualcard.Card{first: card, second: other} {
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = virtualcard.Serve(ctx, conn, c, nil)
			}
		})
	}
	daemon(t, "tillbridge vpcd", first.Addr().String(), vpcdDriver)
	until(t, "the answer to reset", func() bool {
		got := run(t, "", "opensc-tool", "--reader", "0", "--atr")
		return strings.Contains(strings.ReplaceAll(got, ":", ""), hex.EncodeToString(card.ATR()))
	})
	_, answers := purchase(t, scriptor("T=1"))
	last := len(answers) - 1
	cryptogram(t, "first GENERATE AC", answers[last-1], 0x80, card.ATCNow())
	cryptogram(t, "second GENERATE AC", answers[last], 0x40, card.ATCNow())
	if card.ATCNow() != 3 || other.ATCNow() != 0 {
		t.Errorf("the cards counted %d and %d transactions, want 3 and 0", card.ATCNow(), other.ATCNow())
	}
}

// twoListeners listens on two ports side by side.
func twoListeners(t *testing.T) (first, second net.Listener) {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		next := fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port+1)
		if m, err := net.Listen("tcp", next); err == nil {
			return l, m
		}
		l.Close()
	}
	t.Fatal("no two ports side by side are free")
	return nil, nil
}
