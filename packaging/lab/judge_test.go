package main

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	good := "[ 1.0] boot\r\nLAB n PASS TestA\r\n=== RUN TestB\nLAB n SAY 5 reports\nLAB n PASS TestB\nLAB n DONE 0\n"
	for name, c := range map[string]struct {
		console string
		want    []string
		problem string // empty: it passes
	}{
		"all pass":          {good, []string{"TestA", "TestB"}, ""},
		"nothing ran":       {"[ 1.0] Kernel panic\n", []string{"TestA"}, "TestA did not come to its end"},
		"no test at all":    {"LAB n DONE 0\n", nil, "no test to run"},
		"one failed":        {"LAB n FAIL TestA\nLAB n DONE 1\n", []string{"TestA"}, "TestA: FAIL"},
		"one skipped":       {"LAB n SKIP TestA\nLAB n DONE 0\n", []string{"TestA"}, "TestA: SKIP"},
		"one is missing":    {"LAB n PASS TestA\nLAB n DONE 0\n", []string{"TestA", "TestB"}, "TestB did not"},
		"another run":       {strings.ReplaceAll(good, "LAB n", "LAB m"), []string{"TestA", "TestB"}, "TestA did not"},
		"died at the end":   {"LAB n PASS TestA\n", []string{"TestA"}, "did not finish"},
		"failed at the end": {"LAB n PASS TestA\nLAB n DONE 2\n", []string{"TestA"}, "did not finish"},
		"twice":             {"LAB n PASS TestA\nLAB n PASS TestA\nLAB n DONE 0\n", []string{"TestA"}, "2 times"},
		"a stranger":        {"LAB n PASS TestA\nLAB n FAIL TestX\nLAB n DONE 0\n", []string{"TestA"}, "TestX is no test"},
	} {
		v := judge(c.console, "n", c.want)
		got := strings.Join(v.problems, "; ")
		if c.problem == "" && got != "" || !strings.Contains(got, c.problem) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if v := judge(good, "n", []string{"TestA", "TestB"}); v.passed != 2 || len(v.said) != 1 || v.said[0] != "5 reports" {
		t.Errorf("%+v", v)
	}
	if got := tail("a\nb\nc\n", 3); got != "b\nc\n" {
		t.Errorf("%q", got)
	}
}
