// Package virtualcard is a chip card in memory: it answers command APDUs as a
// card of one of several schemes does, with real cryptograms, RSA chains, PIN
// tries, counters and issuer scripts.
//
// Start with [New] and a profile of [Profiles] (or [Named]); the [Card] is an
// emv.Transceiver. [Card.PAN], [Card.Track2] and their like serve a virtual PIN
// pad that only needs the data; [Card.CA] is the public key that a terminal
// needs to check the chain; [Serve] answers over the vpcd framing on a
// connection that is given.
//
// It is written from EMV 4.3 Books 1 to 3 and ISO/IEC 7816-4, not from the
// kernel of this project, and decides like a card: it may ask for an online
// authorisation where the terminal asked for a TC, and may decline anything.
//
// All card numbers are published test numbers, the issuer keys are those of
// cryptogram.TestIssuer, and each run makes its own certification authority;
// with a seed the same one each time. The names of schemes say which
// application identifier a profile uses; no scheme had a part in it, and data
// layouts that are not public follow the common ones (Book 2 section 8.1).
//
// What it does not do: contactless kernels, logical channels, personalisation,
// elliptic curves.
package virtualcard
