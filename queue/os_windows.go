package queue

import (
	"syscall"
	"unsafe"
)

var errDiskFull error = syscall.Errno(112) // ERROR_DISK_FULL

var getDiskFreeSpaceEx = syscall.NewLazyDLL("kernel32.dll").NewProc("GetDiskFreeSpaceExW")

func freeBytes(dir string) (int64, error) {
	name, err := syscall.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if ok, _, err := getDiskFreeSpaceEx.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&free)), 0, 0); ok == 0 {
		return 0, err
	}
	return int64(free), nil
}

// syncDir does nothing: NTFS journals names, and a directory cannot be flushed through this interface.
func syncDir(string) error { return nil }
