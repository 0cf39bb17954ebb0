package mask

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf16"
)

// The numbers that brands and gateways publish for tests.
var published = []string{
	"4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "2223003122003222",
	"378282246310005", "371449635398431", "6011111111111117", "30569309025904", "38520000023237",
	"3530111333300000", "6205500000000000004", "2200000000000004", "6759649826438453",
}

func utf16LE(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

func utf16BE(s string) []byte {
	b := utf16LE(s)
	for i := 0; i < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
	return b
}

func packDigits(s string) []byte {
	if len(s)%2 == 1 {
		s += "F"
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// written is every way in which a number is written that the scanner finds.
func written(pan string) map[string][]byte {
	m := map[string][]byte{
		"alone":               []byte(pan),
		"in a sentence":       []byte("card " + pan + " was read"),
		"after a name":        []byte("pan=" + pan),
		"in json":             []byte(`{"pan":"` + pan + `","amount":100}`),
		"as a json number":    []byte(`{"pan":` + pan + `}`),
		"before a comma":      []byte(pan + ",12.50,EUR"),
		"leading zeros":       []byte(strings.Repeat("0", 20-len(pan)) + pan),
		"one leading zero":    []byte("0" + pan),
		"padded behind":       []byte(pan + strings.Repeat("0", 26-len(pan))),
		"url query":           []byte("https://example.test/pay?card=" + pan + "&x=1"),
		"track 2":             []byte(";" + pan + "=29122011000012300000?"),
		"track 2 bare":        []byte(pan + "=29122011000012300000"),
		"track 2 with D":      []byte(pan + "D29122011000012300000F"),
		"track 2 dump":        []byte(strings.ToLower(pan + "D29122011000012300000F")),
		"track 1":             []byte("%B" + pan + "^TEST/CARD^29122011000000000000?"),
		"utf16 le":            utf16LE("number " + pan + " read"),
		"utf16 be":            utf16BE("number " + pan + " read"),
		"hex of ascii":        []byte(hex.EncodeToString([]byte("n=" + pan))),
		"hex of ascii upper":  []byte(strings.ToUpper(hex.EncodeToString([]byte(pan)))),
		"hex of utf16":        []byte(hex.EncodeToString(utf16LE(pan))),
		"spaced hex of ascii": fmt.Appendf(nil, "% x", pan),
		"go hex of ascii":     fmt.Appendf(nil, "%#v", []byte(pan)),
		"url escapes":         fmt.Appendf(nil, "%%%s", strings.ReplaceAll(fmt.Sprintf("% x", pan), " ", "%")),
		"decimal bytes":       fmt.Appendf(nil, "%v", []byte(pan)),
		"base64":              []byte(base64.StdEncoding.EncodeToString([]byte(pan))),
		"base64 in json":      []byte(`{"data":"` + base64.StdEncoding.EncodeToString([]byte(`{"card":"`+pan+`"}`)) + `"}`),
		"base64 url raw":      []byte(base64.RawURLEncoding.EncodeToString([]byte("track;" + pan + "=29121010000?"))),
		"base64 of utf16":     []byte(base64.StdEncoding.EncodeToString(utf16LE(pan))),
		"base64 of base64":    []byte(base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte(pan))))),
		"hex dump of tag 5A":  []byte("4F07A00000000310105A" + fmt.Sprintf("%02X", (len(pan)+1)/2) + strings.ToUpper(hex.EncodeToString(packDigits(pan))) + "5F24032912315F340101"),
		"hex dump of tag 57":  []byte("9F360200015711" + pan + "D2912201100001230" + "9F2701"),
	}
	if len(pan) != 13 {
		if BrandOf(pan) != Maestro {
			m["between letters"] = []byte("zz" + pan + "zz")
		}
		m["llvar"] = fmt.Appendf(nil, "%d%s000000000000001000", len(pan), pan)
	}
	if len(pan) >= 15 {
		for name, sep := range map[string]string{"spaces": " ", "dashes": "-", "dots": ".", "commas": ",", "colons": ":", "slashes": "/", "newlines": "\n", "plus": "+", "url spaces": "%20", "url dashes": "%2D", "no-break spaces": "\u00a0", "en dashes": "\u2013", "spaced dashes": " - ", "comma and space": ", "} {
			var groups []string
			for p := pan; p != ""; p = p[min(4, len(p)):] {
				groups = append(groups, p[:min(4, len(p))])
			}
			m["fours with "+name] = []byte("x " + strings.Join(groups, sep) + " y")
			m["singles with "+name] = []byte("x " + strings.Join(strings.Split(pan, ""), sep) + " y")
		}
		m["spaced bcd dump"] = fmt.Appendf(nil, "bytes % X end", packDigits(pan))
	}
	if IsPAN(pan) && BrandOf(pan) != Maestro {
		bcd := packDigits(pan)
		m["bcd alone"] = bcd
		m["bcd in tag 5A"] = append(append([]byte{0x5F, 0x20, 0x02, 'A', 'B', 0x5A, byte(len(bcd))}, bcd...), 0x5F, 0x24)
		if strings.ContainsFunc(string(bcd), unicode.IsControl) { // else it reads as text
			m["bcd between text"] = append(append([]byte("head"), bcd...), "tail"...)
		}
		m["base64 of bcd"] = []byte(base64.StdEncoding.EncodeToString(bcd))
		track := packDigits(pan + "D2912201100001230")
		m["bcd in tag 57"] = append(append([]byte{0x57, byte(len(track))}, track...), 0x82, 0x02)
	}
	return m
}

