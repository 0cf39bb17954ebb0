package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Options and events of ptrace(2) that package syscall does not name.
const (
	exitKill = 0x100000   // PTRACE_O_EXITKILL
	wallFlag = 0x40000000 // __WALL
	markFile = 3          // descriptor on which the process says marks
)

// thread is one thread of the watched process.
type thread struct {
	inside bool // between entry and exit of a call
	exit   func(result int64)
	errno  int // what the exit must report
}

type tracer struct {
	dir     string
	pid     int
	mem     *os.File
	fault   Fault
	counted int
	events  []Event
	threads map[int]*thread
}

// Trace runs argv and records what it does to the files of dir, until it ends. The process writes marks to descriptor 3,
// one a write, and its other output to ours. The result is the journal and the number of calls that Fault counts. An
// error means that watching failed or that the process ended by itself with another status than 0.
func Trace(dir string, argv, env []string, f Fault) ([]Event, int, error) {
	runtime.LockOSThread() // ptrace belongs to a thread
	defer runtime.UnlockOSThread()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("trace: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("trace: %w", err)
	}
	defer null.Close()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		// A program with the race detector would sleep a second before it ends.
		Env:   append(env, "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=2", "GORACE=atexit_sleep_ms=0"),
		Files: []uintptr{null.Fd(), 1, 2, null.Fd()},
		Sys:   &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		return nil, 0, fmt.Errorf("trace: %w: %w", ErrUnsupported, err)
	}
	t := &tracer{dir: dir, pid: pid, fault: f, threads: map[int]*thread{}}
	err = t.run()
	return t.events, t.counted, err
}

func (t *tracer) run() error {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &ws, wallFlag, nil); err != nil || !ws.Stopped() {
		return fmt.Errorf("trace: first stop: %w: %v", ErrUnsupported, err)
	}
	options := syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | exitKill
	if err := syscall.PtraceSetOptions(t.pid, options); err != nil {
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
		return fmt.Errorf("trace: %w: %w", ErrUnsupported, err)
	}
	var err error
	if t.mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", t.pid)); err != nil {
		return fmt.Errorf("trace: %w: %w", ErrUnsupported, err)
	}
	defer t.mem.Close()
	t.threads[t.pid] = &thread{}
	_ = syscall.PtraceSyscall(t.pid, 0)
	for {
		tid, err := syscall.Wait4(-t.pid, &ws, wallFlag, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("trace: wait: %w", err)
		}
		if ws.Exited() || ws.Signaled() {
			delete(t.threads, tid)
			if tid != t.pid {
				continue
			}
			if ws.Signaled() && ws.Signal() == syscall.SIGKILL && t.fault.Kill || ws.Exited() && ws.ExitStatus() == 0 {
				return nil
			}
			return fmt.Errorf("trace: process ended with %#x", uint32(ws))
		}
		th := t.threads[tid]
		sig := 0
		switch s := ws.StopSignal(); {
		case s == syscall.SIGTRAP|0x80:
			if th == nil {
				th = &thread{}
				t.threads[tid] = th
			}
			t.stop(tid, th)
		case s == syscall.SIGTRAP: // clone event
		case s == syscall.SIGSTOP && th == nil:
			t.threads[tid] = &thread{}
		default:
			sig = int(s)
		}
		_ = syscall.PtraceSyscall(tid, sig) // a thread that is gone is reported by Wait4
	}
}

// stop handles entry to and exit from a system call.
func (t *tracer) stop(tid int, th *thread) {
	var r syscall.PtraceRegs
	if syscall.PtraceGetRegs(tid, &r) != nil {
		return
	}
	th.inside = !th.inside
	if !th.inside {
		if th.errno != 0 {
			r.Rax = uint64(-int64(th.errno))
			_ = syscall.PtraceSetRegs(tid, &r)
		}
		if th.exit != nil {
			th.exit(int64(r.Rax))
		}
		th.exit, th.errno = nil, 0
		return
	}
	th.exit = t.enter(&r)
	if th.exit == nil || !t.hit(r.Orig_rax) {
		return
	}
	if t.fault.Kill {
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
		return
	}
	th.errno = t.fault.Errno
	r.Orig_rax = ^uint64(0)
	_ = syscall.PtraceSetRegs(tid, &r)
}

