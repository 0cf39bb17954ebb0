package cli

import (
	"github.com/spf13/cobra"

	"tillbridge/drivers/virtual/zvt"
)

func simZVT(e *env) *cobra.Command {
	var o zvt.Options
	c := &cobra.Command{
		Use:   "zvt",
		Short: "A payment terminal that speaks ZVT on TCP, or on a pty",
		Long: `A payment terminal that speaks ZVT and authorises by itself, with a scripted
customer and books of its own. Its ready line holds the port ("addr") to put
into device.ports.

The customer: {"do":"insert","card":"visa"}, {"do":"tap"}, {"do":"swipe"}, {"do":"wrong-pin"},
{"do":"decline","code":5}, {"do":"cancel"}, {"do":"walk-away"}, {"do":"auto","card":"visa"}. The line and the
terminal: {"do":"fault","fault":"lose-status"} and others, {"do":"unplug"}, {"do":"replug"},
{"do":"restart"}, {"do":"clock","ms":-60000}. {"do":"books"}, {"do":"status"}.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return zvt.Serve(c.Context(), e.in, e.out, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Books, "books", "", "file of the books (default: memory)")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "TCP address")
	f.BoolVar(&o.Serial, "serial", false, "a pty with the serial protocol instead of TCP")
	f.StringVar(&o.Dir, "dir", "", "directory of the link to the pty (default: a temporary one)")
	f.StringVar(&o.Link, "link", "terminal0", "name of the link in it")
	f.StringVar(&o.TerminalID, "terminal-id", "52000001", "terminal id, eight digits")
	f.StringVar(&o.Password, "password", "000000", "password that commands must carry, six digits")
	f.IntVar(&o.Currency, "currency", 978, "ISO 4217 number of the only currency it takes")
	f.StringVar(&o.Auto, "auto", "", "a customer who always taps this card: visa, mastercard, debit, amex")
	return c
}
