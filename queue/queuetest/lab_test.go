package queuetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"tillbridge/queue"
)

var large = os.Getenv("TILLBRIDGE_LARGE") == "1"

// TestMain runs the workload instead of the tests when a test asks for it in a process of its own.
func TestMain(m *testing.M) {
	if path := os.Getenv("QUEUETEST_STORE"); path != "" {
		num := func(name string) int { n, _ := strconv.Atoi(os.Getenv(name)); return n }
		w := Work{Seed: uint64(num("QUEUETEST_SEED")), Ops: num("QUEUETEST_OPS"), Settle: num("QUEUETEST_SETTLE") == 1, From: num("QUEUETEST_FROM"), Reserve: int64(num("QUEUETEST_RESERVE"))}
		mark := os.NewFile(markFD, "mark")
		var err error
		if n := num("QUEUETEST_WRITERS"); n > 0 {
			err = RunWriters(path, n, w.Ops, mark)
		} else {
			err = w.Run(path, mark)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "workload:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const markFD = 3

func env(path string, w Work, more ...string) []string {
	settle := "0"
	if w.Settle {
		settle = "1"
	}
	return append([]string{"QUEUETEST_STORE=" + path, "QUEUETEST_SEED=" + fmt.Sprint(w.Seed), "QUEUETEST_OPS=" + fmt.Sprint(w.Ops),
		"QUEUETEST_SETTLE=" + settle, "QUEUETEST_FROM=" + fmt.Sprint(w.From), "QUEUETEST_RESERVE=" + fmt.Sprint(w.Reserve)}, more...)
}

// fastDir is a directory whose syncs cost nothing; what is durable is decided by the lab, not by the real disk.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "queuetest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func trace(t *testing.T, dir string, env []string, f Fault) ([]Event, int) {
	t.Helper()
	events, n, err := Trace(dir, []string{os.Args[0]}, env, f)
	if errors.Is(err, ErrUnsupported) {
		t.Skip("skipped:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return events, n
}

// cuts plays a journal and checks an image at every place where one may differ, in every mode. It returns how many.
func cuts(t *testing.T, base map[string][]byte, events []Event, snapshots []string, done, every int, seed uint64) (n, dropped int, some []image) {
	t.Helper()
	dir := filepath.Join(fastDir(t), "image")
	disk := NewDisk(base, seed)
	for i, e := range events {
		done = Done(done, e)
		disk.Do(e)
		if e.Kind == Mark && i+1 < len(events) || (i+int(seed))%every != 0 {
			continue
		}
		for mode := range Modes {
			files, d := disk.Cut(mode, seed*1e6+uint64(i))
			if mode != KeepNone && d == 0 && len(disk.pending) == 0 {
				continue
			}
			at, err := CheckImage(dir, files, snapshots, done)
			if err != nil {
				t.Fatalf("seed %d, cut after event %d of %d (%v %s), mode %d: %v", seed, i, len(events), e.Kind, e.Name, mode, err)
			}
			n++
			dropped += d
			if mode == KeepSectors && files["store.db"] != nil {
				some = append(some, image{files, at})
			}
		}
	}
	return n, dropped, some
}

type image struct {
	files map[string][]byte
	at    int
}

func TestPowerCutLosesNothingThatWasPromised(t *testing.T) {
	seeds, ops, every := 2, 40, 5
	if large {
		seeds, ops, every = 20, 120, 1
	}
	total, lost, second := 0, 0, 0
	for seed := range uint64(seeds) {
		w := Work{Seed: seed + 1, Ops: ops, Settle: true}
		snapshots := w.Snapshots()
		dir := fastDir(t)
		events, _ := trace(t, dir, env(dir+"/store.db", w), Fault{})
		n, d, some := cuts(t, nil, events, snapshots, 0, every, w.Seed)
		total, lost = total+n, lost+d
		// The power fails again while the store recovers and goes on.
		step := max(1, len(some)/3)
		for i := 0; i < len(some); i += step {
			dir := fastDir(t)
			if err := Save(dir, some[i].files); err != nil {
				t.Fatal(err)
			}
			again := Work{Seed: w.Seed, Ops: min(some[i].at+3, ops), Settle: true, From: some[i].at}
			events, _ := trace(t, dir, env(dir+"/store.db", again), Fault{})
			n, d, _ := cuts(t, some[i].files, events, again.Snapshots(), some[i].at, max(1, every/2), w.Seed)
			second, lost = second+n, lost+d
		}
	}
	if total == 0 || lost == 0 || second == 0 {
		t.Errorf("the lab cut nothing: %d cuts, %d more in recovery, %d pieces dropped", total, second, lost)
	}
	t.Logf("%d cuts and %d more during recovery, %d unsynced pieces dropped, 0 promises broken", total, second, lost)
}

func TestKilledProcessLosesNothing(t *testing.T) {
	w := Work{Seed: 7, Ops: 25, Settle: true}
	step := 9
	if large {
		w.Ops, step = 60, 1
	}
	snapshots := w.Snapshots()
	dir := fastDir(t)
	_, calls := trace(t, dir, env(dir+"/store.db", w), Fault{})
	kills := 0
	for n := 1; n <= calls; n += step {
		dir := fastDir(t)
		events, _ := trace(t, dir, env(dir+"/store.db", w), Fault{N: n, Kill: true})
		done := 0
		for _, e := range events {
			done = Done(done, e)
		}
		files, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := CheckImage(filepath.Join(dir, "image"), files, snapshots, done); err != nil {
			t.Fatalf("killed at call %d of %d: %v", n, calls, err)
		}
		kills++
	}
	t.Logf("%d kills over %d calls, 0 promises broken", kills, calls)
}

func TestDiskErrorsNeverGiveAWrongAnswer(t *testing.T) {
	w := Work{Seed: 11, Ops: 9}
	step := 12
	if large {
		w.Ops, step = 40, 1
	}
	snapshots := w.Snapshots()
	dir := fastDir(t)
	_, calls := trace(t, dir, env(dir+"/store.db", w), Fault{})
	faults, answers := 0, 0
	image := filepath.Join(fastDir(t), "image")
	for i, f := range []Fault{
		{Errno: int(syscall.EIO), Only: "sync"}, {Errno: int(syscall.EIO), Only: "sync", Last: 1}, {Errno: int(syscall.EIO), Only: "write"},
		{Errno: int(syscall.ENOSPC), Only: "write", Last: 2}, {Errno: int(syscall.EIO), Last: 4},
	} {
		step, span := step, f.Last
		if i == 0 {
			step = 1 // each sync alone: of the data, and of the page that makes them count
		}
		for n := 1; n <= calls; n += step {
			f.N, f.Last = n, n+span
			dir := fastDir(t)
			events, counted := trace(t, dir, env(dir+"/store.db", w), f)
			if counted < n {
				break
			}
			done, suspect := 0, 0
			disk := NewDisk(nil, uint64(n))
			for _, e := range events {
				disk.Do(e)
				done = Done(done, e)
				if e.Kind == SyncFail {
					suspect = 3
				}
				if e.Kind != Mark {
					continue
				}
				if e.Name[0] == 'e' {
					answers++
				}
				// What is said to be stored after a failed sync must outlive a power cut, too.
				if suspect > 0 {
					suspect--
					cut, _ := disk.Cut(KeepNone, uint64(n))
					if _, err := CheckImage(image, cut, snapshots, done); err != nil {
						t.Fatalf("%+v, then a power cut after %d steps: %v", f, done, err)
					}
				}
			}
			if done != w.Ops {
				t.Fatalf("%+v: %d steps done of %d", f, done, w.Ops)
			}
			files, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := CheckImage(image, files, snapshots, done); err != nil {
				t.Fatalf("%+v: %v", f, err)
			}
			cut, _ := disk.Cut(KeepNone, uint64(n))
			if _, err := CheckImage(image, cut, snapshots, done); err != nil {
				t.Fatalf("%+v, then a power cut: %v", f, err)
			}
			faults++
		}
	}
	if answers == 0 {
		t.Error("no step was ever answered with an error: the faults did not reach the store")
	}
	t.Logf("%d faults, %d steps answered with an error and looked up", faults, answers)
}

func TestStoreAgreesWithTheModel(t *testing.T) {
	seeds, ops := 20, 50
	if large {
		seeds, ops = 400, 200
	}
	for seed := range uint64(seeds) {
		w := Work{Seed: seed + 100, Ops: ops, Settle: true}
		snapshots := w.Snapshots()
		dir := fastDir(t)
		s, err := queue.Open(dir+"/store.db", Options())
		if err != nil {
			t.Fatal(err)
		}
		r := &Runner{Store: s}
		w.Steps(func(i int, m *Model, o Op) bool {
			if err := r.Do(context.Background(), m, o); err != nil {
				t.Errorf("seed %d step %d (%v): %v", w.Seed, i, o, err)
				return false
			}
			if i%10 != 9 {
				return true
			}
			f, err := os.Create(dir + "/copy.db")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.WriteTo(f); err != nil {
				t.Fatal(err)
			}
			f.Close()
			data, _ := os.ReadFile(dir + "/copy.db")
			if _, err := CheckImage(dir+"/image", map[string][]byte{"store.db": data}, snapshots[:i+2], i+1); err != nil {
				t.Errorf("seed %d step %d (%v): %v", w.Seed, i, o, err)
				return false
			}
			return true
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskGivesUpItsReserveAndStoresTheResult(t *testing.T) {
	w := Work{Seed: 20, Ops: 8, Reserve: 1 << 20}
	for compacts := true; compacts; w.Seed++ {
		compacts = false
		w.Steps(func(_ int, _ *Model, o Op) bool { compacts = compacts || o.Kind == opCompact; return true })
		if !compacts {
			break
		}
	}
	snapshots := w.Snapshots()
	dir := fastDir(t)
	_, writes := trace(t, dir, env(dir+"/store.db", w), Fault{Only: "write"})
	step := max(1, writes/8)
	if large {
		step = 1
	}
	used := 0
	for n := writes; n > writes/2; n -= step {
		dir := fastDir(t)
		events, _ := trace(t, dir, env(dir+"/store.db", w), Fault{N: n, Only: "write", Errno: int(syscall.ENOSPC)})
		done := 0
		for _, e := range events {
			if done = Done(done, e); e.Kind == Mark && e.Name[0] == 'e' {
				t.Fatalf("write %d found the disk full: %s", n, e.Name)
			}
		}
		files, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if files["store.db.reserve"] == nil {
			used++
		}
		delete(files, "store.db.reserve")
		if _, err := CheckImage(filepath.Join(fastDir(t), "image"), files, snapshots, done); err != nil || done != w.Ops {
			t.Fatalf("write %d found the disk full, %d steps: %v", n, done, err)
		}
	}
	if used == 0 {
		t.Error("the reserve was never needed")
	}
	t.Logf("reserve used in %d runs", used)
}
