package ccid_test

import (
	"testing"

	"tillbridge/drivers/ccid"
)

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	m := ccid.Message{Type: ccid.XfrBlock, Seq: 7, Data: selectPSE}
	buf := make([]byte, 0, 64)
	for b.Loop() {
		buf = m.Append(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	wire := ccid.Message{Type: ccid.DataBlock, Seq: 7, Data: make([]byte, 90)}.Append(nil)
	for b.Loop() {
		if _, err := ccid.ParseMessage(wire); err != nil {
			b.Fatal(err)
		}
	}
}
