// Package queue is the durable store of the agent: records, idempotency claims and one ordered log of messages, kept
// in a single bbolt file, and the delivery of those messages to named consumers.
//
// # What to use first
//
//	s, err := queue.Open("/var/lib/tillbridge/store.db", &queue.Options{
//		Consumers: []queue.Consumer{{Name: "crm", Topic: "events"}},
//	})
//	err = s.Commit(ctx, func(tx *queue.Tx) error {
//		if _, err := tx.Claim("register-1", key, digest, "pay_1"); err != nil {
//			return err // ErrClaimed, ErrClaimMismatch
//		}
//		if _, err := tx.Put(queue.Record{ID: "pay_1", Body: sealed, Index: map[string]string{"status": "pending"}}); err != nil {
//			return err // ErrConflict
//		}
//		_, err := tx.Append("events", "customer-7", sealedEvent)
//		return err
//	})
//
// Everything one function writes is durable when Commit returns nil, all of it or none. Nothing may be shown to a till,
// and no byte may go to a host, before that.
//
// # Writers
//
// Functions run one after another, each on a write set of its own that reads its own writes and those of every function
// before it. An error discards that function's set and no other. Callers that arrive while the disk is busy share the
// next commit: the first of them runs it for all (no goroutine in between, no waiting for company).
//
// # Consumers
//
// A consumer follows one topic. Messages with the same order key reach it strictly one after another: the next is not
// leased before the one in front is acknowledged, dead or discarded. Messages of different keys never wait for each
// other. The empty order key means "no order". Leases live in memory: after a restart every message that was not
// acknowledged is delivered again, so delivery is at least once and the receiver needs the message's own id.
// Acknowledgements ride on the next commit, or are flushed after a short delay; losing one costs one redelivery.
//
// # When the disk fails
//
// An error of a bbolt commit does not say whether the data is on disk (an I/O error on the last sync leaves it there).
// The store then reopens its file, looks whether the commit is there, and makes it durable before it says so. What
// could not be learned is [ErrUnknown]; a caller looks its record up before it does anything else. An error that wraps
// [ErrNotStored] is a definite "no".
//
// # What it does not do
//
// It does not encrypt: bodies are opaque and already sealed by the caller. Keys (record ids, index values, order keys,
// claim keys) are stored in clear, so they carry ids and tokens only, never card data. It serves one process at a time.
// It does not claim that deleted bytes are gone from the medium.
//
// Layout and measurements follow the project's notes on bbolt as a queue; the on-disk form is described in codec.go.
package queue

import "errors"

// Errors that callers branch on. Compare with errors.Is.
var (
	// ErrNotFound: no record, message, consumer or file with that name.
	ErrNotFound = errors.New("queue: not found")
	// ErrConflict: the record was changed since it was read (its version differs), or exists already.
	ErrConflict = errors.New("queue: record was changed by another writer")
	// ErrClaimed: the idempotency key is taken by the same request; the answer of Claim names the record.
	ErrClaimed = errors.New("queue: idempotency key already used for the same request")
	// ErrClaimMismatch: the idempotency key is taken by a request with another digest.
	ErrClaimMismatch = errors.New("queue: idempotency key already used for a different request")
	// ErrFull: a limit of Options is reached, or the disk is nearly full; nothing new should be accepted.
	ErrFull = errors.New("queue: store is full")
	// ErrUnknown: the commit may or may not be durable. Look the record up (when the disk answers again) and decide then.
	ErrUnknown = errors.New("queue: outcome of the commit is unknown")
	// ErrNotStored: the commit failed and it is certain that nothing of it is stored.
	ErrNotStored = errors.New("queue: nothing was stored")
	// ErrUnavailable: the disk does not answer properly; the store keeps trying to reopen its file.
	ErrUnavailable = errors.New("queue: store is unavailable after a disk error")
	// ErrStale: the lease is not current (it ran out and was given again, or the message is settled); nothing was changed.
	ErrStale = errors.New("queue: lease is no longer held")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("queue: store is closed")
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("queue: store is in use by another process")
	// ErrCorrupt: stored bytes do not decode, or fail their checksum or the hash chain.
	ErrCorrupt = errors.New("queue: stored data is damaged")
	// ErrInvalid: an argument is empty, too long, or not allowed here.
	ErrInvalid = errors.New("queue: invalid argument")
	// ErrReadOnly: a write inside View.
	ErrReadOnly = errors.New("queue: read-only transaction")
)

// Sizes in bytes that an argument may have.
const (
	MaxKey  = 1024     // record id, claim scope and key, index name and value, order key, names of topics, consumers, counters
	MaxBody = 16 << 20 // body of a record or a message
)
