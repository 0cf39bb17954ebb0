package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sealers returns the kinds that this machine can test.
func sealers(t *testing.T) map[string]*SealerOptions {
	kinds := map[string]*SealerOptions{KindFile: {Kind: KindFile}}
	if _, err := exec.LookPath("systemd-creds"); err == nil && os.Geteuid() == 0 {
		kinds[KindSystemd] = &SealerOptions{Kind: KindSystemd}
	} else {
		t.Log("systemd-creds skipped: not installed, or not root")
	}
	return kinds
}

func TestSealerOpensWhatItSealed(t *testing.T) {
	for kind, o := range sealers(t) {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			s, err := OpenSealer(t.Context(), dir, o)
			if err != nil && kind == KindSystemd {
				t.Skipf("skipped: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := s.Seal("a", []byte("a secret of this shop"))
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if _, err := s.Seal("a", []byte("x")); !errors.Is(err, ErrSealer) {
				t.Errorf("a closed sealer seals: %v", err)
			}
			if s, err = OpenSealer(t.Context(), dir, nil); err != nil { // auto finds what it was made with
				t.Fatal(err)
			}
			if s.Name() != kind {
				t.Errorf("named %s", s.Name())
			}
			b, err := s.Unseal("a", sealed)
			if err != nil || string(b.Bytes()) != "a secret of this shop" {
				t.Fatal("it does not come back:", err)
			}
			if _, err := s.Unseal("b", sealed); !errors.Is(err, ErrUnseal) {
				t.Errorf("it opens under another name: %v", err)
			}
			for i := range sealed {
				bad := bytes.Clone(sealed)
				bad[i] ^= 4
				if _, err := s.Unseal("a", bad); !errors.Is(err, ErrUnseal) {
					t.Fatalf("byte %d changed: %v", i, err)
				}
				if _, err := s.Unseal("a", sealed[:i]); !errors.Is(err, ErrUnseal) {
					t.Fatalf("cut to %d: %v", i, err)
				}
			}
			found, insecure, ok := SealerOf(dir)
			if !ok || found != kind || insecure != s.Insecure() {
				t.Errorf("the directory says %q %q %v", found, insecure, ok)
			}
			if insecure == "" {
				t.Error("a root key on the same disk is not called insecure")
			}
			if err := s.Destroy(); err != nil {
				t.Fatal(err)
			}
			again, err := OpenSealer(t.Context(), dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.Unseal("a", sealed); !errors.Is(err, ErrUnseal) {
				t.Errorf("it opens after the root key was destroyed: %v", err)
			}
		})
	}
}

func TestSealerKindIsKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindFile}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSealer(t.Context(), dir, &SealerOptions{Kind: KindTPM}); !errors.Is(err, ErrSealer) || !strings.Contains(err.Error(), "file") {
		t.Errorf("another sealer was taken: %v", err)
	}
	if _, err := OpenSealer(t.Context(), t.TempDir(), &SealerOptions{Kind: "vault"}); !errors.Is(err, ErrSealer) {
		t.Errorf("an unknown sealer: %v", err)
	}
	if _, err := OpenSealer(t.Context(), t.TempDir(), &SealerOptions{Kind: KindTPM, TPM: filepath.Join(dir, "none")}); !errors.Is(err, ErrSealer) {
		t.Errorf("no chip: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, rootFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSealer(t.Context(), dir, nil); !errors.Is(err, ErrSealer) {
		t.Errorf("a damaged root file: %v", err)
	}
}

func TestSealerWithoutChipIsAFile(t *testing.T) {
	s, err := OpenSealer(t.Context(), t.TempDir(), &SealerOptions{TPM: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name() != KindFile && s.Name() != KindDPAPI {
		t.Errorf("automatic choice without a chip: %s", s.Name())
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Count(text, "***") != 3 {
		t.Errorf("a sealer prints %d characters", len(text))
	}
}
