package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"tillbridge/drivers"
	"tillbridge/drivers/netport"
	"tillbridge/drivers/virtual/ccid"
	"tillbridge/emv/oda"
	"tillbridge/emv/virtualcard"
)

// A plain chip reader stands on USB, which a process cannot offer without the
// kernel's help. Here the messages of its bulk endpoints travel over TCP, each
// behind its length in four bytes (big endian), between `sim reader` and the
// bus of `sim counter`, an agent that is otherwise that of `run`.

const maxUSBMessage = 1 << 17

func simReader(e *env) *cobra.Command {
	var addr string
	c := &cobra.Command{
		Use:   "reader",
		Short: "A plain chip reader (USB CCID) and its cards, for sim counter",
		Long: `A plain chip reader of the class CCID with virtual cards in its slot. Its ready
line holds the address ("addr") for ` + "`tillbridge sim counter --reader`" + ` and the public
keys of the cards' authority, as a file for kernel.ca_keys ("ca_keys").

Commands: {"do":"insert","card":"visa-credit"}, {"do":"remove"}, {"do":"cards"}, and
{"do":"fault","fault":"removed"} for the next command to the card: removed, mute,
parity, silent, late, double, wrong sequence, overlong, time extension.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return serveReader(c.Context(), e.in, e.out, addr) },
	}
	c.Flags().StringVar(&addr, "listen", "127.0.0.1:0", "TCP address")
	return c
}

// readerCommand is a line of standard input.
type readerCommand struct {
	Do    string `json:"do"`
	Card  string `json:"card"`
	Fault string `json:"fault"`
}

func serveReader(ctx context.Context, in io.Reader, out io.Writer, addr string) error {
	v, err := ccid.New(&ccid.Options{Level: ccid.TPDU, Empty: true})
	if err != nil {
		return err
	}
	ca, err := virtualcard.NewCA(0)
	if err != nil {
		return err
	}
	keys, err := authority(ca)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = v.Serve(ctx, messages{c}) // one agent at a time, as on a bus
			c.Close()
		}
	})
	defer func() {
		stop()
		l.Close()
		served.Wait()
	}()
	enc := json.NewEncoder(out)
	_ = enc.Encode(map[string]any{"ready": true, "addr": l.Addr().String(), "ca_keys": keys})
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		answer := map[string]any{"ok": true}
		var c readerCommand
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = commandReader(v, ca, c, answer)
		}
		if err != nil {
			answer = map[string]any{"ok": false, "error": err.Error()}
		}
		_ = enc.Encode(answer)
	}
	return lines.Err()
}

func commandReader(v *ccid.Reader, ca *virtualcard.CA, c readerCommand, answer map[string]any) error {
	switch c.Do {
	case "insert":
		p, err := virtualcard.Named(c.Card)
		if err != nil {
			return err
		}
		card, err := virtualcard.New(&virtualcard.Options{CA: ca}, p)
		if err != nil {
			return err
		}
		v.Insert(card)
	case "remove":
		v.Remove()
	case "fault":
		v.Do(ccid.Fault(c.Fault))
	case "cards":
		var names []string
		for _, p := range virtualcard.Profiles() {
			names = append(names, p.Name)
		}
		answer["cards"] = names
	default:
		return fmt.Errorf("no command is called %q: insert, remove, fault, cards", c.Do)
	}
	return nil
}

// authority is the public part of a test authority as a file for
// kernel.ca_keys: the same key under each scheme.
func authority(ca *virtualcard.CA) (string, error) {
	type key struct {
		RID      string `json:"rid"`
		Index    string `json:"index"`
		Modulus  string `json:"modulus"`
		Exponent string `json:"exponent"`
		SHA1     string `json:"sha1"`
	}
	doc := struct {
		Env  string `json:"env"`
		Keys []key  `json:"keys"`
	}{Env: string(oda.Test)}
	for _, rid := range []oda.RID{{0xA0, 0, 0, 0, 3}, {0xA0, 0, 0, 0, 4}, {0xA0, 0, 0, 0, 0x25}, {0xA0, 0, 0, 0, 0x65}, {0xA0, 0, 0, 1, 0x52}, {0xA0, 0, 0, 3, 0x33}} {
		k := oda.CAKey{RID: rid, Index: ca.Index, Modulus: ca.Modulus(), Exponent: ca.Exponent()}
		doc.Keys = append(doc.Keys, key{rid.String(), fmt.Sprintf("%02X", k.Index), fmt.Sprintf("%X", k.Modulus), fmt.Sprintf("%X", k.Exponent), fmt.Sprintf("%X", k.SHA1())})
	}
	b, err := json.Marshal(doc)
	return string(b), err
}

func simCounter(e *env) *cobra.Command {
	var reader string
	c := &cobra.Command{
		Use:   "counter",
		Short: "The agent, with a reader of sim reader on its USB",
		Long: `The agent of ` + "`tillbridge run`" + ` on any configuration, whose USB has one device more:
the reader of ` + "`tillbridge sim reader`" + `, as usb:08E6:3437. Configure it as

  [[device]]
  name = "reader1"
  protocol = "ccid"
  ports = ["usb:08E6:3437"]
  params = { level = "tpdu" }

with [kernel] and [encryption] (README, Readers without a kernel).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if reader == "" {
				return fail(exitUsage, "cli.usage", "--reader ADDRESS is needed: the \"addr\" of `tillbridge sim reader`")
			}
			return e.run(c.Context(), true, []drivers.Bus{readerBus(reader)})
		},
	}
	c.Flags().StringVar(&reader, "reader", "", "address of the reader")
	return c
}

// readerBus is a USB with one reader behind a TCP address.
type readerBus string

func (b readerBus) Scan(ctx context.Context) ([]drivers.Port, error) {
	return []drivers.Port{{Kind: drivers.KindUSB, Path: "usb:" + string(b), Location: string(b), VID: 0x08E6, PID: 0x3437, Product: "Virtual Reader", Class: 0x0B}}, ctx.Err()
}

func (b readerBus) Open(ctx context.Context, p drivers.Port) (drivers.Transport, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", string(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", drivers.ErrNoPort, err)
	}
	return &transfers{Transport: netport.Wrap(c, p)}, nil
}

// transfers gives whole messages; what a Read that ran out of time had begun
// is kept for the next.
type transfers struct {
	drivers.Transport
	in []byte
}

var errMessage = errors.New("a message of the reader is longer than USB takes")

func (t *transfers) Read(ctx context.Context, p []byte) (int, error) {
	buf := make([]byte, 4096)
	for {
		if len(t.in) >= 4 {
			n := int(binary.BigEndian.Uint32(t.in))
			if n > maxUSBMessage {
				return 0, errMessage
			}
			if len(t.in) >= 4+n {
				done := copy(p, t.in[4:4+n])
				t.in = t.in[4+n:]
				return done, nil
			}
		}
		n, err := t.Transport.Read(ctx, buf)
		if err != nil {
			return 0, err
		}
		t.in = append(t.in, buf[:n]...)
	}
}

func (t *transfers) Write(ctx context.Context, p []byte) (int, error) {
	if _, err := t.Transport.Write(ctx, framed(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func framed(p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(p)), uint32(len(p))), p...)
}

// messages is the reader's end: one Read is one message.
type messages struct{ net.Conn }

func (m messages) Read(p []byte) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(m.Conn, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > len(p) {
		return 0, errMessage
	}
	return io.ReadFull(m.Conn, p[:n])
}

func (m messages) Write(p []byte) (int, error) {
	if _, err := m.Conn.Write(framed(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
