package secret

import (
	"os"

	"golang.org/x/sys/unix"
)

func allocate(n int) (pages []byte, locked bool, err error) {
	size := os.Getpagesize()
	pages, err = unix.Mmap(-1, 0, (n+size-1)/size*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, false, err
	}
	// Old kernels know neither advice; the pages are still of their own.
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK)
	return pages, unix.Mlock(pages) == nil, nil
}

func release(pages []byte, locked bool) {
	if locked {
		_ = unix.Munlock(pages)
	}
	_ = unix.Munmap(pages)
}

// NoDumps turns core dumps of this process off: it becomes non-dumpable
// (PR_SET_DUMPABLE 0, which also keeps other processes of the same user from
// attaching a debugger) and its limit for core files becomes zero for good.
func NoDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_DUMPABLE", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return os.NewSyscallError("setrlimit RLIMIT_CORE", err)
	}
	return nil
}
