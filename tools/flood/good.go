package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// good is an application's backend that goes about its work.
type good struct {
	server *server
	id     string // of its connection
}

// span is how it went for a while.
type span struct {
	took   []time.Duration // of each request, sorted
	failed string          // the first that did
}

func (s span) String() string {
	if len(s.took) == 0 {
		return "none"
	}
	at := func(q float64) time.Duration {
		return s.took[int(q*float64(len(s.took)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d, p50 %s, p95 %s, p99 %s, longest %s", len(s.took), at(0.5), at(0.95), at(0.99), at(1))
}

// connect makes a connection without a provider: an import that is held hands its access
// token out as long as that lives.
func (g *good) connect(ctx context.Context) error {
	body, err := json.Marshal(map[string]any{
		"integration": "acme", "owner": "tenant", "refresh_token": "none-is-ever-sent", "access_token": "good-for-a-day",
		"expires_at": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339), "hold": true,
	})
	if err != nil {
		return err
	}
	var made struct{ ID string }
	status, err := g.server.ask(ctx, http.DefaultClient, request{method: http.MethodPost, path: "/v1/connections", key: g.server.key, body: strings.NewReader(string(body))}, &made)
	if err != nil || status != http.StatusCreated || made.ID == "" {
		return errors.Join(fmt.Errorf("the import is answered %d", status), err)
	}
	g.id = made.ID
	return nil
}

// during asks for the token a hundred times a second, and every tenth time makes a connect
// session too, which writes to the disk.
func (g *good) during(ctx context.Context, lasts time.Duration) span {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(lasts)
	defer end.Stop()
	var out span
	for n := 0; out.failed == ""; n++ {
		select {
		case <-ctx.Done():
			return out.sorted()
		case <-end.C:
			return out.sorted()
		case <-tick.C:
		}
		r, want := request{path: "/v1/connections/" + g.id + "/token", key: g.server.key}, http.StatusOK
		if n%10 == 9 {
			r, want = request{method: http.MethodPost, path: "/v1/connect-sessions", key: g.server.key, body: strings.NewReader(`{"integration":"acme","owner":"tenant"}`)}, http.StatusCreated
		}
		began := time.Now()
		// Not under ctx: a request that is on its way when the flood ends counts.
		status, err := g.server.ask(context.WithoutCancel(ctx), client, r, nil)
		if status != want {
			out.failed = fmt.Sprintf("%s %s: %d, %v", r.method, r.path, status, err)
			break
		}
		out.took = append(out.took, time.Since(began))
	}
	return out.sorted()
}

func (s span) sorted() span {
	slices.Sort(s.took)
	return s
}
