package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
)

func statusVerb(e *env) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status",
		Short: "One screen: agent, devices, acquirer, CRM, queue, payments, alerts",
		Long: `One screen: agent, devices, acquirer, CRM, queue, payments, alerts.

Exit code 0: all is well; 3: a warning; 4: something critical; 5: no agent runs.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for {
				var s api.Status
				err := e.ask(c.Context(), func(ctx context.Context, cl *client.Client) (err error) {
					s, err = cl.Status(ctx)
					return err
				})
				if err != nil {
					return err
				}
				if e.json {
					if err := e.object(s); err != nil {
						return err
					}
				} else {
					e.showStatus(s)
				}
				if !watch {
					return statusExit(s)
				}
				select {
				case <-c.Context().Done():
					return silent(exitInterrupted)
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "repeat every two seconds until interrupted")
	return c
}

func statusExit(s api.Status) error {
	exit := exitOK
	for _, a := range s.Alerts {
		switch {
		case a.Severity == "critical":
			exit = exitCritical
		case exit == exitOK:
			exit = exitWarning
		}
	}
	if exit == exitOK {
		return nil
	}
	return silent(exit)
}

func (e *env) showStatus(s api.Status) {
	e.table("", func(line func(string, ...any)) {
		mem := ""
		if s.RSSMB > 0 {
			mem = fmt.Sprintf(", %.0f MiB", s.RSSMB)
		}
		line("agent\trunning %s  %s  (pid %d%s)  tills: http://%s", age(s.StartedAt), s.Version, s.PID, mem, s.Listen)
		if s.Acquirer != nil {
			line("acquirer\t%s", leg(s.Acquirer))
		}
		if s.CRM != nil {
			line("crm\t%s", leg(s.CRM))
		}
		for _, d := range s.Devices {
			line("%s\t%s", d.ID, deviceLine(d))
		}
		if s.Queue != nil && s.Queue.Sink != "" {
			text := fmt.Sprintf("%d waiting", s.Queue.Count)
			if s.Queue.OldestAt != nil {
				text += ", oldest " + age(*s.Queue.OldestAt)
			}
			if s.Queue.Dead > 0 {
				text += fmt.Sprintf(", %d put aside", s.Queue.Dead)
			}
			line("queue\t%s", text)
		}
		if p := s.Payments; p != nil {
			line("today\t%d payments: %d succeeded, %d declined, %d cancelled, %d failed, %d reversed, %d in doubt",
				p.Total, p.Succeeded, p.Declined, p.Canceled, p.Failed, p.Reversed, p.InDoubt)
		}
		if l := s.Last; l != nil {
			line("last\t%s  %s  %s  %s", l.ID, minor(l.Amount.Total, l.Amount.Currency), stateText(l.Status, l.Stage), l.Created.Local().Format("15:04:05"))
		}
	})
	for _, a := range s.Alerts {
		e.printf("%s %s  [%s]\n", strings.ToUpper(a.Severity), a.Text, a.Code)
		if a.Remedy != "" {
			e.printf("    %s\n", a.Remedy)
		}
	}
}

func leg(l *api.Leg) string {
	s := l.State
	if l.Detail != "" {
		s += ": " + l.Detail
	}
	if l.NextTry != nil && l.State != "online" {
		s += ", next attempt in " + until(*l.NextTry)
	}
	return s
}

func deviceLine(d api.Device) string {
	parts := []string{d.State}
	for _, s := range []string{d.Driver, d.Model, d.Port, d.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	switch d.Encryption {
	case "software":
		parts = append(parts, "software encryption on this PC")
	case "none":
		parts = append(parts, "no encryption, no payments")
	}
	if d.PaymentID != "" {
		parts = append(parts, "works on "+d.PaymentID)
	}
	return strings.Join(parts, "  ")
}

func stateText(status, stage string) string {
	if stage == "" {
		return status
	}
	return status + "/" + stage
}

// age says how long ago t was.
func age(t time.Time) string { return span(time.Since(t)) }

func until(t time.Time) string { return span(time.Until(t)) }

func span(d time.Duration) string {
	switch {
	case d < 0:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}
