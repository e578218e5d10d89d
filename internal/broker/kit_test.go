package broker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
)

// world is one with two providers, one and two, whose token endpoints do as told.
type world struct {
	*brokertest.World
	a, b *endpoint
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

// newWorld is one whose integrations have what more says, as members of JSON.
func newWorld(t *testing.T, more string) *world {
	t.Helper()
	w := &world{}
	integration := func(name string) (*endpoint, string) {
		e := &endpoint{answer: good, sent: map[string]int{}}
		s := httptest.NewServer(e)
		t.Cleanup(s.Close)
		return e, fmt.Sprintf(`  %s: {"client_id": "app", "client_secret": "${env:CLIENT_SECRET}", %s "provider": {"token_endpoint": "%s/token", `+
			`"authorization_endpoint": "%s/auth", "token_endpoint_auth_method": "client_secret_post", "pkce": "S256", "refresh": %s}}`+"\n",
			name, more, s.URL, s.URL, `{"supported": true, "rotation": "none", "old_access_token_dies_on_refresh": false, "idle_lifetime_s": 864000}`)
	}
	var one, two string
	w.a, one = integration("one")
	w.b, two = integration("two")
	w.World = brokertest.New(t, brokertest.Options{Integrations: one + two, Start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
	return w
}

// start starts a process that works on the tables themselves, and really waits.
func (w *world) start(change ...func(*broker.Config)) *broker.Broker {
	w.T.Helper()
	return w.Start(append([]func(*broker.Config){func(c *broker.Config) { c.Store, c.Pause = w.Store, nil }}, change...)...).Broker
}

func caller() broker.Caller {
	return broker.Caller{Name: "backend", Rights: config.Rights{
		Allow: []string{"connect", "token", "manage", "admin"}, Integrations: []string{"*"}, Owners: []string{"*"}, ImportsPerMinute: 1_000_000,
	}}
}

// connect makes connections by import, and returns their ids.
func (w *world) connect(integration string, n int) []string {
	w.T.Helper()
	b := w.start()
	ids := make([]string, n)
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for k := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			r, err := b.Import(w.T.Context(), caller(), broker.ImportRequest{
				Integration: integration, Owner: "tenant", RefreshToken: secret.New(fmt.Sprintf("rt-%s-%d", integration, k)),
			})
			if err != nil || r.Status != connection.Active {
				w.T.Errorf("import: %v, %v", r.Status, err)
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
func (w *world) allDue() { w.Advance(55 * time.Minute) }

// refreshed is how many of the connections are of a generation or a later one: a token
// that is a minute old when its own slot comes is refreshed again.
func (w *world) refreshed(ids []string, gen int64) int {
	w.T.Helper()
	n := 0
	for _, id := range ids {
		if rec := w.Record(id); rec.Gen >= gen && rec.Status == connection.Active {
			n++
		}
	}
	return n
}

// tick runs the tick of the clock's minute, which must come to its end.
func (w *world) tick(b *broker.Broker) broker.TickReport {
	w.T.Helper()
	rep, err := b.Tick(w.T.Context(), w.Minute())
	w.Must(err)
	if !rep.Whole {
		w.T.Errorf("the cursor did not move: %+v", rep)
	}
	return rep
}

// noneLost demands that every connection is active.
func (w *world) noneLost(ids []string) {
	w.T.Helper()
	for _, id := range ids {
		if rec := w.Record(id); rec.Status != connection.Active {
			b, _ := json.Marshal(rec.Core)
			w.T.Errorf("lost: %s", b)
		}
	}
}
