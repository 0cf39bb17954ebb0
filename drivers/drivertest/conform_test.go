package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillbridge/drivers"
)

// The toy protocol: a line "#seq|words|crc" with CRC-32 in hex over "seq|words",
// answered by '+' (or '-') and a line of the same form and seq. A device that
// starts says "hello".

func toyLine(seq int, words string) []byte {
	body := fmt.Sprintf("%d|%s", seq, words)
	return fmt.Appendf(nil, "#%s|%08x\n", body, crc32.ChecksumIEEE([]byte(body)))
}

func toyParse(line []byte, checked bool) (seq int, words string, ok bool) {
	if at := bytes.LastIndexByte(line, '#'); at >= 0 {
		line = line[at+1:]
	} else {
		return 0, "", false
	}
	f := strings.Split(string(bytes.TrimSuffix(line, []byte("\n"))), "|")
	if len(f) != 3 {
		return 0, "", false
	}
	if checked && f[2] != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(f[0]+"|"+f[1]))) {
		return 0, "", false
	}
	seq, _ = strconv.Atoi(f[0])
	return seq, f[1], true
}

const toyPAN = "4761739001010119"

func toyPeer(line io.ReadWriteCloser) {
	line.Write([]byte("hello\n"))
	var buf []byte
	p := make([]byte, 256)
	for {
		n, err := line.Read(p)
		if err != nil {
			return
		}
		buf = append(buf, p[:n]...)
		for {
			at := bytes.IndexByte(buf, '\n')
			if at < 0 {
				break
			}
			frame := buf[:at+1]
			buf = buf[at+1:]
			seq, words, ok := toyParse(frame, true)
			if !ok {
				line.Write([]byte("-"))
				continue
			}
			line.Write([]byte("+"))
			switch {
			case words == "who":
				words = "toy T1 0001 card " + toyPAN
			case words == "ping":
				words = "pong"
			case strings.HasPrefix(words, "sale "):
				words = "approved " + words[5:]
			}
			line.Write(toyLine(seq, words))
		}
	}
}

type toyDriver struct {
	defect string
	runs   int
	seq    int // over all devices, so that an old answer never fits
}

func (*toyDriver) Name() string                     { return "toy" }
func (*toyDriver) Match(drivers.Port) drivers.Match { return drivers.Match{OK: true} }
func (d *toyDriver) Open(ctx context.Context, t drivers.Transport, c drivers.Config) (drivers.Device, error) {
	v := &toyDevice{d: d, t: t, c: c, turn: make(chan struct{}, 1)}
	if d.defect == "reader left behind" {
		go time.Sleep(10 * time.Hour)
	}
	if d.defect == "takes anybody" {
		return v, nil
	}
	if _, err := v.Identify(ctx); err != nil {
		if d.defect != "transport left open" {
			t.Close()
		}
		return nil, err
	}
	return v, nil
}

type toyDevice struct {
	d      *toyDriver
	t      drivers.Transport
	c      drivers.Config
	turn   chan struct{}
	seq    int
	buf    []byte
	once   sync.Once
	closes atomic.Int32
}

func (v *toyDevice) Info() drivers.Info { return drivers.Info{Protocol: "toy", Port: v.t.Info()} }

func (v *toyDevice) Identify(ctx context.Context) (drivers.Identity, error) {
	switch v.d.defect {
	case "takes anybody":
		return drivers.Identity{Vendor: "toy", Model: "T1", Serial: "0001"}, nil
	}
	a, err := v.ask(ctx, "who")
	f := strings.Fields(a)
	if err != nil {
		return drivers.Identity{}, err
	}
	if len(f) < 3 || f[0] != "toy" {
		return drivers.Identity{}, errors.New("not a toy")
	}
	if v.d.defect == "wrong identity" {
		f[2] = "0002"
	}
	return drivers.Identity{Vendor: f[0], Model: f[1], Serial: f[2]}, nil
}

func (v *toyDevice) Health(ctx context.Context) (drivers.Health, error) {
	a, err := v.ask(ctx, "ping")
	return drivers.Health{OK: a == "pong" && v.d.defect != "never healthy", Detail: "pong"}, err
}

func (v *toyDevice) Close() error {
	again := v.closes.Add(1) > 1
	var err error
	switch v.d.defect {
	case "close waits for the operation":
		v.turn <- struct{}{}
		defer func() { <-v.turn }()
	case "close again waits":
		if again {
			time.Sleep(time.Hour)
		}
	case "close until it works":
		for range 3600 {
			if err = v.t.Close(); err == nil {
				return nil
			}
			time.Sleep(time.Second)
		}
	case "close closes nothing":
		return nil
	}
	v.once.Do(func() { err = v.t.Close() })
	return err
}

