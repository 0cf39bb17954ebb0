package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// The import rules of the house (design section 2). A ban inside the project
// judges everything that a package depends on; a ban of a standard or third
// party package judges what its own files import. Test files may import more.

const module = "tillbridge"

// pkg is what `go list -json` says of one package of the project.
type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string
	Deps       []string
	GoFiles    []string
	Doc        string
}

// rule bans packages from other packages.
type rule struct {
	from   []string // patterns of packages that are judged
	except []string // patterns of packages that are not
	ban    []string // patterns of what they may not import
	allow  []string // patterns taken out of ban
	direct bool     // judge the package's own imports, not all it depends on
	reason string
}

// A pattern is an import path (project paths without the module name), with
// "/..." for the package and all below it, or "*" for one path element.
var rules = []rule{
	{from: all, except: []string{"drivers/serialport"}, ban: []string{"go.bug.st/serial/..."}, direct: true,
		reason: "one package knows the serial library, so that its traps are handled once"},
	{from: all, except: []string{"drivers/usbport"}, ban: []string{"github.com/google/gousb/..."}, direct: true,
		reason: "one package knows libusb, so that everything else builds without cgo"},
	{from: all, except: []string{"queue/..."}, ban: []string{"go.etcd.io/bbolt/..."}, direct: true,
		reason: "the store's file has one owner"},
	{from: all, except: []string{"cmd/..."}, ban: []string{"github.com/spf13/cobra/..."}, direct: true,
		reason: "the agent does not know that it has a command line"},
	{from: all, except: []string{"cmd/...", "agent"}, ban: []string{"github.com/kardianos/service/..."}, direct: true,
		reason: "only the program itself talks to the service manager"},
	{from: all, except: []string{"agent/acquirer/..."}, ban: []string{"github.com/moov-io/iso8583/..."}, direct: true,
		reason: "the sandbox acquirer must decode with a decoder of its own"},
	{from: all, except: []string{"p2pe/seal/..."}, ban: []string{"github.com/google/go-tpm/...", "github.com/go-jose/go-jose/..."}, direct: true,
		reason: "sealing has one home"},

	{from: []string{"queue/..."}, ban: []string{"emv/...", "p2pe/...", "drivers/...", "agent/...", "cmd/..."},
		reason: "the store sees opaque sealed bytes"},
	{from: []string{"p2pe/..."}, ban: []string{"emv/...", "drivers/...", "queue/...", "agent/...", "cmd/..."},
		reason: "cryptography knows no payment"},
	{from: []string{"p2pe"}, ban: []string{"crypto/..."}, direct: true,
		reason: "the root package holds values only"},
	{from: []string{"emv/..."}, ban: []string{"drivers/...", "queue/...", "agent/...", "cmd/...", "p2pe/..."}, allow: []string{"p2pe"},
		reason: "the kernel is pure"},
	{from: []string{"drivers", "drivers/abecs", "drivers/zvt", "drivers/neo2", "drivers/ccid", "drivers/serialport", "drivers/usbport", "drivers/netport", "drivers/frame", "drivers/transcript"},
		ban:    []string{"queue/...", "agent/...", "cmd/...", "drivers/virtual/...", "p2pe/bdk/...", "p2pe/dukpt/..."},
		reason: "a driver knows neither the store nor the agent, holds no keys, and never its simulator"},
	{from: []string{"drivers/abecs"}, ban: []string{"drivers/zvt", "drivers/neo2", "drivers/ccid"}, reason: "drivers do not know one another"},
	{from: []string{"drivers/zvt"}, ban: []string{"drivers/abecs", "drivers/neo2", "drivers/ccid"}, reason: "drivers do not know one another"},
	{from: []string{"drivers/neo2"}, ban: []string{"drivers/abecs", "drivers/zvt", "drivers/ccid"}, reason: "drivers do not know one another"},
	{from: []string{"drivers/ccid"}, ban: []string{"drivers/abecs", "drivers/zvt", "drivers/neo2"}, reason: "drivers do not know one another"},
	{from: []string{"drivers/virtual/..."}, ban: []string{"drivers/abecs", "drivers/zvt", "drivers/neo2", "drivers/ccid", "queue/...", "agent/...", "cmd/...", "p2pe/bdk/..."},
		reason: "a virtual device is written from the standard, and never holds a base derivation key"},
	{from: []string{"agent/payment"}, ban: []string{"emv/...", "p2pe/...", "drivers/...", "queue/...", "agent/...", "cmd/..."}, allow: []string{"agent/payment"},
		reason: "the payment machine is pure"},
	{from: []string{"agent/crm/..."}, ban: []string{"p2pe/...", "emv/...", "drivers/...", "queue/...", "agent/engine/...", "agent/acquirer/..."}, allow: []string{"p2pe/mask"},
		reason: "the CRM side cannot reach the card side"},
	{from: []string{"agent/sandbox/..."}, ban: []string{"agent/acquirer/...", "agent/engine/...", "agent/crm/...", "queue/...", "drivers/..."},
		reason: "a counterpart that shares our code would agree with our faults"},
	{from: []string{"agent/..."}, except: []string{"agent/sandbox/..."}, ban: []string{"agent/sandbox/...", "drivers/virtual/...", "p2pe/bdk/...", "p2pe/dukpt/pin/...", "cmd/..."},
		reason: "production code does not know its simulators, holds no base key and derives no PIN key"},
	{from: all, except: []string{"agent/sandbox/...", "p2pe/bdk/..."}, ban: []string{"p2pe/bdk/..."}, direct: true,
		reason: "a base derivation key exists in the sandbox alone"},
	{from: all, except: []string{"drivers/virtual/...", "p2pe/bdk/..."}, ban: []string{"p2pe/dukpt/pin/..."}, direct: true,
		reason: "the agent cannot derive a PIN key"},
	{from: all, except: []string{"queue/queuetest", "drivers/drivertest"}, ban: []string{"testing", "agent/vectortest", "queue/queuetest", "drivers/drivertest"}, direct: true,
		reason: "test helpers stay in tests"},

	{from: all, except: []string{"packaging/..."}, ban: []string{"packaging/..."},
		reason: "how the program is packed and tried out is no part of it"},
	{from: []string{"packaging/lab/usbdev"}, ban: []string{"drivers/...", "agent/...", "queue/...", "emv/...", "p2pe/...", "cmd/..."},
		reason: "a USB device is written from the USB specification, not from our transport"},

	{from: pure, ban: []string{"net/...", "os/...", "io/fs", "syscall", "log", "database/...", "embed", "plugin", "runtime/debug"},
		reason: "pure code has no I/O", direct: true},
}

