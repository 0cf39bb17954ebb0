//go:build !windows

package seal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// syncDir makes names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LockFile takes a file for this process; it is free again when f is closed.
// [ErrInUse] says that another has it.
func LockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

func newDPAPI() (keeper, error) {
	return nil, fmt.Errorf("%w: dpapi exists on Windows only: choose auto", ErrSealer)
}

const defaultTPM = "/dev/tpmrm0"

// automatic returns the kinds to try, best first. systemd-creds is among them
// only when it binds to a chip: under its host key alone it is no better than
// a file.
func automatic(ctx context.Context, o *SealerOptions) []string {
	device := o.TPM
	if device == "" {
		device = defaultTPM
	}
	if _, err := os.Stat(device); err != nil {
		return []string{KindFile}
	}
	kinds := []string{KindTPM}
	if out, err := exec.CommandContext(ctx, "systemd-creds", "has-tpm2").Output(); err == nil && strings.HasPrefix(string(out), "yes") {
		kinds = append(kinds, KindSystemd)
	}
	return append(kinds, KindFile)
}
