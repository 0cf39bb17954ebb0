package cli

import (
	"os"

	"github.com/spf13/cobra"

	"tillbridge/cmd/tillbridge/demo"
)

func demoVerb(e *env) *cobra.Command {
	var keep, hurry bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play a shop's day with virtual devices, acquirer and CRM; needs nothing",
		Long: `Play a shop's day in about half a minute: chip and PIN, tap, decline, cancel,
void, refund; a terminal whose answer gets lost; the CRM goes down and comes
back; the agent is killed in the middle of a payment; the pad moves to another
port. Pads, acquirer, CRM and agent are processes of their own and speak their
real protocols. At the end the books of acquirer, terminal and CRM are compared,
and every file and request is searched for card numbers and keys.

Exit code 0 only when nobody was charged twice, nothing was lost or out of order,
nothing is in doubt, the books agree and nothing was found.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o := demo.Options{Self: self, Keep: keep, Hurry: hurry, Colour: e.colour()}
			if !e.json && !e.quiet {
				o.Out = e.out
			} else if !e.quiet {
				o.Out = e.err
			}
			r, err := demo.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if e.json {
				if err := e.object(r); err != nil {
					return err
				}
			} else {
				e.printf("\n%s", r.Text())
			}
			if !r.OK() {
				return silent(exitFailed)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the working directory behind")
	c.Flags().BoolVar(&hurry, "hurry", false, "without the pauses for the person who watches")
	return c
}