func (v *toyDevice) ask(ctx context.Context, words string) (string, error) {
	if v.d.defect != "no turn" {
		select {
		case v.turn <- struct{}{}:
			defer func() { <-v.turn }()
		default:
			return "", drivers.ErrBusy
		}
	}
	if v.d.defect == "no deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if v.d.defect == "no deadline" {
		wait = ctx
	}
	a, err := v.exchange(wait, words)
	if err != nil && v.d.defect == "unplug hidden" {
		return "", fmt.Errorf("%s: %v", words, err)
	}
	if err == nil && v.d.defect == "moody" {
		v.d.runs++
		a += strconv.Itoa(v.d.runs)
	}
	return a, err
}

func (v *toyDevice) exchange(ctx context.Context, words string) (string, error) {
	v.d.seq++
	v.seq = v.d.seq
	sends := 0
	send := func() error {
		sends++
		_, err := v.t.Write(ctx, toyLine(v.seq, words))
		return err
	}
	if err := send(); err != nil {
		return "", err
	}
	p := make([]byte, 512)
	for {
		n, err := v.t.Read(ctx, p)
		if err != nil {
			if v.d.defect == "half is enough" && len(v.buf) > 8 && !errors.Is(err, drivers.ErrUnplugged) {
				return "approved", nil
			}
			return "", err
		}
		if v.d.defect == "logs frames" {
			v.c.Log.Debug("received", "frame", string(p[:n]))
		}
		v.buf = append(v.buf, p[:n]...)
		if v.d.defect == "one read is one frame" && n > 1 && p[0] == '#' && p[n-1] == '\n' {
			v.buf = nil
			_, a, ok := toyParse(p[:n], true)
			if ok {
				return a, nil
			}
		}
		if v.d.defect == "one read is one frame" {
			v.buf = nil
			continue
		}
		for len(v.buf) > 0 {
			if v.buf[0] == '-' {
				v.buf = v.buf[1:]
				if sends >= 3 && v.d.defect != "resends for ever" {
					return "", errors.New("refused three times")
				}
				if err := send(); err != nil {
					return "", err
				}
				continue
			}
			if v.buf[0] == '+' {
				v.buf = v.buf[1:]
				continue
			}
			at := bytes.IndexByte(v.buf, '\n')
			if at < 0 {
				break
			}
			line := v.buf[:at+1]
			v.buf = v.buf[at+1:]
			if string(line) == "hello\n" && v.d.defect == "hello is yes" && strings.HasPrefix(words, "sale") {
				return "approved 0", nil
			}
			seq, a, ok := toyParse(line, v.d.defect != "no checksum")
			if ok && (seq == v.seq || v.d.defect == "no sequence") {
				return a, nil
			}
		}
	}
}

func toy(defect string) Subject {
	sale := func(amount string) Operation {
		return Operation{Name: "sale " + amount, Run: func(ctx context.Context, d drivers.Device) (string, error) {
			return d.(*toyDevice).ask(ctx, "sale "+amount)
		}}
	}
	return Subject{
		Driver:     &toyDriver{defect: defect},
		Peer:       toyPeer,
		Want:       drivers.Identity{Vendor: "toy", Serial: "0001"},
		Operations: []Operation{sale("1000"), sale("25")},
		Nak:        []byte("-"),
		Secrets:    []string{toyPAN},
		Opens:      20,
	}
}

func TestConform(t *testing.T) { Conform(t, toy("")) }

// Every case fails on a driver with the defect that it is for.
func TestConformCatches(t *testing.T) {
	caught := map[string][]string{
		"identify":                       {"wrong identity"},
		"health":                         {"never healthy", "close closes nothing"},
		"operations":                     {"moody"},
		"chopped and merged reads":       {"one read is one frame"},
		"second caller":                  {"no turn"},
		"unplug in each phase":           {"unplug hidden", "transport left open"},
		"silence in each phase":          {"no deadline"},
		"half a frame then silence":      {"half is enough"},
		"garbage before the answer":      {"no checksum"},
		"answer to the previous command": {"no sequence"},
		"refusal for ever":               {"resends for ever"},
		"reset in each phase":            {"hello is yes"},
		"port vanishes in close":         {"close until it works"},
		"close twice and at once":        {"close again waits"},
		"close during an operation":      {"close waits for the operation"},
		"goroutines":                     {"reader left behind"},
		"no clear card number":           {"logs frames"},
		"another device":                 {"takes anybody"},
	}
	for _, c := range Cases() {
		if len(caught[c.Name]) == 0 {
			t.Errorf("case %q is not shown to fail on anything", c.Name)
		}
		for _, defect := range caught[c.Name] {
			t.Run(c.Name+"/"+defect, func(t *testing.T) {
				problems := Check(t, toy(defect), c)
				if len(problems) == 0 {
					t.Errorf("a driver with the defect %q passed", defect)
				}
				for _, p := range problems {
					t.Log(p)
				}
			})
		}
	}
}

func TestStorm(t *testing.T) {
	s := toy("")
	tally := Storm(t, s, 300, 1, Every(0.05))
	t.Log(tally)
	if tally.Through == 0 || tally.GaveUp == 0 {
		t.Error("a storm in which nothing comes through, or everything, shows nothing")
	}
}
