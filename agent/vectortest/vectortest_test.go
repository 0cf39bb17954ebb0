package vectortest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesOfTestdata(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("TILLBRIDGE_VECTORS", "")
	write(t, "testdata/b-demo.json")
	write(t, "testdata/a-demo.json")
	write(t, "testdata/a-other.json")
	got := Files(t, "area", "demo")
	if len(got) != 2 || filepath.Base(got[0]) != "a-demo.json" {
		t.Errorf("files %v", got)
	}
}

func TestNamedDirectoryComesFirst(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "named/area/x-demo.json")
	write(t, "testdata/a-demo.json")
	t.Setenv("TILLBRIDGE_VECTORS", filepath.Join(dir, "named"))
	got := Files(t, "area", "demo")
	if len(got) != 2 || filepath.Base(got[0]) != "x-demo.json" {
		t.Errorf("files %v", got)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
}
