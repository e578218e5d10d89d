package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/httpapi"
)

// connects measures what a browser waits for: authorize, and the callback with its code
// exchange, against a handler on the same server that makes as many calls of the store and of
// the provider and does nothing else.
func connects(ctx context.Context, b *bench) error {
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		if err := b.connectsAt(ctx, delay); err != nil {
			return fmt.Errorf("at %v: %w", delay, err)
		}
	}
	return nil
}

// office is a server with the API's routes, and one of its own: GET /bare?reads=3&writes=1&sends=1.
type office struct {
	*deployment
	b      *bench
	tables []*memory
	path   string // of the token endpoint
	origin string
	server *http.Server
	client *http.Client
}

func (b *bench) office(ctx context.Context, delay time.Duration) (*office, error) {
	o := &office{b: b, tables: []*memory{newMemory(delay), newMemory(delay)}, path: fmt.Sprintf("/token/%d", delay.Milliseconds())}
	c, err := settings(b.provider.base, site{name: integration, token: o.path, rotates: true})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o.origin = "http://" + l.Addr().String()
	c.PublicURL = o.origin
	if o.deployment, err = b.deploy(ctx, connection.Store{Connections: o.tables[0], Authorizations: o.tables[1]}, c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("/", httpapi.New(httpapi.Config{
		Broker: o.Broker, Keys: c, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: o.now, Version: "bench", Catalog: config.Catalog{},
	}))
	mux.HandleFunc("GET /bare", o.bare)
	o.server = &http.Server{Handler: mux}
	go func() { _ = o.server.Serve(l) }() // ends with close
	o.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return o, nil
}

// calls that a request makes.
type calls struct{ reads, writes, sends int }

func (o *office) calls() (c calls) {
	for _, t := range o.tables {
		r, w := t.calls()
		c.reads, c.writes = c.reads+r, c.writes+w
	}
	return c
}

func (o *office) bare(w http.ResponseWriter, r *http.Request) {
	var c calls
	if _, err := fmt.Sscan(r.URL.Query().Get("calls"), &c.reads, &c.writes, &c.sends); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for range c.reads + c.writes {
		_, _ = o.tables[0].Get(r.Context(), "absent")
	}
	for range c.sends {
		if err := o.b.send(r.Context(), o.path); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	w.Header().Set("Location", "/")
	w.WriteHeader(http.StatusFound)
}

// get opens an address as a browser with these cookies, and tells how long that took.
func (o *office) get(ctx context.Context, address string, cookies []*http.Cookie) (*http.Response, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	began := time.Now()
	res, err := o.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	took := time.Since(began)
	return res, took, errors.Join(err, res.Body.Close())
}

// measured is one step over all rounds.
type measured struct {
	ours, bare []time.Duration
	calls      calls
}

func (b *bench) connectsAt(ctx context.Context, delay time.Duration) error {
	o, err := b.office(ctx, delay)
	if err != nil {
		return err
	}
	defer func() { _ = o.server.Close() }()
	var authorize, callback measured
	warm, n := 20, b.scaled(300, 30)
	if delay > 0 {
		warm, n = 2, b.scaled(100, 8) // a round takes half a second
	}
	for k := range warm + n {
		if k == warm {
			authorize, callback = measured{}, measured{}
		}
		if err := o.round(ctx, &authorize, &callback); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		name string
		m    *measured
	}{{"authorize", &authorize}, {"callback", &callback}} {
		ours, bare := quantile(step.m.ours, 0.5), quantile(step.m.bare, 0.5)
		what := fmt.Sprintf("connect/%s/calls at %d ms", step.name, delay.Milliseconds())
		b.report(what, ms(ours), "ms", ms(bare))
		own := ms(ours - bare)
		if step.name == "callback" && delay == 0 {
			b.judged(what+"/own time", own, "ms", 0, "<= 1 ms", own <= 1)
		} else {
			b.report(what+"/own time", own, "ms", 0)
		}
		c := step.m.calls
		b.report(what+"/calls of the store, one after the other", float64(c.reads+c.writes), "calls", 0)
	}
	return nil
}

// round connects one user, and does the same calls bare beside each step.
func (o *office) round(ctx context.Context, authorize, callback *measured) error {
	s, err := o.CreateSession(ctx, caller(), broker.SessionRequest{Origin: o.origin, Integration: integration, Owner: "owner"})
	if err != nil {
		return err
	}
	to, err := o.step(ctx, authorize, o.origin+"/authorize/"+integration+"?session="+s.ID, nil, 0, http.StatusFound)
	if err != nil {
		return err
	}
	at, err := to.Location()
	if err != nil {
		return err
	}
	query := url.Values{"state": {at.Query().Get("state")}, "code": {"a-code"}}
	_, err = o.step(ctx, callback, o.origin+"/callback/"+integration+"?"+query.Encode(), to.Cookies(), 1, http.StatusOK)
	return err
}

func (o *office) step(ctx context.Context, m *measured, address string, cookies []*http.Cookie, sends, status int) (*http.Response, error) {
	before := o.calls()
	res, took, err := o.get(ctx, address, cookies)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != status {
		return nil, fmt.Errorf("status %d of %s", res.StatusCode, res.Request.URL.Path)
	}
	after := o.calls()
	m.calls = calls{after.reads - before.reads, after.writes - before.writes, sends}
	m.ours = append(m.ours, took)
	query := url.Values{"calls": {fmt.Sprint(m.calls.reads, " ", m.calls.writes, " ", sends)}}
	bare, took, err := o.get(ctx, o.origin+"/bare?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if bare.StatusCode != http.StatusFound {
		return nil, fmt.Errorf("status %d of the floor", bare.StatusCode)
	}
	m.bare = append(m.bare, took)
	return res, nil
}
