//go:build !windows

package cli

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// otherOwner returns the name of the user who owns dir when that is not the
// user with the number euid. A directory that is not there has no owner.
func otherOwner(dir string, euid int) (name string, other bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == euid {
		return "", false
	}
	id := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username, true
	}
	return "#" + id, true
}
