package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run puts rows through a runner whose logs go to a folder of the test.
func run(t *testing.T, noSkips bool, table ...suite) (bool, string) {
	t.Helper()
	var out bytes.Buffer
	for i := range table {
		table[i].limit = time.Minute
	}
	ok := (&runner{out: &out, logs: t.TempDir()}).run(t.Context(), table, noSkips)
	return ok, out.String()
}

func absent() []need {
	return []need{{"Thing", "run: make reference-thing", func() bool { return false }}}
}

func TestASkippedSuiteSaysWhatWouldEnableIt(t *testing.T) {
	ok, out := run(t, false, suite{name: "a", command: []string{"true"}}, suite{name: "b", needs: absent()})
	if !ok {
		t.Errorf("a skip on a user's machine failed the run:\n%s", out)
	}
	if want := "SKIPPED b: Thing is not here; run: make reference-thing\n"; !strings.Contains(out, want) {
		t.Errorf("no %q in:\n%s", want, out)
	}
	if !strings.HasSuffix(out, "\n1 passed, 0 failed, 1 skipped\n") {
		t.Errorf("closing line in:\n%s", out)
	}
}

func TestASkippedSuiteFailsWhereNoneMayBe(t *testing.T) {
	if ok, out := run(t, true, suite{name: "a", command: []string{"true"}}, suite{name: "b", needs: absent()}); ok {
		t.Errorf("a skip passed:\n%s", out)
	}
}

func TestAFailedSuiteFailsTheRunAndTheOthersStillRun(t *testing.T) {
	fails := suite{name: "a", command: []string{"sh", "-c", "echo told on stdout; echo told on stderr >&2; exit 3"}}
	ok, out := run(t, false, fails, suite{name: "b", command: []string{"true"}})
	if ok {
		t.Errorf("passed:\n%s", out)
	}
	for _, want := range []string{"told on stdout", "told on stderr", "exit status 3", "1 passed, 1 failed, 0 skipped"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestARunThatRanNothingFails(t *testing.T) {
	if ok, out := run(t, false, suite{name: "a", needs: absent()}); ok {
		t.Errorf("passed:\n%s", out)
	}
}

func TestAGoTestRunThatRanNoTestFails(t *testing.T) {
	ok, out := run(t, false, suite{name: "a", goTest: true, command: []string{"true"}})
	if ok || !strings.Contains(out, "ran no test") {
		t.Errorf("passed:\n%s", out)
	}
}

func TestWhatASuiteLeavesBehindEndsWithIt(t *testing.T) {
	// What is left behind holds a pipe open for writing, and its end is the pipe's.
	fifo := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	leaves := suite{name: "a", command: []string{"sh", "-c", `exec 3>"$0"; echo here >&3; sleep 600 >/dev/null 2>&1 &`, fifo}}
	if ok, out := run(t, false, leaves); !ok {
		t.Fatal(out)
	}
	if err := held.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(held); err != nil || string(said) != "here\n" {
		t.Errorf("read %q, %v: a process of the suite outlived it", said, err)
	}
}

func TestASuiteDoesNotSeeReferencesThatAreNotItsOwn(t *testing.T) {
	t.Setenv("EVERGRANT_DYNAMODB", "http://127.0.0.1:1")
	s := suite{name: "a", command: []string{"sh", "-c", `test -z "$EVERGRANT_DYNAMODB" && test "$EVERGRANT_CHROMIUM" = mine`}, env: []string{"EVERGRANT_CHROMIUM=mine"}}
	if ok, out := run(t, false, s); !ok {
		t.Error(out)
	}
}

const passes = `{"Action":"pass","Package":"p","Test":"TestB"}` + "\n"

func TestVerdict(t *testing.T) {
	skipped := func(said string) string {
		return passes +
			`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}` + "\n" +
			`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: ` + said + `\n"}` + "\n" +
			`{"Action":"skip","Package":"p","Test":"TestA"}` + "\n"
	}
	for _, c := range []struct {
		name, events string
		whole        bool
		want         string // "" is a pass
	}{
		{"a passed test", passes, true, ""},
		{"only a package's line", `{"Action":"pass","Package":"p"}`, false, "ran no test"},
		{"nothing but a skip", `{"Action":"skip","Package":"p","Test":"TestA"}`, true, "ran no test"},
		{"a skip that names its reference", skipped("EVERGRANT_CHROMIUM is not set"), false, ""},
		{"the same in the reference's own suite", skipped("EVERGRANT_CHROMIUM is not set"), true, "p TestA was skipped: a_test.go:9: EVERGRANT_CHROMIUM is not set"},
		{"a skip for another reason", skipped("flaky"), false, "names no reference"},
	} {
		t.Run(c.name, func(t *testing.T) {
			counted := newTally()
			if err := counted.read(strings.NewReader(c.events), io.Discard, func(*tally) {}); err != nil {
				t.Fatal(err)
			}
			err := counted.verdict(c.whole)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("verdict %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheReportHoldsWhatFailedAndNothingElse(t *testing.T) {
	events := `# example.com/x
{"Action":"build-output","ImportPath":"q","Output":"x.go:1: does not compile\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"fine\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL p\n"}
{"Action":"fail","Package":"p"}
{"Action":"output","Package":"r","Output":"panic: before any test\n"}
{"Action":"fail","Package":"r"}
`
	counted := newTally()
	var log bytes.Buffer
	if err := counted.read(strings.NewReader(events), &log, func(*tally) {}); err != nil {
		t.Fatal(err)
	}
	want := "# example.com/x\nx.go:1: does not compile\ngot 1, want 2\npanic: before any test\n"
	if got := counted.report.String(); got != want {
		t.Errorf("report %q, want %q", got, want)
	}
	if counted.passed != 1 || counted.failed != 1 {
		t.Errorf("%d passed, %d failed", counted.passed, counted.failed)
	}
	if !strings.Contains(log.String(), "fine\n") {
		t.Errorf("the log lacks what a passed test printed: %q", log.String())
	}
}

func TestChooseKeepsTheOrderAndKnowsItsNames(t *testing.T) {
	got, err := choose(suites("/repo"), []string{"race", "house"})
	if err != nil || len(got) != 2 || got[0].name != "house" || got[1].name != "race" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := choose(suites("/repo"), []string{"hause"}); err == nil {
		t.Error("an unknown name was taken")
	}
}
