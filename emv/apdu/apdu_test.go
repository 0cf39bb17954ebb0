package apdu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"tillbridge/agent/vectortest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(strings.ReplaceAll(s, " ", ""), "%X", &b); err != nil && s != "" {
		t.Fatal(err)
	}
	return b
}

// ISO/IEC 7816-3 section 12.1, the four cases, short and extended.
func TestCommandCases(t *testing.T) {
	long := bytes.Repeat([]byte{9}, 300)
	for _, c := range []struct {
		name string
		c    Command
		want string
		kase int
	}{
		{"1", Command{INS: 0x84}, "00840000", 1},
		{"2 short", Command{INS: 0xB2, P1: 1, P2: 12, Le: LeShort}, "00B2010C00", 2},
		{"2 short, five", Command{INS: 0xB2, Le: 5}, "00B2000005", 2},
		{"3 short", Command{INS: 0x20, P2: 0x80, Data: []byte{1, 2}}, "00200080020102", 3},
		{"4 short", Command{CLA: 0x80, INS: 0xA8, Data: []byte{0x83, 0}, Le: LeShort}, "80A8000002830000", 4},
		{"2 extended", Command{INS: 0xB2, Le: LeExtended}, "00B20000000000", 2},
		{"2 extended, 300", Command{INS: 0xB2, Le: 300}, "00B2000000012C", 2},
		{"3 extended", Command{INS: 0xD6, Data: long}, "00D6000000012C" + strings.Repeat("09", 300), 3},
		{"4 extended", Command{INS: 0xD6, Data: long, Le: LeShort}, "00D6000000012C" + strings.Repeat("09", 300) + "0100", 4},
		{"4 extended, short data", Command{INS: 0xD6, Data: []byte{9}, Le: 257}, "00D6000000000109" + "0101", 4},
	} {
		b := c.c.Bytes()
		if got := fmt.Sprintf("%X", b); got != c.want || c.c.Case() != c.kase {
			t.Errorf("case %s: %.20s, case %d", c.name, got, c.c.Case())
		}
		back, err := ParseCommand(b)
		if err != nil || !bytes.Equal(back.Data, c.c.Data) || back.Le != c.c.Le || back.INS != c.c.INS {
			t.Errorf("case %s read back: %v %v", c.name, back, err)
		}
	}
	for _, bad := range []string{"", "00A404", "00A4040005A0", "00A404000000", "00A40400000000", "00A4040002010203 04"} {
		if c, err := ParseCommand(unhex(t, bad)); err == nil && bad != "00A40400000000" {
			t.Errorf("%q is read as %v", bad, c)
		} else if err != nil && !errors.Is(err, ErrCommand) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (Command{Data: make([]byte, 65536)}).Bytes() != nil {
		t.Error("65,536 bytes of data have no form")
	}
}

func TestResponsesAndStatus(t *testing.T) {
	r, err := ParseResponse(unhex(t, "6F0063C2"))
	if n, ok := r.Status.TriesLeft(); err != nil || !ok || n != 2 || len(r.Data) != 2 || !r.Status.Warning() {
		t.Errorf("%v %v", r, err)
	}
	for _, bad := range []string{"", "90", "8000", "6000", "A000"} {
		if _, err := ParseResponse(unhex(t, bad)); !errors.Is(err, ErrResponse) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, s := range []string{fmt.Sprintf("%v %x %#v", Command{Data: unhex(t, "4761")}, Command{Data: unhex(t, "4761")}, Command{Data: unhex(t, "4761")}),
		fmt.Sprintf("%v %x %+v", Response{Data: unhex(t, "4761")}, Response{Data: unhex(t, "4761")}, Response{Data: unhex(t, "4761")})} {
		if strings.Contains(s, "4761") || strings.Contains(s, "71 97") {
			t.Errorf("%s shows data", s)
		}
	}
}

// script answers the commands it expects and nothing else.
type script struct {
	t     *testing.T
	pairs []string
}

func (s *script) Transmit(_ context.Context, cmd []byte) ([]byte, error) {
	if len(s.pairs) == 0 {
		s.t.Errorf("unexpected command %.10X", cmd)
		return nil, errors.New("no more")
	}
	want, answer, _ := strings.Cut(s.pairs[0], ">")
	s.pairs = s.pairs[1:]
	if got := fmt.Sprintf("%X", cmd); got != strings.TrimSpace(want) {
		s.t.Errorf("sent %s, want %s", got, want)
	}
	return unhex(s.t, strings.TrimSpace(answer)), nil
}

// ISO/IEC 7816-3 section 12.2, EMV Book 1 section 9.3.1.
func TestT0AndFollow(t *testing.T) {
	for _, c := range []struct {
		name, cmd, want string
		t0              bool
		pairs           []string
	}{
		{"T=0 case 1", "00840000", "9000", true, []string{"0084000000>9000"}},
		{"T=0 case 2", "00B2010C00", "70009000", true, []string{"00B2010C00>70009000"}},
		{"T=0 case 2, wrong Le", "00B2010C00", "70009000", true, []string{"00B2010C00>6C02", "00B2010C02>70009000"}},
		{"T=0 case 3", "00200080020102", "9000", true, []string{"00200080020102>9000"}},
		{"T=0 case 4", "00A4040002A00000", "6F009000", true, []string{"00A4040002A000>6102", "00C0000002>6F009000"}},
		{"T=0 case 4 in parts", "00A4040002A00000", "6F018809876543219000", true,
			[]string{"00A4040002A000>6103", "00C0000003>6F01886105", "00C0000005>09876543219000"}},
		{"T=0 warning with data", "00A4040002A00000", "6F006283", true, []string{"00A4040002A000>6283", "00C0000000>6C02", "00C0000002>6F009000"}},
		{"T=0 warning without data", "00A4040002A00000", "6283", true, []string{"00A4040002A000>6283", "00C0000000>6985"}},
		{"APDU reader, warning with data", "00A4040002A00000", "6F006283", false, []string{"00A4040002A00000>6283", "00C0000000>6C02", "00C0000002>6F009000"}},
		{"T=0 error", "00A4040002A00000", "6A82", true, []string{"00A4040002A000>6A82"}},
		{"T=0 case 4, wrong Le of none", "80AE800002A00000", "6C02", true, []string{"80AE800002A000>6C02"}},
		{"T=0 done without data", "00A4040002A00000", "9000", true, []string{"00A4040002A000>9000"}},
		{"6C to 6C is the answer", "00B2010C00", "6C03", true, []string{"00B2010C00>6C02", "00B2010C02>6C03"}},
		{"APDU reader", "00A4040002A00000", "6F009000", false, []string{"00A4040002A00000>6F009000"}},
		{"APDU reader that leaves 61", "00A4040002A00000", "6F009000", false, []string{"00A4040002A00000>6102", "00C0000002>6F009000"}},
		{"APDU reader that leaves 6C, case 4", "80A80000028300FF", "77009000", false, []string{"80A80000028300FF>6C02", "80A8000002830002>77009000"}},
		{"APDU reader that leaves 6C, case 2", "80CA9F3600", "9F3602000190 00", false, []string{"80CA9F3600>6C05", "80CA9F3605>9F360200019000"}},
	} {
		s := &script{t, c.pairs}
		var x Exchanger = Follow{s}
		if c.t0 {
			x = T0{s}
		}
		got, err := x.Transmit(t.Context(), unhex(t, c.cmd))
		if want := strings.ReplaceAll(c.want, " ", ""); err != nil || fmt.Sprintf("%X", got) != want {
			t.Errorf("%s: %X %v, want %s", c.name, got, err, want)
		}
		if len(s.pairs) != 0 {
			t.Errorf("%s: not sent: %v", c.name, s.pairs)
		}
	}
}

type endless struct{ answer []byte }

func (e endless) Transmit(context.Context, []byte) ([]byte, error) { return e.answer, nil }

func TestACardThatAnnouncesWithoutEndIsStopped(t *testing.T) {
	for _, answer := range []string{"6100", strings.Repeat("00", 256) + "6100", "6C00"} {
		_, err := T0{endless{unhex(t, answer)}}.Transmit(t.Context(), unhex(t, "00A4040002A00000"))
		if answer != "6C00" && !errors.Is(err, ErrLoop) {
			t.Errorf("%.8s: %v", answer, err)
		}
	}
	if _, err := (T0{}).Transmit(t.Context(), Command{Data: make([]byte, 256)}.Bytes()); !errors.Is(err, ErrTooLong) {
		t.Errorf("256 bytes over T=0: %v", err)
	}
	for _, bad := range []string{"", "90", "0000"} {
		if _, err := (Follow{endless{unhex(t, bad)}}).Transmit(t.Context(), unhex(t, "00840000")); !errors.Is(err, ErrResponse) {
			t.Errorf("answer %q: %v", bad, err)
		}
	}
}

func TestATR(t *testing.T) {
	a, err := ParseATR(unhex(t, "3BE000008131204535"))
	if err != nil || a.Protocol() != 1 || a.IFSC() != 32 || a.BWI() != 4 || a.CWI() != 5 || a.CRC() || !a.HasTCK || a.CheckEMV(false) != nil {
		t.Errorf("%+v %v %v", a, err, a.CheckEMV(false))
	}
	a, err = ParseATR(unhex(t, "3B80800101"))
	if err != nil || a.Protocol() != 0 || !a.Offers(1) {
		t.Errorf("%v", err)
	}
	if err := a.CheckEMV(false); !errors.Is(err, ErrATR) {
		t.Errorf("an ATR without TB1 is taken: %v", err)
	}
	a, err = ParseATR(unhex(t, "3F650000 0102030405"))
	if err != nil || !a.Inverse || a.HasTCK || len(a.Historical) != 5 || !a.Offers(0) || a.CheckEMV(false) != nil {
		t.Errorf("%+v %v", a, err)
	}
	for _, bad := range []string{"", "3B", "3C00", "3B01", "3B80", "3BE000008131204536", "3BE0000081312045", "3B0000", "3BE00000813120453500", "3B" + strings.Repeat("F0", 40)} {
		if _, err := ParseATR(unhex(t, bad)); !errors.Is(err, ErrATR) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, s := range []string{"3BE0000081310F451A", "3BE000008131206515"} {
		if a, err := ParseATR(unhex(t, s)); err != nil || a.CheckEMV(false) == nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// The two field reports of set tlv-field that are about commands.
func TestVectorsTLVFieldCommands(t *testing.T) {
	n := 0
	for _, file := range vectortest.Files(t, "emv", "tlv-field") {
		var doc struct {
			Vectors []struct {
				Name string
				Hex  *string
			}
		}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &doc)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range doc.Vectors {
			n++ // the others are checked in emv/tlv
			switch {
			case v.Hex != nil:
			case strings.HasPrefix(v.Name, "GPO needs Le"):
				b := Command{CLA: 0x80, INS: 0xA8, Data: []byte{0x83, 0}, Le: LeShort}.Bytes()
				if len(b) != 8 || b[7] != 0 {
					t.Errorf("%s: %X", v.Name, b)
				}
			case strings.HasPrefix(v.Name, "READ RECORD"):
				if b := (Command{INS: 0xB2, P1: 1, P2: 0x0C, Le: LeShort}).Bytes(); len(b) != 5 {
					t.Errorf("%s: %X", v.Name, b)
				}
			}
		}
	}
	vectortest.Ran(t, "tlv-field", n)
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"00840000", "00B2010C00", "00A4040002A00000", "00D6000000012C00", "80A8000002830000"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCommand(b)
		if err == nil {
			out, err := c.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseCommand(out)
			if err != nil || back.Le != c.Le || !bytes.Equal(back.Data, c.Data) {
				t.Fatalf("%v becomes %v, %v", c, back, err)
			}
		}
		ParseResponse(b)
		if a, err := ParseATR(b); err == nil {
			a.CheckEMV(false)
			a.Offers(1)
		}
	})
}
