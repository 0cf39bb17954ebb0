package iso8583_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tillbridge/agent/acquirer"
	"tillbridge/agent/acquirer/iso8583"
	host "tillbridge/agent/sandbox/acquirer"
	"tillbridge/emv"
	"tillbridge/emv/cryptogram"
	"tillbridge/emv/tlv"
	"tillbridge/p2pe"
	"tillbridge/p2pe/dukpt"
	"tillbridge/p2pe/dukpt/pin"
)

// guard bounds every wait of these tests; nothing waits that long.
const guard = 60 * time.Second

// testPAN is a published test number.
const testPAN = "4761739001010010"

// till is a link, the host it talks to, and a pad and card made of the same
// values: what the engine has in production.
type till struct {
	t      *testing.T
	host   *host.Server
	link   *iso8583.Link
	events chan host.Event
	log    *safeBuffer
	late   chan acquirer.Result
	data   *dukpt.State
	pins   *dukpt.State
	mu     sync.Mutex
	stan   int
	atc    uint16
	pan    string
	pin    string
	spoil  func(*acquirer.Request)
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newTill(t *testing.T, dialect string, scheme p2pe.Scheme, o host.Options) *till {
	t.Helper()
	tl := &till{t: t, events: make(chan host.Event, 1024), log: &safeBuffer{}, late: make(chan acquirer.Result, 16), pan: testPAN, pin: "1234"}
	log := slog.New(slog.NewTextHandler(tl.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Logger = log
	o.Events = func(e host.Event) {
		select {
		case tl.events <- e:
		default:
		}
	}
	var err error
	if tl.host, err = host.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tl.host.Close() })
	tl.link = tl.open(dialect)
	serials := []string{"FFFF9876543210E00000", "FFFF1234543210E00000"}
	if scheme == p2pe.SchemeAESDUKPT {
		serials = []string{"123456789012345600000000", "876543219012345600000000"}
	}
	tl.data, tl.pins = tl.inject(serials[0]), tl.inject(serials[1])
	return tl
}

func (tl *till) open(dialect string) *iso8583.Link {
	tl.t.Helper()
	d, err := iso8583.Named(dialect)
	if err != nil {
		tl.t.Fatal(err)
	}
	link, err := iso8583.Open(iso8583.Options{Addr: tl.host.Addr, Dialect: d, Roots: tl.host.Roots(), TerminalID: "TILL0001",
		Late:          func(_ string, r acquirer.Result) { tl.late <- r },
		AnswerTimeout: guard, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(tl.log, nil))})
	if err != nil {
		tl.t.Fatal(err)
	}
	tl.t.Cleanup(func() { link.Close() })
	return link
}

func (tl *till) inject(serial string) *dukpt.State {
	tl.t.Helper()
	key, err := tl.host.InitialKey(serial)
	if err != nil {
		tl.t.Fatal(err)
	}
	raw, _ := hex.DecodeString(key)
	s, err := dukpt.Load(raw, p2pe.KSN(serial))
	if err != nil {
		tl.t.Fatal(err)
	}
	return s
}

// sale makes a chip request with online PIN, as a pad would.
func (tl *till) sale(amount int64, reference string) acquirer.Request {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	tl.stan++
	r := acquirer.Request{Kind: acquirer.Sale, Reference: reference, STAN: tl.stan, Time: time.Now(), TerminalID: "TILL0001", MerchantID: "MERCHANT1",
		Amounts: emv.Amounts{Amount: amount, Currency: "EUR", CurrencyNumeric: 978, Exponent: 2}, Entry: emv.EntryContact, PANSequence: 1}
	r.Card = tl.envelope(tl.pan)
	r.PIN = tl.pinBlock(tl.pin, tl.pan)
	r.Field55 = tl.chip(amount)
	if tl.spoil != nil {
		tl.spoil(&r)
	}
	return r
}

func (tl *till) envelope(pan string) p2pe.Envelope {
	t, err := tl.data.Next()
	if err != nil {
		tl.t.Fatal(err)
	}
	track := pan + "D2512201000000000"
	if len(track)%2 == 1 {
		track += "F"
	}
	clear, _ := hex.DecodeString(track)
	e := p2pe.Envelope{Scheme: t.Scheme(), DeviceProfile: "generic", KSN: t.KSN(), Mode: "CBC", BIN: pan[:6], Last4: pan[12:]}
	var key dukpt.Key
	if t.Scheme() == p2pe.SchemeAESDUKPT {
		e.KeyVariant, e.Algorithm = p2pe.VariantAESDataEncrypt, "AES-128"
		key, err = dukpt.Working(t, dukpt.DataEncrypt, dukpt.AES128)
	} else {
		e.KeyVariant, e.Algorithm = p2pe.VariantDataRequest, "TDEA"
		key, err = dukpt.DataKey(t, dukpt.Request)
	}
	if err != nil {
		tl.t.Fatal(err)
	}
	block := cipherOf(tl.t, key, t.Scheme())
	for len(clear)%block.BlockSize() != 0 {
		clear = append(clear, 0xFF)
	}
	e.IV = make([]byte, block.BlockSize())
	_, _ = rand.Read(e.IV)
	e.Track2 = make([]byte, len(clear))
	cipher.NewCBCEncrypter(block, e.IV).CryptBlocks(e.Track2, clear)
	return e
}

