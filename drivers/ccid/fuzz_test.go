package ccid_test

import (
	"bytes"
	"testing"

	"tillbridge/drivers/ccid"
)

func FuzzMessage(f *testing.F) {
	for _, m := range []ccid.Message{{Type: ccid.GetSlotStatus}, {Type: ccid.DataBlock, Seq: 4, Data: []byte{0x90, 0}},
		{Type: ccid.Parameters, Data: make([]byte, 7), Understated: true}, {Type: ccid.XfrBlock, P1: 1, Data: selectPSE}} {
		f.Add(m.Append(nil))
	}
	f.Add([]byte{0x50, 3})
	f.Add([]byte{0x51, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ccid.ParseMessage(b); err == nil {
			if !bytes.Equal(m.Append(nil), b) {
				t.Fatalf("%v is built again differently", m)
			}
		}
		if n, err := ccid.ParseNotification(b); err == nil {
			if !bytes.Equal(n.Append(nil), b) {
				t.Fatal("a notification is built again differently")
			}
			n.Present(len(b))
		}
		for _, from := range []bool{false, true} {
			for _, s := range (ccid.Driver{}).CardData(from, b) {
				if s.Start < 0 || s.Start >= s.End || s.End > len(b) {
					t.Fatalf("span %v of %d bytes", s, len(b))
				}
			}
			ccid.Driver{}.Describe(from, b)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	d := ccid.Descriptor{BCD: 0x110, Features: 0x404BA, Protocols: 3, MaxMessage: 271}
	f.Add(configuration(d, 3, false))
	f.Add(configuration(d, 2, true))
	f.Add(d.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := ccid.ParseConfiguration(b); err == nil {
			for _, i := range list {
				if i.BulkIn == 0 || i.BulkOut == 0 {
					t.Fatal("an interface without endpoints")
				}
			}
		}
		if d, err := ccid.ParseDescriptor(b); err == nil {
			if again, err := ccid.ParseDescriptor(d.Append(nil)); err != nil || again != d {
				t.Fatalf("%+v became %+v, %v", d, again, err)
			}
		}
	})
}
