package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// decoder is what the four decoders have in common.
type decoder interface {
	Feed(p []byte) (int, Event, error)
	Payload() []byte
	Partial() bool
	Reset()
}

var (
	_ decoder = (*DC3)(nil)
	_ decoder = (*DLE)(nil)
	_ decoder = (*STX)(nil)
	_ decoder = (*Length)(nil)
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// drain feeds p in pieces of at most size bytes and returns messages and
// control bytes as text, errors as "!".
func drain(t testing.TB, d decoder, p []byte, size int) []string {
	t.Helper()
	var out []string
	for len(p) > 0 {
		piece := p[:min(size, len(p))]
		p = p[len(piece):]
		for len(piece) > 0 {
			n, ev, err := d.Feed(piece)
			if n <= 0 || n > len(piece) {
				t.Fatalf("Feed took %d of %d bytes", n, len(piece))
			}
			if ev == None && err == nil && n != len(piece) {
				t.Fatalf("Feed stopped at %d of %d bytes without an event", n, len(piece))
			}
			piece = piece[n:]
			switch {
			case err != nil:
				out = append(out, "!"+err.Error())
			case ev == Message:
				out = append(out, hex.EncodeToString(d.Payload()))
			case ev != None:
				out = append(out, ev.String())
			}
		}
	}
	return out
}

func TestChecksumsHaveTheirCheckValues(t *testing.T) {
	digits := []byte("123456789")
	for _, c := range []struct {
		name string
		crc  *CRC
		want uint16
	}{
		{"XModem", XModem, 0x31C3},
		{"Kermit", Kermit, 0x2189},
		{"CCITTFalse", CCITTFalse, 0x29B1},
		{"X25", X25, 0x906E},
	} {
		if got := c.crc.Sum(digits); got != c.want {
			t.Errorf("%s of 123456789 is %04X, want %04X", c.name, got, c.want)
		}
		state := c.crc.Init()
		for _, b := range digits {
			state = c.crc.UpdateByte(state, b)
		}
		if got := c.crc.Final(state); got != c.want {
			t.Errorf("%s byte by byte is %04X, want %04X", c.name, got, c.want)
		}
	}
	if got := LRC([]byte{0x00, 0xC1, 0x01, 0xFE}); got != 0x3E {
		t.Errorf("LRC is %02X, want 3E", got)
	}
}

func TestNEO2PingHasItsPublishedChecksum(t *testing.T) {
	b := unhex(t, "5669564F746563683200 18 01 00 00")
	if got := CCITTFalse.Sum(b); got != 0xCDB3 {
		t.Errorf("ping sums to %04X, want CDB3 (B3 CD on the wire)", got)
	}
	b = unhex(t, "5669564F746563683200 18 00 00 00")
	if got := CCITTFalse.Sum(b); got != 0xFA83 {
		t.Errorf("answer sums to %04X, want FA83", got)
	}
}

// worked are published frames: the wire bytes and what they hold.
var worked = []struct {
	name          string
	encode        func(dst, payload []byte) []byte
	decoder       func() decoder
	payload, wire string
}{
	{"ABECS OPN", AppendDC3, func() decoder { return &DC3{} }, "4F504E", "164F504E17A8A9"},
	{"ABECS OPN answer", AppendDC3, func() decoder { return &DC3{} }, "4F504E303030", "164F504E30303017775E"},
	{"ABECS parameter 0013 is stuffed", AppendDC3, func() decoder { return &DC3{} }, "0013001600170018", ""},
	{"ZVT positive answer", AppendDLE, func() decoder { return &DLE{} }, "800000", "100280000010 03F51F"},
	{"ZVT registration", AppendDLE, func() decoder { return &DLE{} }, "060006123456020978", "1002 060006123456020978 1003 6047"},
	{"Concert 25.00", AppendSTX, func() decoder { return &STX{} },
		"3031 3030303032353030 30 31 30 393738 20202020202020202020 41303131 42303130",
		"02 3031 3030303032353030 30 31 30 393738 20202020202020202020 41303131 42303130 03 00"},
}

func TestWorkedFramesBothDirections(t *testing.T) {
	for _, w := range worked {
		payload := unhex(t, w.payload)
		wire := w.encode(nil, payload)
		if w.wire != "" && !bytes.Equal(wire, unhex(t, w.wire)) {
			t.Errorf("%s: encoded %X, want %X", w.name, wire, unhex(t, w.wire))
			continue
		}
		for size := 1; size <= len(wire); size++ {
			got := drain(t, w.decoder(), wire, size)
			if len(got) != 1 || got[0] != hex.EncodeToString(payload) {
				t.Errorf("%s in pieces of %d: %v", w.name, size, got)
			}
		}
	}
}

func TestZVTTenEurosIsDoubled(t *testing.T) {
	apdu := unhex(t, "06010704000000001000")
	wire := AppendDLE(nil, apdu)
	if want := unhex(t, "1002 0601 07 04 000000001010 00 1003 6291"); !bytes.Equal(wire, want) {
		t.Fatalf("10.00 is %X, want %X", wire, want)
	}
	if got := drain(t, &DLE{}, wire, 1); len(got) != 1 || got[0] != hex.EncodeToString(apdu) {
		t.Fatalf("decoded %v", got)
	}
}

func TestDC3ChecksumIsOverBytesBeforeStuffing(t *testing.T) {
	payload := []byte{0x00, 0x13, 0x16, 0x17}
	wire := AppendDC3(nil, payload)
	crc := XModem.Sum([]byte{0x00, 0x13, 0x16, 0x17, 0x17})
	want := []byte{0x16, 0x00, 0x13, 0x33, 0x13, 0x36, 0x13, 0x37, 0x17, byte(crc >> 8), byte(crc)}
	if !bytes.Equal(wire, want) {
		t.Fatalf("got %X, want %X", wire, want)
	}
}

func TestControlBytesAreReportedBetweenFramesOnly(t *testing.T) {
	payload := []byte{0x04, 0x06, 0x15, 0x18, 0x05}
	line := append([]byte{0x06}, AppendDC3(nil, payload)...)
	line = append(line, 0x04, 0x15)
	want := []string{"ACK", "0406151805", "EOT", "NAK"}
	for size := 1; size <= len(line); size++ {
		if got := drain(t, &DC3{}, line, size); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("pieces of %d: %v, want %v", size, got, want)
		}
	}
}

