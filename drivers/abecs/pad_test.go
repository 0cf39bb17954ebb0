package abecs

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/drivers"
	"tillbridge/drivers/drivertest"
	"tillbridge/drivers/frame"
	"tillbridge/emv"
)

// pad is the device's side for tests of this package: it answers by name, and
// a test can put its own bytes in the place of any answer. Its channel is
// written anew here, so that the driver's own is not its judge.
type pad struct {
	line io.ReadWriteCloser
	// answer returns the clear answers to a clear command; nil means silence.
	answer func(name string, r Request) [][]byte
	// raw, when it returns true, took over: nothing else is sent.
	raw func(p *pad, name string, clear []byte) bool

	mu   sync.Mutex
	got  []string // names of commands, "CAN"
	sent []Request
	last []byte // wire bytes of the last answer
	key  []byte // session key, nil before OPN
	done chan struct{}
}

func (p *pad) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

// find returns the last command of a name.
func (p *pad) find(name string) (Request, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.sent) - 1; i >= 0; i-- {
		if p.sent[i].Name.String() == name {
			return p.sent[i], true
		}
	}
	return Request{}, false
}

func (p *pad) count(name string) (n int) {
	for _, x := range p.names() {
		if x == name {
			n++
		}
	}
	return n
}

func (p *pad) run() {
	defer close(p.done)
	defer p.line.Close()
	var d frame.DC3
	buf := make([]byte, 4096)
	for {
		n, err := p.line.Read(buf)
		if err != nil {
			return
		}
		for in := buf[:n]; len(in) > 0; {
			n, ev, bad := d.Feed(in)
			in = in[n:]
			switch {
			case bad != nil:
				p.line.Write([]byte{frame.ByteNAK})
				d.Reset()
			case ev == frame.CAN:
				p.note("CAN", nil)
				if p.raw == nil || !p.raw(p, "CAN", nil) {
					p.line.Write([]byte{frame.ByteEOT})
				}
			case ev == frame.NAK:
				p.note("NAK", nil)
				p.line.Write(p.last)
			case ev == frame.Message:
				p.command(append([]byte(nil), d.Payload()...))
			}
		}
	}
}

func (p *pad) note(name string, clear []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, name)
	if clear != nil {
		r, err := ParseRequest(clear)
		if err == nil {
			p.sent = append(p.sent, r)
		}
	}
}

func (p *pad) command(payload []byte) {
	clear := payload
	if payload[0] == secureMark {
		if p.key == nil {
			p.line.Write([]byte{frame.ByteACK})
			p.line.Write(frame.AppendDC3(nil, []byte("ERR003")))
			return
		}
		clear = p.unseal(payload)
	}
	name := string(clear[:3])
	p.note(name, clear)
	if p.raw != nil && p.raw(p, name, clear) {
		return
	}
	p.line.Write([]byte{frame.ByteACK})
	if name == "OPN" {
		p.reply(p.open(clear))
		return
	}
	r, err := ParseRequest(clear)
	if err != nil {
		p.reply([]byte("ERR010"))
		return
	}
	for _, a := range p.answer(name, r) {
		p.reply(a)
	}
}

// reply seals and frames an answer.
func (p *pad) reply(clear []byte) { p.line.Write(p.frame(clear)) }

func (p *pad) frame(clear []byte) []byte {
	payload := clear
	if p.key != nil && string(clear[:3]) != "CLO" && string(clear[:3]) != "ERR" && string(clear[:3]) != "OPN" {
		payload = p.seal(clear)
	}
	p.last = frame.AppendDC3(nil, payload)
	return p.last
}

func (p *pad) open(clear []byte) []byte {
	b := clear[6:]
	mod, _ := hex.DecodeString(string(b[4 : 4+512]))
	exp, _ := hex.DecodeString(string(b[517:]))
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(mod), E: int(new(big.Int).SetBytes(exp).Int64())}
	p.key = make([]byte, 16)
	rand.Read(p.key)
	//lint:ignore SA1019 the protocol knows no other padding
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, p.key)
	if err != nil {
		return []byte("OPN011")
	}
	return fmt.Appendf(nil, "OPN000515256%X", sealed)
}

func (p *pad) seal(clear []byte) []byte {
	crc := frame.XModem.Sum(clear)
	b := append([]byte{byte(len(clear) >> 8), byte(len(clear)), byte(crc >> 8), byte(crc)}, clear...)
	for len(b)%16 != 0 {
		b = append(b, 0)
	}
	block, _ := aes.NewCipher(p.key)
	cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(b, b)
	return append([]byte{0x12}, b...)
}

func (p *pad) unseal(payload []byte) []byte {
	b := append([]byte(nil), payload[1:]...)
	block, _ := aes.NewCipher(p.key)
	cipher.NewCBCDecrypter(block, make([]byte, 16)).CryptBlocks(b, b)
	return b[4 : 4+int(b[0])<<8+int(b[1])]
}

// param and answer build an answer of the pad by hand.
func param(id ID, v string) string {
	return string([]byte{byte(id >> 8), byte(id), byte(len(v) >> 8), byte(len(v))}) + v
}

