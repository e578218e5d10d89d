package runtimeapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
)

// TestMain lets this very binary be the function, on AWS's own runtime library.
func TestMain(m *testing.M) {
	switch os.Getenv("ROLE") {
	case "":
		os.Exit(m.Run())
	case "broken":
		fmt.Println("cannot begin")
		os.Exit(3)
	case "rogue":
		rogue()
	case "unhappy":
		post("init/error", `{"errorType":"Own","errorMessage":"not set up"}`)
		os.Exit(1)
	case "breaks-once":
		if os.Mkdir(os.Getenv("MARK"), 0o700) == nil {
			os.Exit(3)
		}
	}
	lambda.Start(act)
}

const version = "/2018-06-01/runtime/"

// post sends to the endpoint by hand, and returns what it answers.
func post(path, body string) string {
	res, err := http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+version+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	var told struct{ Status, ErrorType string }
	_ = json.NewDecoder(res.Body).Decode(&told)
	return fmt.Sprintf("%d %s%s", res.StatusCode, told.Status, told.ErrorType)
}

// rogue says things at the wrong time. Its second answer is what it was told.
func rogue() {
	told := []string{post("invocation/x/response", "early")}
	for {
		res, err := http.Get("http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + version + "invocation/next")
		if err != nil {
			os.Exit(0)
		}
		_ = res.Body.Close()
		id := res.Header.Get("Lambda-Runtime-Aws-Request-Id")
		if len(told) > 1 {
			post("invocation/"+id+"/response", `"`+strings.Join(told, ", ")+`"`)
			continue
		}
		told = append(told, post("init/error", "late"), post("invocation/x/response", "wrong"))
		told = append(told, post("invocation/"+id+"/response", "right"), post("invocation/"+id+"/response", "twice"))
	}
}

// seen is what an invocation found.
type seen struct {
	PID, Count                    int
	ID, ARN, Trace, Home, Own, In string
	Left                          time.Duration
}

var count int // of the invocations of this process

func act(ctx context.Context, event map[string]string) (any, error) {
	count++
	switch event["do"] {
	case "fail":
		return nil, errors.New("no")
	case "panic":
		panic("dreadful")
	case "exit":
		os.Exit(7)
	case "hang":
		<-make(chan int)
	case "shout":
		return strings.Repeat("x", 7<<20), nil
	case "meet": // the others that are called at the same time
		if err := os.WriteFile(filepath.Join(event["at"], fmt.Sprint(os.Getpid())), nil, 0o600); err != nil {
			return nil, err
		}
		for {
			if there, err := os.ReadDir(event["at"]); err != nil || len(there) >= 2 {
				return nil, err
			}
			runtime.Gosched()
		}
	}
	deadline, _ := ctx.Deadline()
	lc, _ := lambdacontext.FromContext(ctx)
	return seen{
		PID: os.Getpid(), Count: count, ID: lc.AwsRequestID, ARN: lc.InvokedFunctionArn, Trace: os.Getenv("_X_AMZN_TRACE_ID"),
		Home: os.Getenv("HOME"), Own: os.Getenv("OWN"), In: os.Getenv("LAMBDA_TASK_ROOT"), Left: time.Until(deadline),
	}, nil
}

func start(t *testing.T, c runtimeapi.Config) *runtimeapi.Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if c.Env == nil {
		c.Env = map[string]string{"ROLE": "function", "OWN": "set"}
	}
	c.Name, c.Bootstrap, c.Region = "example", self, "eu-central-1"
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	f := runtimeapi.New(c)
	t.Cleanup(f.Close)
	return f
}

