package secret

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func allocate(n int) (pages []byte, locked bool, err error) {
	size := os.Getpagesize()
	n = (n + size - 1) / size * size
	addr, err := windows.VirtualAlloc(0, uintptr(n), windows.MEM_COMMIT|windows.MEM_RESERVE, windows.PAGE_READWRITE)
	if err != nil {
		return nil, false, os.NewSyscallError("VirtualAlloc", err)
	}
	locked = windows.VirtualLock(addr, uintptr(n)) == nil
	// The memory is the system's, not Go's: reading the address through a
	// pointer to it tells vet so.
	pages = unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), n)
	return pages, locked, nil
}

func release(pages []byte, locked bool) {
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(pages)))
	if locked {
		_ = windows.VirtualUnlock(addr, uintptr(len(pages)))
	}
	_ = windows.VirtualFree(addr, 0, windows.MEM_RELEASE)
}

// NoDumps keeps Windows from showing a crash dialog for this process. Whether
// Windows Error Reporting writes a dump is a setting of the machine
// (HKLM\SOFTWARE\Microsoft\Windows\Windows Error Reporting\ExcludedApplications),
// which the installer makes.
func NoDumps() error {
	windows.SetErrorMode(windows.SEM_FAILCRITICALERRORS | windows.SEM_NOGPFAULTERRORBOX)
	return nil
}
