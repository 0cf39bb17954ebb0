package drivers

import (
	"context"
	"os"
	"strings"
)

// plainWords are for people what the errors are for callers.
var plainWords = []struct {
	err   error
	words string
}{
	{ErrUnplugged, "the device was unplugged"},
	{ErrBusy, "the device works on something else"},
	{ErrPortHeld, "another program has the port open"},
	{ErrNoPort, "the port is not there"},
	{ErrCancelled, "the customer cancelled"},
	{ErrTimeout, "the customer did nothing in time"},
	{ErrCardGone, "the card was taken out"},
	{context.DeadlineExceeded, "no answer in time"},
	{context.Canceled, "it was stopped"},
	{os.ErrClosed, "the port was closed"},
}

// Plain is the text of an error of this package or a driver as people read it:
// without the names of packages. It is empty for nil.
func Plain(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	for _, w := range plainWords {
		text = strings.ReplaceAll(text, w.err.Error(), w.words)
	}
	return strings.ReplaceAll(text, "drivers: ", "")
}

// plain leaves the name of the driver out as well.
func (o *owner) plain(err error) string {
	return strings.ReplaceAll(Plain(err), o.driver.Name()+": ", "")
}
