package tlv

import "iter"

// Tree is a parsed input: all elements in the order of the data, each with its
// place. It keeps the input and copies nothing; up to 24 elements need no
// memory of their own. The zero Tree is empty. Copy a Tree no further than
// from [Parse]: it has some 450 bytes.
type Tree struct {
	data []byte
	n    int
	few  [24]node
	more []node // all nodes, once they are more than few holds
}

type node struct {
	tag                Tag
	start, value, stop uint16 // the input has at most 65,535 bytes
	next               uint16 // index behind the last descendant
	depth              uint8
}

// Parse reads all of data into a tree; nil options mean the zero [Options]. On
// error the tree holds what was read before it, and the error is a
// *[SyntaxError].
func Parse(data []byte, o *Options) (t Tree, err error) {
	err = t.Read(data, o)
	return t, err
}

// Read parses data into t and reuses its memory; see [Parse].
func (t *Tree) Read(data []byte, o *Options) error {
	t.data, t.n, t.more = data, 0, t.more[:0]
	it := NewIterator(data, o, true)
	var open [depthLimit + 1]uint16 // last element of each depth
	depth := 0
	for it.Next() {
		// Templates that ended get their true end; until then, and for all that
		// holds nothing, it is the next element.
		for depth > it.at {
			depth--
			t.node(int(open[depth])).next = uint16(t.n)
		}
		depth = it.at
		open[depth] = uint16(t.n)
		n := node{it.tag, uint16(it.start), uint16(it.value), uint16(it.stop), uint16(t.n + 1), uint8(depth)}
		if t.n < len(t.few) {
			t.few[t.n] = n
		} else {
			if t.n == len(t.few) {
				t.more = append(t.more, t.few[:]...)
			}
			t.more = append(t.more, n)
		}
		t.n++
	}
	for depth > 0 {
		depth--
		t.node(int(open[depth])).next = uint16(t.n)
	}
	return it.Err()
}

func (t *Tree) node(i int) *node {
	if len(t.more) > 0 {
		return &t.more[i]
	}
	return &t.few[i]
}

// Len is the number of elements at all depths.
func (t *Tree) Len() int { return t.n }

// At returns element i in the order of the data; it panics when i is out of
// range.
func (t *Tree) At(i int) Element {
	if i >= t.n {
		panic("tlv: element index out of range")
	}
	n := t.node(i)
	return Element{Tag: n.tag, Value: t.data[n.value:n.stop:n.stop], Raw: t.data[n.start:n.stop:n.stop], Depth: int(n.depth)}
}

// All yields every element in the order of the data, a template before what it
// holds.
func (t *Tree) All() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for i := range t.n {
			if !yield(t.At(i)) {
				return
			}
		}
	}
}

// Children yields index and element of what element i holds directly; i = -1
// means the outermost sequence.
func (t *Tree) Children(i int) iter.Seq2[int, Element] {
	return func(yield func(int, Element) bool) {
		j, end := 0, t.n
		if i >= 0 {
			j, end = i+1, int(t.node(i).next)
		}
		for j < end {
			if !yield(j, t.At(j)) {
				return
			}
			j = int(t.node(j).next)
		}
	}
}

// Find returns the first value with tag at any depth.
func (t *Tree) Find(tag Tag) (value []byte, ok bool) {
	for i := range t.n {
		if t.node(i).tag == tag {
			return t.At(i).Value, true
		}
	}
	return nil, false
}
