package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// flood is one kind of request that nobody should send.
type flood struct {
	name    string
	workers int
	one     func(ctx context.Context) (status int) // 0: no answer came
	sent    atomic.Int64

	mu    sync.Mutex
	count map[int]int // by status; guarded by mu
}

// run sends one after the other until ctx ends.
func (f *flood) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.sent.Add(1)
		status := f.one(ctx)
		if status == 0 && ctx.Err() != nil {
			return // the end cut it off
		}
		f.mu.Lock()
		f.count[status]++
		f.mu.Unlock()
	}
}

func (f *flood) answers() map[int]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.count)
}

func keys(m map[int]int) iter.Seq[int] { return maps.Keys(m) }

const (
	giant = 32 << 20 // bytes of a giant body
	// A slow connection sends a byte in this time.
	drip = time.Second
)

// floods are all of them. Each has connections of its own, so that none waits for another.
func floods(s *server) []*flood {
	body := bytes.Repeat([]byte(`{"owner":"aaaaaaaaaaaaaaaaaaaaaaaa","x":[`), giant/40)
	long := strings.Repeat("a", 512<<10)
	list := []*flood{
		{name: "wrong keys", workers: 8, one: s.asks(func() request {
			return request{path: "/v1/connections/conn_" + rand.Text() + "/token", key: "evg_" + rand.Text()}
		})},
		{name: "wrong stand-ins", workers: 4, one: s.asks(func() request {
			return request{method: http.MethodPost, path: "/oauth/token", kind: "application/x-www-form-urlencoded", body: strings.NewReader("grant_type=refresh_token&refresh_token=evgst_" + rand.Text())}
		})},
		{name: "wrong states", workers: 8, one: s.asks(func() request {
			return request{path: "/callback/acme?code=" + rand.Text() + "&state=" + rand.Text()}
		})},
		{name: "links that are none", workers: 4, one: s.asks(func() request {
			return request{path: "/authorize/acme?session=cs_" + rand.Text()}
		})},
		{name: "bodies of 32 MiB, no key", workers: 4, one: s.asks(func() request {
			return request{method: http.MethodPost, path: "/v1/connections", body: bytes.NewReader(body)}
		})},
		{name: "bodies of 32 MiB, with a good key", workers: 4, one: s.asks(func() request {
			return request{method: http.MethodPost, path: "/v1/connections", key: s.key, body: bytes.NewReader(body)}
		})},
		{name: "bodies of 32 MiB in chunks", workers: 2, one: s.asks(func() request {
			return request{method: http.MethodPost, path: "/v1/connections", key: s.key, body: io.MultiReader(bytes.NewReader(body))}
		})},
		{name: "headers of 512 KiB", workers: 4, one: s.asks(func() request {
			return request{path: "/v1/integrations", key: long}
		})},
		{name: "queries of 512 KiB", workers: 4, one: s.asks(func() request {
			return request{path: "/callback/acme?state=" + long}
		})},
		{name: "headers, a byte a second", workers: 250, one: s.drips("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")},
		{name: "bodies, a byte a second, good key", workers: 250, one: s.drips(fmt.Sprintf(
			"POST /v1/connections HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n", s.key))},
	}
	for _, f := range list {
		f.count = map[int]int{}
	}
	return list
}

// request is one, with defaults: GET, JSON, no key.
type request struct {
	method, path, key, kind string
	body                    io.Reader
}

// asks sends what next makes over a kept connection of its own.
func (s *server) asks(next func() request) func(context.Context) int {
	client := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) int {
		status, _ := s.ask(ctx, client, next(), nil)
		return status
	}
}

// drips sends a head and then single bytes, until an answer comes or the connection is closed.
func (s *server) drips(head string) func(context.Context) int {
	return func(ctx context.Context) int {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", s.address)
		if err != nil {
			return 0
		}
		defer func() { _ = c.Close() }() // nothing of it is needed any more
		_, _ = io.WriteString(c, head)   // the reading tells
		tick := time.NewTicker(drip)
		defer tick.Stop()
		answer := make(chan int, 1)
		go func() {
			line := make([]byte, 12)
			status := 0
			if _, err := io.ReadFull(c, line); err == nil {
				_, _ = fmt.Sscanf(string(line), "HTTP/1.1 %d", &status) // else it stays 0
			}
			answer <- status
		}()
		for {
			select {
			case status := <-answer:
				return status
			case <-ctx.Done():
				return 0
			case <-tick.C:
				_, _ = io.WriteString(c, "a")
			}
		}
	}
}