func answer(name string, params ...string) []byte {
	body := strings.Join(params, "")
	if body == "" {
		return []byte(name + "000")
	}
	return fmt.Appendf(nil, "%s000%03d%s", name, len(body), body)
}

// book is what a pad of the tests knows and answers.
type book struct {
	gcx, gtk, gox, fcx, gpn []byte
	info                    map[ID]string
}

const (
	testKSN  = "\xFF\xFF\x98\x76\x54\x32\x10\xE0\x00\x01"
	testPKSN = "\xFF\xFF\x98\x76\x54\x32\x10\xE0\x00\x07"
	// emv1000 is the EMV data of 10.00 in currency 978 with an ARQC.
	emv1000 = "\x9F\x26\x08\x01\x02\x03\x04\x05\x06\x07\x08\x9F\x27\x01\x80\x9F\x02\x06\x00\x00\x00\x00\x10\x00\x9F\x03\x06\x00\x00\x00\x00\x00\x00\x5F\x2A\x02\x09\x78\x95\x05\x00\x00\x00\x80\x00\x9F\x34\x03\x02\x00\x00"
)

// chipBook is a pad with a chip card, online PIN and an approving card.
func chipBook() *book {
	return &book{
		gcx: answer("GCX", param(CardType, "03"), param(AIDInfo, "010101"), param(PAN, "541333******4111"), param(PANSequence, "01"),
			param(Label, "MASTERCARD"), param(Track2Cut, "541333******4111=2512201"), param(EMVDataOut, "\x4F\x07\xA0\x00\x00\x00\x04\x10\x10")),
		gtk: answer("GTK", param(PANData, "PPPPPPPP"), param(PANKSN, testKSN), param(Track2, "TTTTTTTTTTTTTTTTTTTTTTTT"), param(Track2KSN, testKSN)),
		gox: answer("GOX", param(GOXResult, "202000"), param(PINBlock, "BBBBBBBB"), param(PINKSN, testPKSN), param(EMVDataOut, emv1000)),
		fcx: answer("FCX", param(FCXResult, "000"), param(EMVDataOut, strings.Replace(emv1000, "\x9F\x27\x01\x80", "\x9F\x27\x01\x40", 1))),
		gpn: []byte("GPN000036" + "0123456789ABCDEF" + "FFFF9876543210E00009"),
		info: map[ID]string{Serial: "7200032211005539", PartNumber: "PPC-930", Model: "PPC-930;192MB", Maker: "GERTEC",
			OSVersion: "1400.12503", SpecVersion: "2.12", Kernel: "1.19", KSNPIN(0): testPKSN, KSNData(0): testKSN, TableVersion(0): "1807202408"},
	}
}

// reply answers a command from the book.
func (b *book) reply(name string, r Request) [][]byte {
	switch name {
	case "GIX":
		list, _ := r.Find(IDList)
		var out []string
		for ; len(list) >= 2; list = list[2:] {
			id := ID(list[0])<<8 | ID(list[1])
			if v, ok := b.info[id]; ok {
				out = append(out, param(id, v))
			}
		}
		return [][]byte{answer("GIX", out...)}
	case "GCX":
		return [][]byte{b.gcx}
	case "GTK":
		return [][]byte{b.gtk}
	case "GOX":
		return [][]byte{b.gox}
	case "FCX":
		return [][]byte{b.fcx}
	case "GPN":
		return [][]byte{b.gpn}
	case "MNU":
		return [][]byte{answer("MNU", param(Value, "02"))}
	case "GKY":
		return [][]byte{[]byte("GKY006")}
	case "TLI":
		return [][]byte{[]byte("TLI020")}
	case "CLO", "DSP", "DEX", "RMC", "TLR", "TLE":
		return [][]byte{[]byte(name + "000")}
	}
	return [][]byte{[]byte("ERR010")}
}

// testDriver is one driver for all tests: making its RSA key takes time.
var testDriver = New()

// start opens a pad that answers from b. Works inside a synctest bubble.
func start(t *testing.T, b *book, params map[string]string) (*pad, drivers.Device) {
	t.Helper()
	p, host := newPad(b)
	dev, err := testDriver.Open(t.Context(), host, drivers.Config{Name: "pad", Log: slog.New(slog.DiscardHandler), Params: params})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close(); <-p.done })
	return p, dev
}

func newPad(b *book) (*pad, *drivertest.End) {
	host, device := drivertest.Pipe(drivertest.PipeOptions{})
	p := &pad{line: device.Stream(), answer: b.reply, done: make(chan struct{})}
	go p.run()
	return p, host
}

// tenEuros are the terms of the tests.
func tenEuros(entries ...emv.Entry) emv.Terms {
	return emv.Terms{Amounts: emv.Amounts{Amount: 1000, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2},
		Entries: entries, Time: time.Date(2026, 11, 30, 12, 34, 56, 0, time.UTC)}
}

func begin(t *testing.T, dev drivers.Device) emv.Session {
	t.Helper()
	s, err := dev.(drivers.CardSession).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
