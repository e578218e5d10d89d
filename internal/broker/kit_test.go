package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

// world is a broker with two providers, one and two, whose token endpoints do as told.
type world struct {
	t        *testing.T
	store    connection.Store
	settings *config.Config
	log      *lines
	a, b     *endpoint

	mu  sync.Mutex
	now time.Time // guarded by mu
}

// endpoint is a token endpoint. Refresh tokens stay the same there.
type endpoint struct {
	mu     sync.Mutex // guards what follows
	answer func(w http.ResponseWriter, refreshToken string)
	sent   map[string]int // requests by refresh token
	now    int            // requests under way
	most   int            // at once
	arrive chan struct{}  // one for each request, where set
	gate   chan struct{}  // requests wait for it, where set
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	token := r.PostForm.Get("refresh_token")
	e.mu.Lock()
	e.sent[token]++
	e.now++
	e.most = max(e.most, e.now)
	answer, arrive, gate := e.answer, e.arrive, e.gate
	e.mu.Unlock()
	if arrive != nil {
		arrive <- struct{}{}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}
	e.mu.Lock()
	e.now--
	e.mu.Unlock()
	answer(w, token)
}

// does makes the endpoint answer otherwise.
func (e *endpoint) does(answer func(w http.ResponseWriter, refreshToken string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// requests is how many there were since the last call.
func (e *endpoint) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, k := range e.sent {
		n += k
	}
	e.sent = map[string]int{}
	return n
}

func good(w http.ResponseWriter, _ string) {
	_, _ = fmt.Fprintf(w, `{"access_token":"at-%s","token_type":"Bearer","expires_in":3600}`, connection.NewRandom())
}

func refuse(w http.ResponseWriter, _ string) {
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprint(w, `{"error":"invalid_grant"}`)
}

func tooMany(seconds string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, _ string) {
		if seconds != "" {
			w.Header().Set("Retry-After", seconds)
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

type plainWrapper struct{}

func (plainWrapper) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return plain, nil
}

func (plainWrapper) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return wrapped, nil
}

type noRescue struct{}

func (noRescue) Put(context.Context, string, []byte) error { return nil }
func (noRescue) Holds(string) bool                         { return false }

// newWorld is one whose integrations have what more says, as members of JSON.
func newWorld(t *testing.T, more string) *world {
	t.Helper()
	// The same ids each time, and so the same minutes at which connections are due.
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	cryptotest.SetGlobalRandom(t, h.Sum64())
	w := &world{t: t, log: &lines{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	w.store = connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}
	integration := func() (*endpoint, string) {
		e := &endpoint{answer: good, sent: map[string]int{}}
		s := httptest.NewServer(e)
		t.Cleanup(s.Close)
		return e, fmt.Sprintf(`{"client_id": "app", "client_secret": "s", %s "provider": {"token_endpoint": "%s/token",
			"authorization_endpoint": "%s/auth", "token_endpoint_auth_method": "client_secret_post", "pkce": "S256", "refresh": %s}}`,
			more, s.URL, s.URL, `{"supported": true, "rotation": "none", "old_access_token_dies_on_refresh": false, "idle_lifetime_s": 864000}`)
	}
	var one, two string
	w.a, one = integration()
	w.b, two = integration()
	w.settings, err = yamlfile.Parse([]byte(`{"integrations": {"one": ` + one + `, "two": ` + two + `}}`))
	w.must(err)
	_, err = w.start().Tick(t.Context(), w.minute()) // the cursor stands now
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) unix() int64   { return w.clock().Unix() }
func (w *world) minute() int64 { return w.unix() / 60 }

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// start starts a process over the tables.
func (w *world) start(change ...func(*broker.Config)) *broker.Broker {
	c := broker.Config{
		Settings: w.settings, Store: w.store, Keys: secret.NewKeyring("evergrant", plainWrapper{}, w.store), Rescue: noRescue{}, Now: w.clock,
		Secrets: config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) { return secret.New("s"), nil }, w.clock),
		Provider: &provider.Client{
			Transport: provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), AllowLoopback: true, Now: w.clock,
		},
		Log: slog.New(slog.NewJSONHandler(w.log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	return broker.New(c)
}

func caller() broker.Caller {
	return broker.Caller{Name: "backend", Rights: config.Rights{
		Allow: []string{"connect", "token", "manage", "admin"}, Integrations: []string{"*"}, Owners: []string{"*"},
	}}
}

// connect makes connections by import, and returns their ids.
func (w *world) connect(integration string, n int) []string {
	w.t.Helper()
	b := w.start()
	ids := make([]string, n)
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for k := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			r, err := b.Import(w.t.Context(), caller(), broker.ImportRequest{
				Integration: integration, Owner: "tenant", RefreshToken: secret.New(fmt.Sprintf("rt-%s-%d", integration, k)),
			})
			if err != nil || r.Status != connection.Active {
				w.t.Errorf("import: %v, %v", r.Status, err)
			}
			ids[k] = r.ID
		})
	}
	group.Wait()
	w.a.requests()
	w.b.requests()
	return ids
}

// allDue moves the clock on so far that every connection has had its slot and none was
// looked at: the tick of then catches up.
func (w *world) allDue() { w.advance(55 * time.Minute) }

// refreshed is how many of the connections are of a generation or a later one: a token
// that is a minute old when its own slot comes is refreshed again.
func (w *world) refreshed(ids []string, gen int64) int {
	w.t.Helper()
	n := 0
	for _, id := range ids {
		if rec := w.record(id); rec.Gen >= gen && rec.Status == connection.Active {
			n++
		}
	}
	return n
}

func (w *world) record(id string) connection.Record {
	w.t.Helper()
	rec, err := w.store.Get(w.t.Context(), id)
	w.must(err)
	return rec
}

// tick runs the tick of the clock's minute, which must come to its end.
func (w *world) tick(b *broker.Broker) broker.TickReport {
	w.t.Helper()
	rep, err := b.Tick(w.t.Context(), w.minute())
	w.must(err)
	if !rep.Whole {
		w.t.Errorf("the cursor did not move: %+v", rep)
	}
	return rep
}

// noneLost demands that every connection is active.
func (w *world) noneLost(ids []string) {
	w.t.Helper()
	for _, id := range ids {
		if rec := w.record(id); rec.Status != connection.Active {
			b, _ := json.Marshal(rec.Core)
			w.t.Errorf("lost: %s", b)
		}
	}
}
