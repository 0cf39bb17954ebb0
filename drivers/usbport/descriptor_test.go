package usbport

import (
	"slices"
	"testing"
)

// rawReader are the descriptors of a chip card reader with a keyboard beside it,
// as sysfs gives them.
func rawReader() []byte {
	device := []byte{18, 1, 0, 2, 0, 0, 0, 64, 0xE6, 0x08, 0x33, 0x44, 0, 1, 1, 2, 3, 1}
	config := []byte{9, 2, 0, 0, 2, 1, 0, 0x80, 50}
	reader := []byte{9, 4, 0, 0, 3, 0x0B, 0, 0, 0}
	class := make([]byte, 54)
	class[0], class[1] = 54, 0x21
	ends := []byte{7, 5, 0x81, 3, 8, 0, 16, 7, 5, 0x82, 2, 64, 0, 0, 7, 5, 0x03, 2, 64, 0, 0}
	other := []byte{9, 4, 0, 1, 1, 0xFF, 0, 0, 0, 7, 5, 0x84, 2, 64, 0, 0}
	keys := []byte{9, 4, 1, 0, 1, 3, 1, 1, 0, 9, 0x21, 0x11, 1, 0, 1, 0x22, 45, 0, 7, 5, 0x85, 3, 8, 0, 10}
	return slices.Concat(device, config, reader, class, ends, other, keys)
}

func TestDescribed(t *testing.T) {
	want := []seen{
		{vid: 0x08E6, pid: 0x4433, number: 0, class: 0x0B, in: true, out: true},
		{vid: 0x08E6, pid: 0x4433, number: 1, class: 3, sub: 1, in: true},
	}
	got := described(rawReader())
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if g, w := got[i], want[i]; g.vid != w.vid || g.pid != w.pid || g.number != w.number || g.class != w.class || g.sub != w.sub || g.in != w.in || g.out != w.out {
			t.Errorf("%+v, not %+v", g, w)
		}
	}
	for _, bad := range [][]byte{nil, {18, 1}, make([]byte, 18), append(rawReader()[:18], 0, 4), append(rawReader()[:18], 200, 4, 0)} {
		if list := described(bad); len(list) != 0 {
			t.Errorf("% X: %+v", bad, list)
		}
	}
}

func FuzzDescribed(f *testing.F) {
	f.Add(rawReader())
	f.Add(rawReader()[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range described(b) {
			if p, ok := s.port(); ok && p.Path == "" {
				t.Errorf("%+v", s)
			}
		}
	})
}