func cipherOf(t *testing.T, key dukpt.Key, scheme p2pe.Scheme) cipher.Block {
	t.Helper()
	raw := key.Bytes()
	var block cipher.Block
	var err error
	if scheme == p2pe.SchemeAESDUKPT {
		block, err = aes.NewCipher(raw)
	} else {
		block, err = des.NewTripleDESCipher(append(bytes.Clone(raw), raw[:8]...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func (tl *till) pinBlock(digits, pan string) p2pe.PINBlock {
	t, err := tl.pins.Next()
	if err != nil {
		tl.t.Fatal(err)
	}
	b := p2pe.PINBlock{KSN: t.KSN(), Format: 0}
	kind := dukpt.TDES2
	if t.Scheme() == p2pe.SchemeAESDUKPT {
		b.Format, kind = 4, dukpt.AES128
	}
	key, err := pin.Key(t, kind)
	if err != nil {
		tl.t.Fatal(err)
	}
	clear, err := pin.Encode(b.Format, digits, pan, rand.Reader)
	if err != nil {
		tl.t.Fatal(err)
	}
	if b.Block, err = pin.Encipher(key.Bytes(), clear, pan); err != nil {
		tl.t.Fatal(err)
	}
	return b
}

// chip makes the field 55 of a Visa CVN 10 card of the test issuer.
func (tl *till) chip(amount int64) []byte {
	tl.atc++
	bcd, _ := hex.DecodeString(fmt.Sprintf("%012d", amount))
	values := []struct {
		tag   tlv.Tag
		value []byte
	}{
		{0x9F02, bcd}, {0x9F03, make([]byte, 6)}, {0x9F1A, []byte{0x02, 0x76}}, {0x95, make([]byte, 5)}, {0x5F2A, []byte{0x09, 0x78}},
		{0x9A, []byte{0x26, 0x11, 0x30}}, {0x9C, []byte{0}}, {0x9F37, []byte{1, 2, 3, byte(tl.atc)}}, {0x82, []byte{0x3C, 0}},
		{0x9F36, []byte{byte(tl.atc >> 8), byte(tl.atc)}}, {0x9F10, []byte{6, 1, 0x0A, 3, 0xA0, 0, 0}},
	}
	var out []byte
	for _, v := range values {
		out = tlv.Append(out, v.tag, v.value)
	}
	data, err := cryptogram.VisaCVN10.Data(func(t tlv.Tag) ([]byte, bool) { return tlv.Find(out, t) })
	if err != nil {
		tl.t.Fatal(err)
	}
	card, err := cryptogram.TestIssuer().Card(cryptogram.VisaCVN10, tl.pan, "01")
	if err != nil {
		tl.t.Fatal(err)
	}
	session := cryptogram.VisaCVN10.Session.SessionKey(card.AC, tl.atc, [4]byte{1, 2, 3, byte(tl.atc)}, [8]byte{})
	ac := cryptogram.AC(session, data, cryptogram.VisaCVN10.Padding)
	out = tlv.Append(out, 0x9F26, ac[:])
	out = tlv.Append(out, 0x9F27, []byte{0x80})
	out = tlv.Append(out, 0x84, []byte{0xA0, 0, 0, 0, 3, 0x10, 0x10})
	return tlv.Append(out, 0x5F34, []byte{1})
}

func (tl *till) next() int {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	tl.stan++
	return tl.stan
}

func (tl *till) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	tl.t.Cleanup(cancel)
	return ctx
}

// await waits for an event of the host.
func (tl *till) await(event, mti string) host.Event {
	tl.t.Helper()
	timer := time.NewTimer(guard)
	defer timer.Stop()
	for {
		select {
		case e := <-tl.events:
			if e.Event == event && strings.HasPrefix(e.MTI, mti) {
				return e
			}
		case <-timer.C:
			tl.t.Fatalf("the host had no %s of %s", event, mti)
		}
	}
}

// until polls a condition that another goroutine brings about.
func (tl *till) until(what string, ok func() bool) {
	tl.t.Helper()
	for end := time.Now().Add(guard); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tl.t.Fatalf("never: %s", what)
		}
	}
}

func (tl *till) fault(f host.Fault) {
	tl.t.Helper()
	if err := tl.host.Inject(f); err != nil {
		tl.t.Fatal(err)
	}
}

func (tl *till) authorize(r acquirer.Request) acquirer.Result {
	tl.t.Helper()
	res, err := tl.link.Authorize(tl.ctx(), r)
	if err != nil {
		tl.t.Fatal(err)
	}
	return res
}

func (tl *till) summary() host.Summary { return tl.host.Books().Summary() }
