package api

import (
	"reflect"
	"sort"
	"strings"
)

// nearest returns the known field that was probably meant by name: one of the
// same object with a similar spelling, else one of that very name elsewhere in
// the request. Empty when there is none.
func nearest(name, path string, t, root reflect.Type) string {
	best, least := "", len(name)/3+2
	for _, known := range sortedFields(t) {
		if d := distance(strings.ToLower(name), known); d < least {
			best, least = known, d
		}
	}
	if best != "" {
		return join(path, best)
	}
	return elsewhere(strings.ToLower(name), root, "")
}

func sortedFields(t reflect.Type) []string {
	var names []string
	for n := range fieldsOf(t) {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func elsewhere(name string, t reflect.Type, path string) string {
	fields := fieldsOf(t)
	if _, ok := fields[name]; ok {
		return join(path, name)
	}
	for _, n := range sortedFields(t) {
		f := fields[n]
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if f.Kind() == reflect.Struct {
			if found := elsewhere(name, f, join(path, n)); found != "" {
				return found
			}
		}
	}
	return ""
}

// distance is the Levenshtein distance in bytes, of short names.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			before, row[j] = row[j], min(row[j]+1, row[j-1]+1, before+cost)
		}
	}
	return row[len(b)]
}
