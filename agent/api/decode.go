package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"tillbridge/p2pe/mask"
)

// Bounds of a body beside its size.
const (
	maxDepth   = 8
	maxMembers = 2000
)

// Decode reads one JSON object into a request type, strictly: names must be
// known and stand once, null is no value, numbers are whole, and no text (names
// included) may hold a card number. into is a pointer to a struct of this
// package. The error is a [*FieldError] and repeats nothing of the body but
// names that hold no card number.
func Decode(body []byte, into any) error {
	if !utf8.Valid(body) {
		return &FieldError{ErrorCode: "request.not_json", Problem: "is not UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	w := walker{d: d}
	tree, err := w.value("", 0)
	if err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return notJSON("has something after the object")
	}
	if _, ok := tree.(object); !ok {
		return notJSON("is no JSON object")
	}
	// The search for card numbers comes first, so that no later error can
	// repeat one.
	if err := scan(tree, ""); err != nil {
		return err
	}
	t := reflect.TypeOf(into).Elem()
	if err := conform(tree, t, "", t); err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return notJSON("does not have the form of this request")
	}
	return nil
}

func notJSON(problem string) error {
	return &FieldError{ErrorCode: "request.not_json", Problem: problem}
}

func invalid(field, problem string) error {
	return &FieldError{ErrorCode: "request.invalid_field", Field: field, Problem: problem}
}

// object keeps the order of its members.
type object []member

type member struct {
	name  string
	value any
}

type walker struct {
	d       *json.Decoder
	members int
}

// value reads the next value. Names in errors are not shown yet: they have not
// been searched.
func (w *walker) value(path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, notJSON("is nested too deeply")
	}
	if w.members++; w.members > maxMembers {
		return nil, notJSON("has too many values")
	}
	t, err := w.d.Token()
	if err != nil {
		return nil, notJSON("is not JSON; send Content-Type: application/json and one object")
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	switch delim {
	case '{':
		var o object
		seen := map[string]bool{}
		for w.d.More() {
			t, err := w.d.Token()
			name, ok := t.(string)
			if err != nil || !ok {
				return nil, notJSON("is not JSON")
			}
			if seen[name] {
				return nil, notJSON("has one name twice in an object")
			}
			seen[name] = true
			v, err := w.value(path, depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{name, v})
		}
		if _, err := w.d.Token(); err != nil {
			return nil, notJSON("is not JSON")
		}
		return o, nil
	case '[':
		list := []any{}
		for w.d.More() {
			v, err := w.value(path, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := w.d.Token(); err != nil {
			return nil, notJSON("is not JSON")
		}
		return list, nil
	}
	return nil, notJSON("is not JSON")
}

// HoldsCardNumber reports whether a text holds what looks like a card number,
// in any of the forms that the leak scanner knows.
func HoldsCardNumber(text string) bool { return mask.Contains(text) }

func cardData(field string) error {
	return &FieldError{ErrorCode: "request.card_data", Field: field, Problem: "holds what looks like a card number; cards are read by the pad only, send an order number instead"}
}

// scan searches every name, text and number.
func scan(v any, path string) error {
	switch v := v.(type) {
	case string:
		if HoldsCardNumber(v) {
			return cardData(path)
		}
	case json.Number:
		if HoldsCardNumber(v.String()) {
			return cardData(path)
		}
	case []any:
		for i, e := range v {
			if err := scan(e, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case object:
		for _, m := range v {
			if HoldsCardNumber(m.name) {
				return cardData(join(path, "(a field name)"))
			}
			if err := scan(m.value, join(path, m.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(path, name string) string {
	// A name may be long; an error is read by people.
	if len(name) > 40 {
		name = strings.ToValidUTF8(name[:40], "") + "…"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// conform compares a value with the type it will be stored in.
func conform(v any, t reflect.Type, path string, root reflect.Type) error {
	if v == nil {
		return invalid(path, "is null; leave the field out instead")
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		o, ok := v.(object)
		if !ok {
			return invalid(path, "must be an object")
		}
		fields := fieldsOf(t)
		for _, m := range o {
			f, ok := fields[m.name]
			if !ok {
				return &FieldError{ErrorCode: "request.unknown_field", Field: join(path, m.name), Problem: "is not a field of this request", Nearest: nearest(m.name, path, t, root)}
			}
			if err := conform(m.value, f, join(path, m.name), root); err != nil {
				return err
			}
		}
	case reflect.Map:
		o, ok := v.(object)
		if !ok {
			return invalid(path, "must be an object of texts")
		}
		for _, m := range o {
			if err := conform(m.value, t.Elem(), join(path, m.name), root); err != nil {
				return err
			}
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return invalid(path, "must be a list")
		}
		for i, e := range list {
			if err := conform(e, t.Elem(), path+"["+strconv.Itoa(i)+"]", root); err != nil {
				return err
			}
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			return invalid(path, "must be a text in quotes")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return invalid(path, "must be true or false")
		}
	case reflect.Int, reflect.Int64:
		n, ok := v.(json.Number)
		if !ok {
			return invalid(path, "must be a number without quotes")
		}
		if strings.ContainsAny(n.String(), ".eE") {
			return invalid(path, "must be a whole number; amounts are minor units, 1999 for 19.99")
		}
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			return invalid(path, "is too large")
		}
	}
	return nil
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	m := make(map[string]reflect.Type, t.NumField())
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			m[name] = field.Type
		}
	}
	return m
}
