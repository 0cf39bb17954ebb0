package tlv

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	if _, err := fmt.Sscanf(strings.ReplaceAll(s, " ", ""), "%X", &b); err != nil && s != "" {
		t.Fatal(err)
	}
	return b
}

func TestPaddingIsSkippedBeforeBetweenAndAfter(t *testing.T) {
	// ISO 7816-4 section 5.2.2; scheme test cards (trap 3).
	for _, pad := range []string{"00", "FF", "00FF00", "FFFFFF"} {
		data := unhex(t, pad+"9F0201AA"+pad+"820199"+pad)
		tree, err := Parse(data, nil)
		if err != nil || tree.Len() != 2 {
			t.Errorf("padding %s: %d elements, %v; want 2", pad, tree.Len(), err)
		}
		if v, _ := tree.Find(0x82); !bytes.Equal(v, []byte{0x99}) {
			t.Errorf("padding %s: 82 = %X", pad, v)
		}
		if _, err := Parse(data, &Options{Mode: Strict}); err == nil {
			t.Errorf("padding %s: strict mode read it", pad)
		}
	}
	tree, err := Parse(unhex(t, "700A00005A01990000FF8200"), nil)
	if err != nil || tree.Len() != 3 {
		t.Errorf("inside a template: %d, %v", tree.Len(), err)
	}
}

func TestPrivateTagsOfDeviceProtocols(t *testing.T) {
	data := unhex(t, "00FFEE0103DF3000FF8105029A00")
	tree, err := Parse(data, &Options{Mode: ZeroPadding})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range tree.All() {
		got = append(got, e.Tag.String())
	}
	if s := strings.Join(got, " "); s != "FFEE01 DF30 FF8105 9A" {
		t.Errorf("got %s", s)
	}
}

