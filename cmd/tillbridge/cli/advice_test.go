package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAdviceNamesCommandsThatExist: a text of the program that sends a person
// to a command of design/technician.md names one that is there.
func TestAdviceNamesCommandsThatExist(t *testing.T) {
	planned := strings.Fields("status doctor explain devices tx queue path trace logs config service pair users roles crm keys emv run demo pilot audit sim support-bundle backup restore migrate update version completion docs")
	have := map[string]bool{}
	for _, c := range (&env{}).root().Commands() {
		have[c.Name()] = true
	}
	named := regexp.MustCompile("tillbridge (" + strings.Join(planned, "|") + `)\b`)
	seen := 0
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			for _, m := range named.FindAllStringSubmatch(lit.Value, -1) {
				seen++
				if !have[m[1]] {
					t.Errorf("%s: %s sends to `tillbridge %s`, which is not there", path, lit.Value, m[1])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("no text names a command")
	}
}
