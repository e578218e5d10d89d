package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// second is another integration, for rows in which the trouble of one must not be that
// of another. Its provider kills the old access token at a refresh.
const second = "redbooth"

// addSecond puts it into the configuration of all processes that start from now on.
func (w *world) addSecond() {
	w.t.Helper()
	c, err := yamlfile.Parse([]byte(`
integrations:
  redbooth: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
`))
	w.must(err)
	i := c.Integrations[0]
	at := w.sim.Endpoints(second)
	i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint = at["authorization_endpoint"], at["token_endpoint"]
	i.Entry.Identity = provider.Identity{}
	i.Entry.Evidence = nil
	w.settings.Integrations = append(w.settings.Integrations, i)
	w.must(w.sim.Register(second, simprovider.Client{ID: clientID, Secret: clientSecret, RedirectURIs: []string{origin + "/callback/" + second}}))
	w.home = w.start()
}

// connectAs makes a connection of an owner of its own at an integration.
func (w *world) connectAs(integration, user, owner string) string {
	w.t.Helper()
	ctx := context.Background()
	s, err := w.home.CreateSession(ctx, caller(), broker.SessionRequest{Origin: origin, Integration: integration, Owner: owner})
	w.must(err)
	b, err := w.home.Authorize(ctx, broker.AuthorizeRequest{Origin: origin, Integration: integration, Session: s.ID})
	w.must(err)
	f := flow{session: s.ID, page: b.Location, cookies: b.Cookies}
	r := w.allow(user, f)
	r.Integration = integration
	_, err = w.home.Callback(ctx, r)
	w.must(err)
	done := w.sessionOf(f)
	if done.Result == "" {
		w.t.Fatalf("connect %s: the session is %s %s\n%s", owner, done.State, done.Error, w.log)
	}
	return done.Result
}

// connections makes n connections, half of them of each user.
func (w *world) connections(integration string, n int) []string {
	w.t.Helper()
	var ids []string
	for k := range n {
		ids = append(ids, w.connectAs(integration, []string{"alice", "bob"}[k%2], fmt.Sprintf("%s-owner-%d", integration, k)))
	}
	return ids
}

// toSlot lets time go on to the slot at which the connection is really refreshed.
func (w *world) toSlot(id string) {
	w.t.Helper()
	r := w.record(id)
	w.advanceTo((schedule.Plan{NoTimers: true}).NextRefresh(id, r.Life(), r.ExpiresAt, w.unix()))
}

func (w *world) advanceTo(at int64) {
	w.t.Helper()
	if at < w.unix() {
		w.t.Fatalf("%d s have gone by already", w.unix()-at)
	}
	w.advance(time.Duration(at-w.unix()) * time.Second)
}

// comesBack lifts the provider's faults and ticks each minute until all connections are
// refreshed anew. Unlike settle it does not mind that their tokens ended meanwhile.
func (w *world) comesBack(p *process, within time.Duration, ids ...string) {
	w.t.Helper()
	w.must(w.sim.ClearFaults(sim))
	began, gens := w.unix(), map[string]int64{}
	for _, id := range ids {
		gens[id] = w.record(id).Gen
	}
	for {
		_, _ = p.Tick(context.Background(), w.minute())
		open := ""
		for _, id := range ids {
			if w.record(id).Gen == gens[id] {
				open = id
			}
		}
		if open == "" {
			break
		}
		if w.unix()-began > int64(within.Seconds()) {
			w.t.Fatalf("%s is not back after %s: %+v\n%s", open, within, w.record(open).Core, w.tail())
		}
		w.advance(time.Minute)
	}
	w.check(ids...)
}

// forgive takes an observation back that the row explains.
func (w *world) forgive(prefix string) {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	var left []string
	for _, b := range w.watch.broken {
		if !strings.HasPrefix(b, prefix) {
			left = append(left, b)
		}
	}
	w.watch.broken = left
}

// endGrant ends the grant of one connection at the provider.
func (w *world) endGrant(id string) {
	w.t.Helper()
	_, rt := w.tokens(id)
	form := url.Values{"token": {rt}, "client_id": {clientID}, "client_secret": {clientSecret}}
	res, err := http.PostForm(w.sim.Endpoints(sim)["revocation_endpoint"], form)
	w.must(err)
	w.must(res.Body.Close())
	w.userEnded()
}

// userEnded says that somebody but us ended a grant, so that a verdict may say so.
func (w *world) userEnded() {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	w.watch.ended = true
}

// wantActive fails unless the connection stands as it was, untouched by any verdict.
func (w *world) wantActive(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		if r := w.record(id); r.Status != connection.Active {
			w.t.Fatalf("%s is %s %s\n%s", id, r.Status, r.Reason, w.tail())
		}
	}
}

// tail is the end of the log.
func (w *world) tail() string {
	l := strings.SplitAfter(w.log.String(), "\n")
	return strings.Join(l[max(0, len(l)-12):], "")
}

// wantSent fails unless so many refresh requests reached the simulator.
func (w *world) wantSent(n int) {
	w.t.Helper()
	if got := w.sent("refresh_token"); got != n {
		w.t.Fatalf("%d refresh requests, want %d\n%s", got, n, w.tail())
	}
}