func invoke(t *testing.T, f *runtimeapi.Function, event string) runtimeapi.Result {
	t.Helper()
	r, err := f.Invoke(t.Context(), []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func look(t *testing.T, f *runtimeapi.Function) (seen, runtimeapi.Result) {
	t.Helper()
	r := invoke(t, f, `{"do":"look"}`)
	var s seen
	if err := json.Unmarshal(r.Payload, &s); err != nil || r.Failed {
		t.Fatalf("%s, %v", r.Payload, err)
	}
	return s, r
}

func TestFunctionLearnsWhatLambdaTells(t *testing.T) {
	t.Setenv("HOME", "/not/the/function's")
	f := start(t, runtimeapi.Config{})
	first, r := look(t, f)
	if first.ID != r.RequestID || first.ARN != "arn:aws:lambda:eu-central-1:123456789012:function:example" || !strings.HasPrefix(first.Trace, "Root=1-") {
		t.Errorf("%+v, request %s", first, r.RequestID)
	}
	if first.Own != "set" || first.Home != "" || first.In == "" {
		t.Errorf("variables: %+v", first)
	}
	if first.Left > time.Minute || first.Left < 50*time.Second {
		t.Errorf("%s are left of a minute", first.Left)
	}
	if !r.Cold || r.Init <= 0 {
		t.Errorf("the first invocation: %+v", r)
	}
	second, r := look(t, f)
	if r.Cold || second.PID != first.PID || second.Count != 2 || second.ID == first.ID {
		t.Errorf("the second invocation: %+v, %+v", second, r)
	}
}

func TestWhatTheFunctionFailsBy(t *testing.T) {
	f := start(t, runtimeapi.Config{})
	before, _ := look(t, f)
	for _, c := range []struct {
		do, kind string
		lives    bool
	}{
		{"fail", "errorString", true},
		{"shout", "Function.ResponseSizeTooLarge", false}, // AWS's own library ends when its answer is refused
		{"panic", "string", false},
		{"exit", "Runtime.ExitError", false},
	} {
		r := invoke(t, f, `{"do":"`+c.do+`"}`)
		var told struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(r.Payload, &told); err != nil || !r.Failed || told.ErrorType != c.kind {
			t.Errorf("%s: %s, failed %v, %v", c.do, r.Payload, r.Failed, err)
		}
		after, r := look(t, f)
		if lives := after.PID == before.PID; lives != c.lives || r.Cold == c.lives {
			t.Errorf("%s: the process lives on: %v, cold: %v", c.do, lives, r.Cold)
		}
		before = after
	}
}

func TestOutOfTimeEndsTheProcess(t *testing.T) {
	f := start(t, runtimeapi.Config{Timeout: 2 * time.Second})
	before, _ := look(t, f)
	r := invoke(t, f, `{"do":"hang"}`)
	if !r.Failed || !strings.Contains(string(r.Payload), "Sandbox.Timedout") || !strings.Contains(string(r.Payload), "timed out after 2.00 seconds") {
		t.Errorf("%s", r.Payload)
	}
	if after, r := look(t, f); !r.Cold || after.PID == before.PID || after.Count != 1 {
		t.Errorf("afterwards: %+v, %+v", after, r)
	}
}

func TestInitIsTriedTwice(t *testing.T) {
	var log bytes.Buffer
	broken := start(t, runtimeapi.Config{Env: map[string]string{"ROLE": "broken"}, Log: &log})
	if r := invoke(t, broken, `{}`); !r.Failed || !strings.Contains(string(r.Payload), "exit status 3") {
		t.Errorf("%s", r.Payload)
	}
	broken.Close()
	if n := strings.Count(log.String(), "cannot begin"); n != 2 || broken.Environments() != 0 {
		t.Errorf("started %d times, %d left", n, broken.Environments())
	}
	once := start(t, runtimeapi.Config{Env: map[string]string{"ROLE": "breaks-once", "MARK": filepath.Join(t.TempDir(), "mark")}})
	look(t, once)
}

func TestEndpointRefusesWhatComesAtTheWrongTime(t *testing.T) {
	f := start(t, runtimeapi.Config{Env: map[string]string{"ROLE": "rogue"}})
	if r := invoke(t, f, `{}`); string(r.Payload) != "right" || r.Failed {
		t.Errorf("%s", r.Payload)
	}
	const want = `"403 InvalidStateTransition, 403 InvalidStateTransition, 400 InvalidRequestID, 202 OK, 403 InvalidStateTransition"`
	if r := invoke(t, f, `{}`); string(r.Payload) != want {
		t.Errorf("got  %s\nwant %s", r.Payload, want)
	}
	unhappy := start(t, runtimeapi.Config{Env: map[string]string{"ROLE": "unhappy"}})
	if r := invoke(t, unhappy, `{}`); !r.Failed || string(r.Payload) != `{"errorType":"Own","errorMessage":"not set up"}` {
		t.Errorf("%s", r.Payload)
	}
}

func TestInvocationsAtOnceHaveAnEnvironmentEach(t *testing.T) {
	f := start(t, runtimeapi.Config{Concurrency: 2})
	at := t.TempDir()
	var both sync.WaitGroup
	for range 2 { // neither answers before the other is there
		both.Go(func() {
			if r, err := f.Invoke(t.Context(), []byte(`{"do":"meet","at":"`+at+`"}`)); err != nil || r.Failed {
				t.Errorf("%s, %v", r.Payload, err)
			}
		})
	}
	both.Wait()
	if n := f.Environments(); n != 2 {
		t.Errorf("%d environments", n)
	}
	f.Shutdown()
	if n := f.Environments(); n != 0 {
		t.Errorf("%d environments after the shutdown", n)
	}
	if s, r := look(t, f); !r.Cold || s.Count != 1 {
		t.Errorf("after the shutdown: %+v, %+v", s, r)
	}
}

func TestConcurrencyIsLimited(t *testing.T) {
	f := start(t, runtimeapi.Config{Concurrency: 1, Timeout: time.Second})
	done := make(chan runtimeapi.Result, 1)
	go func() {
		r, _ := f.Invoke(t.Context(), []byte(`{"do":"hang"}`))
		done <- r
	}()
	for f.Environments() == 0 {
		runtime.Gosched()
	}
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, runtimeapi.ErrThrottled) {
		t.Errorf("while the only environment is at work: %v", err)
	}
	if r := <-done; !r.Failed {
		t.Errorf("%s", r.Payload)
	}
}

// TestNothingRunsBetweenInvocations reads the process's state from Linux, where Lambda runs.
func TestNothingRunsBetweenInvocations(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("only Linux tells the state of a process in /proc")
		return
	}
	f := start(t, runtimeapi.Config{})
	if _, err := f.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, r := look(t, f)
	if r.Cold {
		t.Error("an environment was there, and another one was started")
	}
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), ") T ") { // stopped
			break
		}
		runtime.Gosched() // the signal is on its way
	}
	if again, _ := look(t, f); again.PID != s.PID {
		t.Error("it did not go on")
	}
}

func TestClosedFunction(t *testing.T) {
	f := start(t, runtimeapi.Config{})
	s, _ := look(t, f)
	f.Close()
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, runtimeapi.ErrClosed) {
		t.Error(err)
	}
	if p, err := os.FindProcess(s.PID); err == nil && p.Signal(syscall.Signal(0)) == nil {
		t.Error("the process is still there")
	}
}
