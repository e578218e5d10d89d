// Suites runs the test suites of this repository one after another, fast ones first, and
// says of each how long it took, or why it was skipped and what would enable it.
//
//	go run ./tools/suites                 every suite
//	go run ./tools/suites unit dynamodb   these
//	go run ./tools/suites -list           what there is
//
// Go and make are enough for the suites that need no reference server. With -no-skips, or
// with CI=true in the environment, a skipped suite is a failure. The whole output of a suite
// goes to build/test/<suite>.log; what failed is printed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	noSkips := flag.Bool("no-skips", os.Getenv("CI") == "true", "count a skipped suite as a failure")
	list := flag.Bool("list", false, "list the suites and their commands")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	root, err := os.Getwd()
	if err != nil {
		fatal(err)
	}
	table, err := choose(suites(root), flag.Args())
	if err != nil {
		fatal(err)
	}
	if *list {
		for _, s := range table {
			fmt.Printf("%-17s %s\n", s.name, strings.Join(s.command, " "))
		}
		return
	}
	r := runner{out: os.Stdout, logs: filepath.Join(root, "build", "test"), terminal: isTerminal(os.Stdout)}
	if err := os.MkdirAll(r.logs, 0o755); err != nil {
		fatal(err)
	}
	if !r.run(ctx, table, *noSkips) {
		os.Exit(1)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "suites:", err)
	os.Exit(2)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// choose returns the named rows, in the table's order; all of them if none is named.
func choose(table []suite, names []string) ([]suite, error) {
	if len(names) == 0 {
		return table, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(table, func(s suite) bool { return s.name == name }) {
			return nil, fmt.Errorf("no suite is called %q", name)
		}
	}
	return slices.DeleteFunc(table, func(s suite) bool { return !slices.Contains(names, s.name) }), nil
}

// runner runs suites and tells about them.
type runner struct {
	out      io.Writer
	logs     string // folder for the suites' whole output
	terminal bool   // out shows one line being rewritten
}

// run runs the suites and reports whether that is a success.
func (r *runner) run(ctx context.Context, table []suite, noSkips bool) bool {
	var passed, failed, skipped int
	began := time.Now()
	for _, s := range table {
		if ctx.Err() != nil {
			break
		}
		if lacking := s.lacks(); lacking != nil {
			skipped++
			fmt.Fprintf(r.out, "SKIPPED %s: %s is not here; %s\n", s.name, lacking.what, lacking.remedy)
			continue
		}
		if !r.terminal {
			fmt.Fprintf(r.out, "run   %-17s %s\n", s.name, strings.Join(s.command, " "))
		}
		start := time.Now()
		count, err := r.one(ctx, s)
		seconds := time.Since(start).Seconds()
		r.clearLine()
		if err != nil {
			failed++
			fmt.Fprintf(r.out, "FAIL  %-17s %6.1f s  %v\n", s.name, seconds, err)
			continue
		}
		passed++
		fmt.Fprintf(r.out, "ok    %-17s %6.1f s%s\n", s.name, seconds, count)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(r.out, "interrupted")
	}
	if noSkips && skipped > 0 {
		fmt.Fprintln(r.out, "a skipped suite is a failure here")
	}
	fmt.Fprintf(r.out, "suites, in %.0f s:\n", time.Since(began).Seconds())
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return ctx.Err() == nil && failed == 0 && passed > 0 && (skipped == 0 || !noSkips)
}

func (s suite) lacks() *need {
	for i, n := range s.needs {
		if !n.here() {
			return &s.needs[i]
		}
	}
	return nil
}

// one runs a suite and returns what it counted. It prints what failed.
func (r *runner) one(ctx context.Context, s suite) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	path := filepath.Join(r.logs, s.name+".log")
	log, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer log.Close()

	t := newTally()
	if s.before != nil {
		err = r.command(ctx, s, s.before, log, plainly(t, log))
	}
	if err == nil {
		read := plainly(t, log)
		if s.goTest {
			read = func(out io.Reader) error { return t.read(out, log, func(t *tally) { r.progress(s, t) }) }
		}
		err = r.command(ctx, s, s.command, log, read)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("still running after %s", s.limit)
	}
	if err != nil {
		r.clearLine()
		fmt.Fprintf(r.out, "%s\nthe whole output: %s\n", head(t.report.String(), 100), path)
		return "", err
	}
	if !s.goTest {
		return "", nil
	}
	return fmt.Sprintf("  %d tests", t.passed), t.verdict(s.whole)
}

// plainly reads output that is to be kept as it is.
func plainly(t *tally, log io.Writer) func(io.Reader) error {
	return func(out io.Reader) error {
		_, err := io.Copy(io.MultiWriter(log, &t.report), out)
		return err
	}
}

// command runs one command to its end, hands its standard output to read, and puts its
// standard error in the log. The command leads a process group of its own, so that whatever
// it started and left behind ends with it.
func (r *runner) command(ctx context.Context, s suite, args []string, log io.Writer, read func(io.Reader) error) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(withoutReferences(os.Environ()), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = io.MultiWriter(log, &stderr)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// The error is that no process of the group is left, which is the aim.
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
	readErr := read(stdout)
	if err := cmd.Wait(); err != nil {
		r.clearLine()
		fmt.Fprint(r.out, head(stderr.String(), 40))
		return err
	}
	return readErr
}

// withoutReferences leaves the references to the suites that set them.
func withoutReferences(environ []string) []string {
	return slices.DeleteFunc(environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(references[:], name)
	})
}

// progress rewrites the terminal's line.
func (r *runner) progress(s suite, t *tally) {
	if r.terminal {
		fmt.Fprintf(r.out, "\r\x1b[K      %-17s %d tests passed, %d failed", s.name, t.passed, t.failed)
	}
}

func (r *runner) clearLine() {
	if r.terminal {
		fmt.Fprint(r.out, "\r\x1b[K")
	}
}

// head returns the first lines of a text and says how many it left out.
func head(text string, most int) string {
	lines := strings.SplitAfter(strings.TrimRight(text, "\n"), "\n")
	if len(lines) <= most {
		return strings.Join(lines, "")
	}
	return fmt.Sprintf("%s… and %d more lines\n", strings.Join(lines[:most], ""), len(lines)-most)
}
