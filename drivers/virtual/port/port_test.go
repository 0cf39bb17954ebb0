package port

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// echo is a device that repeats what it hears and hangs up on q.
func echo(ctx context.Context, line io.ReadWriteCloser) {
	_ = Play(ctx, line, Pieces(line), func(ctx context.Context, in <-chan []byte) error {
		for b := range in {
			if string(b) == "q" {
				return nil
			}
			if _, err := line.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
}

func open(t *testing.T, addr string) io.ReadWriteCloser {
	t.Helper()
	if strings.HasPrefix(addr, "/") {
		f, err := os.OpenFile(addr, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// heard says whether a device repeats a word.
func heard(t *testing.T, line io.ReadWriter, word string) {
	t.Helper()
	if _, err := io.WriteString(line, word); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(line, b); err != nil || string(b) != word {
		t.Fatalf("%q came back as %q: %v", word, b, err)
	}
}

// taken says whether another program listens or talks at an address: the ports
// of a machine are shared by all tests that run on it.
func taken(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		l.Close()
	}
	return err != nil
}

func TestAListenerKeepsItsAddress(t *testing.T) {
	p := New(Options{TCP: true, Serve: echo})
	if err := p.Unplug(); err == nil {
		t.Error("unplugged before it was plugged in")
	}
	var first string
	for range 3 {
		if err := p.Plug(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := p.Plug(t.Context(), ""); err == nil {
			t.Error("plugged in twice")
		}
		addr, device := p.Where()
		if first == "" {
			first = addr
		}
		if addr != first && !taken(first) || device != addr {
			t.Errorf("at %s and %s, first at %s", addr, device, first)
		}
		for range 2 { // one host after the other
			c := open(t, addr)
			heard(t, c, "hello")
			c.Close()
		}
		if err := p.Unplug(); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.SetDeadline(time.Now().Add(time.Second))
			c.Write([]byte("?"))
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				t.Error("an unplugged port takes hosts")
			}
			c.Close()
		}
	}
}

func TestAPTYUnderItsName(t *testing.T) {
	if !HavePTY {
		t.Skip("no pty on this system")
	}
	dir := t.TempDir()
	p := New(Options{Dir: dir, Link: "pad0", Serve: echo})
	if err := p.Plug(t.Context(), "../pad"); err == nil {
		t.Error("a link outside the directory")
	}
	if err := p.Plug(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	addr, device := p.Where()
	if to, err := os.Readlink(addr); err != nil || to != device || addr != filepath.Join(dir, "pad0") {
		t.Errorf("%s names %s (%v), not %s", addr, to, err, device)
	}
	for range 2 {
		c := open(t, addr)
		heard(t, c, "\x00\xff\x11\x13\r\n")
		c.Close() // the device does not see it
	}
	if err := p.Unplug(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(addr); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link is left behind: %v", err)
	}
	if err := p.Plug(t.Context(), "pad1"); err != nil {
		t.Fatal(err)
	}
	addr, _ = p.Where()
	heard(t, open(t, addr), "again")
	if err := p.Unplug(); err != nil || filepath.Base(addr) != "pad1" {
		t.Error(addr, err)
	}
}

func TestALineThatTheDeviceDropped(t *testing.T) {
	if !HavePTY {
		t.Skip("no pty on this system")
	}
	for _, again := range []bool{false, true} {
		served := make(chan struct{}, 2)
		p := New(Options{Dir: t.TempDir(), Link: "pad0", Again: again, Serve: func(ctx context.Context, line io.ReadWriteCloser) {
			served <- struct{}{}
			echo(ctx, line)
		}})
		if err := p.Plug(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		<-served
		addr, _ := p.Where()
		io.WriteString(open(t, addr), "q")
		if again {
			<-served // on a new pty
			heard(t, open(t, addr), "back")
		} else {
			// It is gone without an Unplug; plugging it in needs none.
			for end := time.Now().Add(30 * time.Second); p.Plug(t.Context(), "") != nil; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("a port that its device left cannot be plugged in")
				}
			}
			<-served
		}
		if err := p.Unplug(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProcess(t *testing.T) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	restarts := 0
	p := Process{
		Port:    New(Options{TCP: true, Serve: echo}),
		Ready:   Reply{"serial": "X1"},
		Restart: func() { restarts++ },
		Do: func(do string, line []byte) (Reply, error) {
			if do == "books" {
				return Reply{"books": len(line)}, nil
			}
			return nil, errors.New("there is no command")
		},
	}
	end := make(chan error, 1)
	go func() {
		err := p.Run(t.Context(), inR, outW)
		outW.CloseWithError(err)
		end <- err
	}()
	out := bufio.NewScanner(outR)
	next := func() (r Reply) {
		t.Helper()
		if !out.Scan() || json.Unmarshal(out.Bytes(), &r) != nil {
			t.Fatalf("no reply: %q, %v", out.Text(), out.Err())
		}
		return r
	}
	ready := next()
	if ready["ready"] != true || ready["serial"] != "X1" || ready["addr"] == "" || ready["pid"] == nil {
		t.Error(ready)
	}
	for _, c := range []struct {
		line, key string
		want      any
	}{
		{"\n" + `{"do":"books"}`, "books", 14.0},
		{`{"do":"unplug"}`, "ok", true},
		{`{"do":"unplug"}`, "error", "not plugged in"},
		{`{"do":"replug"}`, "ok", true},
		{`{"do":"restart"}`, "ok", true},
		{`{"do":"dance"}`, "error", "there is no command"},
		{`nonsense`, "ok", false},
	} {
		io.WriteString(inW, c.line+"\n")
		if r := next(); r[c.key] != c.want {
			t.Errorf("%s: %v", c.line, r)
		}
	}
	inW.Close()
	if err := <-end; err != nil || restarts != 1 {
		t.Errorf("end: %v, %d restarts", err, restarts)
	}
	if addr, _ := p.Port.Where(); p.Port.Unplug() == nil {
		t.Errorf("the port at %s outlives the process", addr)
	}
}

func TestFaultsAreCountedDown(t *testing.T) {
	f := NewFaults("late", "nak")
	if err := f.Add("dance", 1, 0); err == nil {
		t.Error("an unknown fault")
	}
	if _, due := f.Play("late"); due {
		t.Error("a fault that nobody asked for")
	}
	f.Add("late", 2, time.Second)
	f.Add("nak", 0, 0)
	if !f.Due("nak", "late") || f.Due("dance") {
		t.Error("what is due")
	}
	for i, want := range []bool{true, true, false} {
		if d, due := f.Play("late"); due != want || due && d != time.Second {
			t.Errorf("late, time %d: %v %v", i, d, due)
		}
	}
	if _, due := f.Play("nak"); !due {
		t.Error("n of zero is once")
	}
	f.Add("nak", 5, 0)
	if f.Add("clear", 0, 0); f.Due("nak") {
		t.Error("cleared")
	}
}