// dead reports that no token which the provider ever gave is good any more.
func (w *world) allDead() {
	w.t.Helper()
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	for _, s := range w.watch.secrets {
		if info, known := w.sim.Lookup(sim, s); known && info.Live {
			w.t.Errorf("a token of %s lives on (refresh token: %v)", info.User, info.Refresh)
		}
	}
}

// rewrite changes a token answer before anybody reads it. change is given the members
// of the object.
func rewrite(change func(m map[string]any)) fault[*http.Response] {
	return func(call func() (*http.Response, error)) (*http.Response, error) {
		res, err := call()
		if err != nil {
			return res, err
		}
		var m map[string]any
		if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
			return nil, err
		}
		change(m)
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		return withBody(res, body), nil
	}
}

func withBody(res *http.Response, body []byte) *http.Response {
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Del("Content-Length")
	return res
}

// index is a table whose queries say something else than its items, and which knows what
// it was asked.
type index struct {
	item.Table
	lie    func(q item.Query, p item.Page) item.Page // nil: none
	broken string                                    // reading this key panics

	mu     sync.Mutex
	asked  []item.Query   // guarded by mu
	writes map[string]int // of connections, by kind; guarded by mu
}

func (x *index) Query(ctx context.Context, q item.Query) (item.Page, error) {
	x.mu.Lock()
	x.asked = append(x.asked, q)
	x.mu.Unlock()
	p, err := x.Table.Query(ctx, q)
	if x.lie != nil && err == nil {
		p = x.lie(q, p)
	}
	return p, err
}

func (x *index) Get(ctx context.Context, key string) (item.Item, error) {
	if key == x.broken {
		panic("a mistake of ours")
	}
	return x.Table.Get(ctx, key)
}

func (x *index) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	if strings.HasPrefix(key, "conn_") {
		x.mu.Lock()
		if x.writes == nil {
			x.writes = map[string]int{}
		}
		x.writes[kindOf(u)]++
		x.mu.Unlock()
	}
	return x.Table.Update(ctx, key, u)
}

// watched is a process whose table of connections is looked at.
func (w *world) watched(lie func(q item.Query, p item.Page) item.Page) (*process, *index) {
	w.t.Helper()
	x := &index{lie: lie}
	p := w.start(func(c *broker.Config) {
		x.Table = c.Store.Connections
		c.Store.Connections = x
	})
	return p, x
}

// written is how many writes of connections were tried.
func (x *index) written() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, k := range x.writes {
		n += k
	}
	return n
}

// wrapper is a key management service that can be out of order.
type wrapper struct {
	secret.KeyWrapper

	mu    sync.Mutex
	down  bool // guarded by mu
	calls int  // unwraps; guarded by mu
}

var errKeyService = errors.New("the key service does not answer")

func (k *wrapper) Unwrap(ctx context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	k.mu.Lock()
	k.calls++
	down := k.down
	k.mu.Unlock()
	if down {
		return nil, errKeyService
	}
	return k.KeyWrapper.Unwrap(ctx, p, wrapped)
}

func (k *wrapper) set(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

func (k *wrapper) unwraps() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls
}

// startUnder starts a process, cold, with a key service of its own.
func (w *world) startUnder(down bool) (*process, *wrapper) {
	w.t.Helper()
	base, err := keyfile.Open(w.keyFile, "evergrant")
	w.must(err)
	k := &wrapper{KeyWrapper: base, down: down}
	return w.start(func(c *broker.Config) { c.Keys = secret.NewKeyring("evergrant", k, c.Store) }), k
}

// at has a process speak to another token endpoint than the simulator's.
func at(endpoint string) func(*broker.Config) {
	return func(c *broker.Config) { c.Settings.Integrations[0].Entry.TokenEndpoint = endpoint }
}

// over has it speak through another transport.
func over(w *world, tr http.RoundTripper) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Provider = &provider.Client{Transport: tr, AllowLoopback: true, Now: w.clock}
	}
}

// setSecret changes the client secret that processes read.
func (w *world) setSecret(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secret = s
}

// circuit is how the operator sees the integration: ok or suspended.
func (w *world) circuit(p *process) string {
	w.t.Helper()
	all, err := p.Integrations(context.Background(), caller(), origin)
	w.must(err)
	return all[0].Status
}

// cursor is the last minute that a tick has finished.
func (w *world) cursor() int64 {
	w.t.Helper()
	c, err := w.base.Cursor(context.Background())
	w.must(err)
	return c
}

// put writes an item as it was at another time.
func (w *world) put(key string, i item.Item) {
	w.t.Helper()
	now, err := w.base.Connections.Get(context.Background(), key)
	w.must(err)
	u := item.Update{Target: item.Any}
	for name, v := range i {
		u.Set = append(u.Set, item.Put(name, v))
	}
	for name := range now {
		if _, kept := i[name]; !kept {
			u.Remove = append(u.Remove, name)
		}
	}
	_, err = w.base.Connections.Update(context.Background(), key, u)
	w.must(err)
}

func (w *world) item(key string) item.Item {
	w.t.Helper()
	i, err := w.base.Connections.Get(context.Background(), key)
	w.must(err)
	return i
}

// secretsOf are client secrets from a store that can be out of order.
func (w *world) secretsOf(down *bool) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Secrets = config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			if *down {
				return secret.Text{}, errors.New("too many requests")
			}
			return secret.New(clientSecret), nil
		}, w.clock)
	}
}
