package tlv

import "testing"

// record is a READ RECORD answer of 191 bytes as a card with dynamic data
// authentication gives it, made of published test values.
func record(t testing.TB) []byte {
	var body []byte
	body = Append(body, 0x5A, unhex(t, "4761739001010119"))
	body = Append(body, 0x5F24, unhex(t, "311231"))
	body = Append(body, 0x5F25, unhex(t, "220101"))
	body = Append(body, 0x5F28, unhex(t, "0840"))
	body = Append(body, 0x5F34, unhex(t, "01"))
	body = Append(body, 0x8C, unhex(t, "9F02069F03069F1A0295055F2A029A039C019F37049F35019F45029F4C089F3403"))
	body = Append(body, 0x8D, unhex(t, "910A8A0295059F37049F4C08"))
	body = Append(body, 0x8E, unhex(t, "000000000000000042014103420305031E031F03"))
	body = Append(body, 0x9F07, unhex(t, "FF00"))
	body = Append(body, 0x9F08, unhex(t, "0002"))
	body = Append(body, 0x9F0D, unhex(t, "B850BC8800"))
	body = Append(body, 0x9F0E, unhex(t, "0000000000"))
	body = Append(body, 0x9F0F, unhex(t, "B870BC9800"))
	body = Append(body, 0x9F42, unhex(t, "0840"))
	body = Append(body, 0x9F44, unhex(t, "02"))
	body = Append(body, 0x9F4A, unhex(t, "82"))
	rest := 191 - 3 - len(body) - 3
	body = Append(body, 0x9F1F, make([]byte, rest))
	rec := Append(nil, 0x70, body)
	if len(rec) != 191 {
		t.Fatalf("the record has %d bytes", len(rec))
	}
	return rec
}

func BenchmarkIterateRecord191(b *testing.B) {
	rec := record(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		it := IterDeep(rec)
		n = 0
		for it.Next() {
			n += len(it.Value())
		}
		if it.Err() != nil {
			b.Fatal(it.Err())
		}
	}
	// The C peer (emv-utils) needs 356 ns for a record of this length.
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/356, "x-C-peer")
}

func BenchmarkTreeRecord191(b *testing.B) {
	rec := record(b)
	b.ReportAllocs()
	for b.Loop() {
		t, err := Parse(rec, nil)
		if err != nil || t.Len() != 18 {
			b.Fatal(t.Len(), err)
		}
	}
	ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	// The Go peers need 5,485 and 8,795 ns (knowledge, section 4).
	b.ReportMetric(5485/ns, "x-faster-skythen")
	b.ReportMetric(8795/ns, "x-faster-moov")
}

func BenchmarkTreeReused(b *testing.B) {
	rec := record(b)
	var t Tree
	b.ReportAllocs()
	for b.Loop() {
		if err := t.Read(rec, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDOLAppend(b *testing.B) {
	d, _ := ParseDOL(unhex(b, "9F02069F03069F1A0295055F2A029A039C019F37049F35019F45029F4C089F3403"))
	v := []byte{1, 2, 3}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = d.Append(buf[:0], func(Tag) ([]byte, bool) { return v, true })
	}
}
