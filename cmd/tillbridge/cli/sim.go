package cli

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"strings"

	"github.com/spf13/cobra"

	sandboxacquirer "tillbridge/agent/sandbox/acquirer"
	sandboxcrm "tillbridge/agent/sandbox/crm"
	"tillbridge/drivers/virtual/abecs"
	"tillbridge/drivers/virtual/neo2"
)

func simVerb(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "sim",
		Short: "Virtual devices and counterparts, each a process of its own",
		Long: `Virtual devices and counterparts for trying things out and for tests. Each prints
one line of JSON when it is ready, takes one JSON command a line on standard
input, answers each with one line, and ends at the end of its input. They speak
the real protocols: any program that does may talk to them.

They know published test cards only. Never use them with a real card.`,
	}
	c.AddCommand(simPad(e), simNEO2(e), simZVT(e), simReader(e), simCounter(e), simAcquirer(e), simCRM(e))
	return c
}

func simAcquirer(e *env) *cobra.Command {
	var addr, books string
	c := &cobra.Command{
		Use:   "acquirer",
		Short: "An acquirer that speaks ISO 8583 over TLS",
		Long: `An acquirer that speaks ISO 8583 over TLS. Its ready line holds the address and
the certificate authority to trust ("ca").

It makes base keys of its own for the run. {"cmd":"initial_key"} makes the initial
key of a pad from them, {"cmd":"key_block"} the key block and the components for
` + "`tillbridge keys import`" + `; "jwe" of the ready line is its public key for card data.

Commands: {"cmd":"keys","keys":{...}}, {"cmd":"initial_key","ksn":"..."}, {"cmd":"key_block","ksn":"..."}, {"cmd":"pin",...},
{"cmd":"books"}, {"cmd":"down"}, {"cmd":"up"}, {"cmd":"release"}, {"cmd":"clear"}, and the faults late, hold,
silent, lost, double, wrong_stan, wrong_terminal, wrong_arpc, decline, partial, drop_before,
drop_after, garbage, half.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return sandboxacquirer.Serve(c.Context(), e.in, e.out, sandboxacquirer.Options{Addr: addr, BooksPath: books, Keys: sandboxacquirer.NewKeys(), Logger: agentLog(e.err, "info")})
		},
	}
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:0", "address to listen on")
	c.Flags().StringVar(&books, "books", "", "file of the books (default: memory)")
	return c
}

func simCRM(e *env) *cobra.Command {
	var addr, ledger, record, secret string
	c := &cobra.Command{
		Use:   "crm",
		Short: "A CRM that takes signed webhooks",
		Long: `A CRM that takes signed webhooks (CloudEvents JSON, Standard Webhooks) and keeps
its own ledger of effects.

Commands: {"cmd":"up"}, {"cmd":"down"}, {"cmd":"slow","ms":2000}, {"cmd":"throttle","retry_after":2},
{"cmd":"error","status":503}, {"cmd":"forgetful"}, {"cmd":"reject"}, {"cmd":"unauthorized"}, {"cmd":"ledger"},
{"cmd":"effects"}.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := sandboxcrm.Options{Addr: addr, Ledger: ledger, Secret: os.Getenv("TILLBRIDGE_SIM_SECRET")}
			if secret != "" {
				b, err := os.ReadFile(secret)
				if err != nil {
					return err
				}
				o.Secret = strings.TrimSpace(string(b))
			}
			if o.Secret == "" {
				key := make([]byte, 32)
				_, _ = rand.Read(key)
				o.Secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
			}
			if record != "" {
				f, err := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer f.Close()
				o.Record = f
			}
			return sandboxcrm.Serve(c.Context(), e.in, e.out, o)
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:0", "address to listen on")
	f.StringVar(&ledger, "ledger", "", "file of the ledger (default: memory)")
	f.StringVar(&record, "record", "", "file that gets every request")
	f.StringVar(&secret, "secret-file", "", "file with the signing secret, whsec_… (default: TILLBRIDGE_SIM_SECRET, else a new one)")
	return c
}

func simPad(e *env) *cobra.Command {
	var o abecs.Options
	c := &cobra.Command{
		Use:   "pad",
		Short: "A PIN pad that speaks ABECS on a pty, or on TCP where there is none",
		Long: `A PIN pad that speaks ABECS, with a virtual card, DUKPT keys and a scripted
customer. Its ready line holds the port ("addr") to put into device.ports.

The customer: {"do":"insert","card":"visa"}, {"do":"tap",...}, {"do":"swipe",...}, {"do":"pin"},
{"do":"wrong-pin"}, {"do":"cancel"}, {"do":"walk-away"}, {"do":"remove"}, {"do":"pull"}, {"do":"auto","card":"visa"},
{"do":"cards"}. The line: {"do":"fault","fault":"bad-crc"} and others, {"do":"unplug"},
{"do":"replug","link":"pad1"}, {"do":"restart"}. {"do":"load-key"}, {"do":"books"}, {"do":"status"}.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return abecs.Serve(c.Context(), e.in, e.out, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory of the link and the state (default: a temporary one)")
	f.StringVar(&o.Link, "link", "pad0", "name of the link in it")
	f.StringVar(&o.Listen, "listen", "", "TCP address instead of a pty")
	f.StringVar(&o.State, "state", "", "file of key counters and tables (default: in the directory)")
	f.StringVar(&o.Serial, "serial", "VP000001", "serial number of the pad")
	f.StringVar(&o.Auto, "auto", "", "a customer who always presents this card (see {\"do\":\"cards\"})")
	return c
}

func simNEO2(e *env) *cobra.Command {
	var o neo2.Options
	c := &cobra.Command{
		Use:   "neo2",
		Short: "An ID TECH reader that speaks NEO 2 on a pty or on TCP, as bytes or as HID reports",
		Long: `An ID TECH reader that speaks NEO 2, with a virtual card, a DUKPT key and a
scripted customer. Its ready line holds the port ("addr") to put into
device.ports. With --hid its port is TCP and carries reports of 64 bytes:
configure the device with params.link = "hid".

The customer: {"do":"insert","card":"visa"}, {"do":"tap",...}, {"do":"swipe",...}, {"do":"cancel"},
{"do":"walk-away"}, {"do":"pull"}, {"do":"auto","card":"visa","entry":"tap"}, {"do":"cards"}. The line and the
card data: {"do":"fault","fault":"bad-crc"}, "encryption-off", "wrong-attribution", "wrong-amount" and
others; {"do":"unplug"}, {"do":"replug","link":"reader1"}, {"do":"restart"}. {"do":"load-key"}, {"do":"books"},
{"do":"status"}.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return neo2.Serve(c.Context(), e.in, e.out, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "directory of the link and the state (default: a temporary one)")
	f.StringVar(&o.Link, "link", "reader0", "name of the link in it")
	f.StringVar(&o.Listen, "listen", "", "TCP address instead of a pty")
	f.BoolVar(&o.HID, "hid", false, "speak HID reports, on TCP")
	f.StringVar(&o.State, "state", "", "file of the key's state (default: in the directory)")
	f.StringVar(&o.Serial, "serial", "0123456789ABCDEF", "number of the reader's controller, hex")
	f.StringVar(&o.Auto, "auto", "", "a customer who always inserts this card (see {\"do\":\"cards\"})")
	f.BoolVar(&o.EncryptionOff, "encryption-off", false, "start with encryption off")
	return c
}