func TestScanFindsEveryForm(t *testing.T) {
	for _, pan := range published {
		for name, data := range written(pan) {
			found := Scan(data)
			if len(found) == 0 {
				t.Errorf("%s …%s, %s: nothing found", BrandOf(pan), pan[len(pan)-4:], name)
				continue
			}
			for _, f := range found {
				if f.Start < 0 || f.End > len(data) || f.Start >= f.End {
					t.Errorf("%s: finding [%d,%d) of %d bytes", name, f.Start, f.End, len(data))
				}
			}
			if clean := AppendRedacted(nil, data); Known(pan).In(clean) >= 0 || len(Scan(clean)) > 0 {
				t.Errorf("%s …%s, %s: still there after redaction", BrandOf(pan), pan[len(pan)-4:], name)
			}
		}
	}
}

func TestTracksAreRemovedWhole(t *testing.T) {
	for _, text := range []string{
		"read ;4111111111111111=29122011000012300000? done",
		"read %B4111111111111111^DOE/JANE^29122011000012300000? done",
		// Format-preserving encryption leaves a track that fails the check digit.
		"read ;4111111111111112=29122011000012300000? done",
		"read %B4111111111111112^DOE/JANE^29122011000012300000? done",
	} {
		if got := Redact(text); got != "read "+Mark+" done" {
			t.Errorf("Redact = %q", strings.ReplaceAll(got, "4111", "4..."))
		}
	}
}

