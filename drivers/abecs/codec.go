package abecs

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
)

// Limits of a packet.
const (
	MaxPacket = 2049 // bytes before stuffing
	MaxBlock  = 999  // bytes of one block
)

// ErrMalformed is matched by every error of [Parse] and of reading a response.
var ErrMalformed = errors.New("abecs: answer does not have the form of the protocol")

// ErrTooLong is a command that does not fit into a packet.
var ErrTooLong = errors.New("abecs: command longer than a packet")

// Name is the identifier of a command and of its answer ("GOX").
type Name [3]byte

// String is the name as text.
func (n Name) String() string { return string(n[:]) }

// NameOf is the Name of the first three letters of s.
func NameOf(s string) Name {
	var n Name
	copy(n[:], s)
	return n
}

// Param is one parameter of an "Abecs command".
type Param struct {
	ID    ID
	Value []byte
}

// AppendCommand appends a command: its name and its blocks, each behind its
// length in three digits.
func AppendCommand(dst []byte, name string, blocks ...[]byte) ([]byte, error) {
	from := len(dst)
	dst = append(dst, name...)
	if len(name) != 3 {
		return dst[:from], fmt.Errorf("%w: a command has three letters", ErrMalformed)
	}
	for _, b := range blocks {
		if len(b) > MaxBlock {
			return dst[:from], ErrTooLong
		}
		dst = append(appendN3(dst, len(b)), b...)
	}
	if len(dst)-from > MaxPacket {
		return dst[:from], ErrTooLong
	}
	return dst, nil
}

// AppendParams appends a command with parameters in as few blocks as hold
// them. A parameter is never split over two blocks.
func AppendParams(dst []byte, name string, params ...Param) ([]byte, error) {
	from := len(dst)
	dst, err := AppendCommand(dst, name)
	if err != nil {
		return dst, err
	}
	length, block := -1, 0 // where the length of the open block stands; its bytes
	for _, p := range params {
		n := 4 + len(p.Value)
		if n > MaxBlock {
			return dst[:from], ErrTooLong
		}
		if length < 0 || block+n > MaxBlock {
			length, block = len(dst), 0
			dst = append(dst, "000"...)
		}
		block += n
		putN3(dst[length:], block)
		dst = append(dst, byte(p.ID>>8), byte(p.ID), byte(len(p.Value)>>8), byte(len(p.Value)))
		dst = append(dst, p.Value...)
	}
	if len(dst)-from > MaxPacket {
		return dst[:from], ErrTooLong
	}
	return dst, nil
}

