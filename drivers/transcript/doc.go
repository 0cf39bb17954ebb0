// Package transcript records what passes on a port, and plays it back.
//
// Use [Record] around a drivers.Transport: the agent's trace and tests do.
// What the protocol says is card data is cut out by field as it is captured, a
// leak scanner looks at what is left, and no mode keeps the clear bytes.
// [ParseTranscript] reads a recording, [Playback] is a transport that gives it
// to a driver again.
//
// It knows no protocol: the fields to cut come from the driver
// (drivers.Redactor).
package transcript