// hit counts a call that changes the directory and says whether the fault is due.
func (t *tracer) hit(call uint64) bool {
	kind := "other"
	switch call {
	case syscall.SYS_PWRITE64, syscall.SYS_WRITE, syscall.SYS_FTRUNCATE:
		kind = "write"
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		kind = "sync"
	}
	if t.fault.Only != "" && t.fault.Only != kind {
		return false
	}
	t.counted++
	return t.fault.N > 0 && t.counted >= t.fault.N && t.counted <= max(t.fault.N, t.fault.Last)
}

// enter returns what to do at the exit of a call that concerns the directory, nil for any other.
func (t *tracer) enter(r *syscall.PtraceRegs) func(int64) {
	add := func(e Event) { t.events = append(t.events, e) }
	ok := func(e Event) func(int64) {
		return func(result int64) {
			if result >= 0 {
				add(e)
			}
		}
	}
	switch r.Orig_rax {
	case syscall.SYS_WRITE:
		if r.Rdi == markFile {
			add(Event{Kind: Mark, Name: string(t.read(r.Rsi, r.Rdx))})
			return nil
		}
		// Sequential writes are those of the reserve; their bytes do not matter here.
		if name := t.name(r.Rdi); name != "" && name != "." {
			return func(int64) {}
		}
	case syscall.SYS_PWRITE64:
		if name := t.name(r.Rdi); name != "" {
			e := Event{Kind: Write, Name: name, Off: int64(r.R10), Data: t.read(r.Rsi, r.Rdx)}
			return func(n int64) {
				if n > 0 {
					e.Data = e.Data[:n]
					add(e)
				}
			}
		}
	case syscall.SYS_FTRUNCATE:
		if name := t.name(r.Rdi); name != "" {
			return ok(Event{Kind: Truncate, Name: name, Size: int64(r.Rsi)})
		}
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		if name := t.name(r.Rdi); name != "" {
			return func(result int64) {
				switch {
				case name == "." && result >= 0:
					add(Event{Kind: SyncDir})
				case result >= 0:
					add(Event{Kind: Sync, Name: name})
				default:
					add(Event{Kind: SyncFail, Name: name})
				}
			}
		}
	case syscall.SYS_OPENAT:
		if name := t.base(r.Rsi); name != "" && r.Rdx&syscall.O_CREAT != 0 {
			return ok(Event{Kind: Create, Name: name})
		}
	case syscall.SYS_RENAMEAT:
		if from, to := t.base(r.Rsi), t.base(r.R10); from != "" {
			return ok(Event{Kind: Rename, Name: from, To: to})
		}
	case syscall.SYS_UNLINKAT:
		if name := t.base(r.Rsi); name != "" {
			return ok(Event{Kind: Remove, Name: name})
		}
	}
	return nil
}

// name is the file of dir behind a descriptor, "." for dir itself, "" for anything else.
func (t *tracer) name(fd uint64) string {
	path, err := os.Readlink("/proc/" + strconv.Itoa(t.pid) + "/fd/" + strconv.FormatUint(fd, 10))
	if err != nil {
		return ""
	}
	return t.inside(path)
}

func (t *tracer) inside(path string) string {
	if path == t.dir {
		return "."
	}
	if filepath.Dir(path) != t.dir || strings.HasSuffix(path, " (deleted)") {
		return ""
	}
	return filepath.Base(path)
}

// base is the same for a path argument.
func (t *tracer) base(at uint64) string {
	buf := make([]byte, 4096)
	n, _ := t.mem.ReadAt(buf, int64(at))
	i := bytes.IndexByte(buf[:n], 0)
	if i < 0 {
		return ""
	}
	return t.inside(string(buf[:i]))
}

func (t *tracer) read(at, n uint64) []byte {
	b := make([]byte, n)
	if _, err := t.mem.ReadAt(b, int64(at)); err != nil {
		return nil
	}
	return b
}