func TestTwoFramesInOneReadAndNoiseBefore(t *testing.T) {
	line := []byte{0xFF, 0x33}
	line = AppendDC3(line, []byte("GIX000"))
	line = AppendDC3(line, []byte("DSP000"))
	got := drain(t, &DC3{}, line, len(line))
	if len(got) != 2 || got[0] != hex.EncodeToString([]byte("GIX000")) || got[1] != hex.EncodeToString([]byte("DSP000")) {
		t.Fatalf("DC3: %v", got)
	}
	line = AppendDLE([]byte{0x10, 0x10, 0x00}, []byte{0x80, 0, 0})
	line = AppendDLE(line, []byte{0x06, 0x0F, 0})
	got = drain(t, &DLE{}, line, len(line))
	if len(got) != 2 || got[0] != "800000" || got[1] != "060f00" {
		t.Fatalf("DLE: %v", got)
	}
}

func TestHalfFrameIsReplacedByTheNextOne(t *testing.T) {
	whole := AppendDC3(nil, []byte("GIX000"))
	if got := drain(t, &DC3{}, append(whole[:4:4], whole...), 3); len(got) != 1 || got[0] != hex.EncodeToString([]byte("GIX000")) {
		t.Errorf("DC3: %v", got)
	}
	whole = AppendDLE(nil, []byte{0x06, 0x0F, 0x00})
	if got := drain(t, &DLE{}, append(whole[:4:4], whole...), 3); len(got) != 1 || got[0] != "060f00" {
		t.Errorf("DLE: %v", got)
	}
}

