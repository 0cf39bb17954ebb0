package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tillbridge/agent"
	"tillbridge/agent/config"
	"tillbridge/agent/keyring"
	"tillbridge/p2pe/keyblock"
	"tillbridge/p2pe/seal"
	"tillbridge/p2pe/secret"
)

func keysVerb(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "The keys of this machine: counters, import by ceremony, destruction",
		Long: `The keys with which this machine encrypts card data itself. A pad that encrypts
has keys of its own, which never come here.`,
	}
	c.AddCommand(keysStatus(e), keysImport(e), keysKCV(e), keysSelfTest(e), keysRegistry(e), keysZeroize(e))
	return c
}

// keyring opens the key directory of the configuration.
func (e *env) keyring(c *cobra.Command) (*keyring.Keyring, *config.Config, error) {
	cfg, err := e.load()
	if err != nil {
		return nil, nil, err
	}
	// Keys that root loads could not be read by the agent's user.
	if name, other := otherOwner(cfg.Agent.Data, os.Geteuid()); other {
		return nil, nil, fail(exitPermission, "keys.owner", "%s belongs to the user %s, under whom the agent runs: do this as that user, `sudo -u %s tillbridge keys ...`", cfg.Agent.Data, name, name)
	}
	if err := secret.NoDumps(); err != nil {
		return nil, nil, fmt.Errorf("turn core dumps off: %w", err)
	}
	k, err := keyring.Open(c.Context(), agent.KeyDir(cfg), &keyring.Options{Sealer: cfg.Keys.Sealer, TPM: cfg.Keys.TPM})
	return k, cfg, err
}

// keysView is the status with the sealer of the store's own key.
type keysView struct {
	keyring.Status
	StoreSealer   string `json:"store_sealer"`
	StoreInsecure string `json:"store_insecure,omitempty"`
	// UsedBy are the readers whose card data the configuration encrypts under
	// these keys.
	UsedBy []string `json:"used_by"`
}

