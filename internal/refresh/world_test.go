package refresh_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

const (
	sim       = "askfred" // the dialect in which all of it is spoken; policies vary
	callback  = "http://127.0.0.1:9999/callback/x"
	life      = 3600 // s: of access tokens, unless a test says otherwise
	owner     = "tenant-1"
	clientOne = "app-one"
	clientTwo = "app-two"
)

// world is a driver with a simulated provider, tables in memory and one clock.
type world struct {
	t check
	*refresh.Driver
	close  func()
	sim    *simprovider.Server
	entry  provider.Entry
	table  *table
	auth   *table
	rescue *rescuer
	http   *http.Client
	known  map[string]bool // client ids in the configuration
	ended  []refresh.Report
	now    *brokertest.Clock

	mu     sync.Mutex // guards the fields below
	secret string     // client secret as configured
	gen    string     // generation of the clients' configuration
	paused []time.Duration
}

// check is what *testing.T and *rapid.T have in common.
type check interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// profile is brokertest's, with a grace that is over when a claim runs out.
func profile(name string) (provider.Refresh, simprovider.Policy) {
	facts, policy := brokertest.Profile(name)
	if facts.GraceS > 0 {
		facts.GraceS = 60
	}
	return facts, policy
}

func newWorld(t testing.TB, profile string) *world {
	t.Helper()
	w := &world{
		t: t, now: brokertest.NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), secret: "s3cret", gen: "1",
		table: newTable(item.ConnectionIndexes()), auth: newTable(item.AuthorizationIndexes()), rescue: &rescuer{},
		known: map[string]bool{clientOne: true, clientTwo: true},
	}
	ts := httptest.NewUnstartedServer(nil)
	w.sim = simprovider.New(simprovider.Config{BaseURL: "http://" + ts.Listener.Addr().String(), Now: w.clock, TokenTTL: life * time.Second})
	ts.Config.Handler = w.sim
	ts.Start()
	w.close = ts.Close
	t.Cleanup(ts.Close)
	w.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, id := range []string{clientOne, clientTwo} {
		w.must(w.sim.Register(sim, simprovider.Client{ID: id, Secret: "s3cret", RedirectURIs: []string{callback}}))
	}
	w.profile(profile)
	store := connection.Store{Connections: w.table, Authorizations: w.auth}
	w.Driver = &refresh.Driver{
		Store: store, Keys: secret.NewKeyring("test", wrapper{}, store), Provider: &provider.Client{AllowLoopback: true, Now: w.clock},
		Circuits: circuit.New(w.table, w.clock), Rescue: w.rescue, Now: w.clock, Links: w.links, Pause: w.pause,
		Done: func(r refresh.Report) { w.ended = append(w.ended, r) },
	}
	return w
}

