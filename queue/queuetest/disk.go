package queuetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Mode says what of the unsynced writes a cut leaves on the disk.
type Mode int

// Modes of a cut.
const (
	KeepNone    Mode = iota
	KeepPrefix       // the first of them, in order
	KeepSome         // any of them: the disk reorders
	KeepSectors      // any 512-byte sector of any of them: writes are torn as well
	Modes
)

const sector = 512

type file struct {
	durable []byte
	pending []Event
}

// Disk is a directory as the medium holds it.
type Disk struct {
	names   map[string]*file // as the process sees it
	durable map[string]*file // as it is after a cut that loses every name
	pending []Event          // name changes since
	rng     *rand.Rand
}

// NewDisk returns a disk that holds files; they are durable. The seed decides what a failed sync leaves.
func NewDisk(files map[string][]byte, seed uint64) *Disk {
	d := &Disk{names: map[string]*file{}, rng: rand.New(rand.NewPCG(seed, 1))}
	for name, data := range files {
		d.names[name] = &file{durable: slices.Clone(data)}
	}
	d.durable = maps.Clone(d.names)
	return d
}

// Do applies one event.
func (d *Disk) Do(e Event) {
	switch e.Kind {
	case Write, Truncate:
		if f := d.names[e.Name]; f != nil {
			f.pending = append(f.pending, e)
		}
	case Sync:
		if f := d.names[e.Name]; f != nil {
			for _, w := range f.pending {
				f.durable = put(f.durable, w)
			}
			f.pending = nil
		}
	case SyncFail:
		if f := d.names[e.Name]; f != nil {
			for _, w := range f.pending {
				if d.rng.IntN(2) == 0 {
					f.durable = put(f.durable, w)
				}
			}
			f.pending = nil
		}
	case Create:
		if d.names[e.Name] == nil {
			d.names[e.Name] = &file{}
			d.pending = append(d.pending, Event{Kind: Create, Name: e.Name})
		}
	case Rename, Remove:
		apply(d.names, e, nil)
		d.pending = append(d.pending, e)
	case SyncDir:
		d.durable = maps.Clone(d.names)
		d.pending = nil
	}
}

func apply(names map[string]*file, e Event, from map[string]*file) {
	switch e.Kind {
	case Create:
		names[e.Name] = from[e.Name]
	case Rename:
		if f := names[e.Name]; f != nil {
			names[e.To] = f
			delete(names, e.Name)
		}
	case Remove:
		delete(names, e.Name)
	}
}

// put applies a write or a change of length to the bytes of a file.
func put(b []byte, e Event) []byte {
	if e.Kind == Truncate {
		if int64(len(b)) > e.Size {
			return b[:e.Size]
		}
		return append(b, make([]byte, e.Size-int64(len(b)))...)
	}
	if end := e.Off + int64(len(e.Data)); int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[e.Off:], e.Data)
	return b
}

// Cut returns what the medium holds when the power fails now, and how many unsynced pieces were dropped.
func (d *Disk) Cut(mode Mode, seed uint64) (files map[string][]byte, dropped int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	names := maps.Clone(d.durable)
	// Names are journaled in order: a prefix of the changes survives. A created file that was renamed since is found
	// under the name it has now.
	keep := len(d.pending)
	if mode == KeepNone {
		keep = 0
	} else if len(d.pending) > 0 {
		keep = rng.IntN(len(d.pending) + 1)
	}
	if keep == len(d.pending) {
		names = maps.Clone(d.names)
	} else {
		born := maps.Clone(d.names)
		for i := len(d.pending) - 1; i >= keep; i-- {
			if e := d.pending[i]; e.Kind == Rename && born[e.To] != nil {
				born[e.Name] = born[e.To]
				delete(born, e.To)
			}
		}
		for _, e := range d.pending[:keep] {
			apply(names, e, born)
		}
	}
	dropped += len(d.pending) - keep
	files = map[string][]byte{}
	done := map[*file][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		if f == nil {
			continue
		}
		if _, ok := done[f]; !ok {
			b, n := f.cut(mode, rng)
			done[f] = b
			dropped += n
		}
		files[name] = done[f]
	}
	return files, dropped
}

func (f *file) cut(mode Mode, rng *rand.Rand) (b []byte, dropped int) {
	b = bytes.Clone(f.durable)
	prefix := rng.IntN(len(f.pending) + 1)
	for i, w := range f.pending {
		switch mode {
		case KeepNone:
			dropped++
		case KeepPrefix:
			if i < prefix {
				b = put(b, w)
			} else {
				dropped++
			}
		case KeepSome:
			if rng.IntN(2) == 0 {
				b = put(b, w)
			} else {
				dropped++
			}
		case KeepSectors:
			if w.Kind == Truncate {
				b = put(b, w)
				continue
			}
			for off := 0; off < len(w.Data); off += sector {
				if rng.IntN(2) == 0 {
					b = put(b, Event{Kind: Write, Off: w.Off + int64(off), Data: w.Data[off:min(off+sector, len(w.Data))]})
				} else {
					dropped++
				}
			}
		}
	}
	return b, dropped
}

// Save writes an image into a directory.
func Save(dir string, files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("save image: %w", err)
		}
	}
	return nil
}

// Load reads every file of a directory.
func Load(dir string) (map[string][]byte, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	files := map[string][]byte{}
	for _, e := range list {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("load image: %w", err)
		}
	}
	return files, nil
}
