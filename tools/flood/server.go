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
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is `evergrant serve` on a port of its own.
type server struct {
	address, key string
	process      *exec.Cmd
	log          *os.File
}

// start starts it with an empty store and returns once it is ready.
func start(binary, folder string) (*server, error) {
	s := &server{key: "evg_" + rand.Text()}
	sum := sha256.Sum256([]byte(s.key))
	file, err := json.Marshal(map[string]any{
		"integrations": map[string]any{"acme": map[string]any{
			"client_id": "flood", "client_secret": "none", "return_to": []string{"http://127.0.0.1:9/back"},
			"provider": map[string]any{ // nobody ever asks it
				"authorization_endpoint": "http://127.0.0.1:9/authorize", "token_endpoint": "http://127.0.0.1:9/token",
				"token_endpoint_auth_method": "client_secret_post", "pkce": "S256",
			},
		}},
		"api_keys": []any{map[string]any{
			"name": "good", "hash": "sha256:" + hex.EncodeToString(sum[:]), "allow": []string{"connect", "token", "manage"}, "integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "evergrant.yaml")
	if err := os.WriteFile(config, file, 0o600); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(folder, "log")); err != nil {
		return nil, err
	}
	s.process = exec.Command(binary, "serve", "--config", config, "--data", filepath.Join(folder, "data"), "--listen", "127.0.0.1:0")
	s.process.Stderr = s.log
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for scan := bufio.NewScanner(out); scan.Scan(); {
		if origin, ready := strings.CutPrefix(scan.Text(), "ready: http://"); ready {
			s.address = origin
			return s, nil
		}
	}
	said, _ := os.ReadFile(s.log.Name())
	return nil, errors.Join(fmt.Errorf("evergrant serve was not ready; it said:\n%s", said), s.stop())
}

// stop ends it, by force where it takes too long.
func (s *server) stop() error {
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended
	late := time.AfterFunc(20*time.Second, func() { _ = s.process.Process.Kill() })
	defer late.Stop()
	return errors.Join(s.process.Wait(), s.log.Close())
}

// memory is the process's resident memory, bytes; 0 where it cannot be read.
func (s *server) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.process.Process.Pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}

// peak is the most memory that it takes until ctx ends, looked at ten times a second.
func (s *server) peak(ctx context.Context) int64 {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for highest := s.memory(); ; highest = max(highest, s.memory()) {
		select {
		case <-ctx.Done():
			return highest
		case <-tick.C:
		}
	}
}

// ask sends a request and reads its answer, into out where that is not nil. status is 0 where
// no answer came.
func (s *server) ask(ctx context.Context, client *http.Client, q request, out any) (status int, err error) {
	if q.method == "" {
		q.method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, q.method, "http://"+s.address+q.path, q.body)
	if err != nil {
		return 0, err
	}
	if q.kind == "" {
		q.kind = "application/json"
	}
	r.Header.Set("Content-Type", q.kind)
	if q.key != "" {
		r.Header.Set("Authorization", "Bearer "+q.key)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return res.StatusCode, err
	}
	if out != nil {
		return res.StatusCode, json.NewDecoder(bytes.NewReader(body)).Decode(out)
	}
	return res.StatusCode, nil
}
