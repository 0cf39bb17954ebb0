// Package vectortest finds vector files for tests. It uses the standard
// library alone and is imported by tests alone.
//
// A test calls [Files] with an area and a set and gets every "*-<set>.json" of
// $TILLBRIDGE_VECTORS/<area>/, or else of ../shared/vectors/<area>/ beside the
// module root, and always those of the package's own testdata. It then calls
// [Ran] with the number of vectors it checked.
package vectortest

import (
	"os"
	"path/filepath"
	"sort"
	"testing"
)

// Files returns the vector files of a set. A directory that is named by the
// environment and holds none of the set fails the test. Where neither the
// variable nor the shared folder exists, the files of testdata are returned,
// and the missing rest is logged as skipped; with none at all the test is
// skipped with that reason.
func Files(t testing.TB, area, set string) []string {
	t.Helper()
	var files []string
	pattern := "*-" + set + ".json"
	if named := os.Getenv("TILLBRIDGE_VECTORS"); named != "" {
		files = glob(t, filepath.Join(named, area), pattern)
		if len(files) == 0 {
			t.Fatalf("vectors %s: TILLBRIDGE_VECTORS is set, and %s holds no %s", set, filepath.Join(named, area), pattern)
		}
	} else if dir, ok := shared(t); ok {
		files = glob(t, filepath.Join(dir, area), pattern)
		if len(files) == 0 {
			t.Fatalf("vectors %s: %s holds no %s", set, filepath.Join(dir, area), pattern)
		}
	} else {
		t.Logf("vectors %s skipped: no TILLBRIDGE_VECTORS and no ../shared/vectors beside the module; testdata only", set)
	}
	files = append(files, glob(t, "testdata", pattern)...)
	if len(files) == 0 {
		t.Skipf("vectors %s skipped: no file to run", set)
	}
	return files
}

// Folder returns the path of one file or folder of an area, for data that is
// not a set (ca-keys.json). The test is skipped when it is not there and the
// environment names no directory; it fails when one is named.
func Folder(t testing.TB, area, name string) string {
	t.Helper()
	dir, named := os.Getenv("TILLBRIDGE_VECTORS"), true
	if dir == "" {
		var ok bool
		if dir, ok = shared(t); !ok {
			t.Skipf("vectors %s/%s skipped: no TILLBRIDGE_VECTORS and no ../shared/vectors beside the module", area, name)
		}
		named = false
	}
	path := filepath.Join(dir, area, name)
	if _, err := os.Stat(path); err != nil {
		if named {
			if sharedDir, ok := shared(t); ok {
				alt := filepath.Join(sharedDir, area, name)
				if _, err := os.Stat(alt); err == nil {
					return alt
				}
			}
		}
		t.Fatalf("vectors: %v", err)
	}
	return path
}

// Ran logs the line that says how many vectors of a set were checked, and
// fails a test that checked none.
func Ran(t testing.TB, set string, n int) {
	t.Helper()
	if n == 0 {
		t.Fatalf("vectors %s: the files hold no vector that was checked", set)
	}
	t.Logf("vectors %s %d", set, n)
}

func glob(t testing.TB, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatalf("vectors: %v", err)
	}
	sort.Strings(files)
	return files
}

// shared returns ../shared/vectors beside the module root.
func shared(t testing.TB) (string, bool) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("vectors: %v", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
	path := filepath.Join(filepath.Dir(dir), "shared", "vectors")
	info, err := os.Stat(path)
	return path, err == nil && info.IsDir()
}
