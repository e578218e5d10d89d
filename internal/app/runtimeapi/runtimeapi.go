// Package runtimeapi provides AWS Lambda's half of a function, for tests and benchmarks: it
// starts the very binary that would be deployed, as a process of its own for each execution
// environment, and speaks the Lambda Runtime API (version 2018-06-01) to it.
//
// What a function can notice of Lambda is as AWS documents it ("Using the Lambda runtime API
// for custom runtimes", "Understanding the Lambda execution environment lifecycle"):
//
//   - An environment has one endpoint and works on one invocation at a time. Several
//     invocations at once get several environments, up to the function's concurrency.
//   - The init phase ends with the first request for an invocation and may take 10 s. One that
//     fails or takes longer is tried once more within the first invocation's own time.
//   - An invocation ends with the request for the next one. Between two invocations the
//     process is frozen, so that nothing in it runs and its clock seems to jump.
//   - An invocation that runs out of time ends the process, without a signal that it could
//     catch. So does a process that ends by itself, and in both cases the next invocation
//     meets a fresh one. So does a shutdown: a function without extensions is not told of it.
//   - The process has the variables that AWS sets, and else those that were given.
//
// Extensions, response streaming and the limits on memory and disk are not here.
package runtimeapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"sync"
	"time"
)

// Config is a function as it would be deployed.
type Config struct {
	// Name is the function's name. Required.
	Name string
	// Bootstrap is the path of its binary. Required. The folder that it stands in is where
	// Lambda would have unpacked the package: LAMBDA_TASK_ROOT.
	Bootstrap string
	// Region stands in the function's ARN, and in its environment. Required.
	Region string
	// Env are the variables of the function, and the credentials of its role.
	Env map[string]string
	// Timeout is how long one invocation may take. Zero means 3 s, which is Lambda's.
	Timeout time.Duration
	// MemoryMB is what the function is told; it is not enforced. Zero means 128.
	MemoryMB int
	// Concurrency is how many environments there may be at once. Zero means no limit.
	Concurrency int
	// Log takes what the processes write. Nil: it is dropped.
	Log io.Writer
}

// Account is the AWS account in the functions' ARNs.
const Account = "123456789012"

const (
	initTime       = 10 * time.Second
	defaultTimeout = 3 * time.Second
	defaultMemory  = 128
	// maxPayload is Lambda's limit on a synchronous invocation's answer: 6 MB.
	maxPayload = 6 << 20
)

// Errors of Invoke. All others are of the context.
var (
	// ErrThrottled is Lambda's TooManyRequestsException: all environments are at work.
	ErrThrottled = errors.New("the function's concurrency is used up")
	// ErrClosed says that the function was closed.
	ErrClosed = errors.New("the function is closed")
)

// Result is what became of one invocation.
type Result struct {
	RequestID string
	// Payload is the function's answer or, where it failed, the error as JSON with
	// errorType and errorMessage.
	Payload []byte
	// Failed says that Payload is an error: the function's own, or that it ran out of
	// time (Sandbox.Timedout) or ended (Runtime.ExitError).
	Failed bool
	// Cold says that an environment was started for this invocation.
	Cold bool
	// Init is how long the init phase took, of a cold one.
	Init time.Duration
}

// Function is a function with its environments. It may be used concurrently.
type Function struct {
	config Config

	mu     sync.Mutex // guards what follows
	closed bool
	all    map[*environment]bool
	idle   []*environment // the one that was used last at the end, as Lambda prefers it
}

// New returns the function. Nothing is started before it is invoked.
func New(c Config) *Function {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = defaultMemory
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	c.Log = &serial{to: c.Log}
	c.Env = maps.Clone(c.Env)
	return &Function{config: c, all: map[*environment]bool{}}
}

// serial lets several processes write to one log.
type serial struct {
	mu sync.Mutex
	to io.Writer // guarded by mu
}

func (s *serial) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.to.Write(b)
}

// ARN is the function's.
func (f *Function) ARN() string {
	return "arn:aws:lambda:" + f.config.Region + ":" + Account + ":function:" + f.config.Name
}

// Environments is how many processes there are now.
func (f *Function) Environments() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

// Provision starts one environment ahead of any invocation, as provisioned concurrency
// does, and returns how long its init phase took: from the start of the process to its first
// request for an invocation. The error says why there was none.
func (f *Function) Provision(ctx context.Context) (time.Duration, error) {
	e, _, err := f.acquire(false)
	if err != nil {
		return 0, err
	}
	took, err := e.initialize(ctx, initTime)
	if err != nil {
		f.discard(e)
		return 0, err
	}
	f.release(e)
	return took, nil
}

