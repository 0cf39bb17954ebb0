package drivers

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// PortStatus is a port that was seen, and who has it or why nobody does.
type PortStatus struct {
	Port   Port
	Device string // that took it, or empty
	// Why says for every device of the configuration why it did not take the
	// port; empty when one did.
	Why []string
}

// Ports returns every port of the last scan with the answer to "why was this
// device not taken".
func (s *Supervisor) Ports() []PortStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []PortStatus
	for _, key := range slices.Sorted(maps.Keys(s.seen)) {
		v := s.seen[key]
		st := PortStatus{Port: v.port, Device: s.claims[key]}
		if st.Device == "" {
			for _, o := range s.owners {
				ok, why := s.fits(o, key, v)
				if ok {
					why = o.reason(s, key, v)
				}
				st.Why = append(st.Why, fmt.Sprintf("%s: %s", o.c.Name, why))
			}
			if len(s.owners) == 0 {
				st.Why = []string{"no device is configured"}
			}
		}
		out = append(out, st)
	}
	return out
}

// reason says why an owner has not opened a port that fits it. The caller holds
// mu of s.
func (o *owner) reason(s *Supervisor, key string, v sighting) string {
	for at, name := range s.claims {
		if name == o.c.Name {
			return "it has another port, " + s.seen[at].port.Path
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.tries[key]; t.life == v.life && t.failures > 0 {
		return "it is tried again: " + t.why
	}
	return "it fits and will be opened"
}

// fault keeps what the last scan of a bus said, and reports whether that is
// news.
func (s *Supervisor) fault(bus int, err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.faults[bus]
	s.faults[bus] = err
	if old == nil || err == nil {
		return (old == nil) != (err == nil)
	}
	return old.Error() != err.Error()
}

// BusFaults says, in the order of the buses, why ports of some kind could not be
// looked for in the last scan; empty when all could.
func (s *Supervisor) BusFaults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, err := range s.faults {
		if err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// fits judges whether an owner may open a port, and says why not. The caller
// holds mu.
func (s *Supervisor) fits(o *owner, key string, v sighting) (bool, string) {
	if other, ok := s.claims[key]; ok {
		return false, "taken by " + other
	}
	if r, ok := s.refused[o.c.Name+" "+key]; ok {
		return false, r.why
	}
	if why := o.blocked(v.life); why != "" {
		return false, why
	}
	named := o.names(v.port)
	for _, other := range s.owners {
		// Two counters: the pad of one must not take the other's payments because
		// its owner looked first.
		if other != o && other.names(v.port) > named {
			return false, "the configuration names it for " + other.c.Name
		}
	}
	if len(o.c.Ports) > 0 {
		if named == notNamed {
			return false, "the configuration names other ports: " + strings.Join(o.c.Ports, ", ")
		}
	} else if o.c.Serial != "" && v.port.Serial != "" && v.port.Serial != o.c.Serial && v.port.Kind != KindSerial {
		return false, "its serial number is another"
	}
	p := v.port
	p.Explicit = p.Explicit || named > notNamed
	m := o.driver.Match(p)
	switch {
	case !m.OK:
		return false, m.Why
	case m.Cost == CostInvasive && !p.Explicit:
		return false, "a probe could disturb another device: name the port in the configuration"
	case !v.settle:
		return false, "it has just appeared"
	}
	return true, m.Why
}

// How the configuration of a device names a port.
const (
	notNamed = iota
	namedByPattern
	namedExactly
)

// names is how the configuration names a port for an owner.
func (o *owner) names(p Port) (how int) {
	for _, want := range o.c.Ports {
		switch {
		case !portMatches(want, p):
		case strings.ContainsAny(want, "*?[") || strings.HasPrefix(want, "usb:"):
			how = max(how, namedByPattern)
		default:
			how = namedExactly
		}
	}
	return how
}

// portMatches compares a port as the configuration writes it with one that was
// seen: a path, a link, a glob, host:port or usb:VID:PID.
func portMatches(want string, p Port) bool {
	if ids, ok := strings.CutPrefix(want, "usb:"); ok {
		return strings.EqualFold(ids, fmt.Sprintf("%04x:%04x", p.VID, p.PID)) && p.VID != 0
	}
	if want == p.Path || want == p.Named {
		return true
	}
	if ok, err := filepath.Match(want, p.Path); err == nil && ok {
		return true
	}
	return false
}