func TestBadDataIsATypedError(t *testing.T) {
	deep := []byte{}
	for range 200 {
		deep = Append(nil, 0x70, deep)
		if len(deep) == 2 {
			deep = Append(deep, 0x82, nil)
		}
	}
	many := bytes.Repeat([]byte{0x82, 0}, 2000)
	for name, c := range map[string]struct {
		data []byte
		o    Options
		want error
	}{
		"value cut":                  {unhex(t, "8204AABB"), Options{}, ErrTruncated},
		"tag cut":                    {unhex(t, "9F"), Options{}, ErrTruncated},
		"no length":                  {unhex(t, "9F02"), Options{}, ErrTruncated},
		"length cut":                 {unhex(t, "828201"), Options{}, ErrTruncated},
		"length of 17 octets":        {unhex(t, "709157134761"), Options{}, ErrLength},
		"length beyond 32 bits":      {unhex(t, "8284FFFFFFFF00"), Options{}, ErrTruncated},
		"child beyond its parent":    {unhex(t, "7003820499AABBCC"), Options{}, ErrTruncated},
		"indefinite":                 {unhex(t, "70808201990000"), Options{}, ErrIndefinite},
		"indefinite, strict":         {unhex(t, "9C80"), Options{Mode: Strict}, ErrIndefinite},
		"tag of five bytes":          {unhex(t, "9F8181818101AA"), Options{}, ErrTag},
		"nested without end":         {deep, Options{}, ErrDepth},
		"nested, own limit":          {unhex(t, "7004700270 00"), Options{MaxDepth: 1}, ErrDepth},
		"too many":                   {many, Options{}, ErrSize},
		"too long":                   {make([]byte, 100), Options{MaxSize: 99}, ErrSize},
		"long form of short, strict": {unhex(t, "828101AA"), Options{Mode: Strict}, ErrLength},
		"leading zero octet, strict": {append(unhex(t, "82820080"), make([]byte, 128)...), Options{Mode: Strict}, ErrLength},
		"zero, strict":               {unhex(t, "00820199"), Options{Mode: Strict}, ErrPadding},
	} {
		_, err := Parse(c.data, &c.o)
		var syntax *SyntaxError
		if !errors.Is(err, c.want) || !errors.As(err, &syntax) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestTreeKnowsParentsAndOrder(t *testing.T) {
	fci := unhex(t, "6F1A8407A0000000031010A50F500456495341870101 9F38 03 9F1A02")
	tree, err := Parse(fci, &Options{Mode: Strict})
	if err != nil {
		t.Fatal(err)
	}
	var top, a5 []string
	for i, e := range tree.Children(-1) {
		for j, e := range tree.Children(i) {
			top = append(top, e.Tag.String())
			for _, e := range tree.Children(j) {
				a5 = append(a5, fmt.Sprintf("%s@%d", e.Tag, e.Depth))
			}
		}
		if !bytes.Equal(e.Raw, fci) {
			t.Error("raw is not the whole element")
		}
	}
	if fmt.Sprint(top, a5) != "[84 A5] [50@2 87@2 9F38@2]" {
		t.Errorf("got %v %v", top, a5)
	}
	if v, ok := Get(fci, 0x6F, 0xA5, 0x50); !ok || string(v) != "VISA" {
		t.Errorf("label %q", v)
	}
	if _, ok := Get(fci, 0xA5, 0x50); ok {
		t.Error("a path must start outside")
	}
	if v, ok := Find(fci, 0x87); !ok || v[0] != 1 {
		t.Error("87 not found")
	}
	if _, ok := Get(fci); ok {
		t.Error("the empty path finds nothing")
	}
}

// Book 3 section 5.4, each rule (trap 2).
func TestDOLFillRules(t *testing.T) {
	values := map[Tag][]byte{
		0x9F02: {0x12, 0x34},             // numeric
		0x5A:   {0x99, 0x01, 0x23},       // compressed numeric
		0x9F37: {0xAA, 0xBB, 0xCC, 0xDD}, // binary
		0x9F1C: []byte("TERM"),           // alphanumeric
		0xA5:   {0x50, 0x01, 'A'},        // constructed
		0x9A:   {0x26, 0x11, 0x30},       // numeric
	}
	lookup := func(t Tag) ([]byte, bool) { v, ok := values[t]; return v, ok }
	for _, c := range []struct{ rule, dol, want string }{
		{"numeric, too short: zeros on the left", "9F0206", "000000001234"},
		{"numeric, too long: left bytes go", "9A02", "1130"},
		{"compressed numeric, too short: F on the right", "5A05", "990123FFFF"},
		{"compressed numeric, too long: right bytes go", "5A02", "9901"},
		{"binary, too short: zeros on the right", "9F3706", "AABBCCDD0000"},
		{"binary, too long: right bytes go", "9F3702", "AABB"},
		{"text, too short: zeros on the right", "9F1C06", "5445524D0000"},
		{"constructed: zeros", "A503", "000000"},
		{"unknown: zeros", "DF7704", "00000000"},
		{"absent: zeros, also for compressed numeric", "9F2002", "0000"},
		{"length zero", "9F0200", ""},
		{"twice", "9A039F37049A03", "261130AABBCCDD261130"},
	} {
		d, err := ParseDOL(unhex(t, c.dol))
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		got := d.Append(nil, lookup)
		if fmt.Sprintf("%X", got) != c.want || d.Size() != len(got) {
			t.Errorf("%s: got %X (size %d), want %s", c.rule, got, d.Size(), c.want)
		}
		if back := AppendDOL(nil, d); fmt.Sprintf("%X", back) != c.dol {
			t.Errorf("%s: written back as %X", c.rule, back)
		}
	}
}

// Trap 1: a list, not a map. Trap 4: lengths are not of bytes that follow.
func TestDOLKeepsOrderAndDuplicatesAndTakesAnyLength(t *testing.T) {
	d, err := ParseDOL(unhex(t, "9F66049F02069F03069F1A0295055F2A029A039C019F37049A03"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "9F66[4] 9F02[6] 9F03[6] 9F1A[2] 95[5] 5F2A[2] 9A[3] 9C[1] 9F37[4] 9A[3]"; d.String() != want || d.Size() != 36 {
		t.Errorf("got %s, %d bytes", d, d.Size())
	}
	if d, err = ParseDOL(unhex(t, "9F37FF")); err != nil || d.Size() != 255 {
		t.Errorf("%v %v", d, err)
	}
	for _, bad := range []string{"9F", "9F02", "82", "9F0206 9F"} {
		if _, err := ParseDOL(unhex(t, bad)); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDescribeShowsNoCardData(t *testing.T) {
	pan := "4761739001010119"
	for name, s := range map[string]string{
		"pan":                     "5A08" + pan,
		"pan of 19 digits":        "5A0A4761739001010119123F",
		"pan without padding":     "5A09" + pan + "1F",
		"pan with a letter":       "5A08476173A001010119",
		"pan with F inside":       "5A084761F39001010119",
		"short pan":               "5A054761739001",
		"long pan":                "5A0B" + pan + "476173",
		"odd nibble":              "5A08761739001010119F",
		"track 2":                 "5713" + pan + "D20121200012339900031F",
		"track 2 in a record":     "70155713" + pan + "D20121200012339900031F",
		"track 1":                 "5610423437363137333930303130313031313931",
		"name":                    "5F200F46554C4C2F46554E4354494F4E414C",
		"expiry":                  "5F2403311231",
		"pin":                     "99082412345678FFFFFF",
		"unknown tag with a pan":  "DF7708" + pan,
		"command template":        "8308" + pan,
		"wrong length of pan":     "5A00" + pan,
		"truncated":               "5A09" + pan,
		"track 2 data":            "9F6B08" + pan,
		"certificate":             "9F4608" + pan,
		"misread as a public tag": "5A00420447390010",
		"misread before an error": "5A024761420473900101019F",
		"discretionary":           "9F2008" + pan,
	} {
		out := Describe(unhex(t, s), nil)
		for _, secret := range []string{"739001", "390010", "47390010", "739001", "1010119", "0010101", "01010119", "FULL", "3112", "311231", "123456", "20121", "476173A", "37333930"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s: %q shows %s", name, out, secret)
			}
		}
	}
	out := Describe(unhex(t, "5A08"+pan+"9F0206000000001234500456495341"), nil)
	for _, want := range []string{"476173******0119", "9F02 Amount, Authorised [6] 000000001234", `"VISA"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q lacks %s", out, want)
		}
	}
	e := Element{Tag: 0x5A, Value: unhex(t, pan), Raw: unhex(t, "5A08"+pan)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb, e); s != "5A[8]" {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

func TestNumbersAndDigits(t *testing.T) {
	b, err := AppendNumeric(nil, 123456, 6)
	if err != nil || fmt.Sprintf("%X", b) != "000000123456" {
		t.Errorf("%X %v", b, err)
	}
	if _, err := AppendNumeric(nil, 100, 1); !errors.Is(err, ErrValue) {
		t.Errorf("overflow: %v", err)
	}
	if v, err := Numeric(b); err != nil || v != 123456 {
		t.Errorf("%d %v", v, err)
	}
	if _, err := Numeric([]byte{0x1A}); !errors.Is(err, ErrValue) {
		t.Errorf("nibble: %v", err)
	}
	if b, err = AppendDigits(nil, "12345", 4); err != nil || fmt.Sprintf("%X", b) != "12345FFF" {
		t.Errorf("%X %v", b, err)
	}
	if s, err := Digits(b); err != nil || s != "12345" {
		t.Errorf("%s %v", s, err)
	}
	if _, err := AppendDigits(nil, "12345", 2); !errors.Is(err, ErrValue) {
		t.Errorf("too long: %v", err)
	}
	for _, s := range []string{"", "9", "9F", "9F0", "9F0201", "GG", "820"} {
		if tag, err := ParseTag(s); err == nil {
			t.Errorf("%q is read as %s", s, tag)
		}
	}
	if tag, err := ParseTag("df8117"); err != nil || tag != 0xDF8117 {
		t.Errorf("%s %v", tag, err)
	}
}

func TestDictionaryNamesWhatMayNotBeShown(t *testing.T) {
	for _, tag := range []Tag{0x56, 0x57, 0x5A, 0x5F20, 0x5F24, 0x99, 0x9F0B, 0x9F1F, 0x9F20, 0x9F46, 0x9F6B, 0xDF01} {
		if SensitivityOf(tag) == Public {
			t.Errorf("%s is public", tag)
		}
	}
	for tag, info := range dictionary {
		if tag.Constructed() != (info.Format == FormatTemplate) {
			t.Errorf("%s: template and constructed bit disagree", tag)
		}
		if info.Name == "" || info.Format == FormatUnknown {
			t.Errorf("%s is incomplete", tag)
		}
	}
}

func TestATreeHoldsAnyNumberOfElements(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 25, 26, 300} {
		var body []byte
		for i := range n {
			body = Append(body, 0x82, []byte{byte(i)})
		}
		var tree Tree
		for range 2 { // the second time the memory is used again
			if err := tree.Read(Append(Append(nil, 0x70, body), 0x9A, nil), nil); err != nil || tree.Len() != n+2 {
				t.Fatalf("%d: %d, %v", n, tree.Len(), err)
			}
			i := 0
			for _, e := range tree.Children(0) {
				if e.Value[0] != byte(i) || e.Depth != 1 {
					t.Fatalf("%d: child %d is wrong", n, i)
				}
				i++
			}
			if i != n || tree.At(n+1).Tag != 0x9A {
				t.Fatalf("%d: %d children", n, i)
			}
			if err := tree.Read(nil, nil); err != nil || tree.Len() != 0 {
				t.Fatal("not empty")
			}
		}
	}
}
