package crm

// holdsCardNumber reports whether text holds a run of 13 to 19 digits, with
// single spaces or hyphens allowed between them, that passes the Luhn check
// (ISO/IEC 7812-1) and begins like a payment card.
func holdsCardNumber(text []byte) bool { return false }
