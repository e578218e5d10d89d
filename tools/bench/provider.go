package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// providerArgument has the program be the provider.
const providerArgument = "provider"

// provide serves a token endpoint on loopback until its standard input ends: POST
// /token/{ms} answers a new pair after so many milliseconds, POST /fixed an access token alone,
// POST /hang a pair once somebody has asked for /release, GET /bare/{bytes} with that many.
func provide(out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	gate := make(chan struct{}) // guarded by mu; closed by a release
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token/{ms}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if wait, _ := strconv.Atoi(r.PathValue("ms")); wait > 0 {
			time.Sleep(time.Duration(wait) * time.Millisecond)
		}
		answer(w, map[string]any{"refresh_token": rand.Text() + rand.Text()})
	})
	mux.HandleFunc("POST /fixed", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, map[string]any{})
	})
	mux.HandleFunc("POST /hang", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		wait := gate
		mu.Unlock()
		<-wait
		answer(w, map[string]any{"refresh_token": rand.Text() + rand.Text()})
	})
	mux.HandleFunc("POST /release", func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		close(gate)
		gate = make(chan struct{})
	})
	mux.HandleFunc("GET /bare/{bytes}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("bytes"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.Repeat(" ", min(n, 1<<20)))
	})
	fmt.Fprintf(out, "http://%s\n", l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	}()
	if err := http.Serve(l, mux); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// answer answers as providers do, with tokens of the usual length.
func answer(w http.ResponseWriter, members map[string]any) {
	members["access_token"], members["token_type"], members["expires_in"], members["scope"] = rand.Text()+rand.Text(), "Bearer", life, "read write"
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(members)
}

// child is the provider's process.
type child struct {
	base    string // URL
	process *exec.Cmd
	stdin   io.Closer
}

func startProvider() (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, providerArgument)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	base, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("the provider does not start: %w", errors.Join(err, cmd.Wait()))
	}
	return &child{base: strings.TrimSpace(base), process: cmd, stdin: in}, nil
}

// stop ends the process, whose input has then ended.
func (c *child) stop() {
	_ = c.stdin.Close()
	_ = c.process.Wait()
}

// release lets go of all requests that hang.
func (c *child) release() error {
	res, err := http.Post(c.base+"/release", "", nil)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
