// Package tlv reads and writes the data objects of EMV: BER-TLV elements,
// data object lists (DOLs) and the dictionary that says what a tag is.
//
// Start with [Find] for one value, [Iter] to walk without allocating, [Parse]
// for a tree, [ParseDOL] and [DOL.Append] to fill what a card asks for,
// [Append] to write, and [Describe] to show data to a person.
//
// Cards pad. ISO 7816-4 allows bytes 00 and FF before, between and after data
// objects, and scheme test cards do it, so the zero [Options] skip both
// ([Tolerant]). Where FF begins a private tag (device protocols with FFEE01,
// contactless kernel settings with FF8105) use [ZeroPadding]; [Strict] refuses
// padding and everything that Book 3 Annex B does not allow.
//
// Nothing is copied: values are slices of the input, valid as long as it is.
// Depth, size and number of elements are limited, and a length is checked
// before it is used, so a hostile card costs no memory.
//
// Describe and every error of this package are safe to print: values are shown
// only for tags that the dictionary lists as public.
//
// Source: EMV 4.3 Book 3 section 5.4, Annexes A and B; ISO/IEC 7816-4;
// ISO/IEC 8825-1. What this package does not do: indefinite lengths, ASN.1
// types, or any judgement of a value's meaning.
package tlv