func TestBrokenFramesAreErrorsAndHideControlBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		d    decoder
		wire string
		want error
	}{
		{"DC3 checksum", &DC3{}, "164F504E170000 06 04", ErrChecksum},
		{"DC3 stuffing", &DC3{}, "164F1340 06 04", ErrStuffing},
		{"DC3 length", &DC3{Max: 3}, "164F504E30 06 04", ErrTooLong},
		{"DLE checksum", &DLE{}, "10028000001003 0000 06 15", ErrChecksum},
		{"DLE stuffing", &DLE{}, "1002801000 06 15", ErrStuffing},
		{"DLE length", &DLE{Max: 2}, "1002800000 06 15", ErrTooLong},
		{"STX checksum", &STX{}, "02 41 03 41 06 15", ErrChecksum},
		{"STX length", &STX{Max: 1}, "02 4141 06 15", ErrTooLong},
	} {
		got := drain(t, c.d, unhex(t, c.wire), 100)
		if len(got) != 1 || got[0] != "!"+c.want.Error() {
			t.Errorf("%s: %v, want only %v", c.name, got, c.want)
		}
		c.d.Reset()
		if _, ev, _ := c.d.Feed([]byte{0x06}); ev != ACK {
			t.Errorf("%s: ACK after Reset is %v", c.name, ev)
		}
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	payload := unhex(t, "474F58303438 0010 0002 3031 0013 000C 303030303030303031303030")
	for name, c := range map[string]struct {
		wire []byte
		d    func() decoder
	}{
		"DC3": {AppendDC3(nil, payload), func() decoder { return &DC3{} }},
		"DLE": {AppendDLE(nil, payload), func() decoder { return &DLE{} }},
	} {
		for i := range c.wire {
			for bit := range 8 {
				bad := bytes.Clone(c.wire)
				bad[i] ^= 1 << bit
				for _, got := range drain(t, c.d(), bad, len(bad)) {
					if !strings.HasPrefix(got, "!") && len(got) > 4 && got != "none" {
						t.Errorf("%s: byte %d bit %d flipped was taken as %s", name, i, bit, got)
					}
				}
			}
		}
	}
}

func TestLengthFramings(t *testing.T) {
	long := append([]byte{0x06, 0xD3, 0xFF, 0x2C, 0x01}, make([]byte, 300)...)
	for _, c := range []struct {
		name string
		size Sizer
		msgs [][]byte
	}{
		{"ZVT", SizeZVT, [][]byte{{0x80, 0, 0}, long, {0x06, 0x0F, 2, 1, 2}}},
		{"prefix", SizePrefix16, [][]byte{{0, 0}, {0, 3, 1, 2, 3}}},
		{"CCID", SizeCCID, [][]byte{{0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x90, 0}, {0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0}}},
		{"NEO2", SizeNEO2, [][]byte{unhex(t, "5669564F746563683200 18 01 00 00 B3CD"), unhex(t, "5669564F746563683200 18 01 00 02 0102 B3CD")}},
	} {
		var line []byte
		var want []string
		for _, m := range c.msgs {
			line = append(line, m...)
			want = append(want, hex.EncodeToString(m))
		}
		for size := 1; size <= len(line); size++ {
			if got := drain(t, &Length{Size: c.size}, line, size); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s in pieces of %d: %v", c.name, size, got)
			}
		}
	}
}

func TestLengthThatLiesIsRefused(t *testing.T) {
	d := &Length{Size: SizeZVT, Max: 100}
	if _, _, err := d.Feed(long(t)); !errors.Is(err, ErrTooLong) {
		t.Errorf("longer than Max: %v", err)
	}
	if _, ev, err := d.Feed([]byte{0x80, 0, 0}); ev != None || !errors.Is(err, ErrTooLong) {
		t.Errorf("after an error: %v, %v; the stream has no resync mark", ev, err)
	}
	d.Reset()
	if _, ev, err := d.Feed([]byte{0x80, 0, 0}); ev != Message || err != nil {
		t.Errorf("after Reset: %v, %v", ev, err)
	}
	if _, _, err := (&Length{Size: SizeNEO2}).Feed([]byte("ViVOtexh2")); !errors.Is(err, ErrLength) {
		t.Errorf("wrong tag: %v", err)
	}
	if _, _, err := (&Length{Size: SizeCCID}).Feed(unhex(t, "80FFFFFFFF0000000000")); !errors.Is(err, ErrTooLong) {
		t.Errorf("CCID of 4 GB: %v", err)
	}
}

