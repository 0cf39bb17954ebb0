package virtualcard

import (
	"net"
	"time"
)

// setDeadline is the one place that reads the clock: a connection's deadline
// is a time of day.
func setDeadline(c net.Conn, d time.Duration) error { return c.SetDeadline(time.Now().Add(d)) }
