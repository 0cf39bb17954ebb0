//go:build !(linux && amd64)

package queuetest

// Trace is not available here.
func Trace(dir string, argv, env []string, f Fault) ([]Event, int, error) {
	return nil, 0, ErrUnsupported
}
