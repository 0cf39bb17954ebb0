package frame

import "testing"

// typical is the payload of an ABECS GOX command, 60 bytes.
var typical = []byte("GOX054\x00\x10\x00\x0201\x00\x13\x00\x0c000000001000\x00\x14\x00\x0c000000000000\x00\x02\x00\x013\x00\x09\x00\x0202")

func benchEncode(b *testing.B, encode func(dst, p []byte) []byte) {
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		encode(nil, typical)
	}
}

func benchDecode(b *testing.B, d decoder, wire []byte) {
	b.ReportAllocs()
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		if n, ev, err := d.Feed(wire); n != len(wire) || ev != Message || err != nil {
			b.Fatal(n, ev, err)
		}
	}
}

func BenchmarkEncodeDC3(b *testing.B) {
	benchEncode(b, func(_, p []byte) []byte { return AppendDC3(make([]byte, 0, 128), p) })
}
func BenchmarkDecodeDC3(b *testing.B) { benchDecode(b, &DC3{}, AppendDC3(nil, typical)) }
func BenchmarkEncodeDLE(b *testing.B) {
	benchEncode(b, func(_, p []byte) []byte { return AppendDLE(make([]byte, 0, 128), p) })
}
func BenchmarkDecodeDLE(b *testing.B) { benchDecode(b, &DLE{}, AppendDLE(nil, typical)) }
func BenchmarkDecodeLength(b *testing.B) {
	benchDecode(b, &Length{Size: SizeZVT}, append([]byte{0x06, 0x01, byte(len(typical))}, typical...))
}
