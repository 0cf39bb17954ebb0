package drivers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// sighting is a port of the last scans.
type sighting struct {
	port   Port
	bus    Bus
	first  time.Time // since when it is there
	settle bool      // there long enough
	// life is another number after each plug that can be told: what failed
	// before on that port then says nothing of what stands there now.
	life uint64
}

// refusal keeps an owner away from a port, until the port leaves or gets
// another life.
type refusal struct {
	why   string
	until time.Time // of a port that does not tell when its device is changed; zero: none
}

// name enters the ports of a scan under their keys. Two that look the same
// (devices of one make with one serial number for all) are told apart by their
// path, and a port keeps the key that it had. The caller holds mu.
func (s *Supervisor) name(found map[string]sighting, list []sighting) {
	slices.SortStableFunc(list, func(a, b sighting) int { return strings.Compare(a.port.Path, b.port.Path) })
	var rest []sighting
	for _, v := range list {
		key := v.port.Key()
		if old, ok := s.seen[key]; ok && old.port.Path == v.port.Path {
			found[key] = v
		} else if own := key + " " + v.port.Path; s.seen[own].bus != nil {
			found[own] = v
		} else {
			rest = append(rest, v)
		}
	}
	for _, v := range rest {
		key := v.port.Key()
		if other, ok := found[key]; ok && other.port.Path != v.port.Path {
			key += " " + v.port.Path
		}
		found[key] = v
	}
}

// claim takes a free port for an owner: of those that are due, one that failed
// least, of these the one it had before if that is there, else the first by
// key. Without one, next is when the earliest that failed is due again; zero
// means that there is none.
func (s *Supervisor) claim(o *owner) (key string, v sighting, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.prune(s.seen)
	best := 0
	for _, at := range slices.Sorted(maps.Keys(s.seen)) {
		w := s.seen[at]
		if ok, _ := s.fits(o, at, w); !ok {
			continue
		}
		failures, due := o.tried(at, w.life)
		switch {
		case time.Until(due) > 0:
			if next.IsZero() || due.Before(next) {
				next = due
			}
		case key == "" || failures < best || failures == best && at == o.lastKey:
			key, v, best = at, w, failures
		}
	}
	if key != "" {
		s.claims[key] = o.c.Name
	}
	return key, v, next
}

func (s *Supervisor) release(key string) {
	s.mu.Lock()
	delete(s.claims, key)
	s.mu.Unlock()
	s.notify()
}

// sighted returns a port as the last scan saw it.
func (s *Supervisor) sighted(key string) (Port, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.seen[key]
	return v.port, ok
}

// refuse keeps an owner away from a port. One that shows no plug (RS-232, a
// network address) is looked at again after a while.
func (s *Supervisor) refuse(o *owner, key string, v sighting, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[key].life != v.life {
		return // it left meanwhile
	}
	r := refusal{why: why}
	if v.port.Node == "" || v.port.Location == "" {
		r.until = time.Now().Add(s.o.KeepAlive)
	}
	s.refused[o.c.Name+" "+key] = r
}

// forget ends what was said of a port. The caller holds mu.
func (s *Supervisor) forget(key string) {
	for _, o := range s.owners {
		delete(s.refused, o.c.Name+" "+key)
	}
}

// refusal is why an owner was kept away from a port that is there, or empty.
func (s *Supervisor) refusal(o *owner) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.seen)) {
		if r, ok := s.refused[o.c.Name+" "+key]; ok {
			return r.why
		}
	}
	return ""
}

// hangs says why an owner does not try a port that is there any more, or is
// empty.
func (s *Supervisor) hangs(o *owner) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.seen)) {
		if why := o.blocked(s.seen[key].life); why != "" {
			return why
		}
	}
	return ""
}

// pinned names the device that a serial number is configured for, if that is
// another than the owner's.
func (s *Supervisor) pinned(o *owner, serial string) string {
	if serial == "" || o.c.Serial != "" {
		return ""
	}
	for _, other := range s.owners {
		if other.c.Serial == serial && other.c.Protocol == o.c.Protocol {
			return other.c.Name
		}
	}
	return ""
}

// shared reports whether another device of that protocol has the same serial
// number, which then says nothing.
func (s *Supervisor) shared(o *owner, serial string) bool {
	for _, other := range s.owners {
		if other != o && other.c.Protocol == o.c.Protocol && other.status().Identity.Serial == serial {
			return true
		}
	}
	return false
}

// elsewhere names the device that was this one before its port was renumbered,
// if it waits for it and may take the port: two counters whose pads come back
// under each other's path.
func (s *Supervisor) elsewhere(o *owner, key string, v sighting, serial string) string {
	if serial == "" || o.names(v.port) == namedExactly || o.home() == serial {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claims, key)
	defer func() { s.claims[key] = o.c.Name }()
	for _, other := range s.owners {
		if other == o || other.c.Protocol != o.c.Protocol || other.home() != serial {
			continue
		}
		if state := other.status().State; state == StateReady || state == StateBusy {
			continue // it has a device
		}
		if ok, _ := s.fits(other, key, v); ok {
			return other.c.Name
		}
	}
	return ""
}

// describe names a device for people.
func describe(id Identity) string {
	if id.Serial == "" {
		return "a device without a serial number"
	}
	return fmt.Sprintf("device %q", id.Serial)
}
