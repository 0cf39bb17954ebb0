// Package zvt drives payment terminals that speak ZVT (ECR interface), common
// in Germany, Austria and Switzerland. The terminal authorises by itself: this
// driver starts, follows and recovers operations, and makes a result durable
// before it is acknowledged.
//
// Codec: [Scan] and [Append] for APDUs, [ParseFields] for bitmaps (BMPs),
// [ParseContainer] for the TLV container, [ParseStatus] for the result of a
// payment. All are pure; amounts are minor units, BCD big endian on the wire.
//
// Sources: ECR-Interface ZVT-Protocol PA00P015 rev 13.08 (commands, bitmaps,
// error ids) and PA00P016 (transport). Their text is not reproduced here.
//
// What is not here: commands that return a clear PAN or track (06 C0 read card)
// are never sent; dial-up of the terminal through us is refused (84 83).
package zvt
