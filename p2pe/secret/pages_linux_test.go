package secret

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// TestPagesAreLockedAndNotDumped reads what the kernel says of the mapping.
func TestPagesAreLockedAndNotDumped(t *testing.T) {
	b, err := Take([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Destroy()
	if !b.Locked() {
		t.Log("the system refuses to lock memory here (RLIMIT_MEMLOCK)")
	}
	flags := mapping(t, uintptr(unsafe.Pointer(unsafe.SliceData(b.Bytes()))))
	for flag, what := range map[string]string{"dd": "left out of dumps", "wf": "emptied in a child"} {
		if !strings.Contains(flags, " "+flag+" ") {
			t.Errorf("the page is not %s: %s", what, flags)
		}
	}
	if b.Locked() && !strings.Contains(flags, " lo ") {
		t.Errorf("the page is not locked: %s", flags)
	}
}

// mapping returns the VmFlags of the mapping that holds an address.
func mapping(t *testing.T, addr uintptr) string {
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("skipped: /proc/self/smaps cannot be read: %v", err)
	}
	found := false
	for line := range strings.SplitSeq(string(data), "\n") {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			found = from <= addr && addr < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && found {
			return flags + " "
		}
	}
	t.Fatal("no mapping holds the address")
	return ""
}