var (
	all  = []string{"..."}
	pure = []string{"emv", "emv/tlv", "emv/apdu", "emv/contact", "emv/oda", "emv/cryptogram", "emv/replay", "drivers/frame", "agent/payment", "p2pe"}
)

// testHelpers may use the testing package without being test files.
var testHelpers = []string{"agent/vectortest"}

func TestImportRules(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		pkgs := list(t, goos)
		for _, v := range violations(pkgs, rules) {
			t.Errorf("%s: %s", goos, v)
		}
	}
}

// TestImportRulesCanFail judges a house built wrongly on purpose.
func TestImportRulesCanFail(t *testing.T) {
	p := func(name string, imports, deps []string) pkg {
		full := func(list []string) []string {
			var out []string
			for _, s := range list {
				if first, _, _ := strings.Cut(s, "/"); first == "emv" || first == "queue" || first == "p2pe" || first == "drivers" || first == "agent" || first == "packaging" {
					s = module + "/" + s
				}
				out = append(out, s)
			}
			return out
		}
		return pkg{ImportPath: module + "/" + name, Imports: full(imports), Deps: full(append(deps, imports...))}
	}
	for _, c := range []pkg{
		p("agent/engine", []string{"go.bug.st/serial"}, nil),
		p("drivers/abecs", []string{"github.com/google/gousb"}, nil),
		p("agent/engine", []string{"go.etcd.io/bbolt"}, nil),
		p("agent/api/server", []string{"github.com/spf13/cobra"}, nil),
		p("agent/sandbox/acquirer", []string{"github.com/moov-io/iso8583/field"}, nil),
		p("queue", []string{"p2pe"}, nil),
		p("drivers/zvt", nil, []string{"queue"}),
		p("drivers/zvt", []string{"drivers/abecs"}, nil),
		p("drivers/virtual/abecs", []string{"drivers/abecs"}, nil),
		p("agent/crm/webhook", nil, []string{"p2pe"}),
		p("agent/sandbox/crm", nil, []string{"agent/crm"}),
		p("agent", nil, []string{"drivers/virtual/abecs"}),
		p("agent/keyring", []string{"p2pe/bdk"}, nil),
		p("agent/keyring", []string{"p2pe/dukpt/pin"}, nil),
		p("agent", []string{"packaging/lab/usbdev"}, nil),
		p("packaging/lab/usbdev", []string{"drivers"}, nil),
		p("emv/tlv", []string{"net/http"}, nil),
		p("agent/payment", []string{"os"}, nil),
		p("p2pe", []string{"crypto/aes"}, nil),
	} {
		if len(violations([]pkg{c}, rules)) == 0 {
			t.Errorf("%s importing %v breaks no rule", c.ImportPath, c.Imports)
		}
	}
	fine := p("agent/crm", []string{"p2pe/mask", "agent/payment", "net/http"}, nil)
	if v := violations([]pkg{fine}, rules); len(v) != 0 {
		t.Errorf("a sound package is refused: %v", v)
	}
}

