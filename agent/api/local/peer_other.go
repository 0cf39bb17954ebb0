//go:build unix && !linux

package local

import (
	"net"
	"os"
)

// peer trusts the mode of the socket file where the system has no common call
// for peer credentials.
func peer(net.Conn) (int, error) { return os.Geteuid(), nil }
