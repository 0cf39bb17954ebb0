package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"tillbridge/p2pe/secret"
)

// systemdKeeper wraps the root key by systemd-creds, under the chip and the
// host key where there is a chip, else under the host key alone. Only root can
// use the host key; a service under another account takes "tpm" or "file".
type systemdKeeper struct{}

// The first byte of a blob says how it was wrapped.
const (
	systemdHost = 'h'
	systemdTPM  = 't'
)

const systemdName = "--name=tillbridge-root"

func (systemdKeeper) kind() string { return KindSystemd }

func (systemdKeeper) insecure(blob []byte) string {
	if len(blob) > 0 && blob[0] == systemdTPM {
		return ""
	}
	return "systemd-creds uses the host key alone, a file on the same disk: whoever has a copy of the disk has the keys; use a machine with a TPM"
}

func (systemdKeeper) wrap(ctx context.Context, root []byte) ([]byte, error) {
	kind, with := byte(systemdHost), "host"
	if out, err := exec.CommandContext(ctx, "systemd-creds", "has-tpm2").Output(); err == nil && strings.HasPrefix(string(out), "yes") {
		kind, with = systemdTPM, "host+tpm2"
	}
	out, err := runSystemd(ctx, root, "encrypt", systemdName, "--with-key="+with, "-", "-")
	if err != nil {
		return nil, fmt.Errorf("%w: systemd-creds encrypt: %w", ErrSealer, err)
	}
	return append([]byte{kind}, out...), nil
}

func (systemdKeeper) unwrap(ctx context.Context, blob []byte) (*secret.Buffer, error) {
	if len(blob) < 2 {
		return nil, fmt.Errorf("%w (root key)", ErrUnseal)
	}
	out, err := runSystemd(ctx, blob[1:], "decrypt", systemdName, "-", "-")
	if err != nil {
		return nil, fmt.Errorf("%w: systemd-creds decrypt: %w", ErrUnseal, err)
	}
	return secret.Take(out)
}

// runSystemd returns the output of systemd-creds. What it says on its error
// output is passed on: it names files and causes, never data.
func runSystemd(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "systemd-creds", args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}
