package demo

import (
	"fmt"
	"io"
	"time"
)

// narrator tells a person what happens, in plain words.
type narrator struct {
	out    io.Writer // nil for none
	colour bool
	start  time.Time
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	bold   = "1"
	grey   = "90"
)

func (n *narrator) paint(code, s string) string {
	if !n.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// chapter opens a part of the day.
func (n *narrator) chapter(format string, args ...any) {
	if n.out == nil {
		return
	}
	fmt.Fprintf(n.out, "\n%s\n", n.paint(bold, fmt.Sprintf(format, args...)))
}

// say tells one thing with the time since the start.
func (n *narrator) say(mark, format string, args ...any) {
	if n.out == nil {
		return
	}
	code := map[string]string{"ok": green, "no": yellow, "!": yellow, "BAD": red}[mark]
	if code == "" {
		code = grey
	}
	fmt.Fprintf(n.out, "%s  %s %s\n", n.paint(grey, fmt.Sprintf("%5.1f s", time.Since(n.start).Seconds())),
		n.paint(code, fmt.Sprintf("%-3s", mark)), fmt.Sprintf(format, args...))
}
