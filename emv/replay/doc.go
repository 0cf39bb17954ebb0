// Package replay runs the contact kernel against recorded exchanges with a
// card, to explain what happened at a counter and to test the kernel with
// cards that nobody here wrote.
//
// Start with [Parse] and [Run]. A recording that begins in the middle of a
// transaction is entered at its own step. What the recording shows of the
// terminal (amounts, date, unpredictable number, capabilities) is taken from
// the data that the recorded commands carried, so that the kernel asks the same
// questions where it decides the same.
//
// The card of a replay says only what it said then. With strict matching each
// command of the kernel must be the next one of the recording, byte for byte.
// With loose matching an answer is found by its command; equal commands are
// answered in their order, GET PROCESSING OPTIONS and GENERATE AC are found by
// class and instruction, and a recorded command without bytes ("any") answers
// the kernel's next one after what came before it. A command that the
// recording does not hold gets no answer at all.
//
// A replay shows what this kernel makes of a recording. It is not an approval
// of card, terminal or kernel: this kernel has no letter of approval. Contactless
// recordings go as far as the contact rules reach (Book B directory, selection,
// processing options, records).
//
// Reports hold no card number, no track and no PIN: commands are shown without
// data wherever those could be in them.
package replay
