// Package drivertest holds what tests of drivers share: lines to stand on,
// lines that misbehave, and the one suite that every driver
// passes.
//
// Use first:
//
//   - [Conform] with a [Subject]: the conformance suite. It plays a healthy
//     device once to learn the phases of each operation and then breaks every
//     phase in turn.
//   - [Pipe]: a line in memory whose ends work under testing/synctest, so that
//     timers of minutes cost nothing. [PTY] is a real serial line of Linux.
//   - [Noise]: a seeded proxy that flips, drops, doubles, splits, delays,
//     stalls, babbles and hangs up.
//   - [Storm]: thousands of seeded exchanges on a noisy line, judged by the
//     device's own books.
//
// Transcripts (Record and Playback) are in drivers/transcript: the agent's own
// trace writes them too.
//
// What it does not do: it knows no protocol. The device's side of a subject
// comes from drivers/virtual, the fields to redact come from the driver.
package drivertest
