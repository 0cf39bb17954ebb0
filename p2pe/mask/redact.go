package mask

import "strings"

// Mark stands in redacted text where a card number stood.
const Mark = "[card number removed]"

// Redact returns text with every card number that [ScanText] finds replaced by
// [Mark]; a track is replaced up to its end sentinel. Text without one is
// returned as it is and costs no allocation.
func Redact(text string) string {
	found := ScanText(text)
	if len(found) == 0 {
		return text
	}
	var b strings.Builder
	from := 0
	for _, f := range found {
		b.WriteString(text[from:f.Start])
		b.WriteString(Mark)
		from = f.End
	}
	b.WriteString(text[from:])
	return b.String()
}

// AppendRedacted appends data to dst with every card number that [Scan] finds
// replaced by [Mark].
func AppendRedacted(dst, data []byte) []byte {
	from := 0
	for _, f := range Scan(data) {
		dst = append(dst, data[from:f.Start]...)
		dst = append(dst, Mark...)
		from = f.End
	}
	return append(dst, data[from:]...)
}

// Error returns an error whose text is safe to write and which still wraps
// err, or err itself when its text holds no card number. A nil err is nil.
//
// The wrapped error keeps its own text: print the outer one.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := Redact(text); clean != text {
		return &redactedError{clean, err}
	}
	return err
}

type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }
