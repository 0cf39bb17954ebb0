// Package zvt drives payment terminals that speak ZVT (ECR interface), common
// in Germany, Austria and Switzerland. The terminal authorises by itself: this
// driver starts, follows and recovers operations, and makes a result durable
// before it is acknowledged.
//
// Codec: [Scan] and [Append] for APDUs, [ParseFields] for bitmaps (BMPs),
// [ParseContainer] for the TLV container, [ParseStatus] for the result of a
// payment. All are pure; amounts are minor units, BCD big endian on the wire.
//
// Use first: [Driver] with a port that the configuration names. A device runs
// one exchange at a time; a second caller gets drivers.ErrBusy. When the end of
// a command is not known the line is closed, since nothing that comes on it
// later can be told apart: later calls answer drivers.ErrUnplugged, and the
// supervisor opens it again. A sale is then settled by Last, never by sending
// it again. Asking for the record is the only thing that frees a device after an
// unknown outcome; where the terminal cannot say, whoever asked decides.
//
// For traces, [Driver.CardData] names the card fields and passwords in recorded
// bytes and [Driver.Describe] says what they mean.
//
// Sources: ECR-Interface ZVT-Protocol PA00P015 rev 13.08 (commands, bitmaps,
// error ids) and PA00P016 (transport). Their text is not reproduced here.
//
// What is not here: commands that return a clear PAN or track (06 C0 read card)
// are never sent; dial-up of the terminal through us is refused (84 83). What a
// terminal without any transaction answers to 06 20 is not documented: it is
// an error here, not "none".
package zvt
