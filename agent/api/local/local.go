// Package local is the control channel between the command line and the agent
// on one machine: a unix socket, or a named pipe on Windows. The operating
// system says who the peer is; no key is sent.
//
// [Listen] on the agent's side, [Dial] on the other. Let in are root (on
// Windows: Administrators and SYSTEM) and the account that runs the agent. On
// Linux the socket has mode 0600 and each connection's peer credentials are
// checked as well; on Windows the pipe's security descriptor does both.
//
// It does no HTTP: see packages server and client.
package local

import "errors"

// ErrNotRunning is matched when nobody listens at the address.
var ErrNotRunning = errors.New("no agent listens on the control channel; start it: tillbridge run")

// ErrRefused is matched when the operating system does not let this user in.
var ErrRefused = errors.New("this user may not use the control channel; run as the agent's user, or with sudo")

// ErrInUse is matched by Listen when another agent answers at the address.
var ErrInUse = errors.New("another agent uses the control channel")
