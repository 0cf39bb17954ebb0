package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Fault is one thing that is wrong in the file.
type Fault struct {
	Line int    `json:"line,omitempty"` // 1 is the first; 0 when it concerns no one line
	Key  string `json:"key,omitempty"`
	Text string `json:"text"` // what is wrong and what would be right
}

// Error lists all faults of a file.
type Error struct {
	Path   string
	Faults []Fault
}

// Error names the first faults, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d fault(s) in the configuration", e.Path, len(e.Faults))
	for _, f := range e.Faults {
		b.WriteString("\n  ")
		if f.Line > 0 {
			fmt.Fprintf(&b, "line %d: ", f.Line)
		}
		if f.Key != "" {
			fmt.Fprintf(&b, "%s: ", f.Key)
		}
		b.WriteString(f.Text)
	}
	return b.String()
}

// Code is the stable code for `tillbridge explain`.
func (e *Error) Code() string { return "config.invalid" }

// ErrMissing is matched when the file does not exist.
var ErrMissing = errors.New("no configuration file")

// Load reads and checks a file.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s: write one (`tillbridge config schema` lists the keys) or name it with --config", ErrMissing, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads and checks the bytes of a file; path is for messages.
func Parse(path string, data []byte) (*Config, error) {
	var c Config
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, &Error{Path: path, Faults: decodeFaults(err)}
	}
	c.defaults()
	if faults := c.check(); len(faults) > 0 {
		for i := range faults {
			faults[i].Line = lineOf(data, faults[i].Key)
		}
		return nil, &Error{Path: path, Faults: faults}
	}
	return &c, nil
}

// Refuse is an [Error] about one key whose fault shows only when what it names
// is opened.
func Refuse(path, key string, err error) error {
	data, _ := os.ReadFile(path) // for the line alone
	return &Error{Path: path, Faults: []Fault{{Line: lineOf(data, key), Key: key, Text: err.Error()}}}
}

func decodeFaults(err error) []Fault {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var out []Fault
		for _, e := range strict.Errors {
			row, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			text := "unknown key"
			if near := nearest(e.Key()); near != "" {
				text += fmt.Sprintf(": did you mean %q?", near)
			}
			out = append(out, Fault{Line: row, Key: key, Text: text})
		}
		return out
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		row, _ := de.Position()
		return []Fault{{Line: row, Key: strings.Join(de.Key(), "."), Text: strings.TrimPrefix(de.Error(), "toml: ")}}
	}
	return []Fault{{Text: strings.TrimPrefix(err.Error(), "toml: ")}}
}

// nearest returns the known key closest to the last element of key, in the
// table that holds it, or "" when nothing is close.
func nearest(key []string) string {
	t := reflect.TypeFor[Config]()
	for _, k := range key[:len(key)-1] {
		f, ok := field(t, k)
		if !ok {
			break
		}
		t = f.Type
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return ""
		}
	}
	want := key[len(key)-1]
	best, bestAt := "", 1+max(2, len(want)/3)
	for _, name := range names(t) {
		if d := distance(want, name); d < bestAt {
			best, bestAt = name, d
		}
	}
	return best
}

func field(t reflect.Type, key string) (reflect.StructField, bool) {
	for field := range t.Fields() {
		if field.Tag.Get("toml") == key {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

func names(t reflect.Type) []string {
	var out []string
	for field := range t.Fields() {
		out = append(out, field.Tag.Get("toml"))
	}
	sort.Strings(out)
	return out
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}

var indexed = regexp.MustCompile(`^([a-z.]+)\[(\d+)\]\.(\w+)$`)

// lineOf finds the line of a key such as "api.listen" or "device[1].ports".
// It is for messages and returns 0 when the key is not in the file.
func lineOf(data []byte, key string) int {
	table, name, index := "", key, 0
	if m := indexed.FindStringSubmatch(key); m != nil {
		table, name = "[["+m[1]+"]]", m[3]
		_, _ = fmt.Sscan(m[2], &index)
	} else if t, n, ok := strings.Cut(key, "."); ok {
		table, name = "["+t+"]", n
	} else {
		return 0
	}
	at, head, seen := "", 0, -1
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			at, _, _ = strings.Cut(line, "#")
			at = strings.TrimSpace(at)
			if at == table {
				seen++
				if seen == index {
					head = i + 1
				}
			}
			continue
		}
		k, _, ok := strings.Cut(line, "=")
		if ok && at == table && strings.TrimSpace(k) == name && (seen == index || !strings.HasPrefix(table, "[[")) {
			return i + 1
		}
	}
	return head
}
