// Package queuetest shows what the store of package queue keeps when the power, the process or the disk fails.
//
// A run of a seeded workload ([Work]) in a process of its own is watched by [Trace], which sees every write, sync and
// rename that reaches the kernel, and may make one fail or kill the process there. The journal it returns is played
// into a [Disk] that forgets what was not synced: nothing of it, a random part, a prefix, or single 512-byte sectors
// are kept, as after a power cut. The image that remains is opened and compared with a [Model], a plain Go map that
// knows what must be there.
//
// Trace needs ptrace and exists for Linux on amd64; elsewhere it returns [ErrUnsupported] and tests say so. Real media
// that lie about a sync, and file systems other than "names in order, data as synced", are not modelled.
package queuetest

import "errors"

// ErrUnsupported: this system has no way here to watch a process.
var ErrUnsupported = errors.New("queuetest: watching system calls is not supported on this system")

// Kind says what an Event is.
type Kind int

// Kinds of events. Names are base names inside the watched directory.
const (
	Write    Kind = iota // Data at Off of Name
	Truncate             // Name gets Size bytes
	Sync                 // Name is durable
	SyncFail             // a sync of Name returned an error: what it covered is durable or gone, and counts as clean
	Create               // Name exists
	Rename               // Name becomes To
	Remove               // Name is gone
	SyncDir              // names are durable
	Mark                 // the process says Name
)

// Event is one thing a watched process did to its directory, in order.
type Event struct {
	Kind Kind
	Name string
	To   string
	Off  int64
	Size int64
	Data []byte
}

// Fault is what Trace does to the Nth call (from 1) that it counts; N 0 means nothing.
type Fault struct {
	N     int
	Only  string // count only these: "write", "sync" or "" for all that change the directory
	Errno int    // the call returns this error and does nothing
	Kill  bool   // the process dies before the call
	Last  int    // with Errno: calls N to Last fail; 0 means N alone
}
