package keyring

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"unicode"

	"tillbridge/p2pe"
	"tillbridge/p2pe/secret"
)

// Errors of a ceremony.
var (
	ErrHolder     error = p2pe.NewFault("keys.holder", "keyring: each component is put in by another person, under a name of their own")
	ErrComponent  error = p2pe.NewFault("keys.component", "keyring: not a component")
	ErrCheckValue error = p2pe.NewFault("keys.check_value", "keyring: the check value is not the one on paper: a component is wrong; begin again, and compare each component's check value with its form")
)

// Ceremony puts a key together from components that two people or more know,
// one each: the key is their exclusive or. Nobody sees it.
type Ceremony struct {
	algorithm Algorithm
	sum       *secret.Buffer
	holders   []string
	values    []CheckValues
}

// NewCeremony begins a key of size bytes.
func NewCeremony(a Algorithm, size int) (*Ceremony, error) {
	if err := a.size(size); err != nil {
		return nil, err
	}
	sum, err := secret.New(size)
	if err != nil {
		return nil, err
	}
	return &Ceremony{algorithm: a, sum: sum}, nil
}

// ParseComponent reads hex digits, in groups or not, and erases line.
func ParseComponent(line []byte) (*secret.Buffer, error) {
	defer clear(line)
	out, err := secret.New(max(1, len(line)))
	if err != nil {
		return nil, err
	}
	defer out.Destroy()
	digits := out.Bytes()[:0]
	for _, c := range line {
		if c != ' ' && c != '-' && c != '\t' && c != '\r' && c != '\n' {
			digits = append(digits, c)
		}
	}
	if len(digits) == 0 || len(digits)%2 != 0 {
		return nil, fmt.Errorf("%w: %d hex digits: type two digits for each byte", ErrComponent, len(digits))
	}
	component, err := secret.New(len(digits) / 2)
	if err != nil {
		return nil, err
	}
	if _, err := hex.Decode(component.Bytes(), digits); err != nil {
		component.Destroy()
		return nil, fmt.Errorf("%w: a character is not a hex digit: type 0 to 9 and A to F", ErrComponent)
	}
	return component, nil
}

// Add takes a component from its holder, destroys it, and returns its check
// values for the holder to compare with the form.
func (c *Ceremony) Add(holder string, component *secret.Buffer) (CheckValues, error) {
	defer component.Destroy()
	if err := judgeName(holder); err != nil {
		return CheckValues{}, err
	}
	for _, h := range c.holders {
		if sameName(h, holder) {
			return CheckValues{}, fmt.Errorf("%w: %s has put one in already", ErrHolder, holder)
		}
	}
	b := component.Bytes()
	if len(b) != c.sum.Len() {
		return CheckValues{}, fmt.Errorf("%w: the component has %d bytes and the key %d", ErrLength, len(b), c.sum.Len())
	}
	if c.algorithm == TDES && !oddParity(b) {
		return CheckValues{}, ErrParity
	}
	if repeats(b) {
		return CheckValues{}, fmt.Errorf("%w: the component repeats a pattern: each is made at random", ErrWeak)
	}
	v, err := c.algorithm.Of(b)
	if err != nil {
		return CheckValues{}, err
	}
	if slices.Contains(c.values, v) {
		return CheckValues{}, fmt.Errorf("%w: it equals one put in before: each holder has one of their own", ErrComponent)
	}
	for i := range b {
		c.sum.Bytes()[i] ^= b[i]
	}
	c.holders = append(c.holders, holder)
	c.values = append(c.values, v)
	return v, nil
}

// Combine ends the ceremony and returns the key, whose check value on paper is
// paper. It needs two components. A TDES key gets odd parity. The ceremony
// cannot be used again; its [Ceremony.Holders] stay.
func (c *Ceremony) Combine(paper string) (*secret.Buffer, error) {
	defer c.Destroy()
	if len(c.holders) < 2 {
		return nil, fmt.Errorf("%w: %d component, at least two are needed", ErrHolder, len(c.holders))
	}
	key, err := secret.New(c.sum.Len())
	if err != nil {
		return nil, err
	}
	copy(key.Bytes(), c.sum.Bytes())
	if c.algorithm == TDES {
		setParity(key.Bytes())
	}
	err = judgeKey(c.algorithm, key.Bytes())
	if err == nil {
		var v CheckValues
		if v, err = c.algorithm.Of(key.Bytes()); err == nil && !v.Match(paper) {
			err = ErrCheckValue
		}
	}
	if err != nil {
		key.Destroy()
		return nil, err
	}
	return key, nil
}

// Holders returns who put components in.
func (c *Ceremony) Holders() []string { return append([]string(nil), c.holders...) }

// Destroy erases what was put in.
func (c *Ceremony) Destroy() { c.sum.Destroy() }

// Format prints the number of components.
func (c *Ceremony) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "ceremony{%d components ***}", len(c.holders))
}

// LogValue implements slog.LogValuer.
func (c *Ceremony) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// MarshalJSON refuses.
func (c *Ceremony) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("keyring: a ceremony is never written")
}

// sameName compares names as people do.
func sameName(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

// judgeName keeps keys and card numbers out of the registry: a name has 1 to 40
// letters, digits, spaces and marks, and at most eight digits.
func judgeName(s string) error {
	digits := 0
	for _, r := range s {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r) || strings.ContainsRune(" .,-_@'()", r):
		default:
			return fmt.Errorf("%w: a name holds letters, digits, spaces and .,-_@'()", ErrHolder)
		}
	}
	if strings.TrimSpace(s) == "" || len(s) > 40 || digits > 8 {
		return fmt.Errorf("%w: a name has 1 to 40 characters and at most eight digits", ErrHolder)
	}
	return nil
}
