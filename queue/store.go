package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Options of Open. The zero value is valid.
type Options struct {
	Consumers []Consumer // who settles messages; durable once opened

	Lease    time.Duration // how long a message is lent; 0 means 1 minute
	AckDelay time.Duration // how long an acknowledgement may wait for a commit to ride on; 0 means 50 ms
	AckBatch int           // so many waiting acknowledgements are stored at once; 0 means 64

	MaxPending int64 // messages not settled, over all consumers, at which Admit says ErrFull; 0 means no limit
	MaxBytes   int64 // bytes of the same; 0 means no limit
	MinFree    int64 // bytes free on the disk below which Admit says ErrFull; 0 means 64 MiB, negative no limit
	Reserve    int64 // bytes of a file beside the store that is given up when the disk is full, so that results can still be stored; 0 means 16 MiB, negative none

	// CompactFree is how many free bytes in the file, if they are more than half of it, make the store rewrite it by itself
	// when fewer than 1000 messages wait; it looks once a minute. 0 means 16 MiB, negative never.
	CompactFree int64

	LockTimeout time.Duration    // how long to wait for another process to let go of the file; 0 means 3 s
	Now         func() time.Time // nil means time.Now
	Logger      *slog.Logger     // nil means none

	// OpenFile opens the store's file; nil means os.OpenFile. Tests pass files that fail.
	OpenFile func(name string, flag int, perm os.FileMode) (*os.File, error)
}

// Store is an open store. Its methods may be called from any goroutine.
type Store struct {
	path string
	o    Options
	log  *slog.Logger
	now  func() time.Time

	// gate lets a read transaction begin only while no commit is between its write and its sync: bbolt shows new data as
	// soon as they are in the page cache, and what is shown here must be durable. The one that leads takes it for writing.
	gate   sync.RWMutex
	db     *bolt.DB // nil while the disk does not answer
	closed bool

	qmu     sync.Mutex // waiting, busy, closing
	waiting []*call
	busy    bool
	closing bool

	omu     sync.Mutex // everything about deliveries below
	out     map[uint16]*outbound
	token   uint64
	acks    int
	ackedAt time.Time // when the oldest of them was given; of use while there are any
	changed chan struct{}

	consumers map[string]consumer // fixed after Open

	stamp     []byte // identifies the last commit; owned by the one that leads
	id        string
	flushSoon chan struct{}
	flushNow  chan struct{}
	quit      chan struct{}
	done      sync.WaitGroup
}

