package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"tillbridge/emv/contact"
	"tillbridge/emv/replay"
	"tillbridge/emv/tlv"
	"tillbridge/emv/virtualcard"
)

// unapproved is what may be said of the kernel (and nothing more).
const unapproved = `The kernel behind it implements the flow of EMV Books 1 to 4 and is tested with
public transcripts and vectors. It has no letter of approval: use it where an
approved PIN pad's kernel decides, and for reference, tests and diagnosis.`

// maxReplayFile bounds what is read of one file or of standard input.
const maxReplayFile = 64 << 20

func emvVerb(e *env) *cobra.Command {
	c := &cobra.Command{Use: "emv", Short: "Explain, decode and replay chip card data", Long: "Explain, decode and replay chip card data.\n\n" + unapproved}
	var match, keyFile, address, profile string
	rep := &cobra.Command{
		Use:   "replay FILE|DIR",
		Short: "Run the kernel against recorded exchanges with a card",
		Long: `Run the kernel against recorded exchanges and say what it makes of each. A
recording that begins in the middle is entered at its own step. With --match
strict the kernel must send the recorded commands in their order, byte for byte;
with --match loose answers are found by their command.

No number, track or PIN is printed. ` + unapproved,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return e.emvReplay(c, args[0], match, keyFile) },
	}
	rep.Flags().StringVar(&match, "match", "loose", "strict or loose")
	rep.Flags().StringVar(&keyFile, "keys", "", "JSON file of certification authority keys for data authentication")
	card := &cobra.Command{
		Use:   "card --vpcd ADDR",
		Short: "Put a virtual card into a virtual reader (vsmartcard's vpcd)",
		Long: `Connect to a virtual reader that speaks the vpcd framing, and answer as a card
with a published test number until the reader hangs up.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return e.emvCard(c, address, profile) },
	}
	card.Flags().StringVar(&address, "vpcd", "", "host:port of the reader, 127.0.0.1:35963 as a rule")
	card.Flags().StringVar(&profile, "profile", "visa-credit", "which card: "+profileNames())
	c.AddCommand(rep, card,
		&cobra.Command{
			Use:   "decode HEX|-",
			Short: "Show data objects; numbers, tracks and names are masked",
			Args:  cobra.ExactArgs(1),
			RunE:  func(_ *cobra.Command, args []string) error { return e.emvDecode(args[0]) },
		},
		&cobra.Command{
			Use:   "explain " + strings.Join(contact.Explained(), "|") + " [HEX]",
			Short: "Say what the bits of a data object mean",
			Args:  cobra.RangeArgs(1, 2),
			RunE:  func(_ *cobra.Command, args []string) error { return e.emvExplain(args[0], args[1:]) },
		},
	)
	return c
}

func profileNames() string {
	var names []string
	for _, p := range virtualcard.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// hexArg reads hex from an argument, or from standard input for "-". The error
// does not repeat what was given: it may be card data.
func (e *env) hexArg(arg string) ([]byte, error) {
	if arg == "-" {
		b, err := io.ReadAll(io.LimitReader(e.in, maxReplayFile))
		if err != nil {
			return nil, fail(exitFailed, "cli.failed", "standard input cannot be read: %w", err)
		}
		arg = string(b)
	}
	arg = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == ':' {
			return -1
		}
		return r
	}, arg)
	b, err := hex.DecodeString(arg)
	if err != nil || len(b) == 0 {
		return nil, fail(exitUsage, "cli.usage", "give whole bytes in hex, or - for standard input")
	}
	return b, nil
}

func (e *env) emvDecode(arg string) error {
	b, err := e.hexArg(arg)
	if err != nil {
		return err
	}
	text := strings.TrimRight(tlv.Describe(b, nil), "\n")
	if e.json {
		return e.object(map[string]any{"schema": "emv.decode/1", "bytes": len(b), "lines": strings.Split(text, "\n")})
	}
	e.printf("%s\n", text)
	return nil
}

func (e *env) emvExplain(kind string, value []string) (err error) {
	var b []byte
	var lines []string
	if len(value) == 0 {
		lines, err = contact.Legend(kind)
	} else {
		if b, err = e.hexArg(value[0]); err != nil {
			return err
		}
		lines, err = contact.Explain(kind, b)
	}
	if err != nil {
		return fail(exitUsage, "cli.usage", "%w", err)
	}
	if e.json {
		return e.object(map[string]any{"schema": "emv.explain/1", "kind": strings.ToUpper(kind), "value": strings.ToUpper(hex.EncodeToString(b)), "lines": lines})
	}
	e.printf("%s\n", strings.Join(lines, "\n"))
	return nil
}

func (e *env) emvCard(c *cobra.Command, address, profile string) error {
	p, err := virtualcard.Named(profile)
	if err != nil {
		return fail(exitUsage, "cli.usage", "%w", err)
	}
	if address == "" {
		return fail(exitUsage, "cli.usage", "name the reader: --vpcd 127.0.0.1:35963")
	}
	card, err := virtualcard.New(nil, p)
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: e.timeout}
	conn, err := d.DialContext(c.Context(), "tcp", address)
	if err != nil {
		return fail(exitUnreachable, "emv.reader_unreachable", "no virtual reader at %s: start pcscd with vsmartcard's vpcd: %w", address, err)
	}
	if !e.quiet && !e.json {
		e.printf("%s is in the reader at %s\n", p, address)
	}
	if err := virtualcard.Serve(c.Context(), conn, card, nil); err != nil {
		return err
	}
	if e.json {
		return e.object(map[string]any{"schema": "emv.card/1", "profile": p.Name, "address": address, "transactions": card.ATCNow()})
	}
	return nil
}

func (e *env) emvReplay(c *cobra.Command, path, match, keyFile string) error {
	o := &replay.Options{Strict: match == "strict"}
	if match != "strict" && match != "loose" {
		return fail(exitUsage, "cli.usage", "--match is strict or loose")
	}
	if keyFile != "" {
		b, err := readBounded(keyFile)
		if err != nil {
			return err
		}
		if o.Keys, _, err = replay.ParseKeys(b); err != nil {
			return fail(exitFailed, "emv.keys", "%s: %w", keyFile, err)
		}
	}
	files, folder, err := recordingFiles(path)
	if err != nil {
		return err
	}
	reports := []replay.Report{}
	read := 0
	for _, f := range files {
		b, err := readBounded(f)
		if err != nil {
			return err
		}
		list, err := replay.Parse(b)
		if err != nil {
			if folder { // other files may lie beside recordings
				if !e.quiet {
					fmt.Fprintf(e.err, "tillbridge: %s is left out: %v\n", f, err)
				}
				continue
			}
			return fail(exitFailed, "emv.recording", "%s: %w", f, err)
		}
		read++
		for _, r := range list {
			reports = append(reports, replay.Run(c.Context(), r, o))
		}
	}
	if read == 0 {
		return fail(exitNotFound, "emv.recording", "%s holds no recording", path)
	}
	if e.json {
		return e.object(map[string]any{"schema": "emv.replay/1", "match": match, "files": read, "approved_kernel": false, "transcripts": reports})
	}
	for _, r := range reports {
		e.printf("%s\n", r.Name)
		e.printf("  entered at %s, ended at %s: %s\n", r.Entry, r.Step, r.Outcome)
		if r.Error != "" {
			e.printf("  %s\n", r.Error)
		}
		e.printf("  last command %s; %d sent, %d without a recorded answer, %d exchanges unused, %d records\n", r.LastCommand, r.Sent, r.Unmatched, r.Unused, r.Records)
		if r.Application != "" {
			e.printf("  application %s\n", r.Application)
		}
		for _, x := range r.Reasons {
			e.printf("  - %s: %s (%s)\n", x.Step, x.Text, x.Ref)
		}
	}
	if !e.quiet {
		e.printf("\n%s\n", unapproved)
	}
	return nil
}

// recordingFiles lists a file, or the JSON files of a folder in their order.
func recordingFiles(path string) (files []string, folder bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, fail(exitNotFound, "cli.not_found", "%s cannot be read: name a recording or a folder of them", path)
	}
	if !info.IsDir() {
		return []string{path}, false, nil
	}
	files, err = filepath.Glob(filepath.Join(path, "*.json"))
	if err == nil && len(files) == 0 {
		err = fail(exitNotFound, "cli.not_found", "%s holds no .json file", path)
	}
	return files, true, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(exitNotFound, "cli.not_found", "%s cannot be read", path)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxReplayFile+1))
	if err != nil {
		return nil, fail(exitFailed, "cli.failed", "%s cannot be read: %w", path, err)
	}
	if len(b) > maxReplayFile {
		return nil, fail(exitFailed, "emv.recording", "%s is longer than %d bytes", path, maxReplayFile)
	}
	return b, nil
}
