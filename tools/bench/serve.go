package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
)

// longLife is the life of the tokens that serve holds here, s: few of them are due while it is
// measured.
const longLife = 7 * 24 * 3600

// server is `evergrant serve` over a folder.
type server struct {
	binary, folder, address, key string
	process                      *exec.Cmd
	client                       *http.Client
}

// serves measures one process of `evergrant serve` that holds 100,000 connections: its memory
// and file, token reads a second over HTTP against a server that answers as many bytes and does
// nothing else, and the time from its start after kill -9 to its first answer.
func serves(ctx context.Context, b *bench) error {
	binary, err := find(b.serve, "make build")
	if err != nil {
		return err
	}
	n := b.scaled(100_000, 2000)
	empty, err := b.prepare(binary, "serve-empty")
	if err != nil {
		return err
	}
	if _, err := b.fill(ctx, empty, 1); err != nil {
		return err
	}
	s, err := b.prepare(binary, "serve")
	if err != nil {
		return err
	}
	ids, err := b.fill(ctx, s, n)
	if err != nil {
		return err
	}
	least, err := empty.start(ctx)
	if err != nil {
		return err
	}
	empty.kill()
	started, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer func() { s.kill() }()
	what := fmt.Sprintf("serve/%d connections", n)
	b.report(what+"/start", ms(started), "ms", ms(least))
	if err := b.throughput(ctx, s, ids, what); err != nil {
		return err
	}
	if err := s.size(b, what, n); err != nil {
		return err
	}
	return b.recovery(ctx, s, ids, what, least)
}

// prepare makes the folder of a server, with its configuration.
func (b *bench) prepare(binary, name string) (*server, error) {
	s := &server{
		binary: binary, folder: filepath.Join(b.folder, name), key: "evg_" + rand.Text(),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	if err := os.MkdirAll(filepath.Join(s.folder, "data"), 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.address = l.Addr().String()
	text := settingsText(b.provider.base, site{name: integration, token: "/token/50", rotates: true}) + fmt.Sprintf(
		"api_keys: [{name: bench, hash: %q, allow: [token], integrations: [\"*\"], owners: [\"*\"]}]\n", config.HashAPIKey(secret.New(s.key)))
	return s, errors.Join(l.Close(), os.WriteFile(filepath.Join(s.folder, "evergrant.yaml"), []byte(text), 0o600))
}

// fill puts n connections into a server's store before its first start.
func (b *bench) fill(ctx context.Context, s *server, n int) (ids []string, err error) {
	name := filepath.Join(filepath.Base(s.folder), "data")
	store, end, err := b.bolt(filepath.Join(name, "evergrant.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	c, err := settings(b.provider.base, site{name: integration, token: "/token/50", rotates: true})
	if err != nil {
		return nil, err
	}
	d, err := b.deploy(ctx, store, c)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(b.folder, "key")) // under which deploy seals
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.folder, "data", "key"), key, 0o600); err != nil {
		return nil, err
	}
	return d.seed(ctx, integration, n, longLife, true)
}

// start starts the server and tells how long it took to be ready.
func (s *server) start(ctx context.Context) (time.Duration, error) {
	s.process = exec.CommandContext(ctx, s.binary, "serve", "--config", filepath.Join(s.folder, "evergrant.yaml"),
		"--data", filepath.Join(s.folder, "data"), "--listen", s.address, "--log-level", "error")
	s.process.Env, s.process.Stderr = append(os.Environ(), "SECRET=a client secret of usual length"), os.Stderr
	out, err := s.process.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := s.process.Start(); err != nil {
		return 0, err
	}
	text, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(began)
	if err != nil || !strings.HasPrefix(text, "ready: ") {
		s.kill()
		return 0, fmt.Errorf("evergrant serve was not ready: %w", err)
	}
	return took, nil
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// token reads one token over HTTP and returns the size of the answer.
func (s *server) token(ctx context.Context, id string) (int, error) {
	return s.get(ctx, "http://"+s.address+"/v1/connections/"+id+"/token")
}

func (s *server) get(ctx context.Context, address string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	res, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", res.StatusCode)
	}
	return int(n), nil
}

// throughput reads tokens from 64 connections, in turns with the bare server.
func (b *bench) throughput(ctx context.Context, s *server, ids []string, what string) error {
	size, err := s.token(ctx, ids[0])
	if err != nil {
		return err
	}
	bare := b.provider.base + "/bare/" + strconv.Itoa(size)
	var ours, least rate
	for range 3 {
		for _, side := range []struct {
			sum *rate
			do  func() error
		}{
			{&least, func() error { _, err := s.get(ctx, bare); return err }},
			{&ours, func() error { _, err := s.token(ctx, ids[mathrand.IntN(len(ids))]); return err }},
		} {
			if err := side.sum.run(64, b.lasts(3*time.Second), side.do); err != nil {
				return err
			}
		}
	}
	b.report(what+"/token reads over HTTP, 64 at once", ours.perSecond(), "a second", least.perSecond())
	return nil
}

// rate is how much was done in some time.
type rate struct {
	n    int64
	took time.Duration
}

func (r *rate) perSecond() float64 { return float64(r.n) / r.took.Seconds() }

// run does something from so many goroutines for some time.
func (r *rate) run(workers int, lasts time.Duration, do func() error) error {
	var group sync.WaitGroup
	var n atomic.Int64
	failed := make([]error, workers)
	began := time.Now()
	for k := range workers {
		group.Go(func() {
			for time.Since(began) < lasts {
				if failed[k] = do(); failed[k] != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	group.Wait()
	r.n, r.took = r.n+n.Load(), r.took+time.Since(began)
	return errors.Join(failed...)
}

// size reports the memory of the process and the store's file.
func (s *server) size(b *bench, what string, n int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		b.leftOut(what+"/memory", "there is no /proc here")
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 64)
			b.report(what+"/memory, without pages of the file", kib/1024, "MiB", 0)
		}
	}
	info, err := os.Stat(filepath.Join(s.folder, "data", "evergrant.db"))
	if err != nil {
		return err
	}
	b.report(what+"/file", float64(info.Size())/float64(n), "bytes a connection", 0)
	return nil
}

// recovery kills the server under load and starts it again.
func (b *bench) recovery(ctx context.Context, s *server, ids []string, what string, least time.Duration) error {
	var all []time.Duration
	for range 3 {
		load := &rate{}
		loaded := make(chan error, 1)
		go func() {
			loaded <- load.run(16, time.Minute, func() error { _, err := s.token(ctx, ids[mathrand.IntN(len(ids))]); return err })
		}()
		time.Sleep(300 * time.Millisecond)
		s.kill()
		<-loaded // its requests fail
		began := time.Now()
		if _, err := s.start(ctx); err != nil {
			return err
		}
		if _, err := s.token(ctx, ids[0]); err != nil {
			return err
		}
		all = append(all, time.Since(began))
	}
	b.report(what+"/from kill -9 to the first token", ms(quantile(all, 0.5)), "ms", ms(least))
	return nil
}