// Open opens or creates the store at path, and its directory (0700) if needed. Errors: ErrLocked, ErrCorrupt, or the
// file system's. A file that does not open is left as it is.
func Open(path string, o *Options) (*Store, error) {
	s := &Store{path: path, out: map[uint16]*outbound{}, changed: make(chan struct{}),
		flushSoon: make(chan struct{}, 1), flushNow: make(chan struct{}, 1), quit: make(chan struct{})}
	if o != nil {
		s.o = *o
	}
	s.defaults()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.create(); err != nil {
		return nil, err
	}
	db, err := s.openFile(s.path)
	if err != nil {
		return nil, err
	}
	s.db = db
	if err := s.prepare(); err != nil {
		db.Close()
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s.makeReserve()
	s.done.Go(s.flusher)
	return s, nil
}

func (s *Store) defaults() {
	o := &s.o
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.AckDelay <= 0 {
		o.AckDelay = 50 * time.Millisecond
	}
	if o.AckBatch <= 0 {
		o.AckBatch = 64
	}
	if o.MinFree == 0 {
		o.MinFree = 64 << 20
	}
	if o.Reserve == 0 {
		o.Reserve = 16 << 20
	}
	if o.CompactFree == 0 {
		o.CompactFree = 16 << 20
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 3 * time.Second
	}
	s.now, s.log = o.Now, o.Logger
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
}

// openFile opens a bbolt file that exists. The freelist is synced: without it a cold open has to read every page.
func (s *Store) openFile(path string) (db *bolt.DB, err error) {
	under := s.o.OpenFile
	if under == nil {
		under = os.OpenFile
	}
	var f *os.File
	db, err = s.openBolt(path, func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
		f, err = under(name, flag&^os.O_CREATE, perm)
		return f, err
	})
	if err != nil {
		return nil, err
	}
	if err := settleMeta(f, db.Info().PageSize); err != nil {
		closeQuietly(db)
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return db, nil
}

// settleMeta makes durable what the file shows, before anything else is written to it. After a failed sync the page
// that makes the last commit count can be in the page cache, counted as clean, and absent from the disk; the next
// commit would then reuse pages that the state on the disk still needs. Writing the two meta pages again with what they
// hold makes them dirty, so this sync covers them; the data they point to was synced before they were first written.
func settleMeta(f *os.File, pageSize int) error {
	for _, off := range []int64{0, int64(pageSize)} {
		page := make([]byte, pageSize)
		if _, err := f.ReadAt(page, off); err != nil {
			return err
		}
		if _, err := f.WriteAt(page, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (s *Store) openBolt(path string, openFile func(string, int, os.FileMode) (*os.File, error)) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("open store %s: %v: %w", path, p, ErrCorrupt)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      s.o.LockTimeout,
		FreelistType: bolt.FreelistMapType,
		OpenFile:     openFile,
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("open store %s: %w", path, ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("open store %s: %w: %w", path, err, ErrCorrupt)
	}
	return nil, fmt.Errorf("open store %s: %w", path, err)
}

// openSame opens the store's file again and makes sure that it is the file it was.
func (s *Store) openSame() (*bolt.DB, error) {
	db, err := s.openFile(s.path)
	if err != nil {
		return nil, err
	}
	err = db.View(func(b *bolt.Tx) error {
		meta := b.Bucket(bucketNames[bMeta])
		if meta == nil || string(meta.Get([]byte("id"))) != s.id {
			return fmt.Errorf("open store %s: the file was replaced: %w", s.path, ErrCorrupt)
		}
		return nil
	})
	if err != nil {
		closeQuietly(db)
		return nil, err
	}
	return db, nil
}

// create makes a new store under another name and renames it when it is whole: bbolt writes the first pages of a file
// in a way that a power cut can leave unreadable. What a crash left of a creation or a compaction is removed.
func (s *Store) create() error {
	for _, leftover := range []string{s.newPath(), s.path + ".new"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open store: %w", err)
		}
	}
	if ok, err := exists(s.path); ok || err != nil {
		return err
	}
	db, err := s.openBolt(s.path+".new", s.o.OpenFile)
	if err != nil {
		return err
	}
	err = db.Update(func(b *bolt.Tx) error {
		for _, name := range bucketNames {
			if _, err := b.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := b.Bucket(bucketNames[bMeta])
		return errors.Join(meta.Put([]byte("schema"), []byte{schema}), meta.Put([]byte("id"), []byte(rand.Text())),
			meta.Put([]byte("state"), state{}.encode()))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("create store %s: %w", s.path, err)
	}
	if err := os.Rename(s.path+".new", s.path); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	return syncDir(filepath.Dir(s.path))
}

// prepare checks the form of the file and registers the consumers.
func (s *Store) prepare() error {
	set := &writeSet{}
	err := s.db.Update(func(b *bolt.Tx) error {
		meta := b.Bucket(bucketNames[bMeta])
		if meta == nil {
			return fmt.Errorf("not a store of this program: %w", ErrCorrupt)
		}
		if v := meta.Get([]byte("schema")); len(v) != 1 || v[0] != schema {
			return fmt.Errorf("the file has form %x, this program reads %d: %w", v, schema, ErrCorrupt)
		}
		for _, name := range bucketNames {
			if b.Bucket(name) == nil {
				return fmt.Errorf("bucket %q is missing: %w", name, ErrCorrupt)
			}
		}
		s.id = string(meta.Get([]byte("id")))
		st, err := parseState(meta.Get([]byte("state")))
		if err != nil {
			return err
		}
		tx := &Tx{b: b, set: set, st: st, s: s, now: s.now()}
		for _, c := range s.o.Consumers {
			if err := s.register(tx, c); err != nil {
				return err
			}
		}
		if err := set.apply(b); err != nil {
			return err
		}
		return s.loadConsumers(&Tx{b: b, st: st, s: s})
	})
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.path))
}

// ID is a random name given to the file when it was created.
func (s *Store) ID() string { return s.id }

// Path is where the store's file is.
func (s *Store) Path() string { return s.path }

// Close stores waiting acknowledgements, waits for commits that have begun, and closes the file. Later calls give ErrClosed.
func (s *Store) Close() error {
	s.qmu.Lock()
	if s.closing {
		s.qmu.Unlock()
		return ErrClosed
	}
	s.closing = true
	s.qmu.Unlock()
	close(s.quit)
	s.done.Wait()
	c := &call{wake: make(chan bool, 1), final: true}
	c.alone = func() error {
		flushErr := s.run(nil)
		s.gate.Lock()
		defer s.gate.Unlock()
		s.closed = true
		if s.db == nil {
			return flushErr
		}
		err := s.db.Close()
		s.db = nil
		return errors.Join(flushErr, err)
	}
	return s.submit(context.Background(), c)
}

// View runs fn on what is durable at this moment. fn must not call Commit, and must not keep tx.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.view(fn)
}

func (s *Store) view(fn func(*Tx) error) error {
	b, err := s.begin()
	if err != nil {
		return err
	}
	defer b.Rollback()
	st, err := parseState(b.Bucket(bucketNames[bMeta]).Get([]byte("state")))
	if err != nil {
		return err
	}
	return fn(&Tx{b: b, st: st, s: s, now: s.now()})
}

func (s *Store) begin() (*bolt.Tx, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.db == nil {
		return nil, ErrUnavailable
	}
	return s.db.Begin(false)
}

// Get returns one record, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (r Record, err error) {
	err = s.View(ctx, func(tx *Tx) error { r, err = tx.Get(id); return err })
	return r, err
}

