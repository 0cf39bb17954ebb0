//go:build !linux && !windows

package secret

// allocate gives ordinary memory: this system has no support here.
func allocate(n int) (pages []byte, locked bool, err error) { return make([]byte, n), false, nil }

func release([]byte, bool) {}

// NoDumps does nothing on this system.
func NoDumps() error { return nil }
