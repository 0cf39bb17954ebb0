package acquirer

import "strings"

// The two wire forms of this host: ISO 8583:1987 as ASCII text with a binary
// bitmap (interchange style) and as packed BCD behind a TPDU (terminal style).
// Odd fixed numerics of the packed form are one digit wider.
const asciiForm = `
2 var len=ascii digits=2 data=ascii
3 fix 6 ascii
4 fix 12 ascii
7 fix 10 ascii
11 fix 6 ascii
12 fix 6 ascii
13 fix 4 ascii
14 fix 4 ascii
22 fix 3 ascii
23 fix 3 ascii
25 fix 2 ascii
37 fix 12 ascii
38 fix 6 ascii
39 fix 2 ascii
41 fix 8 ascii
42 fix 15 ascii
49 fix 3 ascii
52 fix 8 raw bytes
53 fix 16 ascii
54 var len=ascii digits=3 data=ascii
55 var len=ascii digits=3 data=raw bytes
60 var len=ascii digits=3 data=ascii
62 var len=ascii digits=3 data=ascii
63 var len=ascii digits=3 data=raw bytes
70 fix 3 ascii
90 fix 42 ascii`

const packedForm = `
2 var len=bcd digits=2 data=bcd right-padded F
3 fix 6 bcd left-padded
4 fix 12 bcd left-padded
11 fix 6 bcd left-padded
12 fix 6 bcd left-padded
13 fix 4 bcd left-padded
14 fix 4 bcd left-padded
22 fix 4 bcd left-padded
23 fix 4 bcd left-padded
24 fix 4 bcd left-padded
25 fix 2 bcd left-padded
37 fix 12 ascii
38 fix 6 ascii
39 fix 2 ascii
41 fix 8 ascii
42 fix 15 ascii
49 fix 3 ascii
52 fix 8 raw bytes
53 fix 16 bcd left-padded
54 var len=bcd digits=3 data=ascii
55 var len=bcd digits=3 data=raw bytes
60 var len=bcd digits=3 data=ascii
62 var len=bcd digits=3 data=ascii
63 var len=bcd digits=3 data=raw bytes`

var (
	asciiWire  = mustForm(form{mti: "ascii", bitmap: "binary"}, asciiForm)
	packedWire = mustForm(form{header: 5, mti: "bcd", bitmap: "binary"}, packedForm)
)

func mustForm(f form, text string) form {
	f.items = map[int]item{}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		number, layout, _ := strings.Cut(strings.TrimSpace(line), " ")
		id := 0
		for _, c := range number {
			id = id*10 + int(c-'0')
		}
		it, err := parseItem(id, layout)
		if err != nil {
			panic(err)
		}
		f.items[id] = it
	}
	return f
}

// formOf tells the forms apart: a TPDU begins with 60.
func formOf(b []byte) form {
	if len(b) > 0 && b[0] == 0x60 {
		return packedWire
	}
	return asciiWire
}
