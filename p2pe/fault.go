package p2pe

// Fault is an error that a person may see: a stable dotted code, under which
// `tillbridge explain` knows it, and a text that says what to do. Packages
// below declare their sentinels as Faults; compare by errors.Is.
type Fault struct{ code, text string }

// NewFault declares a sentinel. text begins with the package and holds no data.
func NewFault(code, text string) *Fault { return &Fault{code, text} }

// Error returns the text.
func (f *Fault) Error() string { return f.text }

// Code returns the dotted code.
func (f *Fault) Code() string { return f.code }
