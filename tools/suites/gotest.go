package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of go test -json; see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// tally is what a go test run came to, as far as it was read.
type tally struct {
	passed, failed int
	// skipped maps each skipped test to what it printed.
	skipped map[string]string
	// report is what the failed tests and packages printed.
	report strings.Builder

	output map[string]*strings.Builder // of tests and packages still running
	broken map[string]bool             // packages in which a test has failed
}

func newTally() *tally {
	return &tally{
		skipped: map[string]string{},
		output:  map[string]*strings.Builder{},
		broken:  map[string]bool{},
	}
}

// read counts the events of r and writes what the tests print to log. A line that is no
// event, as a tool before go test may print, is output of its own.
func (t *tally) read(r io.Reader, log io.Writer, progress func(*tally)) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				e = event{Action: "build-output", Output: string(line)}
			}
			if _, err := io.WriteString(log, e.Output); err != nil {
				return err
			}
			t.add(e)
			progress(t)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) add(e event) {
	key := strings.TrimSuffix(e.Package+" "+e.Test, " ")
	switch e.Action {
	case "build-output":
		t.report.WriteString(e.Output)
	case "output":
		if t.output[key] == nil {
			t.output[key] = &strings.Builder{}
		}
		t.output[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		t.end(e, key)
	}
}

// end takes the last event of a test or, without a test's name, of a package.
func (t *tally) end(e event, key string) {
	said := ""
	if b := t.output[key]; b != nil {
		said = b.String()
		delete(t.output, key)
	}
	switch {
	case e.Action == "fail" && e.Test != "":
		t.failed++
		t.broken[e.Package] = true
		t.report.WriteString(said)
	case e.Action == "fail" && !t.broken[e.Package]:
		// No test of it failed: it panicked, ran out of time or did not build.
		t.report.WriteString(said)
	case e.Test == "":
	case e.Action == "pass":
		t.passed++
	case e.Action == "skip":
		t.skipped[key] = said
	}
}

// verdict says what is wrong with a run that go test itself passed, and nil if nothing is.
// A green run that tested nothing, or quietly left something out, is not a passed one.
func (t *tally) verdict(whole bool) error {
	if t.passed == 0 {
		return errors.New("ran no test")
	}
	for test, said := range t.skipped {
		if whole {
			return fmt.Errorf("%s was skipped: %s", test, reason(said))
		}
		if !namesReference(said) {
			return fmt.Errorf("%s was skipped and names no reference that it waits for: %s", test, reason(said))
		}
	}
	return nil
}

func namesReference(said string) bool {
	for _, variable := range references {
		if strings.Contains(said, variable) {
			return true
		}
	}
	return false
}

// reason is the line that t.Skip printed, out of all that a skipped test printed.
func reason(said string) string {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}
