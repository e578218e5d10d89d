package guard_test

import (
	"context"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

// meter notes every call that a process makes, in order: of the store "get conn", "update
// session" and so on, of the provider "POST token".
type meter struct {
	mu    sync.Mutex
	calls []string // guarded by mu
}

func (m *meter) note(call string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, call)
}

// take returns what was noted since the last time.
func (m *meter) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

// metered is a table whose calls are noted.
type metered struct {
	item.Table
	*meter
	what string // the items, where the key does not tell
}

func (t metered) kind(key string) string {
	if t.what != "" {
		return t.what
	}
	if strings.HasPrefix(key, "conn_") {
		return "conn"
	}
	kind, rest, _ := strings.Cut(key, "#")
	if kind == "sys" {
		kind, _, _ = strings.Cut(rest, "#")
	}
	return kind
}

func (t metered) Get(ctx context.Context, key string) (item.Item, error) {
	t.note("get " + t.kind(key))
	return t.Table.Get(ctx, key)
}

func (t metered) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	t.note("update " + t.kind(key))
	return t.Table.Update(ctx, key, u)
}

func (t metered) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	t.note("delete " + t.kind(key))
	return t.Table.Delete(ctx, key, conds...)
}

func (t metered) Query(ctx context.Context, q item.Query) (item.Page, error) {
	t.note("query " + q.Index)
	return t.Table.Query(ctx, q)
}

func (t metered) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	t.note("scan")
	return t.Table.Scan(ctx, after, limit)
}

// wire is a way to the provider whose requests are noted.
type wire struct {
	http.RoundTripper
	*meter
}

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.note(r.Method + " " + path.Base(r.URL.Path))
	return w.RoundTripper.RoundTrip(r)
}

// watched starts a process whose calls are noted, with the keys in memory.
func watched(t *testing.T, w *brokertest.World) (*brokertest.Process, *meter) {
	t.Helper()
	m := &meter{}
	p := w.Start(func(c *broker.Config) {
		c.Store.Connections = metered{Table: c.Store.Connections, meter: m}
		c.Store.Authorizations = metered{Table: c.Store.Authorizations, meter: m, what: "flow"}
		c.Keys = w.Keyring() // its reads are no operation's
		c.Provider = &provider.Client{
			Transport:     wire{provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), m},
			AllowLoopback: true, Now: w.Now,
		}
		for _, purpose := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
			w.Must(c.Keys.Load(t.Context(), purpose))
		}
	})
	return p, m
}

// want fails unless these are the calls since the last time.
func (m *meter) want(t *testing.T, operation string, calls ...string) {
	t.Helper()
	if diff := cmp.Diff(calls, m.take()); diff != "" {
		t.Errorf("%s asks something else of the store or the provider (-as it was, +as it is):\n%s", operation, diff)
	}
}

const confirmMode = `
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", return_to: ["http://127.0.0.1:9/back"]}
`

func TestConnectFlow(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Integrations: confirmMode})
	p, m := watched(t, w)
	w.Serve(w.HTTP(p))

	id, link := w.Session("askfred", "alice")
	m.want(t, "a new connect session", "get circuit", "update flow")
	b := w.Browser()
	back := w.ToCallback(b, link, "")
	m.want(t, "authorize", "get circuit", "get flow", "update flow", "update flow")
	home := b.Open(back).Location(t)
	m.want(t, "callback", "delete flow", "get flow", "update flow", "update flow")
	w.Confirm("all", id, home.Query().Get("evergrant_confirm"), "alice").Want(t, http.StatusOK, "")
	m.want(t, "confirm",
		"get flow", "delete flow", "update flow", // the confirm token is spent, the code taken
		"POST token", "update flow", // the answer is safe
		"update conn", "update conn", // the connection; its event was delivered
		"update flow", "update flow", "get circuit", "delete flow", "get conn")
}

// connected is a world with one connection under a profile of the protocol, and a process
// on it that is warm: it has refreshed the connection once.
func connected(t *testing.T, profile string) (*brokertest.World, *brokertest.Process, *meter, string) {
	t.Helper()
	w := brokertest.New(t, brokertest.Options{Integrations: confirmMode, Profile: profile})
	id := w.ConnectHTTP("askfred", "alice", "")
	p, m := watched(t, w)
	w.Must(p.Force(id))
	m.take()
	return w, p, m, id
}

