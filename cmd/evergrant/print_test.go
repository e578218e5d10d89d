package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var _ = mutant("T75", "cmd/evergrant/print.go", `case unicode.IsControl(r) || unicode.In`, `case unicode.In`)

func TestThreat_T75_what_a_terminal_would_obey_is_shown(t *testing.T) {
	for in, want := range map[string]string{
		"plain Ünïcode 漢字":   "plain Ünïcode 漢字",
		"red\x1b[31m":        `red\u001b[31m`,
		"two\nlines\r":       `two\u000alines\u000d`,
		"bell\a and nul\x00": `bell\u0007 and nul\u0000`,
		"c1\u009b31m":        `c1\u009b31m`,
		"turned\u202e":       `turned\u202e`,
		"joined\u2028":       `joined\u2028`,
		"bad\xff":            `bad\xff`,
		"":                   "",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := cleanLines("a\x1b\nb"); got != "a\\u001b\nb" {
		t.Errorf("cleanLines: %q", got)
	}
}

func TestTableAlignsByCharacters(t *testing.T) {
	var out bytes.Buffer
	p := &process{stdout: &out}
	p.table([][]string{{"NAME", "X"}, {"Zoë", "1"}, {"long name", "\x1b2"}})
	want := "NAME       X\nZoë        1\nlong name  \\u001b2\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestRelativeTimes(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0:                         "now",
		59 * time.Second:          "in 59s",
		-90 * time.Second:         "1m30s ago",
		3*time.Hour + time.Minute: "in 3h01m",
		-50 * time.Hour:           "2d02h ago",
	} {
		at := now.Add(d)
		if got := relative(&at, now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := relative(nil, now); got != "-" {
		t.Errorf("nil: %q", got)
	}
}

// A problem's text comes from a server that may not be ours.
func TestProblemsAreCleanedBeforeTheyAreShown(t *testing.T) {
	var e apiError
	e.Code, e.Status, e.Detail = "x", 400, "\x1b[2Jhello\r"
	if s := cleanLines(e.Error()); strings.ContainsAny(s, "\x1b\r") || !strings.Contains(s, "hello") {
		t.Errorf("%q", s)
	}
}
