//go:build !windows

package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOtherOwner(t *testing.T) {
	dir := t.TempDir()
	if name, other := otherOwner(dir, os.Geteuid()); other {
		t.Errorf("our own directory belongs to %q", name)
	}
	if name, other := otherOwner(dir, os.Geteuid()+1); !other || name == "" {
		t.Errorf("for another user: %q %v", name, other)
	}
	if _, other := otherOwner(filepath.Join(dir, "none"), os.Geteuid()+1); other {
		t.Error("a directory that is not there has an owner")
	}
}
