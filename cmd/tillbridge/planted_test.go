package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A planted bug is a folder <package>/testdata/planted/<name>/ with a file
// plant.txt: header lines, then one or more replacements. Everything between
// the marks is taken literally, without the last line end.
//
//	why: the promise that the bug breaks
//	file: queue/commit.go
//	package: ./queue
//	run: TestCommitSurvivesPowerCut
//	--- old
//		if err := f.Sync(); err != nil {
//	--- new
//		if err := error(nil); err != nil {
//	--- end
//
// "file:" may stand again before a further replacement in another file. Each
// old text occurs exactly once in its file.

// plant is a planted bug.
type plant struct {
	dir, why, pkg, run string
	edits              []edit
}

type edit struct{ file, old, new string }

// TestPlantedBugs puts each bug in its place by an overlay and expects the
// named test to fail. It runs one bug of each package, or all with
// TILLBRIDGE_PLANTED=all, or those whose folder contains the given text.
func TestPlantedBugs(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dirs := plantDirs(t, root)
	if len(dirs) == 0 {
		t.Skip("no planted bug in this tree")
	}
	which := os.Getenv("TILLBRIDGE_PLANTED")
	seen := map[string]bool{}
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	var caught, total atomic.Int32
	t.Run("each", func(t *testing.T) {
		for _, dir := range dirs {
			rel, _ := filepath.Rel(root, dir)
			p, err := readPlant(dir)
			if err != nil {
				t.Errorf("%s: %v", rel, err)
				continue
			}
			overlay, err := p.overlay(root, t.TempDir())
			if err != nil { // every plant must still fit its source, also those not run
				t.Errorf("%s: %v", rel, err)
				continue
			}
			room := filepath.Dir(rel)
			switch {
			case which == "all":
			case which == "" && !seen[room]:
				seen[room] = true
			case which != "" && strings.Contains(rel, which):
			default:
				continue
			}
			total.Add(1)
			t.Run(strings.ReplaceAll(filepath.ToSlash(rel), "/testdata/planted/", ":"), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				err := p.caught(root, overlay)
				if err != nil && !strings.Contains(err.Error(), "build") {
					// Some tests meet the bug by seeded chance or by time.
					t.Logf("%s: once more: %v", rel, err)
					err = p.caught(root, overlay)
				}
				if err != nil {
					t.Errorf("%s (%s): %v", rel, p.why, err)
					return
				}
				caught.Add(1)
			})
		}
	})
	t.Logf("planted bugs: %d in the tree, %d run, %d caught", len(dirs), total.Load(), caught.Load())
}

// TestPlantedBugsCanFail: a replacement that changes nothing is not caught.
func TestPlantedBugsCanFail(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p := plant{pkg: "./agent/vectortest", run: "TestFilesOfTestdata", edits: []edit{{
		file: "agent/vectortest/vectortest.go", old: "sort.Strings(files)", new: "sort.Strings(files) // same",
	}}}
	overlay, err := p.overlay(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.caught(root, overlay); err == nil {
		t.Error("a harmless change counts as a bug that was caught")
	}
}

func plantDirs(t *testing.T, root string) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.Name() == "plant.txt" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func readPlant(dir string) (plant, error) {
	data, err := os.ReadFile(filepath.Join(dir, "plant.txt"))
	if err != nil {
		return plant{}, err
	}
	p := plant{dir: dir}
	var file string
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "--- old" {
			var parts [2][]string
			part := 0
			for i++; ; i++ {
				if i >= len(lines) {
					return p, fmt.Errorf("plant.txt ends before --- end")
				}
				if lines[i] == "--- new" {
					part = 1
					continue
				}
				if lines[i] == "--- end" {
					break
				}
				parts[part] = append(parts[part], lines[i])
			}
			p.edits = append(p.edits, edit{file, strings.Join(parts[0], "\n"), strings.Join(parts[1], "\n")})
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			if strings.TrimSpace(line) != "" {
				return p, fmt.Errorf("plant.txt: line %d is neither a header nor a mark: %q", i+1, line)
			}
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "why":
			p.why = value
		case "file":
			file = value
		case "package":
			p.pkg = value
		case "run":
			p.run = value
		default:
			return p, fmt.Errorf("plant.txt: unknown header %q", key)
		}
	}
	if p.why == "" || p.pkg == "" || p.run == "" || len(p.edits) == 0 {
		return p, fmt.Errorf("plant.txt needs why, file, package, run and a replacement")
	}
	return p, nil
}

// overlay writes the changed files and the overlay description to dir and
// returns the latter's path.
func (p plant) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for _, e := range p.edits {
		file := filepath.Join(root, filepath.FromSlash(e.file))
		src := file
		if done, ok := replace[file]; ok {
			src = done
		}
		data, err := os.ReadFile(src)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(data), e.old); e.old == "" || n != 1 {
			return "", fmt.Errorf("%s: the old text occurs %d times, not once: adapt the plant to the source", e.file, n)
		}
		out, ok := replace[file]
		if !ok {
			out = filepath.Join(dir, fmt.Sprintf("%d_%s", len(replace), filepath.Base(file)))
			replace[file] = out
		}
		if err := os.WriteFile(out, []byte(strings.Replace(string(data), e.old, e.new, 1)), 0o600); err != nil {
			return "", err
		}
	}
	desc, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, desc, 0o600)
}

// caught runs the named test with the bug in place. It returns nil when a test
// failed, and an error when all passed, none ran, or the bug did not build.
func (p plant) caught(root, overlay string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-timeout=90s", "-overlay", overlay, "-run", p.run, p.pkg)
	cmd.Dir = root
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := out.String()
	switch {
	case err == nil && strings.Contains(text, "no tests to run"):
		return fmt.Errorf("no test matches %q", p.run)
	case err == nil:
		return fmt.Errorf("the bug is in place and %s passes", p.run)
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return fmt.Errorf("the planted source does not build:\n%s", text)
	case strings.Contains(text, "--- FAIL") || strings.Contains(text, "panic:") || strings.Contains(text, "fatal error:"):
		return nil
	}
	return fmt.Errorf("go test ended without a failing test: %v\n%s", err, text)
}
