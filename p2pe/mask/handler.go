package mask

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
)

// Handler is a slog.Handler that passes records on without card numbers.
type Handler struct{ next slog.Handler }

// NewHandler wraps next. Message, keys, values, groups and errors are
// redacted, and so is a number that is spread over the end of the message and
// the values that follow it. What has no card number in it reaches next
// unchanged.
func NewHandler(next slog.Handler) *Handler { return &Handler{next} }

var _ slog.Handler = (*Handler)(nil)

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	message := Redact(r.Message)
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	changed := message != r.Message
	r.Attrs(func(a slog.Attr) bool {
		clean, c := cleanAttr(a, 0)
		changed = changed || c
		attrs = append(attrs, clean)
		return true
	})
	if hideSpread(&message, attrs) {
		changed = true
	}
	if !changed {
		return h.next.Handle(ctx, r)
	}
	out := slog.NewRecord(r.Time, r.Level, message, r.PC)
	out.AddAttrs(attrs...)
	return h.next.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i], _ = cleanAttr(a, 0)
	}
	none := ""
	hideSpread(&none, clean)
	return &Handler{h.next.WithAttrs(clean)}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(Redact(name))}
}

const deepestGroup = 16

// cleanAttr returns a without card numbers and whether that changed it.
func cleanAttr(a slog.Attr, depth int) (slog.Attr, bool) {
	key := Redact(a.Key)
	value, changed := cleanValue(a.Value, depth)
	return slog.Attr{Key: key, Value: value}, changed || key != a.Key
}

func cleanValue(v slog.Value, depth int) (slog.Value, bool) {
	resolved := v.Kind() == slog.KindLogValuer
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		clean := Redact(v.String())
		if clean != v.String() {
			return slog.StringValue(clean), true
		}
	case slog.KindInt64, slog.KindUint64:
		var buf [20]byte
		n := buf[:0]
		if v.Kind() == slog.KindInt64 {
			n = strconv.AppendUint(n, abs(v.Int64()), 10)
		} else {
			n = strconv.AppendUint(n, v.Uint64(), 10)
		}
		if _, ok := plain(n); ok {
			return slog.StringValue(Mark), true
		}
	case slog.KindFloat64:
		if f := math.Abs(v.Float64()); f >= 1e11 && f < 1e19 && f == math.Trunc(f) {
			if _, ok := plain(strconv.AppendFloat(nil, f, 'f', 0, 64)); ok {
				return slog.StringValue(Mark), true
			}
		}
	case slog.KindGroup:
		return cleanGroup(v, depth, resolved)
	case slog.KindAny:
		if clean, ok := cleanAny(v.Any()); ok {
			return slog.StringValue(clean), true
		}
	}
	return v, resolved
}

func cleanGroup(v slog.Value, depth int, changed bool) (slog.Value, bool) {
	if depth >= deepestGroup {
		return slog.StringValue("[group too deep]"), true
	}
	group := v.Group()
	clean := make([]slog.Attr, len(group))
	for i, a := range group {
		var c bool
		clean[i], c = cleanAttr(a, depth+1)
		changed = changed || c
	}
	none := ""
	if hideSpread(&none, clean) {
		changed = true
	}
	if !changed {
		return v, false
	}
	return slog.GroupValue(clean...), true
}

// cleanAny returns a redacted text for x when any form in which a handler may
// print it holds a card number. A value whose own methods panic is not printed.
func cleanAny(x any) (text string, changed bool) {
	defer func() {
		if recover() != nil {
			text, changed = "[value cannot be printed]", true
		}
	}()
	switch x := x.(type) {
	case nil:
		return "", false
	case error:
		s := x.Error()
		clean := Redact(s)
		if clean != s {
			return clean, true
		}
		// A handler may print the fields of an error as well.
	case []byte:
		if len(Scan(x)) > 0 {
			return string(AppendRedacted(nil, x)), true
		}
		return "", false
	case string:
		clean := Redact(x)
		return clean, clean != x
	}
	s := fmt.Sprintf("%+v", x)
	if clean := Redact(s); clean != s {
		return clean, true
	}
	if j, err := json.Marshal(x); err == nil && len(ScanText(string(j))) > 0 {
		return Redact(string(j)), true
	}
	return "", false
}

func abs(n int64) uint64 {
	if n < 0 {
		return uint64(-n)
	}
	return uint64(n)
}

// hideSpread removes a number that is spread over neighbours: the digits that
// end the message, and text values that are nothing but digits and separators.
func hideSpread(message *string, attrs []slog.Attr) bool {
	const inMessage = -1
	var digits []byte
	var from []int // the piece each digit came from
	changed := false
	take := func(s string, piece int) bool {
		n := 0
		for i := range len(s) {
			switch k := class[s[i]]; {
			case k&isDigit != 0:
				n++
			case k&isSep == 0:
				return false
			}
		}
		if n == 0 || n > 19 {
			return false
		}
		for i := range len(s) {
			if class[s[i]]&isDigit != 0 {
				digits = append(digits, s[i])
				from = append(from, piece)
			}
		}
		return true
	}
	judge := func() {
		for i := 0; i < len(digits); i++ {
			if i > 0 && from[i] == from[i-1] {
				continue // pieces are taken whole
			}
			for n := 19; n >= 13; n-- {
				if i+n > len(digits) || i+n < len(digits) && from[i+n] == from[i+n-1] || from[i] == from[i+n-1] {
					continue
				}
				if r, ok := plain(digits[i : i+n]); !ok || !r.major {
					continue
				}
				for _, piece := range from[i : i+n] {
					if piece == inMessage {
						*message = (*message)[:digitTail(*message)] + Mark
					} else {
						attrs[piece].Value = slog.StringValue(Mark)
					}
				}
				changed = true
				i += n - 1
				break
			}
		}
		digits, from = digits[:0], from[:0]
	}
	if tail := digitTail(*message); tail < len(*message) {
		take((*message)[tail:], inMessage)
	}
	for i, a := range attrs {
		if a.Value.Kind() == slog.KindString && take(a.Value.String(), i) {
			continue
		}
		judge()
	}
	judge()
	return changed
}

// digitTail returns where the digits and separators that end s begin; len(s)
// when s does not end in a digit or the tail is longer than a number.
func digitTail(s string) int {
	i := len(s)
	for i > 0 && len(s)-i < 40 && class[s[i-1]]&(isDigit|isSep) != 0 {
		i--
	}
	for i < len(s) && class[s[i]]&isDigit == 0 {
		i++
	}
	if i < len(s) && i > 0 && class[s[i-1]]&isDigit != 0 {
		return len(s)
	}
	return i
}
