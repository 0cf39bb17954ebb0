package tlv

import (
	"bytes"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "9F0201AA00FF8200", "6F1A8407A0000000031010A50F500456495341870101 9F38039F1A02", "700C5F340101FFFFFF9F57020840", "9C80", "7084FFFFFFFF", "9F8181818101AA", "70700270"} {
		f.Add(unhex(f, s), byte(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, mode byte) {
		o := &Options{Mode: Mode(mode % 3), OneByteLength: mode&0x80 != 0}
		tree, err := Parse(data, o)
		_ = Describe(data, o)
		last := -1
		for i := range tree.Len() {
			e := tree.At(i)
			if e.Depth > DefaultDepth || len(e.Raw) < len(e.Value) || !bytes.HasSuffix(e.Raw, e.Value) {
				t.Fatalf("element %d is out of its place", i)
			}
			if e.Depth > last+1 {
				t.Fatalf("element %d skips a depth", i)
			}
			last = e.Depth
		}
		seen := 0
		var count func(at int)
		count = func(at int) {
			for i := range tree.Children(at) {
				seen++
				count(i)
			}
		}
		count(-1)
		if seen != tree.Len() {
			t.Fatalf("children lead to %d of %d elements", seen, tree.Len())
		}
		if err == nil && o.Mode == Strict && !o.OneByteLength {
			var back []byte
			for _, e := range tree.Children(-1) {
				back = Append(back, e.Tag, e.Value)
			}
			if !bytes.Equal(back, data) {
				t.Fatalf("strict data of %d bytes are written back as %d", len(data), len(back))
			}
		}
	})
}

func FuzzDOL(f *testing.F) {
	f.Add([]byte{0x9F, 0x02, 6, 0x9A, 3, 0x5A, 10})
	f.Add([]byte{0x9F})
	f.Add([]byte{0xA5, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDOL(b)
		if err != nil {
			return
		}
		if !bytes.Equal(AppendDOL(nil, d), b) {
			t.Fatal("not written back as read")
		}
		out := d.Append(nil, func(Tag) ([]byte, bool) { return []byte{1, 2, 3, 4}, true })
		if len(out) != d.Size() {
			t.Fatalf("%d bytes, the list asks for %d", len(out), d.Size())
		}
	})
}
