package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"

	"tillbridge/agent/api"
	"tillbridge/agent/api/client"
	"tillbridge/agent/api/local"
	"tillbridge/agent/config"
	"tillbridge/agent/payment"
)

// dial returns a client of the running agent.
func (e *env) dial() (*client.Client, error) {
	address := e.agent
	if address == "" {
		cfg, err := config.Load(e.config)
		if err != nil {
			return nil, err
		}
		address = cfg.Agent.Control
	}
	return client.Local(address), nil
}

// ask runs fn against the agent within --timeout and gives its error the exit
// code it has in design/technician.md.
func (e *env) ask(ctx context.Context, fn func(context.Context, *client.Client) error) error {
	c, err := e.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	return agentError(fn(ctx, c))
}

func agentError(err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		exit := exitFailed
		switch p.Status {
		case http.StatusNotFound:
			exit = exitNotFound
		case http.StatusUnauthorized, http.StatusForbidden:
			exit = exitPermission
		}
		text := p.Detail
		if text == "" {
			text = p.Title
		}
		return &failure{exit, p.ErrorCode, errors.New(text)}
	}
	switch {
	case errors.Is(err, local.ErrNotRunning):
		return &failure{exitNoAgent, "service.not_running", err}
	case errors.Is(err, local.ErrRefused):
		return &failure{exitPermission, "service.permission", err}
	case errors.Is(err, context.DeadlineExceeded):
		return fail(exitTimeout, "service.timeout", "the agent did not answer in time: see `tillbridge status`, or wait longer with --timeout")
	}
	return err
}

// table prints columns for people.
func (e *env) table(head string, rows func(line func(format string, args ...any))) {
	w := tabwriter.NewWriter(e.out, 0, 8, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(w, head)
	}
	rows(func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) })
	_ = w.Flush()
}

// colour reports whether the output takes colour.
func (e *env) colour() bool {
	if e.noColor || e.json {
		return false
	}
	f, ok := e.out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// minor prints an amount of minor units.
func minor(n int64, currency string) string {
	return payment.Money{Minor: n, Currency: currency}.String()
}