// Invoke carries out one synchronous invocation. It returns when the function asks for the
// next one, has ended, or ran out of time. If ctx ends first the invocation goes on, as it
// does when Lambda's caller goes away.
func (f *Function) Invoke(ctx context.Context, payload []byte) (Result, error) {
	e, cold, err := f.acquire(true)
	if err != nil {
		return Result{}, err
	}
	done := make(chan Result, 1)
	go func() { done <- f.run(e, cold, payload) }()
	select {
	case r := <-done:
		return r, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// run takes the environment through the invocation and back to the idle ones.
func (f *Function) run(e *environment, cold bool, payload []byte) Result {
	r := Result{RequestID: requestID(), Cold: cold}
	var failed error
	if cold {
		r.Init, failed = e.initialize(context.Background(), initTime)
	}
	deadline := time.Now().Add(f.config.Timeout) // a first init phase is not on the invocation's time
	if failed != nil {
		e = f.replace(e)
		r.Init, failed = e.initialize(context.Background(), f.config.Timeout)
	}
	if failed != nil {
		f.discard(e)
		r.Payload, r.Failed = failure(r.RequestID, failed, f.config.Timeout), true
		return r
	}
	answer, err := e.work(work{id: r.RequestID, payload: payload, deadline: deadline, arn: f.ARN()})
	if err != nil {
		f.discard(e)
	} else {
		f.release(e)
	}
	switch {
	case answer != nil: // it had answered before it ended
		r.Payload, r.Failed = answer.payload, answer.failed
	case err != nil:
		r.Payload, r.Failed = failure(r.RequestID, err, f.config.Timeout), true
	}
	return r
}

// failure is what Lambda's caller gets where the function could say nothing itself.
func failure(id string, err error, timeout time.Duration) []byte {
	var told *initError
	if errors.As(err, &told) {
		return told.payload
	}
	kind, text := "Runtime.ExitError", err.Error()
	if errors.Is(err, errTimedOut) {
		kind, text = "Sandbox.Timedout", fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds())
	}
	b, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": "RequestId: " + id + " Error: " + text})
	return b
}

// acquire takes an idle environment or makes one; reuse is false where it must be fresh.
func (f *Function) acquire(reuse bool) (e *environment, cold bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, ErrClosed
	}
	if n := len(f.idle); reuse && n > 0 {
		e = f.idle[n-1]
		f.idle = f.idle[:n-1]
		return e, false, nil
	}
	if f.config.Concurrency > 0 && len(f.all) >= f.config.Concurrency {
		return nil, false, ErrThrottled
	}
	e = &environment{config: f.config}
	f.all[e] = true
	return e, true, nil
}

// release puts the environment back among the idle ones, frozen.
func (f *Function) release(e *environment) {
	f.mu.Lock()
	if !f.closed && f.all[e] {
		e.freeze()
		f.idle = append(f.idle, e)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	f.discard(e) // closed or shut down meanwhile
}

func (f *Function) discard(e *environment) {
	f.mu.Lock()
	delete(f.all, e)
	f.mu.Unlock()
	e.kill()
}

// replace ends an environment and makes another one in its place.
func (f *Function) replace(e *environment) *environment {
	fresh := &environment{config: f.config}
	f.mu.Lock()
	delete(f.all, e)
	f.all[fresh] = true
	f.mu.Unlock()
	e.kill()
	return fresh
}

// Shutdown ends all environments that are idle, as Lambda does with those that nobody needed
// for a while. The next invocation starts cold.
func (f *Function) Shutdown() {
	f.mu.Lock()
	idle := f.idle
	f.idle = nil
	for _, e := range idle {
		delete(f.all, e)
	}
	f.mu.Unlock()
	for _, e := range idle {
		e.kill()
	}
}

// Close ends all environments, those at work too, and refuses further invocations. It
// returns when their processes are gone.
func (f *Function) Close() {
	f.mu.Lock()
	f.closed = true
	all := f.all
	f.all, f.idle = map[*environment]bool{}, nil
	f.mu.Unlock()
	for e := range all {
		e.kill()
	}
}

// requestID is a random UUID, which is the form that Lambda's have.
func requestID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// variables is the environment of a process whose endpoint has that address. Nothing of
// this process's own gets into it.
func (c Config) variables(endpoint string) []string {
	all := map[string]string{
		"AWS_LAMBDA_RUNTIME_API": endpoint, "AWS_LAMBDA_FUNCTION_NAME": c.Name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": fmt.Sprint(c.MemoryMB), "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/" + c.Name, "AWS_LAMBDA_LOG_STREAM_NAME": "local",
		"AWS_REGION": c.Region, "AWS_DEFAULT_REGION": c.Region, "_HANDLER": "bootstrap",
		"LAMBDA_TASK_ROOT": filepath.Dir(c.Bootstrap), "LAMBDA_RUNTIME_DIR": "/var/runtime",
		"PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
	}
	for name, value := range c.Env {
		if _, reserved := all[name]; !reserved {
			all[name] = value
		}
	}
	out := make([]string, 0, len(all))
	for name, value := range all {
		out = append(out, name+"="+value)
	}
	return out
}