func TestHarmlessTextPassesUnharmed(t *testing.T) {
	for _, text := range []string{
		"", "ok", "2026-11-30T21:18:20.123456789Z level=INFO msg=started",
		"2026-11-30 21:18:20.123456 +0100", "20261130211820", "20261130211820123", "1796073500", "1796073500123",
		"1796073500123456", "1796073500123456789", "22:21:30.123456789 7 retries", "22:30:15.123456789 1 of 4",
		"ksn=FFFF9876543210E00001", "ksn=123456789012345600000001", "ksn=62994996000000A00072", "KSN 629949960E0000A00072",
		"stan=004512 rrn=633421004512 auth=123456", "amount=1000 currency=978 stan=123456 register=1",
		"pay_01938f6e-5d4e-7cc2-9b0e-4f2d8c1a3b5e", "evt_01938f6e5d4e7cc29b0e4f2d8c1a3b5e", "dev_7f3a",
		"127.0.0.1:8710 192.168.100.200:65535 10.0.0.1", "411111******1111", "4124********9990",
		"aid=A0000000041010 tvr=0000008000 tsi=E800 ac=9D1C2B3A4F5E6071", "11ca:0219", "401-221-908",
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"phone +49 170 1234567, +1 (555) 010-9999", "GS1 04006381333931", "00340123450000000018",
		"DE89370400440532013000", "[52 49]", "latencies 12.5 40.1 41.2 39.9 ms", "iccid 8949020000001234567",
		"018f3e2a-4111-7111-8111-411111111111", "3.14159265358979", "4.000000000000001", "53.12345678901232", "5.555555555555444",
	} {
		if got := Redact(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestRandomIdentifiersPassUnharmed(t *testing.T) {
	random := mrand.New(mrand.NewPCG(7, 11))
	hexOf := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return hex.EncodeToString(b)
	}
	for i := range 40000 {
		u := hexOf(16)
		u = u[:12] + "7" + u[13:16] + "a" + u[17:]
		uuid := u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
		ts := time.Unix(int64(1600000000+random.IntN(400000000)), int64(random.IntN(1e9))).UTC()
		line := fmt.Sprintf("%s pay_%s evt_%s ksn=FFFF%s ksn=%s aes=%s %d %d", ts.Format(time.RFC3339Nano), uuid, u,
			strings.ToUpper(hexOf(8)), strings.ToUpper(hexOf(10)), strings.ToUpper(hexOf(12)), ts.UnixNano(), ts.UnixMicro())
		if got := Redact(line); got != line {
			t.Fatalf("line %d: %q became %q", i, line, got)
		}
	}
}

// What a till and a host write by the thousand, each with its own check digit
// or form: none may be taken for a card.
func TestTradeItemsAndReferencesPassUnharmed(t *testing.T) {
	random := mrand.New(mrand.NewPCG(2, 3))
	for range 20000 {
		for _, n := range []int{12, 13, 14} {
			d := make([]byte, n)
			for i := range d {
				d[i] = byte('0' + random.IntN(10))
			}
			for d[n-1] = '0'; !gtin(d); d[n-1]++ {
			}
			if line := "item " + string(d) + " qty 1"; Redact(line) != line {
				t.Fatalf("trade item number %s is taken for a card", d)
			}
		}
		rrn := fmt.Sprintf("rrn=6%03d%02d%06d", 1+random.IntN(366), random.IntN(24), random.IntN(1000000))
		if Redact(rrn) != rrn {
			t.Fatalf("%s is taken for a card", rrn)
		}
	}
}

func TestRandomBytesAreNotNumbers(t *testing.T) {
	data := make([]byte, 1<<20)
	random := mrand.NewChaCha8([32]byte{1})
	random.Read(data)
	if found := Scan(data); len(found) > 1 {
		t.Errorf("%d findings in a MiB of random bytes: %v", len(found), found)
	}
	if got := ScanText(base64.StdEncoding.EncodeToString(data)); len(got) > 1 {
		t.Errorf("%d findings in the base64 of a MiB of random bytes", len(got))
	}
}

func TestKnownFindsTheNumberInsideRandomBytes(t *testing.T) {
	pan := "4012888888881881"
	noise := make([]byte, 4096)
	rand.Read(noise)
	k := Known(pan)
	if at := k.In(noise); at >= 0 {
		t.Fatalf("found in noise at %d", at)
	}
	for name, form := range map[string][]byte{
		"ascii": []byte(pan), "bcd": packDigits(pan), "bcd shifted": packDigits("1" + pan + "1"), "utf16": utf16LE(pan), "spaces": []byte("4012 8888 8888 1881"),
		"hex":    []byte(hex.EncodeToString([]byte(pan))),
		"base64": []byte(base64.StdEncoding.EncodeToString([]byte("ab" + pan + "cd"))),
	} {
		data := append(append(append([]byte(nil), noise...), form...), noise...)
		if k.In(data) < 0 {
			t.Errorf("%s not found", name)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, data := range written(published[0]) {
		f.Add(data)
	}
	f.Add([]byte("3333333333333333333333333333333333"))
	f.Fuzz(func(t *testing.T, data []byte) {
		end := 0
		for _, x := range Scan(data) {
			if x.Start < end || x.End <= x.Start || x.End > len(data) {
				t.Fatalf("finding [%d,%d) after %d in %d bytes", x.Start, x.End, end, len(data))
			}
			end = x.End
		}
		Redact(string(data))
	})
}

// Whatever stands around a number in plain text, the number is found.
func FuzzNumberInText(f *testing.F) {
	f.Add("card ", " read", uint8(0))
	f.Add("", "", uint8(3))
	f.Fuzz(func(t *testing.T, before, after string, which uint8) {
		pan := published[int(which)%len(published)]
		text := before + " <" + pan + "> " + after
		if Known(pan).In([]byte(Redact(text))) >= 0 && Known(pan).In([]byte(before+after)) < 0 {
			t.Errorf("number not removed")
		}
	})
}

func BenchmarkRedactLogLine(b *testing.B) {
	line := "2026-11-30T21:18:20.123456789Z payment pay_01938f6e-5d4e-7cc2-9b0e-4f2d8c1a3b5e approved ksn=FFFF9876543210E00001 register=R1"
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		Redact(line)
	}
}

func BenchmarkScanBinary(b *testing.B) {
	data := make([]byte, 1<<16)
	mrand.NewChaCha8([32]byte{1}).Read(data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		Scan(data)
	}
}

// Separators that no eye sees, and those of a word processor.
func TestNumbersPartedByUnusualSeparators(t *testing.T) {
	for _, sep := range []string{"\u200b", "\u200d", "\u2060", "\ufeff", "\u2212", "\u2014", "\u2009", "\u3000", "~"} {
		text := "card " + strings.Join([]string{"4111", "1111", "1111", "1111"}, sep) + "."
		if got := Redact(text); got != "card "+Mark+"." {
			t.Errorf("%+q: not found", sep)
		}
	}
}