func long(t testing.TB) []byte { return unhex(t, "06D3FF2C01") }

// TestRandomPayloads feeds random payloads in random pieces with noise between
// the frames that holds no start of a frame.
func TestRandomPayloads(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		payload := make([]byte, 1+rng.IntN(80))
		for i := range payload {
			payload[i] = byte(rng.IntN(0x20)) // dense in control bytes
		}
		want := hex.EncodeToString(payload)
		for name, got := range map[string][]string{
			"DC3": drain(t, &DC3{}, AppendDC3([]byte{0x33, 0xFF}, payload), 1+rng.IntN(9)),
			"DLE": drain(t, &DLE{}, AppendDLE([]byte{0x33, 0xFF}, payload), 1+rng.IntN(9)),
		} {
			if len(got) != 1 || got[0] != want {
				t.Fatalf("%s: %v, want %s", name, got, want)
			}
		}
	}
}

func fuzzDecoder(f *testing.F, one, two func() decoder, encode func(dst, p []byte) []byte, payload func([]byte) bool) {
	for _, w := range worked {
		f.Add(unhex(f, w.wire), uint8(3))
	}
	f.Add([]byte{0x16, 0x13, 0x33, 0x17, 0, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, p []byte, size uint8) {
		whole := drain(t, one(), p, max(len(p), 1))
		parts := drain(t, two(), p, int(size)%16+1)
		if strings.Join(whole, " ") != strings.Join(parts, " ") {
			t.Fatalf("whole %v, in pieces %v", whole, parts)
		}
		if encode != nil && payload(p) {
			if got := drain(t, one(), encode(nil, p), int(size)%16+1); len(got) != 1 || got[0] != hex.EncodeToString(p) {
				t.Fatalf("round trip of %X: %v", p, got)
			}
		}
	})
}

func FuzzDC3(f *testing.F) {
	d := func() decoder { return &DC3{} }
	fuzzDecoder(f, d, d, AppendDC3, func(p []byte) bool { return len(p) <= MaxDC3 })
}

func FuzzDLE(f *testing.F) {
	d := func() decoder { return &DLE{} }
	fuzzDecoder(f, d, d, AppendDLE, func(p []byte) bool { return len(p) <= MaxDLE })
}

func FuzzSTX(f *testing.F) {
	d := func() decoder { return &STX{} }
	fuzzDecoder(f, d, d, AppendSTX, func(p []byte) bool {
		return len(p) <= MaxSTX && bytes.IndexByte(p, ByteETX) < 0
	})
}

func FuzzLength(f *testing.F) {
	sizers := []Sizer{SizeZVT, SizePrefix16, SizeCCID, SizeNEO2}
	f.Add([]byte{0x80, 0, 0, 0x06, 0xD3, 0xFF, 1, 0, 9}, uint8(0))
	f.Add([]byte{0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x90, 0}, uint8(2))
	f.Add([]byte(neoTag+"\x18\x01\x00\x00\xB3\xCD"), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, which uint8) {
		s := sizers[int(which)%len(sizers)]
		messages := func(size int) (out []string) {
			for _, m := range drain(t, &Length{Size: s}, p, size) {
				if m[0] == '!' {
					break // how often it repeats depends on the pieces
				}
				out = append(out, m)
			}
			return out
		}
		if a, b := strings.Join(messages(max(len(p), 1)), " "), strings.Join(messages(int(which)%7+1), " "); a != b {
			t.Fatalf("whole %s, in pieces %s", a, b)
		}
	})
}
