package cli

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"tillbridge/emv/virtualcard"
)

// TestEMVCardAnswersItsReader puts the virtual card into a reader of the test:
// it answers, and leaves when the reader hangs up.
func TestEMVCardAnswersItsReader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, errOut bytes.Buffer
	exit := make(chan int, 1)
	go func() {
		exit <- Main("test", []string{"emv", "card", "--vpcd", l.Addr().String(), "--json"}, strings.NewReader(""), &out, &errOut)
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := &virtualcard.Reader{Conn: conn}
	if _, err := r.Power(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := r.Transmit(ctx, append(append([]byte{0, 0xA4, 4, 0, 14}, "1PAY.SYS.DDF01"...), 0))
	if err != nil || len(a) < 4 || a[0] != 0x6F {
		t.Errorf("the directory: %d bytes, %v", len(a), err)
	}
	conn.Close()
	if code := <-exit; code != 0 || !strings.Contains(out.String(), `"schema":"emv.card/1"`) {
		t.Errorf("exit %d: %s%s", code, out.String(), errOut.String())
	}
}
