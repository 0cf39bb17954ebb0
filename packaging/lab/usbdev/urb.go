package usbdev

import (
	"encoding/binary"
	"errors"
	"io"
)

// Commands of USB/IP on a connection of an imported device.
const (
	cmdSubmit = 1
	cmdUnlink = 2
	retSubmit = 3
	retUnlink = 4
)

// Status codes of a transfer, as Linux numbers errors.
const (
	statusOK       = 0
	statusPipe     = -32  // the endpoint stalled
	statusOverflow = -75  // a packet longer than the room for it
	statusReset    = -104 // unlinked
)

const headerSize = 48

// maxBuffer bounds what a header may announce.
const maxBuffer = 1 << 20

var errURB = errors.New("usbdev: not a URB")

// urb is one transfer that the host asks for, or one that it takes back.
type urb struct {
	command, seq uint32
	in           bool
	endpoint     byte
	length       int
	setup        [8]byte
	victim       uint32 // of cmdUnlink
	data         []byte // of OUT
}

// readURB reads one request with its data.
func readURB(r io.Reader) (urb, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return urb{}, err
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(h[i:]) }
	u := urb{command: word(0), seq: word(4), in: word(12) == 1, endpoint: byte(word(16))}
	switch u.command {
	case cmdUnlink:
		u.victim = word(20)
		return u, nil
	case cmdSubmit:
	default:
		return urb{}, errURB
	}
	if word(24) > maxBuffer || word(16) > 15 || word(12) > 1 {
		return urb{}, errURB
	}
	u.length = int(word(24))
	copy(u.setup[:], h[40:])
	if !u.in && u.length > 0 {
		u.data = make([]byte, u.length)
		if _, err := io.ReadFull(r, u.data); err != nil {
			return urb{}, err
		}
	}
	return u, nil
}

// answer is the end of a transfer: data is what the device sent, sent how much
// it took.
func answer(u urb, status int, data []byte, sent int) []byte {
	out := make([]byte, headerSize, headerSize+len(data))
	put := func(i, v int) { binary.BigEndian.PutUint32(out[i:], uint32(v)) }
	put(0, retSubmit)
	put(4, int(u.seq))
	put(20, status)
	if u.in {
		sent = len(data)
	}
	put(24, sent)
	return append(out, data...)
}

// unlinked answers an unlink.
func unlinked(u urb, status int) []byte {
	out := make([]byte, headerSize)
	binary.BigEndian.PutUint32(out[0:], retUnlink)
	binary.BigEndian.PutUint32(out[4:], u.seq)
	binary.BigEndian.PutUint32(out[20:], uint32(int32(status)))
	return out
}