func keysStatus(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What keys there are, how they are kept, how many are left",
		Long: `Show what keys there are, how they are kept and how many are left. The exit code
is 3 when something deserves attention and 4 when it stops payments.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, cfg, err := e.keyring(c)
			if err != nil {
				return err
			}
			defer k.Close()
			v := keysView{Status: k.Status(), UsedBy: []string{}}
			for _, d := range cfg.Device {
				if cfg.Encryption.Kind == "dukpt" && config.PlainReader(d.Protocol) {
					v.UsedBy = append(v.UsedBy, d.Name)
				}
			}
			v.StoreSealer, v.StoreInsecure, _ = seal.SealerOf(cfg.Agent.Data)
			if v.StoreSealer == "" {
				if _, err := os.Stat(filepath.Join(cfg.Agent.Data, "store.key")); err == nil {
					v.StoreSealer, v.StoreInsecure = "plain", "store.key is a plain file of an earlier version: whoever reads this disk has the store's key"
				}
			}
			if e.json {
				if err := e.object(v); err != nil {
					return err
				}
			} else {
				e.printKeys(v)
			}
			return keysExit(v)
		},
	}
}

func (e *env) printKeys(v keysView) {
	kept := func(what, sealer, insecure string) {
		switch {
		case sealer == "":
			e.printf("%-8s not made yet\n", what)
		case insecure != "":
			e.printf("%-8s %s   INSECURE: %s\n", what, sealer, insecure)
		default:
			e.printf("%-8s %s\n", what, sealer)
		}
	}
	kept("sealer", v.Sealer, v.Insecure)
	kept("store", v.StoreSealer, v.StoreInsecure)
	if v.Refused != "" {
		e.printf("%-8s none: %s\n", "anchor", strings.TrimPrefix(v.Refused, "seal: "))
	} else {
		e.printf("%-8s %s\n", "anchor", v.Anchor)
	}
	if len(v.UsedBy) > 0 {
		e.printf("%-8s %s (software encryption on this PC)\n", "used by", strings.Join(v.UsedBy, ", "))
	} else {
		e.printf("%-8s no reader of the configuration\n", "used by")
	}
	if len(v.Sets) == 0 {
		text := "none loaded"
		if len(v.UsedBy) > 0 {
			text += ": these readers take no payments until `tillbridge keys import`"
		}
		e.printf("%-8s %s\n", "keys", text)
		return
	}
	e.table("DEVICE\tKIND\tKCV\tNEXT KEY\tLEFT\tSTATE\tLOADED", func(line func(string, ...any)) {
		for _, s := range v.Sets {
			line("%s\t%s\t%s\t%s\t%d of %d\t%s\t%s by %s", s.Device, s.Scheme, s.KCV, s.KSN, s.Left, s.Total, strings.ToUpper(s.Level),
				s.LoadedAt.Local().Format("2006-01-02 15:04"), strings.Join(s.LoadedBy, ", "))
		}
	})
	for _, s := range v.Sets {
		if s.Text != "" {
			e.printf("%s: %s\n", s.Device, s.Text)
		}
	}
}

func keysExit(v keysView) error {
	worst := exitOK
	if v.Insecure != "" || v.StoreInsecure != "" {
		worst = exitWarning
	}
	if len(v.UsedBy) > 0 && !v.Live {
		worst = exitCritical
	}
	for _, s := range v.Sets {
		switch s.Level {
		case keyring.LevelWarning:
			worst = max(worst, exitWarning)
		case keyring.LevelCritical, keyring.LevelExhausted, keyring.LevelDamaged:
			worst = exitCritical
		}
	}
	if worst != exitOK {
		return silent(worst)
	}
	return nil
}

// hidden asks for a line that is not shown. Input that is no terminal is read
// by lines.
func (e *env) hidden(prompt string) ([]byte, error) {
	fmt.Fprint(e.err, prompt)
	if f, ok := e.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		defer fmt.Fprintln(e.err)
		return term.ReadPassword(int(f.Fd()))
	}
	return e.line()
}

// shown asks for a line.
func (e *env) shown(prompt string) (string, error) {
	fmt.Fprint(e.err, prompt)
	b, err := e.line()
	return strings.TrimSpace(string(b)), err
}

// line reads byte by byte, so that no buffer keeps what follows.
func (e *env) line() ([]byte, error) {
	out := make([]byte, 0, 512)
	var b [1]byte
	defer clear(b[:])
	for len(out) < cap(out) {
		n, err := e.in.Read(b[:])
		if n == 1 {
			if b[0] == '\n' {
				return out, nil
			}
			out = append(out, b[0])
		}
		if errors.Is(err, io.EOF) && len(out) > 0 {
			return out, nil
		}
		if err != nil {
			clear(out)
			return nil, fail(exitUsage, "cli.usage", "the input ended before everything was asked for")
		}
	}
	clear(out)
	return nil, fail(exitUsage, "cli.usage", "a line has more than %d characters", cap(out))
}

func keysImport(e *env) *cobra.Command {
	var file, paper, keyPaper string
	var by []string
	c := &cobra.Command{
		Use:   "import --block FILE --by NAME --by NAME",
		Short: "Load an initial key from a key block, with its protection key in components",
		Long: `Load a DUKPT initial key (usage B1, AES) from a key block of version D or E, for
readers that do not encrypt themselves (section [encryption], kind = "dukpt").
The acquirer sends the block as a file, and the key that protects it on paper, in
components: these are put in by two people or more, one each, without echo; each
sees the check value of their own. Test keys that stand in books are refused.

Where neither a TPM nor the acquirer can tell an old copy of this disk, no key
is loaded: use encryption to the acquirer's public key (JWE) there.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" || len(by) < 2 {
				return fail(exitUsage, "cli.usage", "--block FILE and --by NAME twice or more are needed: see `tillbridge keys import --help`")
			}
			k, cfg, err := e.keyring(c)
			if err != nil {
				return err
			}
			defer k.Close()
			data, err := os.ReadFile(strings.TrimPrefix(file, "@"))
			if err != nil {
				return fail(exitNotFound, "keys.block_missing", "read the key block: %w", err)
			}
			block := strings.TrimSpace(string(data))
			header, err := keyblock.Describe(block)
			if err != nil {
				return err
			}
			if err := k.MayImport(c.Context(), block); err != nil {
				return err
			}
			if header.Algorithm != 'A' {
				return fail(exitRefused, "keys.not_aes", "the block holds a TDES key, and card data are encrypted here under AES DUKPT alone: ask for an AES initial key")
			}
			algorithm := keyring.TDES
			if header.Version == 'D' || header.Version == 'E' {
				algorithm = keyring.AES
			}
			protection, err := e.ceremony(algorithm, by, paper)
			if err != nil {
				return err
			}
			entry, err := k.Import(c.Context(), keyring.Import{Block: block, Protection: protection, KCV: keyPaper, By: by})
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "keys.import/1", "entry": entry})
			}
			e.printf("loaded the initial key of device %s, check value %s\n", entry.Device, entry.KCV)
			switch x := cfg.Encryption; {
			case x.Kind == "dukpt" && (x.Key == "" || strings.EqualFold(x.Key, entry.Device)):
				e.printf("the next payment on a reader that does not encrypt uses it\n")
			case x.Kind == "dukpt":
				e.printf("encryption.key names another key, %s: correct it and start the agent again\n", x.Key)
			default:
				e.printf("next: set kind = \"dukpt\" in the section [encryption] and start the agent again\n")
			}
			e.printf("destroy the key block and the components: the key cannot be loaded from them again\n")
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&file, "block", "", "file with the key block")
	f.StringArrayVar(&by, "by", nil, "name of a person with a component; give it for each")
	f.StringVar(&paper, "kcv", "", "check value of the protection key on paper (asked for otherwise)")
	f.StringVar(&keyPaper, "key-kcv", "", "check value of the initial key on paper, when there is one")
	return c
}

