package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// server is `evergrant serve` with the folder and the address that it keeps over its
// restarts.
type server struct {
	binary, folder, address, key string
	client                       *http.Client

	process *exec.Cmd
	reading sync.WaitGroup
	kills   int

	mu       sync.Mutex
	outcomes map[string]int // of refreshes, as its log names them; guarded by mu
	said     []string       // its last lines, for when it does not start; guarded by mu
}

func newServer(binary, folder string, sites []*site) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{
		binary: binary, folder: folder, address: l.Addr().String(), key: "evg_" + rand.Text(), outcomes: map[string]int{},
		client: &http.Client{Timeout: time.Minute},
	}
	integrations := map[string]any{}
	for _, at := range sites {
		integrations[at.integration] = map[string]any{"client_id": at.clientID, "provider": at.entry()}
	}
	sum := sha256.Sum256([]byte(s.key))
	file, err := json.Marshal(map[string]any{
		"integrations": integrations,
		"api_keys": []any{map[string]any{
			"name": "soak", "hash": "sha256:" + hex.EncodeToString(sum[:]), "allow": []string{"token", "manage"}, "imports_per_minute": 1_000_000,
			"integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, errors.Join(l.Close(), os.WriteFile(filepath.Join(folder, "evergrant.yaml"), file, 0o600))
}

// startTime bounds a start: it opens the store and replays what was rescued.
const startTime = 30 * time.Second

// start starts the server and returns once it is ready.
func (s *server) start() error {
	s.process = exec.Command(s.binary, "serve", "--config", filepath.Join(s.folder, "evergrant.yaml"), "--data", filepath.Join(s.folder, "data"), "--listen", s.address)
	out, err := s.process.StdoutPipe()
	if err != nil {
		return err
	}
	log, err := s.process.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	ready := make(chan bool, 2)
	s.reading.Go(func() { s.readLog(log) })
	s.reading.Go(func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			if strings.HasPrefix(scan.Text(), "ready: ") {
				ready <- true
			}
		}
		ready <- false
	})
	late := time.NewTimer(startTime)
	defer late.Stop()
	select {
	case ok := <-ready:
		if ok {
			return nil
		}
	case <-late.C:
	}
	s.kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("evergrant serve was not ready; it said:\n%s", strings.Join(s.said, "\n"))
}

// readLog counts the outcomes that the server logs.
func (s *server) readLog(from io.Reader) {
	scan := bufio.NewScanner(from)
	for scan.Scan() {
		var line struct{ Level, Msg, Outcome string }
		_ = json.Unmarshal(scan.Bytes(), &line) // the last one may be cut off
		s.mu.Lock()
		switch {
		case line.Msg == "refresh" && line.Level == "INFO":
			s.outcomes[line.Outcome]++
		case line.Level != "INFO":
			s.said = append(s.said[max(0, len(s.said)-9):], scan.Text())
		}
		s.mu.Unlock()
	}
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	_ = s.process.Process.Kill() // it may have ended
	s.reading.Wait()
	_ = s.process.Wait() // it was killed
}

// stop asks the server to end, and takes no for an answer after a while.
func (s *server) stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended
	ended := make(chan struct{})
	go func() { defer close(ended); s.reading.Wait() }()
	late := time.NewTimer(startTime)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
	}
	s.kill()
}

func (s *server) counted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]int, len(s.outcomes))
	for name, n := range s.outcomes {
		all[name] = n
	}
	return all
}

// call calls the API. A status other than 2xx is an error with the problem's code.
func (s *server) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	if answer.StatusCode/100 != 2 {
		var problem wire.Problem
		_ = json.NewDecoder(answer.Body).Decode(&problem) // the status says enough
		return fmt.Errorf("status %d %s", answer.StatusCode, problem.Code)
	}
	return json.NewDecoder(answer.Body).Decode(out)
}