func appendN3(dst []byte, n int) []byte {
	return append(dst, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
}

func putN3(dst []byte, n int) {
	dst[0], dst[1], dst[2] = '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10)
}

func number(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}

// Response is a parsed answer, or a notification. It refers to the packet.
type Response struct {
	Name   Name
	Status Status
	blocks []byte // whole blocks, lengths checked
}

// Parse checks the form of an answer: a name, a status and whole blocks; a
// status other than 000 ends the packet.
func Parse(packet []byte) (Response, error) {
	var r Response
	if len(packet) < 6 {
		return r, fmt.Errorf("%w: %d bytes", ErrMalformed, len(packet))
	}
	copy(r.Name[:], packet)
	for _, c := range r.Name {
		if c < 'A' || c > 'Z' {
			return Response{}, fmt.Errorf("%w: name is not three letters", ErrMalformed)
		}
	}
	n, ok := number(packet[3:6])
	if !ok {
		return Response{}, fmt.Errorf("%w: status is not three digits", ErrMalformed)
	}
	r.Status = Status(n)
	if r.Status != OK && len(packet) != 6 {
		return Response{}, fmt.Errorf("%w: status %03d with data", ErrMalformed, n)
	}
	r.blocks = packet[6:]
	return r, checkBlocks(r.blocks)
}

// Request is a parsed command, for tools that read a transcript.
type Request struct {
	Name   Name
	blocks []byte
}

// ParseRequest checks the form of a command.
func ParseRequest(packet []byte) (Request, error) {
	var r Request
	if len(packet) < 3 {
		return r, fmt.Errorf("%w: %d bytes", ErrMalformed, len(packet))
	}
	copy(r.Name[:], packet)
	for _, c := range r.Name {
		if c < 'A' || c > 'Z' {
			return Request{}, fmt.Errorf("%w: name is not three letters", ErrMalformed)
		}
	}
	r.blocks = packet[3:]
	return r, checkBlocks(r.blocks)
}

// Block is block i, or nil.
func (r Request) Block(i int) []byte { return block(r.blocks, i) }

// Blocks is how many blocks there are.
func (r Request) Blocks() int { return count(r.blocks) }

// Params walks the parameters. An error ends the walk.
func (r Request) Params() iter.Seq2[Param, error] { return params(r.blocks) }

// Find returns a parameter.
func (r Request) Find(id ID) ([]byte, bool) { return find(r.blocks, id) }

// Block is block i, or nil.
func (r Response) Block(i int) []byte { return block(r.blocks, i) }

// Blocks is how many blocks there are.
func (r Response) Blocks() int { return count(r.blocks) }

// Params walks the parameters. An error ends the walk.
func (r Response) Params() iter.Seq2[Param, error] { return params(r.blocks) }

// Find returns a parameter. One that lies behind a malformed one is absent.
func (r Response) Find(id ID) ([]byte, bool) { return find(r.blocks, id) }

func checkBlocks(b []byte) error {
	for len(b) > 0 {
		if len(b) < 3 {
			return fmt.Errorf("%w: %d bytes after the last block", ErrMalformed, len(b))
		}
		n, ok := number(b[:3])
		if !ok {
			return fmt.Errorf("%w: length of a block is not three digits", ErrMalformed)
		}
		if n > len(b)-3 {
			return fmt.Errorf("%w: block of %d bytes, %d are there", ErrMalformed, n, len(b)-3)
		}
		b = b[3+n:]
	}
	return nil
}

func block(b []byte, i int) []byte {
	for len(b) >= 3 {
		n, _ := number(b[:3])
		if i == 0 {
			return b[3 : 3+n : 3+n]
		}
		b, i = b[3+n:], i-1
	}
	return nil
}

func count(b []byte) (n int) {
	for len(b) >= 3 {
		l, _ := number(b[:3])
		b, n = b[3+l:], n+1
	}
	return n
}

// next splits the first parameter off a block.
func next(b []byte) (p Param, rest []byte, err error) {
	if len(b) < 4 {
		return p, nil, fmt.Errorf("%w: %d bytes after the last parameter", ErrMalformed, len(b))
	}
	p.ID = ID(b[0])<<8 | ID(b[1])
	n := int(b[2])<<8 | int(b[3])
	if n > len(b)-4 {
		return p, nil, fmt.Errorf("%w: parameter %s of %d bytes, %d are there", ErrMalformed, p.ID, n, len(b)-4)
	}
	p.Value = b[4 : 4+n : 4+n]
	return p, b[4+n:], nil
}

func params(blocks []byte) iter.Seq2[Param, error] {
	return func(yield func(Param, error) bool) {
		for len(blocks) >= 3 {
			n, _ := number(blocks[:3])
			b := blocks[3 : 3+n]
			blocks = blocks[3+n:]
			for len(b) > 0 {
				p, rest, err := next(b)
				if !yield(p, err) || err != nil {
					return
				}
				b = rest
			}
		}
	}
}

func find(blocks []byte, id ID) ([]byte, bool) {
	for len(blocks) >= 3 {
		n, _ := number(blocks[:3])
		b := blocks[3 : 3+n]
		blocks = blocks[3+n:]
		for len(b) > 0 {
			p, rest, err := next(b)
			if err != nil {
				return nil, false
			}
			if p.ID == id {
				return p.Value, true
			}
			b = rest
		}
	}
	return nil, false
}

// text is a parameter as printable text, or empty.
func (r Response) text(id ID) string {
	v, _ := r.Find(id)
	out := make([]byte, 0, len(v))
	for _, c := range v {
		if c >= 0x20 && c < 0x7F {
			out = append(out, c)
		}
	}
	for len(out) > 0 && out[len(out)-1] == ' ' {
		out = out[:len(out)-1]
	}
	return string(out)
}

// String names the answer without its data.
func (r Response) String() string { return r.Name.String() + " " + r.Status.digits() }

// GoString is String: an answer may hold a card number.
func (r Response) GoString() string { return r.String() }

// String names the command without its data.
func (r Request) String() string { return r.Name.String() }

// GoString is String.
func (r Request) GoString() string { return r.String() }

// String names the parameter and its length: a value may be a card number.
func (p Param) String() string { return p.ID.String() + "[" + strconv.Itoa(len(p.Value)) + "]" }

// GoString is String.
func (p Param) GoString() string { return p.String() }