// ceremony asks each person for their component and puts the key together.
func (e *env) ceremony(a keyring.Algorithm, by []string, paper string) (*secret.Buffer, error) {
	var cer *keyring.Ceremony
	for _, name := range by {
		line, err := e.hidden("component of " + name + " (hex, not shown): ")
		if err != nil {
			return nil, err
		}
		component, err := keyring.ParseComponent(line)
		if err != nil {
			return nil, err
		}
		if cer == nil {
			if cer, err = keyring.NewCeremony(a, component.Len()); err != nil {
				component.Destroy()
				return nil, err
			}
			defer cer.Destroy()
		}
		v, err := cer.Add(name, component)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(e.err, "check value of %s's component: %s\n", name, v)
	}
	if paper == "" {
		var err error
		if paper, err = e.shown("check value of the whole protection key on paper: "); err != nil {
			return nil, err
		}
	}
	return cer.Combine(paper)
}

func keysKCV(e *env) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "kcv",
		Short: "Compute the check values of a key or component that you type",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a, err := keyring.ParseAlgorithm(name)
			if err != nil {
				return fail(exitUsage, "cli.usage", "%w", err)
			}
			if err := secret.NoDumps(); err != nil {
				return fmt.Errorf("turn core dumps off: %w", err)
			}
			line, err := e.hidden("key or component (hex, not shown): ")
			if err != nil {
				return err
			}
			key, err := keyring.ParseComponent(line)
			if err != nil {
				return err
			}
			defer key.Destroy()
			v, err := a.Of(key.Bytes())
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "keys.kcv/1", "algorithm": a.String(), "bytes": key.Len(), "kcv": v})
			}
			e.printf("%s, %d bytes: %s\n", a, key.Len(), v)
			return nil
		},
	}
	c.Flags().StringVar(&name, "algorithm", "aes", "aes or tdes")
	return c
}

func keysSelfTest(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "selftest",
		Short: "Derive and open published examples, as at every start",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			began := time.Now()
			if err := keyring.SelfTest(); err != nil {
				return &failure{exitIntegrity, "keys.selftest", err}
			}
			if e.json {
				return e.object(map[string]any{"schema": "keys.selftest/1", "passed": true, "microseconds": time.Since(began).Microseconds()})
			}
			e.printf("passed: DUKPT (TDES, AES-128, AES-192, AES-256) and key blocks (B, D, E)\n")
			return nil
		},
	}
}

func keysRegistry(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "registry",
		Short: "Every change of keys: what, when, by whom",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k, _, err := e.keyring(c)
			if err != nil {
				return err
			}
			defer k.Close()
			entries := k.Registry()
			if e.json {
				if entries == nil {
					entries = []keyring.Entry{}
				}
				return e.object(map[string]any{"schema": "keys.registry/1", "entries": entries})
			}
			if len(entries) == 0 {
				e.printf("no key was ever loaded here\n")
				return nil
			}
			e.table("N\tWHEN\tWHAT\tDEVICE\tKEY\tKCV\tBY", func(line func(string, ...any)) {
				for _, r := range entries {
					kcv := ""
					if r.KCV != nil {
						kcv = r.KCV.String()
					}
					line("%d\t%s\t%s\t%s\t%s\t%s\t%s", r.Number, r.At.Local().Format("2006-01-02 15:04:05"), r.Action, r.Device, r.KSN, kcv, strings.Join(r.By, ", "))
				}
			})
			return nil
		},
	}
}

func keysZeroize(e *env) *cobra.Command {
	var by []string
	var yes bool
	c := &cobra.Command{
		Use:   "zeroize --by NAME --by NAME",
		Short: "Destroy every key of this machine's software encryption, for good",
		Long: `Destroy the keys: the journals are overwritten, the root key that sealed them is
given up, and what remains is a record of it. The agent must be stopped. Stored
payments are not touched.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(by) < 2 {
				return fail(exitUsage, "cli.usage", "--by NAME is needed twice: two people destroy keys")
			}
			k, _, err := e.keyring(c)
			if err != nil {
				return err
			}
			defer k.Close()
			if !yes {
				answer, err := e.shown("every key is destroyed for good; type ZEROIZE to go on: ")
				if err != nil {
					return err
				}
				if answer != "ZEROIZE" {
					return fail(exitRefused, "keys.not_confirmed", "not confirmed: nothing was destroyed")
				}
			}
			n, err := k.Zeroize(c.Context(), by)
			if err != nil {
				return err
			}
			if e.json {
				return e.object(map[string]any{"schema": "keys.zeroize/1", "sets": n})
			}
			e.printf("destroyed %d key set(s)\n", n)
			return nil
		},
	}
	c.Flags().StringArrayVar(&by, "by", nil, "name of a person; give it twice")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
