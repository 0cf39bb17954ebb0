// Package cli holds the verbs of the command line, one file each. [Main] is
// the whole program: it parses arguments, runs one verb and returns the exit
// code of design/technician.md.
//
// Every verb prints plain text for people, or with --json one object whose
// "schema" names its form. An error prints what to do next and its stable
// code; with --json it is an object of schema "error/1".
//
// The verbs that ask the running agent use its control channel (package
// agent/api/client). This package holds no business rule.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tillbridge/agent/config"
)

// Exit codes of every verb.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitWarning     = 3
	exitCritical    = 4
	exitNoAgent     = 5
	exitPermission  = 6
	exitNotFound    = 7
	exitTimeout     = 8
	exitRefused     = 9
	exitConfig      = 10
	exitIntegrity   = 11
	exitDevice      = 12
	exitUnreachable = 13
	exitInterrupted = 130
)

// failure is an error with its exit code and stable code.
type failure struct {
	exit int
	code string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }
func (f *failure) Code() string  { return f.code }

func fail(exit int, code string, format string, args ...any) error {
	return &failure{exit, code, fmt.Errorf(format, args...)}
}

// silent ends with an exit code after the verb has printed everything.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit %d", int(s)) }

// env is what a verb works with.
type env struct {
	version string
	in      io.Reader
	out     io.Writer
	err     io.Writer

	json    bool
	quiet   bool
	noColor bool
	timeout time.Duration
	config  string
	agent   string
}

// Main runs one command line and returns its exit code.
func Main(version string, args []string, in io.Reader, out, errOut io.Writer) int {
	e := &env{version: version, in: in, out: out, err: errOut}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := e.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil && slices.Contains(args, "--json") {
		e.json = true // also where the flags before or after it could not be read
	}
	return e.exit(ctx, err)
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tillbridge",
		Short: "The agent beside the counter: pads, payments, CRM",
		Long: `tillbridge drives the store's PIN pads, keeps every payment in a crash-proof
store and forwards it to the CRM. Try it without any hardware:

  tillbridge demo`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail(exitUsage, "cli.usage", "%w: see `%s --help`", err, c.CommandPath())
	})
	f := root.PersistentFlags()
	f.BoolVar(&e.json, "json", false, "print one JSON object")
	f.BoolVarP(&e.quiet, "quiet", "q", false, "print results only, no progress")
	f.BoolVar(&e.noColor, "no-color", os.Getenv("NO_COLOR") != "", "no colour")
	f.DurationVar(&e.timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	f.StringVarP(&e.config, "config", "c", config.DefaultPath(), "configuration file")
	f.StringVar(&e.agent, "agent", "", "control channel of the agent (default: from the configuration)")
	for _, add := range verbs {
		root.AddCommand(add(e))
	}
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = func(c *cobra.Command, args []string) error {
				return fail(exitUsage, "cli.usage", "name a shell: bash, zsh, fish or powershell")
			}
			c.RunE = func(*cobra.Command, []string) error { return nil }
			c.Run = nil
			for _, shell := range c.Commands() {
				e.script(root, shell)
			}
		}
	}
	usageArgs(root)
	return root
}

// usageArgs makes every verb's argument error a usage error, and a group of
// verbs without a verb one too.
func usageArgs(c *cobra.Command) {
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
	if c.HasParent() && c.HasSubCommands() && c.RunE == nil && c.Run == nil {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			var names []string
			for _, s := range c.Commands() {
				names = append(names, s.Name())
			}
			if len(args) > 0 {
				return fail(exitUsage, "cli.usage", "unknown command %q: %s has %s", args[0], c.CommandPath(), strings.Join(names, ", "))
			}
			return fail(exitUsage, "cli.usage", "name a command: %s %s", c.CommandPath(), strings.Join(names, "|"))
		}
		return
	}
	check := c.Args
	if check == nil || c.Name() == "completion" {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return fail(exitUsage, "cli.usage", "%s: see `%s --help`", arguments(c, args, err), c.CommandPath())
		}
		return nil
	}
}

// arguments says what a verb wants in place of what it got.
func arguments(c *cobra.Command, args []string, err error) string {
	if c.HasSubCommands() {
		return err.Error()
	}
	takes := strings.TrimSuffix(c.UseLine(), " [flags]")
	if strings.HasPrefix(err.Error(), "unknown command") { // of a verb that takes none
		return fmt.Sprintf("%q is too much: write `%s`", args[0], takes)
	}
	return fmt.Sprintf("%d arguments do not fit: write `%s`", len(args), takes)
}

// script gives a completion script with --json as one object.
func (e *env) script(root, shell *cobra.Command) {
	plain := shell.RunE
	shell.RunE = func(c *cobra.Command, args []string) error {
		if !e.json {
			return plain(c, args)
		}
		var b bytes.Buffer
		var err error
		switch c.Name() {
		case "bash":
			err = root.GenBashCompletionV2(&b, true)
		case "zsh":
			err = root.GenZshCompletion(&b)
		case "fish":
			err = root.GenFishCompletion(&b, true)
		case "powershell":
			err = root.GenPowerShellCompletionWithDesc(&b)
		}
		if err != nil {
			return err
		}
		return e.object(map[string]any{"schema": "completion/1", "shell": c.Name(), "script": b.String()})
	}
}

func (e *env) exit(ctx context.Context, err error) int {
	var s silent
	var f *failure
	var coded interface{ Code() string }
	exit, code := exitFailed, "cli.failed"
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &s):
		return int(s)
	case errors.As(err, &f):
		exit, code = f.exit, f.code
	case errors.Is(err, config.ErrMissing):
		exit, code = exitConfig, "config.missing"
	case errors.As(err, &coded):
		code = coded.Code()
		if strings.HasPrefix(code, "config.") {
			exit = exitConfig
		}
	case ctx.Err() != nil:
		exit, code = exitInterrupted, "cli.interrupted"
	case errors.Is(err, fs.ErrPermission):
		exit, code = exitPermission, "cli.permission"
	case strings.HasPrefix(err.Error(), "unknown command"):
		exit, code = exitUsage, "cli.usage"
	}
	if e.json {
		obj := map[string]any{"schema": "error/1", "code": code, "exit": exit, "error": err.Error()}
		if ce, ok := errors.AsType[*config.Error](err); ok {
			obj["faults"] = ce.Faults
		}
		_ = e.object(obj)
	} else {
		fmt.Fprintf(e.err, "tillbridge: %v [%s]\n", err, code)
	}
	return exit
}

// object prints v as one line of JSON.
func (e *env) object(v any) error {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printf prints for people.
func (e *env) printf(format string, args ...any) { fmt.Fprintf(e.out, format, args...) }

// load reads the configuration.
func (e *env) load() (*config.Config, error) { return config.Load(e.config) }