func TestTokenRead(t *testing.T) {
	w, p, m, id := connected(t, "immediate")
	read := func() {
		t.Helper()
		if _, err := p.Token(t.Context(), brokertest.Caller(), id, 60, nil); err != nil {
			t.Fatal(err)
		}
	}
	read()
	m.want(t, "a token read", "get conn")

	// Another process has begun a refresh and not ended it.
	rec := w.Record(id)
	claim := connection.Claim{Gen: rec.Gen, Attempt: connection.Attempt{ID: "other", BaseGen: rec.Gen, LeaseUntil: w.Unix() + 35}}
	if res, err := w.Store.Write(t.Context(), id, claim); err != nil || !res.Applied {
		t.Fatal(res.Applied, err)
	}
	read()
	m.want(t, "a token read under a refresh", "get conn")
}

// A compare-and-refresh that meets another token costs what a read costs.
func TestForcedRefresh(t *testing.T) {
	w, p, m, id := connected(t, "immediate")
	if _, err := p.Refresh(t.Context(), brokertest.Caller(), id, w.Record(id).Gen-1, ""); err != nil {
		t.Fatal(err)
	}
	m.want(t, "a refresh that another one made needless", "get conn")
	w.Advance(time.Minute) // past min_interval_s
	w.Must(p.Force(id))
	m.want(t, "a forced refresh", "get conn", "update conn", "get conn", "get circuit", "update conn", "POST token", "update conn")
}

func TestScheduledRefresh(t *testing.T) {
	for _, c := range []struct {
		profile string
		calls   []string
	}{
		{"immediate", []string{"get conn", "update conn", "POST token", "update conn"}},
		{"none", []string{"get conn", "POST token", "update conn"}}, // it never rotates: no claim
	} {
		t.Run(c.profile, func(t *testing.T) {
			w, p, m, id := connected(t, c.profile)
			w.Advance(2 * time.Hour)
			w.Must(p.WorkOff(id))
			// What is read and written for a whole chunk is left out: TestChunk counts it.
			calls := slices.DeleteFunc(m.take(), func(call string) bool { return !strings.HasSuffix(call, " conn") && !strings.HasPrefix(call, "POST") })
			if diff := cmp.Diff(c.calls, calls); diff != "" {
				t.Errorf("a refresh at its slot asks something else (-as it was, +as it is):\n%s", diff)
			}
		})
	}
}

// A chunk reads the circuit once, and writes the shared count of refusals and the statistics
// once. Each of these two is refused first where a new window or hour begins.
func TestChunk(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "none"})
	const n = 20
	ids := w.ConnectMany(brokertest.Integration, n)
	p, m := watched(t, w)
	w.Advance(2 * time.Hour)
	w.Must(p.RefreshAll(t.Context(), ids, w.Minute()))
	count := map[string]int{}
	for _, call := range m.take() {
		count[call]++
	}
	if diff := cmp.Diff(map[string]int{"get conn": n, "POST token": n, "update conn": n, "get circuit": 1, "update circuit": 2, "update stats": 2}, count); diff != "" {
		t.Errorf("a chunk of %d asks something else (-as it was, +as it is):\n%s", n, diff)
	}
}

func TestDisconnect(t *testing.T) {
	_, p, m, id := connected(t, "immediate")
	if _, err := p.Disconnect(t.Context(), brokertest.Caller(), id); err != nil {
		t.Fatal(err)
	}
	m.want(t, "a disconnect",
		"get conn", "get conn", "update conn", // may it be seen; what is to be ended; the tombstone
		"update conn",                                             // its event was delivered
		"POST revoke", "POST revoke", "update conn", "POST token", // both tokens, noted, proved
		"update conn", "query by_integration") // erased
}

// A tick that finds nothing due, within an hour.
func TestEmptyTick(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{})
	p, m := watched(t, w)
	p.TickNow()
	m.take()
	w.Advance(time.Minute)
	p.TickNow()
	count := map[string]int{}
	for _, call := range m.take() {
		count[call]++
	}
	if diff := cmp.Diff(map[string]int{"get cursor": 1, "query due": 55, "query todo": 48, "get circuit": 1, "update cursor": 1}, count); diff != "" {
		t.Errorf("an empty tick asks something else (-as it was, +as it is):\n%s", diff)
	}
}
