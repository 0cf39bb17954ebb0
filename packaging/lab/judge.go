package main

import (
	"fmt"
	"strings"
)

// A test of the guest ends with one line on the console:
//
//	LAB <nonce> PASS|FAIL|SKIP <name> [words]
//
// and the whole run with LAB <nonce> DONE <exit code>. The nonce is new in each
// run, so that neither an old console nor a test's own output can pass.

// verdict is what the console says.
type verdict struct {
	passed   int
	said     []string // what tests have to report, in order
	problems []string // why the run failed; none means that it passed
}

// judge reads a console. want names every test that has to have run.
func judge(console, nonce string, want []string) verdict {
	var v verdict
	problem := func(format string, args ...any) { v.problems = append(v.problems, fmt.Sprintf(format, args...)) }
	if len(want) == 0 {
		problem("no test to run")
	}
	ends := map[string][]string{}
	done := false
	for line := range strings.Lines(console) {
		_, rest, ok := strings.Cut(line, "LAB "+nonce+" ")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 {
			continue
		}
		switch f[0] {
		case "DONE":
			done = f[1] == "0"
		case "SAY":
			v.said = append(v.said, strings.Join(f[1:], " "))
		default:
			ends[f[1]] = append(ends[f[1]], f[0])
		}
	}
	for _, name := range want {
		switch got := ends[name]; {
		case len(got) == 0:
			problem("%s did not come to its end", name)
		case len(got) > 1:
			problem("%s ended %d times", name, len(got))
		case got[0] != "PASS":
			problem("%s: %s", name, got[0])
		default:
			v.passed++
		}
		delete(ends, name)
	}
	for name := range ends {
		problem("%s is no test of this run", name)
	}
	if !done {
		problem("the guest did not finish its run well")
	}
	return v
}

// tail is the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