// profile makes the entry and the simulator follow a profile.
func (w *world) profile(name string) {
	e, err := provider.Lookup(sim)
	w.must(err)
	at := w.sim.Endpoints(sim)
	e.AuthorizationEndpoint, e.TokenEndpoint, e.RevocationEndpoint = at["authorization_endpoint"], at["token_endpoint"], at["revocation_endpoint"]
	facts, policy := profile(name)
	e.Refresh = facts
	e.Identity = provider.Identity{Endpoint: at["identity.endpoint"], IDField: "id", NameField: "first_name"}
	w.entry = e
	w.must(w.sim.SetPolicy(sim, policy))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time { return w.now.Now() }

func (w *world) unix() int64 { return w.now.Unix() }

func (w *world) advance(d time.Duration) { w.now.Advance(d) }

func (w *world) pause(_ context.Context, d time.Duration) error {
	w.advance(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = append(w.paused, d)
	return nil
}

func (w *world) link(clientID string) refresh.Link {
	w.mu.Lock()
	defer w.mu.Unlock()
	cred := provider.Credentials{ClientID: clientID, ClientSecret: secret.New(w.secret)}
	return refresh.Link{
		Entry: w.entry, Client: circuit.Client{Integration: sim, Name: clientID, Generation: w.gen}, Plan: schedule.Plan{Mode: schedule.Ahead},
		Credentials: func(context.Context) (provider.Credentials, error) { return cred, nil },
	}
}

func (w *world) links(_ context.Context, integration, clientID string, _ map[string]string) (refresh.Link, bool, error) {
	if integration != sim || !w.known[clientID] {
		return refresh.Link{}, false, nil
	}
	return w.link(clientID), true, nil
}

// code has a user consent in a browser and returns what came back.
func (w *world) code(user, clientID string) string {
	w.t.Helper()
	q := url.Values{"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}, "state": {"st4te"}}
	resp, err := w.http.PostForm(w.entry.AuthorizationEndpoint+"?"+q.Encode(), url.Values{"decision": {"allow"}, "user": {user}})
	w.must(err)
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	to, err := url.Parse(resp.Header.Get("Location"))
	w.must(err)
	if to.Query().Get("code") == "" {
		w.t.Fatalf("consent of %s: status %d, no code", user, resp.StatusCode)
	}
	return to.Query().Get("code")
}

// session stores a session that awaits its code. change alters it before.
func (w *world) session(change func(*connection.Session)) connection.Session {
	w.t.Helper()
	s := connection.Session{
		Hash: connection.Hash(connection.NewRandom()), Integration: sim, Owner: owner, State: connection.SessionOpen,
		CreatedAt: w.unix(), ExpiresAt: w.unix() + 900,
	}
	if change != nil {
		change(&s)
	}
	w.must(w.Store.CreateSession(context.Background(), s))
	return s
}

// reconnecting makes a session that reconnects id, as it stands now.
func (w *world) reconnecting(id string) func(*connection.Session) {
	gen := w.record(id).DisconnectGen
	return func(s *connection.Session) { s.ConnectionID, s.DisconnectGen = id, gen }
}

func (w *world) take(clientID string) connection.Take {
	return connection.Take{
		ID: connection.NewRandom(), Until: w.unix() + 60, Client: clientID, ClientID: clientID, Owner: owner, Connection: connection.NewID(),
	}
}

// consent runs a whole consent of the user by the session.
func (w *world) consent(user, clientID string, sess connection.Session) refresh.ConsentReport {
	w.t.Helper()
	return w.exchange(sess, w.take(clientID), w.code(user, clientID), true)
}

func (w *world) exchange(sess connection.Session, take connection.Take, code string, mayList bool) refresh.ConsentReport {
	w.t.Helper()
	rep, err := w.Connect(context.Background(), sess, take, w.link(take.ClientID), refresh.Code{Code: secret.New(code), RedirectURI: callback}, mayList)
	w.must(err)
	return rep
}

// connect makes a new connection of the user and returns its id.
func (w *world) connect(user string) string {
	w.t.Helper()
	rep := w.consent(user, clientOne, w.session(nil))
	if rep.Outcome != refresh.Connected || rep.Result == "" {
		w.t.Fatalf("connect %s: outcome %d, %v", user, rep.Outcome, rep.Err)
	}
	return rep.Result
}

func (w *world) record(id string) connection.Record {
	w.t.Helper()
	r, err := w.Store.Get(context.Background(), id)
	w.must(err)
	return r
}

// refresh runs one forced refresh.
func (w *world) refresh(id string) refresh.Report {
	w.t.Helper()
	return w.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Forced})
}

func (w *world) expect(rep refresh.Report, want refresh.Outcome) {
	w.t.Helper()
	if rep.Outcome != want {
		w.t.Fatalf("outcome %d, want %d (error %v, provider's %q)", rep.Outcome, want, rep.Err, rep.Answer)
	}
}

// sent is how many refresh requests reached the provider.
func (w *world) sent() int { return w.sim.Requests(sim)["refresh_token"] }

func (w *world) fault(f simprovider.Fault) {
	w.t.Helper()
	w.must(w.sim.AddFault(sim, f))
}

// tokens opens what is stored.
func (w *world) tokens(r connection.Record) (access, refreshToken string) {
	w.t.Helper()
	open := func(field string, sealed item.Bytes) string {
		if sealed == "" {
			return ""
		}
		text, err := w.Keys.Open(context.Background(), secret.PurposeToken,
			secret.Place{Table: "connections", ID: r.ID, Gen: r.TokGen, Field: field}, []byte(sealed))
		w.must(err)
		return text.Reveal()
	}
	return open("at", r.Access), open("rt", r.Refresh)
}

// checkLive fails unless an active connection holds tokens that the provider takes.
func (w *world) checkLive(id string) {
	w.t.Helper()
	r := w.record(id)
	access, refreshToken := w.tokens(r)
	a, _ := w.sim.Lookup(sim, access)
	b, _ := w.sim.Lookup(sim, refreshToken)
	if r.Status != connection.Active || !a.Live || !b.Live {
		w.t.Fatalf("status %s, access token live: %v, refresh token live: %v", r.Status, a.Live, b.Live)
	}
}

// checkClean fails where a marker of an unfinished refresh is left.
func (w *world) checkClean(id string) {
	w.t.Helper()
	r := w.record(id)
	if r.Attempt.ID != "" || r.DoubtAt != 0 || r.DoubtSent != 0 || r.RetryAt != 0 || r.Failures != 0 {
		w.t.Fatalf("left over: %+v", r.Core)
	}
	if want := (schedule.Plan{}).Partition(id, r.Life()); r.Sched != want {
		w.t.Fatalf("filed under %q, want %q", r.Sched, want)
	}
}

// checkNoSecret fails where one of the stored values holds a token in clear.
func (w *world) checkNoSecret(id string) {
	w.t.Helper()
	access, refreshToken := w.tokens(w.record(id))
	for _, tab := range []*table{w.table, w.auth} {
		for key, i := range tab.items {
			for name, v := range i {
				var s string
				switch v := v.(type) {
				case string:
					s = v
				case item.Bytes:
					s = string(v)
				}
				if access != "" && strings.Contains(s, access) || refreshToken != "" && strings.Contains(s, refreshToken) {
					w.t.Errorf("%s of %s holds a token in clear", name, key)
				}
			}
		}
	}
}

// rescuer keeps rescue records in memory.
type rescuer struct {
	down bool
	kept []rescueRecord
}

type rescueRecord struct {
	id      string
	payload []byte
}

func (r *rescuer) Put(_ context.Context, id string, payload []byte) error {
	if r.down {
		return errStore
	}
	r.kept = append(r.kept, rescueRecord{id, payload})
	return nil
}

func (r *rescuer) Holds(id string) bool {
	return slices.ContainsFunc(r.kept, func(k rescueRecord) bool { return k.id == id })
}

// replay replays all records; those that are done with go.
func (w *world) replay() {
	w.t.Helper()
	var left []rescueRecord
	for _, k := range w.rescue.kept {
		done, err := w.Replay(context.Background(), k.id, k.payload)
		if err != nil || !done {
			left = append(left, k)
		}
	}
	w.rescue.kept = left
}

// wrapper is a key wrapper that only marks what it was given.
type wrapper struct{}

func (wrapper) Wrap(_ context.Context, p secret.Purpose, plain []byte) ([]byte, error) {
	return append([]byte(p), plain...), nil
}

func (wrapper) Unwrap(_ context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	return wrapped[len(p):], nil
}