func violations(pkgs []pkg, rules []rule) []string {
	var out []string
	for _, p := range pkgs {
		name := short(p.ImportPath)
		if matchAny(testHelpers, name) {
			continue
		}
		for _, r := range rules {
			if !matchAny(r.from, name) || matchAny(r.except, name) {
				continue
			}
			judged := p.Deps
			if r.direct {
				judged = p.Imports
			}
			for _, imp := range judged {
				other := short(imp)
				if other == name || !matchAny(r.ban, other) || matchAny(r.allow, other) {
					continue
				}
				out = append(out, fmt.Sprintf("%s may not import %s: %s", name, other, r.reason))
			}
		}
	}
	sort.Strings(out)
	return out
}

// TestPureCode finds clocks, timers and log calls in pure packages. It judges
// selectors on imported packages; implementing slog.LogValuer is fine.
func TestPureCode(t *testing.T) {
	banned := map[string]map[string]bool{
		"time": set("Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"),
		"log/slog": set("Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "Default", "New", "With",
			"DebugContext", "InfoContext", "WarnContext", "ErrorContext", "SetDefault"),
		"fmt": set("Print", "Println", "Printf"),
	}
	checked := 0
	for _, p := range list(t, "linux") {
		if !matchAny(pure, short(p.ImportPath)) {
			continue
		}
		for _, f := range p.GoFiles {
			checked++
			file := filepath.Join(p.Dir, f)
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range banned2(tree, banned) {
				t.Errorf("%s/%s uses %s: pure code has no clock and writes no log", short(p.ImportPath), f, use)
			}
		}
	}
	if checked == 0 {
		t.Fatal("no file of a pure package was read")
	}
	tree, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nimport clock \"time\"\nvar _ = clock.Now()\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(banned2(tree, banned)) != 1 {
		t.Error("the check does not see a renamed clock")
	}
}

func banned2(tree *ast.File, banned map[string]map[string]bool) []string {
	names := map[string]string{}
	for _, imp := range tree.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	var out []string
	ast.Inspect(tree, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok {
			if p, imported := names[id.Name]; imported && banned[p][sel.Sel.Name] {
				out = append(out, p+"."+sel.Sel.Name)
			}
		}
		return true
	})
	return out
}

// TestPackageComments: the package comment is the manual of its package.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t, "linux") {
		name := short(p.ImportPath)
		if p.Doc == "" {
			t.Errorf("%s has no package comment", name)
		}
	}
}

func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,Deps,GoFiles,Doc", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	return pkgs
}

func short(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if p == "..." || p == name {
			return true
		}
		if base, ok := strings.CutSuffix(p, "/..."); ok && (name == base || strings.HasPrefix(name, base+"/")) {
			return true
		}
	}
	return false
}

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}
