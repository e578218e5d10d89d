package oidc_test

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started, with all that it wrote.
type process struct {
	command *exec.Cmd
	name    string
	ended   chan struct{} // closed once it has ended and its output is read

	mu  sync.Mutex
	out strings.Builder // stdout and stderr by lines; guarded by mu
}

// start runs the command until the test ends, and returns once it has written a line
// that begins with ready, with that line.
func start(t *testing.T, name string, command *exec.Cmd, ready string) (*process, string) {
	t.Helper()
	p := &process{command: command, name: name, ended: make(chan struct{})}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, p.output())
		}
	})
	lines := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() { p.read(stdout, ready, lines) })
	reading.Go(func() { p.read(stderr, ready, nil) })
	go func() {
		defer close(p.ended)
		reading.Wait()
		_ = command.Wait() // how it ended is the test's business only where it waits for it
	}()
	select {
	case line := <-lines:
		return p, line
	case <-p.ended:
		t.Fatalf("%s ended before it was ready:\n%s", name, p.output())
	case <-time.After(time.Minute):
		t.Fatalf("%s was not ready within a minute", name)
	}
	return nil, ""
}

func (p *process) read(from io.Reader, ready string, found chan<- string) {
	scan := bufio.NewScanner(from)
	for scan.Scan() {
		p.mu.Lock()
		p.out.WriteString(scan.Text() + "\n")
		p.mu.Unlock()
		if found != nil && strings.HasPrefix(scan.Text(), ready) {
			found <- scan.Text()
			found = nil
		}
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may have ended by itself
	<-p.ended
}

// stop asks the process to end, as an operator would. It has to do so by itself.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have been killed
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not end within 20 s of SIGTERM", p.name)
		p.kill()
	}
}

// eventually waits until the condition holds. The processes have clocks of their own,
// and nothing tells a test that one of them has done something by itself, so it looks
// again and again.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	end := time.After(within)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}
