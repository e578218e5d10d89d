// Package browser_test tries the page of `evergrant dev` as a person does: the built
// command, a real browser, clicks.
package browser_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long anything may take to appear, on a busy machine too.
const patience = 60 * time.Second

// dev is a running `evergrant dev`.
type dev struct {
	origin string
	key    string // its API key
	stop   func() // ends it; may be called again
}

// startDev builds the command and runs it on free ports with a data folder of its own.
// ttl is the life of the simulated providers' access tokens, in seconds; more are further
// arguments.
func startDev(t *testing.T, ttl string, more ...string) *dev {
	t.Helper()
	if os.Getenv("EVERGRANT_CHROMIUM") == "" {
		t.Skip("needs a browser: set EVERGRANT_CHROMIUM to the path of Chromium (make reference-chromium finds one)")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "evergrant")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/evergrant").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	args := []string{"dev", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--sim-ttl", ttl, "--log-level", "error"}
	cmd := exec.Command(binary, append(args, more...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &dev{stop: sync.OnceFunc(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("evergrant dev ended: %v", err)
		}
	})}
	t.Cleanup(d.stop)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if key, ok := strings.CutPrefix(lines.Text(), "  export EVERGRANT_API_KEY="); ok {
			d.key = key
		}
		if origin, ok := strings.CutPrefix(lines.Text(), "ready: "); ok {
			d.origin = origin
			return d
		}
	}
	t.Fatal("evergrant dev ended before it was ready")
	return nil
}

// tab is a browser with one page open. It notes what a person would find in the
// browser's console.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string                  // guarded by mu
	foreign    []string                  // requests that left this machine; guarded by mu
	held       *fetch.EventRequestPaused // the last request that waits for our word; guarded by mu
}

// open starts a browser with a profile of its own. dark is the colour scheme of the
// system.
func open(t *testing.T, width, height int64, dark bool) *tab {
	t.Helper()
	options := append([]chromedp.ExecAllocatorOption{},
		chromedp.ExecPath(os.Getenv("EVERGRANT_CHROMIUM")), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless,
		chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(int(width), int(height)),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses to run as root
	}
	allocator, endBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, endTab := chromedp.NewContext(allocator)
	t.Cleanup(endBrowser)
	t.Cleanup(endTab)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.note); err != nil { // it starts the browser
		t.Fatalf("start the browser: %v", err)
	}
	b.do("open a tab", command(network.Enable, network.EnableParams{}), chromedp.EmulateViewport(width, height), taste(dark))
	return b
}

// command is one of the browser's protocol, of whose answer nothing is needed.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, to *chromedp.Target) error {
		_, err := cdp.Call(ctx, to, c, params)
		return err
	})
}

// taste sets what the system prefers. Nothing moves, so that what is clicked on stays
// where it was seen.
func taste(dark bool) chromedp.Action[chromedp.Void] {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// note keeps what should not have happened.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, "console."+string(e.Type))
	case *log.EventEntryAdded: // violations of the Content-Security-Policy too
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.complaints = append(b.complaints, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme != "data" && u.Hostname() != "127.0.0.1" {
			b.foreign = append(b.foreign, e.Request.URL)
		}
	case *fetch.EventRequestPaused:
		b.held = e
	}
}

// isQuiet fails the test for whatever the browser complained of.
func (b *tab) isQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, complaint := range b.complaints {
		b.t.Errorf("the browser says: %s", complaint)
	}
	for _, address := range b.foreign {
		b.t.Errorf("the page asked for %s", address)
	}
	b.complaints, b.foreign = nil, nil
}

// do carries out actions; what names them.
func (b *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\nthe page shows:\n%s", what, err, b.text("body"))
	}
}

// click clicks on the one element.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// until waits until the JavaScript expression holds. It asks anew each time, so that
// the page may change to another meanwhile.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")")); err == nil && holds {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatalf("in vain waited for %s\nthe page shows:\n%s", expression, b.text("body"))
		}
	}
}

// text is the visible text of the first such element, empty without one.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return evaluate[string](b, `document.querySelector(`+quoted(selector)+`)?.innerText ?? ""`)
}

func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Errorf("%s: %v", expression, err)
	}
	return v
}

// quoted is s as a JavaScript text.
func quoted(s string) string {
	data, _ := json.Marshal(s) // a string always can be
	return string(data)
}
