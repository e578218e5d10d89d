package provider_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// readRequest reads one whole request off a connection, so that closing it
// afterwards does not reset what is on its way.
func readRequest(c net.Conn) error {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// sent is a request as a server got it.
type sent struct {
	Method, Path, Query string
	Escaped             string // Path as it was sent
	Header              http.Header
	Body                string
	Form                url.Values
	Proto               string
}

// wire is a server below HTTP: it reads whole requests, remembers them, and lets
// play write whatever to the connection. When play returns false, the connection
// is closed.
type wire struct {
	URL  string
	play func(c net.Conn, n int) bool

	mu    sync.Mutex
	seen  []sent // guarded by mu
	conns int    // guarded by mu
}

func newWire(t *testing.T, play func(c net.Conn, n int) bool) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{URL: "http://" + l.Addr().String(), play: play}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				running.Go(func() { w.serve(c) })
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return w
}

func (w *wire) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	w.mu.Lock()
	w.conns++
	w.mu.Unlock()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		form, _ := url.ParseQuery(string(b))
		w.mu.Lock()
		w.seen = append(w.seen, sent{r.Method, r.URL.Path, r.URL.RawQuery, r.URL.EscapedPath(), r.Header, string(b), form, r.Proto})
		n := len(w.seen)
		w.mu.Unlock()
		if !w.play(c, n) {
			return
		}
	}
}

// requests returns what was seen so far.
func (w *wire) requests() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sent(nil), w.seen...)
}

// connections returns how many were opened so far.
func (w *wire) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conns
}

// reply writes raw bytes as the whole answer and closes.
func reply(raw string) func(net.Conn, int) bool {
	return func(c net.Conn, _ int) bool {
		_, _ = io.WriteString(c, raw)
		return false
	}
}
