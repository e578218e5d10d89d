package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

var errTimedOut = errors.New("timed out")

// initError is what the process itself said of its init phase.
type initError struct{ payload []byte }

func (e *initError) Error() string { return "init: " + string(e.payload) }

// phase is where an environment is in its life.
type phase int

const (
	starting phase = iota // no invocation was asked for yet
	waiting               // one is asked for
	working               // one was handed out
	answered              // and answered; the next was not asked for yet
)

// work is one invocation, as it is handed to the process.
type work struct {
	id       string
	payload  []byte
	deadline time.Time
	arn      string
}

// answer is what the process said of its invocation.
type answer struct {
	payload []byte
	failed  bool
}

// environment is one process with an endpoint of its own.
type environment struct {
	config Config

	server  *http.Server
	command *exec.Cmd
	began   time.Time
	exited  chan struct{} // closed when the process is gone
	asked   chan time.Time
	handed  chan work

	mu      sync.Mutex // guards what follows
	phase   phase
	current string // id of the invocation
	answer  *answer
	failed  []byte // what the process posted to init/error
	end     error  // how it ended, once exited is closed
}

// initialize starts the process and waits for the end of its init phase.
func (e *environment) initialize(ctx context.Context, limit time.Duration) (time.Duration, error) {
	if err := e.start(); err != nil {
		return 0, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case at := <-e.asked:
		return at.Sub(e.began), nil
	case <-e.exited:
		return 0, e.whyEnded()
	case <-timer.C:
		return 0, errTimedOut
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (e *environment) start() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	e.exited, e.asked, e.handed = make(chan struct{}), make(chan time.Time, 1), make(chan work, 1)
	e.server = &http.Server{Handler: e.endpoint(), ReadHeaderTimeout: time.Minute}
	go func() { _ = e.server.Serve(listener) }() // it ends by Close

	e.command = exec.Command(e.config.Bootstrap)
	e.command.Dir = filepath.Dir(e.config.Bootstrap)
	e.command.Env = e.config.variables(listener.Addr().String())
	e.command.Stdout, e.command.Stderr = e.config.Log, e.config.Log
	// A group of its own: if this process dies, the system wakes and ends the frozen ones.
	e.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	e.began = time.Now()
	if err := e.command.Start(); err != nil {
		_ = e.server.Close()
		close(e.exited)
		return fmt.Errorf("start %s: %w", e.config.Name, err)
	}
	go func() {
		err := e.command.Wait()
		e.mu.Lock()
		e.end = err
		e.mu.Unlock()
		close(e.exited)
	}()
	return nil
}

// whyEnded is of a process that is gone.
func (e *environment) whyEnded() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return &initError{e.failed}
	}
	if e.end == nil {
		return errors.New("the runtime exited without providing a reason")
	}
	return fmt.Errorf("the runtime exited with error: %w", e.end)
}

// work hands out an invocation and waits until the process asks for the next one. With an
// error the process is of no use any more; there may be an answer from before all the same.
func (e *environment) work(w work) (*answer, error) {
	e.thaw()
	e.handed <- w
	timer := time.NewTimer(time.Until(w.deadline))
	defer timer.Stop()
	var err error
	select {
	case <-e.asked:
	case <-e.exited:
		err = e.whyEnded()
	case <-timer.C:
		err = errTimedOut
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && e.answer == nil {
		err = errors.New("the runtime asked for an invocation without answering the last one")
	}
	return e.answer, err
}

// freeze stops the process where it is, and thaw lets it go on. Neither matters to one that
// is gone.
func (e *environment) freeze() { _ = e.command.Process.Signal(syscall.SIGSTOP) }
func (e *environment) thaw()   { _ = e.command.Process.Signal(syscall.SIGCONT) }

// kill ends the process, if it was started, and returns when it is gone.
func (e *environment) kill() {
	if e.command == nil || e.command.Process == nil {
		return
	}
	_ = e.command.Process.Kill() // an error says that it is gone
	<-e.exited
	_ = e.server.Close()
}
