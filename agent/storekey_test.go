package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"tillbridge/agent/config"
)

func keyConfig(t *testing.T) *config.Config {
	t.Helper()
	return &config.Config{Agent: config.Agent{Data: t.TempDir()}, Keys: config.Keys{Sealer: "file"}}
}

func TestStoreKeyIsSealedAndComesBack(t *testing.T) {
	c := keyConfig(t)
	key, err := storeKey(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(key.Bytes())
	file, err := os.ReadFile(filepath.Join(c.Agent.Data, storeKeyFile))
	if err != nil || bytes.Contains(file, want) || len(want) != 32 {
		t.Fatalf("the file holds the key in clear, or nothing: %v", err)
	}
	if key, err = storeKey(t.Context(), c); err != nil || !bytes.Equal(key.Bytes(), want) {
		t.Fatalf("another key at the second start: %v", err)
	}
	if err := os.Remove(filepath.Join(c.Agent.Data, "root.json")); err != nil {
		t.Fatal(err)
	}
	if key, err := storeKey(t.Context(), c); err == nil || key != nil {
		t.Error("it opens under another root key")
	}
}

func TestStoreKeyOfAnEarlierVersionIsRead(t *testing.T) {
	c := keyConfig(t)
	want := bytes.Repeat([]byte{1, 2, 3, 4}, 8)
	if err := os.WriteFile(filepath.Join(c.Agent.Data, storeKeyFile), want, 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := storeKey(t.Context(), c)
	if err != nil || !bytes.Equal(key.Bytes(), want) {
		t.Fatalf("the plain form is not read: %v", err)
	}
}

func TestStoreKeyIsNotMadeBesideAStore(t *testing.T) {
	c := keyConfig(t)
	if err := os.WriteFile(c.StorePath(), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storeKey(t.Context(), c); err == nil {
		t.Error("a new key for an old store")
	}
}
