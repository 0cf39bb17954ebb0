package foreign

import (
	"bufio"
	"io"
	"sync"
)

// twin puts the messages of a CCID reader on a serial line as the GemPC Twin
// does, the serial reader that libccid drives: SYNC (03), ACK (06), the CCID
// message, and the exclusive or of all before it. It repeats each command
// before it answers, and tells a change of the slot in two bytes without a
// frame. The reader's own messages and its vendor commands
// belong to the twin; everything between is the virtual reader's.
type twin struct {
	line io.ReadWriteCloser
	in   *bufio.Reader

	mu      sync.Mutex
	pending [][]byte // slot changes, told before the next answer
	refused int      // frames with a wrong sum
}

func newTwin(line io.ReadWriteCloser) *twin {
	return &twin{line: line, in: bufio.NewReader(line)}
}

func (t *twin) Close() error { return t.line.Close() }

// Read returns one CCID message.
func (t *twin) Read(p []byte) (int, error) {
	for {
		b, err := t.in.ReadByte()
		if err != nil {
			return 0, err
		}
		if b != 0x03 {
			continue
		}
		frame := make([]byte, 12)
		frame[0] = b
		if _, err := io.ReadFull(t.in, frame[1:]); err != nil {
			return 0, err
		}
		n := int(frame[3]) | int(frame[4])<<8
		frame = append(frame, make([]byte, n+1)...)
		if _, err := io.ReadFull(t.in, frame[12:]); err != nil {
			return 0, err
		}
		sum := byte(0)
		for _, x := range frame {
			sum ^= x
		}
		if sum != 0 {
			t.mu.Lock()
			t.refused++
			t.mu.Unlock()
			if _, err := t.line.Write([]byte{0x03, 0x15, 0x16}); err != nil {
				return 0, err
			}
			continue
		}
		if _, err := t.line.Write(frame); err != nil {
			return 0, err
		}
		message := frame[2 : len(frame)-1]
		if message[0] == 0x6B { // PC_to_RDR_Escape: the twin's own commands
			if err := t.escape(message); err != nil {
				return 0, err
			}
			continue
		}
		return copy(p, message), nil
	}
}

// escape answers a vendor command: 02 asks for the firmware's name, 01 sets
// how the card's movements are told.
func (t *twin) escape(m []byte) error {
	var data []byte
	if len(m) > 10 && m[10] == 0x02 {
		data = []byte("GemTwin-V2.00-GFAA-M1")
	}
	answer := append([]byte{0x83, byte(len(data)), 0, 0, 0, m[5], m[6], 0, 0, 0}, data...)
	_, err := t.Write(answer)
	return err
}

// Write sends one message of the reader.
func (t *twin) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) == 2 && p[0] == 0x50 {
		t.pending = append(t.pending, append([]byte(nil), p...))
		return 2, nil
	}
	var out []byte
	for _, n := range t.pending {
		out = append(out, n...)
	}
	t.pending = nil
	frame := append([]byte{0x03, 0x06}, p...)
	sum := byte(0)
	for _, x := range frame {
		sum ^= x
	}
	if _, err := t.line.Write(append(append(out, frame...), sum)); err != nil {
		return 0, err
	}
	return len(p), nil
}
