package tlv

import "iter"

// Tree is a parsed input: all elements in the order of the data, each with its
// place. It keeps the input and copies nothing. The zero Tree is empty.
type Tree struct {
	data  []byte
	nodes []node
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
func Parse(data []byte, o *Options) (Tree, error) {
	var t Tree
	err := t.Read(data, o)
	return t, err
}

// Read parses data into t and reuses its memory; see [Parse].
func (t *Tree) Read(data []byte, o *Options) error {
	t.data = data
	if t.nodes = t.nodes[:0]; cap(t.nodes) == 0 {
		t.nodes = make([]node, 0, min(len(data)/8+2, 64))
	}
	it := NewIterator(data, o, true)
	var open [depthLimit + 1]uint16 // last node of each depth
	depth := -1
	for it.Next() {
		at := it.at
		i := uint16(len(t.nodes))
		for depth >= at {
			t.nodes[open[depth]].next = i
			depth--
		}
		t.nodes = append(t.nodes, node{it.tag, uint16(it.start), uint16(it.value), uint16(it.stop), 0, uint8(at)})
		depth = at
		open[at] = i
	}
	for ; depth >= 0; depth-- {
		t.nodes[open[depth]].next = uint16(len(t.nodes))
	}
	return it.Err()
}

// Len is the number of elements at all depths.
func (t *Tree) Len() int { return len(t.nodes) }

// At returns element i in the order of the data; it panics when i is out of
// range.
func (t *Tree) At(i int) Element {
	n := &t.nodes[i]
	return Element{Tag: n.tag, Value: t.data[n.value:n.stop:n.stop], Raw: t.data[n.start:n.stop:n.stop], Depth: int(n.depth)}
}

// All yields every element in the order of the data, a template before what it
// holds.
func (t *Tree) All() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for i := range t.nodes {
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
		j, end := 0, len(t.nodes)
		if i >= 0 {
			j, end = i+1, int(t.nodes[i].next)
		}
		for j < end {
			if !yield(j, t.At(j)) {
				return
			}
			j = int(t.nodes[j].next)
		}
	}
}

// Find returns the first value with tag at any depth.
func (t *Tree) Find(tag Tag) (value []byte, ok bool) {
	for i := range t.nodes {
		if t.nodes[i].tag == tag {
			return t.At(i).Value, true
		}
	}
	return nil, false
}