// List returns one page of records; see Tx.List.
func (s *Store) List(ctx context.Context, q Query) (r []Record, err error) {
	err = s.View(ctx, func(tx *Tx) error { r, err = tx.List(q); return err })
	return r, err
}

// Read returns one page of messages; see Tx.Read.
func (s *Store) Read(ctx context.Context, topic string, after uint64, limit int) (m []Message, err error) {
	err = s.View(ctx, func(tx *Tx) error { m, err = tx.Read(topic, after, limit); return err })
	return m, err
}

// Depth says how much a consumer has before it.
type Depth struct {
	Pending int64     // messages not settled; acknowledgements that are not stored yet count as settled
	Bytes   int64     // bytes of the messages not settled, in the store
	Dead    int64     // messages given up
	Oldest  time.Time // time of the oldest one not settled; zero if there is none
}

// Depth returns the figures of a consumer at a cost that does not depend on them.
func (s *Store) Depth(ctx context.Context, name string) (d Depth, err error) {
	if err := ctx.Err(); err != nil {
		return d, err
	}
	c, out, err := s.consumer(name)
	if err != nil {
		return d, err
	}
	s.omu.Lock()
	defer s.omu.Unlock()
	err = s.view(func(tx *Tx) error {
		t, err := tx.totals(c.id)
		if err != nil {
			return err
		}
		d = Depth{Pending: int64(t.pending), Bytes: int64(t.bytes), Dead: int64(t.dead)}
		for seq := range out.acked {
			// Between its commit and its leaving the set an acknowledgement is in the totals already.
			if tx.get(bPend, consumerSeq(c.id, seq)) != nil {
				d.Pending--
			}
		}
		tx.scan(bPend, consumerSeq(c.id, 0)[:2], nil, false, func(k, _ []byte) bool {
			seq := beSeq(k)
			if _, ok := out.acked[seq]; ok {
				return true
			}
			var m Message
			if m, err = tx.message(seq); err == nil {
				d.Oldest = m.Time
			}
			return false
		})
		return err
	})
	return d, err
}

// WriteTo writes a consistent copy of the whole file while the store stays in use.
func (s *Store) WriteTo(w io.Writer) (int64, error) {
	b, err := s.begin()
	if err != nil {
		return 0, err
	}
	defer b.Rollback()
	return b.WriteTo(w)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
