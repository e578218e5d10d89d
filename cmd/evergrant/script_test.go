package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this binary the commands of the scripts: evergrant itself, consents, the
// browser in which somebody allows whatever the link asks, and curl, which knows the
// simulator alone.
//
// Run with runServe it is evergrant by itself, for tests that kill it.
func TestMain(m *testing.M) {
	if os.Getenv(runServe) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"evergrant": main, "consents": consents, "curl": fetches})
}

const runServe = "EVERGRANT_TEST_RUN"

func consents() {
	who, err := newPerson("alice")
	if err == nil {
		_, err = who.consent(context.Background(), os.Args[1], "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts runs the files of testdata, which are the manual of the command line.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("BROWSER", "consents")
			e.Setenv("LINEBREAK", "\n")
			e.Setenv("XDG_CACHE_HOME", e.WorkDir+"/cache")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"ticked":  ticked,
			"serving": serving,
			"typing":  typing,
			"word":    word,
			"copied":  copied,
			"page":    onPage,
		},
	})
}

// exits CODE COMMAND ... runs a command that must end with that code. Its output is
// checked by stdout and stderr, as after exec.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// ticked KEYFILE waits until the server's schedule has finished a minute, which it begins
// with when it starts.
func ticked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ticked KEYFILE")
	}
	a := newAPI(ts.Getenv("EVERGRANT_URL"), secret.New(strings.TrimSpace(ts.ReadFile(args[0]))))
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for end := time.After(time.Minute); ; {
		var d wire.Diagnosis
		ts.Check(a.call(context.Background(), http.MethodGet, "/v1/admin/doctor", nil, &d))
		if d.LastTickAt != nil {
			return
		}
		select {
		case <-again.C:
		case <-end:
			ts.Fatalf("the schedule has not run")
		}
	}
}

// serving COMMAND ... starts a server and waits for its ready line, whose address
// becomes EVERGRANT_URL. What it said before is in the file started. The server is
// told to end when the script is over, and must end well.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serving COMMAND ...")
	}
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME"))
	log, err := os.Create(ts.MkAbs("server.log"))
	ts.Check(err)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		if err := cmd.Wait(); err != nil {
			ts.Logf("the server ended badly: %v", err)
		}
		_ = log.Close()
	})
	address, said, err := awaitReady(out)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("the server did not start: %v\n%s", err, text)
	}
	ts.Check(os.WriteFile(ts.MkAbs("started"), []byte(said), 0o600))
	ts.Setenv("EVERGRANT_URL", address)
}

// awaitReady reads a server's output up to its ready line.
func awaitReady(out io.Reader) (address, said string, err error) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		said += lines.Text() + "\n"
		if address, found := strings.CutPrefix(lines.Text(), "ready: "); found {
			return address, said, nil
		}
	}
	return "", said, errors.New("its output ended without a ready line")
}

// typing COMMAND ... runs a connect on a machine without a browser: somebody opens the
// link that it prints elsewhere, and types one wrong code and then the one that the last
// page shows. What it printed goes to stdout, as after exec.
func typing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: typing COMMAND ...")
	}
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), os.Environ()
	for _, name := range []string{"EVERGRANT_URL", "EVERGRANT_KEY_FILE", "SSH_CONNECTION"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	in, err := cmd.StdinPipe()
	ts.Check(err)
	said, err := cmd.StderrPipe()
	ts.Check(err)
	var out strings.Builder
	cmd.Stdout = &out
	ts.Check(cmd.Start())
	for lines := bufio.NewScanner(said); lines.Scan(); {
		link := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(link, "http://") {
			continue
		}
		code, err := codeShown(ctx, link)
		ts.Check(err)
		_, err = io.WriteString(in, "BBBB-BBBB\n"+strings.ToLower(code)+"\n")
		ts.Check(err)
	}
	ts.Check(cmd.Wait())
	ts.Check(os.WriteFile(ts.MkAbs("typed"), []byte(out.String()), 0o600))
	ts.Check(ts.Exec("cat", "typed"))
}

// codeShown allows what the link asks and reads the last page.
func codeShown(ctx context.Context, link string) (string, error) {
	who, err := newPerson("alice")
	if err != nil {
		return "", err
	}
	origin, _, _ := strings.Cut(link, "/authorize/")
	last, err := who.consent(ctx, link, origin+"/callback/")
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, last.String(), nil)
	if err != nil {
		return "", err
	}
	resp, err := who.client.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`>([A-Z]{4}-[A-Z]{4})<`).FindSubmatch(page)
	if found == nil {
		return "", errors.New("the last page shows no code")
	}
	return string(found[1]), nil
}

// word NAME FILE PREFIX puts the first word of a file that begins with the prefix into
// a variable.
func word(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: word NAME FILE PREFIX")
	}
	for _, w := range strings.FieldsFunc(ts.ReadFile(args[1]), func(r rune) bool { return strings.ContainsRune(" \t\n\",", r) }) {
		if strings.HasPrefix(w, args[2]) {
			ts.Setenv(args[0], w)
			return
		}
	}
	ts.Fatalf("no word begins with %s", args[2])
}

// copied PROVIDER FILE copies a refresh token from the simulated account page into a
// file, as its user would.
func copied(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: copied PROVIDER FILE")
	}
	_, rest, _ := strings.Cut(ts.ReadFile("started"), "providers: ")
	base, _, _ := strings.Cut(rest, "/sim/")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := pastedToken(ctx, base+"/sim/"+args[0]+"/account")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(token+"\n"), 0o600))
}

// page PATH JSON does what a button of dev's page does. The answer goes to stdout, as
// after exec.
func onPage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: page PATH JSON")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, ts.Getenv("EVERGRANT_URL")+args[0], strings.NewReader(args[1]))
	ts.Check(err)
	r.Header.Set("Evergrant-Page", "1")
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s: %s", args[0], resp.Status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answered"), append(body, '\n'), 0o600))
	ts.Check(ts.Exec("cat", "answered"))
}

func pastedToken(ctx context.Context, page string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var shown struct {
		RefreshToken string `json:"refresh_token"`
	}
	err = json.NewDecoder(resp.Body).Decode(&shown)
	return shown.RefreshToken, err
}
