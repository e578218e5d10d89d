// Package faults_test injects every fault that the protocol was made for, each into a
// whole broker over real stores and a provider behind real HTTP, and looks at what is
// left of it. docs/reliability.md lists them.
package faults_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// mutant declares a change that takes the defence of a row out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

const (
	sim          = "askfred" // the dialect in which all of it is spoken; policies vary
	origin       = "http://127.0.0.1:8080"
	life         = 3600 // s: of access tokens, unless a test says otherwise
	clientID     = "app"
	clientSecret = "CANARY-client-secret"
	settings     = `
integrations:
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
`
)

// caller may do everything.
func caller() broker.Caller {
	return broker.Caller{Name: "backend", Rights: config.Rights{
		Allow: []string{"connect", "token", "manage"}, Integrations: []string{"*"}, Owners: []string{"*"},
	}}
}

// profiles are those of the protocol's table, as facts of an entry and a policy of the
// simulator that agree.
func profiles(name string) (provider.Refresh, simprovider.Policy) {
	switch name {
	case "none":
		return provider.Refresh{Rotation: "none"}, simprovider.Policy{KeepsOldAccess: true}
	case "on_use":
		return provider.Refresh{Rotation: "always", PreviousToken: "dies_on_first_use_of_new", Reuse: "rejected"},
			simprovider.Policy{Rotates: true, Previous: simprovider.DiesOnFirstUse}
	case "grace":
		return provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 120, Reuse: "revokes_family"},
			simprovider.Policy{Rotates: true, Previous: simprovider.Stays}
	case "family":
		return provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "revokes_family"},
			simprovider.Policy{Rotates: true, ReuseEndsGrant: true}
	}
	return provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "rejected"}, simprovider.Policy{Rotates: true}
}

// world is one deployment: its tables, its provider, its clock, and any number of
// processes that work on them.
type world struct {
	t        *testing.T
	sim      *simprovider.Server
	settings *config.Config
	keyFile  string
	log      *lines
	base     connection.Store // the tables themselves, without faults

	home    *process       // one that nothing befalls
	over    chan struct{}  // closed when the test is over
	running sync.WaitGroup // crashed processes
	conns   atomic.Int64   // connections that reached the provider

	mu     sync.Mutex // guards the fields below
	now    time.Time
	secret string // of the client, as configured
	rescue []rescued
	watch  watch
}

// rescued is one record in the rescue queue.
type rescued struct {
	id      string
	payload []byte
}

// onStores runs a test on every store that is here.
func onStores(t *testing.T, profile string, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("bolt", func(t *testing.T) { test(t, newWorld(t, profile)) })
	if os.Getenv("EVERGRANT_DYNAMODB") == "" {
		return
	}
	t.Run("dynamodb", func(t *testing.T) {
		client := dynamolocal.Client(t)
		connections, authorizations, err := dynamolocal.CreateTables(t.Context(), client, rand.Text())
		if err != nil {
			t.Fatal(err)
		}
		test(t, newWorldOn(t, profile, connection.Store{
			Connections:    dynamostore.New(client, connections, item.ConnectionIndexes()),
			Authorizations: dynamostore.New(client, authorizations, item.AuthorizationIndexes()),
		}))
	})
}

// seeded makes the ids of a test the same each time, and so the minutes at which its
// connections are due: a slot that falls into the minutes of a test would otherwise
// refresh where it expects nothing, once in a while.
func seeded(t *testing.T) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	cryptotest.SetGlobalRandom(t, h.Sum64())
}

// newWorld is a world whose tables are in a file.
func newWorld(t *testing.T, profile string) *world {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return newWorldOn(t, profile, connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()})
}

func newWorldOn(t *testing.T, profile string, base connection.Store) *world {
	t.Helper()
	seeded(t)
	w := &world{
		t: t, base: base, keyFile: filepath.Join(t.TempDir(), "key"), log: &lines{}, over: make(chan struct{}),
		now: time.Date(2026, 3, 1, 12, 7, 0, 0, time.UTC), secret: clientSecret, watch: newWatch(),
	}
	ts := httptest.NewUnstartedServer(nil)
	w.sim = simprovider.New(simprovider.Config{BaseURL: "http://" + ts.Listener.Addr().String(), Now: w.clock, TokenTTL: life * time.Second})
	ts.Config.Handler = w.sim
	ts.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.conns.Add(1)
		}
	}
	ts.Start()
	t.Cleanup(ts.Close)
	t.Cleanup(func() {
		close(w.over)
		w.running.Wait()
	})
	w.must(w.sim.Register(sim, simprovider.Client{ID: clientID, Secret: clientSecret, RedirectURIs: []string{origin + "/callback/" + sim}}))
	c, err := yamlfile.Parse([]byte(settings))
	w.must(err)
	w.settings = c
	w.profile(profile)
	w.home = w.start()
	_, err = w.home.Tick(t.Context(), w.minute()) // the cursor stands now: nothing is caught up
	w.must(err)
	return w
}

// profile makes the entry and the simulator follow a profile, for processes that start
// from now on.
func (w *world) profile(name string) {
	i := &w.settings.Integrations[0]
	at := w.sim.Endpoints(sim)
	i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint, i.Entry.RevocationEndpoint = at["authorization_endpoint"], at["token_endpoint"], at["revocation_endpoint"]
	i.Entry.Identity = provider.Identity{Endpoint: at["identity.endpoint"], IDField: "id", NameField: "first_name"}
	i.Entry.Evidence = nil
	facts, policy := profiles(name)
	i.Entry.Refresh = facts
	w.must(w.sim.SetPolicy(sim, policy))
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

// process is one worker: a whole broker with its own way to the tables and to the
// provider, on which faults can be laid. It crashes by coming to a stop.
type process struct {
	*broker.Broker
	w    *world
	once sync.Once
	died chan struct{}

	mu         sync.Mutex // guards the fields below
	onStore    []strikes[item.Result]
	onWire     []strikes[*http.Response]
	rescueDown bool
	skew       time.Duration // of this process's clock
}

// start starts a process. change, where given, alters what it is made of.
func (w *world) start(change ...func(*broker.Config)) *process {
	w.t.Helper()
	p := &process{w: w, died: make(chan struct{})}
	store := connection.Store{Connections: table{w.base.Connections, p}, Authorizations: table{w.base.Authorizations, p}}
	wrapper, err := keyfile.Open(w.keyFile, "evergrant")
	w.must(err)
	settings := *w.settings // what a process has read no longer changes
	settings.Integrations = append([]config.Integration(nil), w.settings.Integrations...)
	c := broker.Config{
		Settings: &settings, Store: store, Keys: secret.NewKeyring("evergrant", wrapper, store), Rescue: rescuer{p}, Now: p.clock,
		Secrets: config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return secret.New(w.secret), nil
		}, p.clock),
		Provider: &provider.Client{Transport: wire{provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), p}, AllowLoopback: true, Now: p.clock},
		Log:      slog.New(slog.NewJSONHandler(w.log, nil)),
		Pause:    p.pause,
	}
	for _, f := range change {
		f(&c)
	}
	p.Broker = broker.New(c)
	return p
}

func (p *process) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.clock().Add(p.skew)
}

// pause lets the clock go on instead of waiting.
func (p *process) pause(ctx context.Context, d time.Duration) error {
	p.alive()
	p.w.advance(d)
	return ctx.Err()
}

// store lays a fault on the next calls of a kind, on all of them if times is negative.
func (p *process) store(kind string, times int, do fault[item.Result]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onStore = append(p.onStore, strikes[item.Result]{kind, times, do})
}

// wire lays a fault on the next requests of a kind.
func (p *process) wire(kind string, times int, do fault[*http.Response]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onWire = append(p.onWire, strikes[*http.Response]{kind, times, do})
}

// heal takes all faults off.
func (p *process) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onStore, p.onWire, p.rescueDown = nil, nil, false
}

// crashes runs f, in which the process must crash.
func (p *process) crashes(f func()) {
	p.w.t.Helper()
	done := make(chan struct{})
	p.w.running.Go(func() {
		defer close(done)
		f()
	})
	select {
	case <-p.died:
	case <-done:
		p.w.t.Fatal("the process was to crash, and did not")
	}
}

// refresh has the process refresh a connection now, as a caller whose token got a 401
// does. The error is that of the API.
func (p *process) refresh(id string) error {
	_, err := p.refreshed(id)
	return err
}

func (p *process) refreshed(id string) (broker.TokenView, error) {
	i, err := p.w.base.Connections.Get(context.Background(), id)
	if err != nil {
		return broker.TokenView{}, err
	}
	v, err := p.Refresh(context.Background(), caller(), id, i.Int("gen"), "")
	return p.w.handed(v, err)
}

// token reads the token of a connection.
func (p *process) token(id string, minTTL int64) (broker.TokenView, error) {
	return p.w.handed(p.Token(context.Background(), caller(), id, minTTL, nil))
}

// tick wakes the process for the minute of the clock.
func (p *process) tick() broker.TickReport {
	p.w.t.Helper()
	rep, err := p.Tick(context.Background(), p.w.minute())
	p.w.must(err)
	return rep
}

// slot has the process work off a chunk of one id, as from the queue.
func (p *process) slot(id string) error {
	return p.RefreshAll(context.Background(), []string{id}, p.w.minute())
}

// code of an error of the API, "" for none.
func code(err error) broker.Code {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return e.Code
	}
	if err != nil {
		return "?"
	}
	return ""
}

func (w *world) wantCode(err error, want broker.Code) {
	w.t.Helper()
	if code(err) != want {
		w.t.Fatalf("code %q, want %q: %v", code(err), want, err)
	}
}

// rescuer is the rescue queue, which knows of no record what became of it.
type rescuer struct{ p *process }

var _ refresh.Rescuer = rescuer{}

func (r rescuer) Put(_ context.Context, id string, payload []byte) error {
	r.p.alive()
	r.p.mu.Lock()
	down := r.p.rescueDown
	r.p.mu.Unlock()
	if down {
		return errors.New("the queue does not answer")
	}
	w := r.p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rescue = append(w.rescue, rescued{id, bytes.Clone(payload)})
	return nil
}

func (rescuer) Holds(string) bool { return false }

// inRescue is how many records wait in the queue.
func (w *world) inRescue() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rescue)
}

// replay delivers the records of the rescue queue; those that are done with go.
func (p *process) replay() {
	w := p.w
	w.mu.Lock()
	all := w.rescue
	w.rescue = nil
	w.mu.Unlock()
	for _, r := range all {
		done, err := p.ReplayRescue(context.Background(), r.id, r.payload)
		if err != nil || !done {
			w.mu.Lock()
			w.rescue = append(w.rescue, r)
			w.mu.Unlock()
		}
	}
}

// flow is a browser at the provider's page, on its way to connect or reconnect.
type flow struct {
	session string
	page    string
	cookies []broker.Cookie
}

// begin opens a connect link of the user's owner. id is the connection to reconnect,
// "" for a new one.
func (w *world) begin(user, id string) flow {
	w.t.Helper()
	ctx := context.Background()
	s, err := w.home.CreateSession(ctx, caller(), broker.SessionRequest{Origin: origin, Integration: sim, Owner: "owner-" + user, ConnectionID: id})
	w.must(err)
	return w.open(s.ID)
}

// open opens the link of a session.
func (w *world) open(session string) flow {
	w.t.Helper()
	b, err := w.home.Authorize(context.Background(), broker.AuthorizeRequest{Origin: origin, Integration: sim, Session: session})
	w.must(err)
	return flow{session: session, page: b.Location, cookies: b.Cookies}
}

// allow has the user consent; what comes back is the callback's request.
func (w *world) allow(user string, f flow) broker.CallbackRequest {
	w.t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := browser.PostForm(f.page, url.Values{"decision": {"allow"}, "user": {user}})
	w.must(err)
	defer res.Body.Close()
	to, err := url.Parse(res.Header.Get("Location"))
	w.must(err)
	if to.Query().Get("code") == "" {
		w.t.Fatalf("consent of %s: status %d, no code", user, res.StatusCode)
	}
	w.watch.secret(to.Query().Get("code"))
	params := map[string]string{}
	for k := range to.Query() {
		params[k] = to.Query().Get(k)
	}
	return broker.CallbackRequest{Origin: origin, Integration: sim, Params: params, Cookies: f.cookies}
}

// sessionOf is the state of the session of a flow.
func (w *world) sessionOf(f flow) connection.Session {
	w.t.Helper()
	s, err := w.base.GetSession(context.Background(), connection.Hash(f.session))
	w.must(err)
	return s
}

// connect makes a new connection of the user and returns its id.
func (w *world) connect(user string) string {
	w.t.Helper()
	f := w.begin(user, "")
	_, err := w.home.Callback(context.Background(), w.allow(user, f))
	w.must(err)
	s := w.sessionOf(f)
	if s.State != connection.SessionConnected || s.Result == "" {
		w.t.Fatalf("connect %s: the session is %s %s\n%s", user, s.State, s.Error, w.log)
	}
	return s.Result
}

// reconnect has the user consent again for a connection, by a process.
func (w *world) reconnect(p *process, user, id string) connection.Session {
	w.t.Helper()
	f := w.begin(user, id)
	if _, err := p.Callback(context.Background(), w.allow(user, f)); err != nil {
		w.t.Logf("callback: %v", err)
	}
	return w.sessionOf(f)
}

// record reads a connection as it is stored.
func (w *world) record(id string) connection.Record {
	w.t.Helper()
	r, err := w.base.Get(context.Background(), id)
	w.must(err)
	return r
}

// keys opens what is stored, as a process that has just started would.
func (w *world) keys() *secret.Keyring {
	w.t.Helper()
	wrapper, err := keyfile.Open(w.keyFile, "evergrant")
	w.must(err)
	return secret.NewKeyring("evergrant", wrapper, w.base)
}

func (w *world) opened(k *secret.Keyring, id string, gen int64, field string, sealed item.Bytes) string {
	w.t.Helper()
	if sealed == "" {
		return ""
	}
	text, err := k.Open(context.Background(), secret.PurposeToken, secret.Place{Table: "connections", ID: id, Gen: gen, Field: field}, []byte(sealed))
	w.must(err)
	return text.Reveal()
}

// tokens opens the stored pair.
func (w *world) tokens(id string) (access, refreshToken string) {
	w.t.Helper()
	r, k := w.record(id), w.keys()
	return w.opened(k, id, r.TokGen, "at", r.Access), w.opened(k, id, r.TokGen, "rt", r.Refresh)
}

// live reports whether the provider would take the stored refresh token.
func (w *world) live(id string) bool {
	w.t.Helper()
	_, rt := w.tokens(id)
	info, _ := w.sim.Lookup(sim, rt)
	return info.Live
}

// sent is how many requests of a kind reached the provider: refresh_token,
// authorization_code, revoke.
func (w *world) sent(kind string) int { return w.sim.Requests(sim)[kind] }

// provider makes the provider's next requests go wrong.
func (w *world) provider(f simprovider.Fault) {
	w.t.Helper()
	if f.On == "" {
		f.On = "token"
	}
	w.must(w.sim.AddFault(sim, f))
}

// userEnds has the user remove the application at the provider.
func (w *world) userEnds(user string) {
	w.sim.RevokeUser(sim, user)
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	w.watch.ended = true
}

// lease lets the time of a claim run out.
func (w *world) lease() { w.advance(time.Minute) }

// slot goes on to the minute at which the schedule will refresh the connection, as if
// every minute before had been ticked.
func (w *world) slot(id string) {
	w.t.Helper()
	v, err := w.home.Get(context.Background(), caller(), id)
	w.must(err)
	if v.NextRefreshAt == 0 {
		w.t.Fatalf("%s is not scheduled: %+v", id, v.Core)
	}
	w.advance(time.Duration(v.NextRefreshAt-60-w.unix()) * time.Second)
	w.home.tick()
	w.advance(time.Minute)
}

// ticks wakes a process once a minute until the connection is as it should be.
func (p *process) ticks(id string, minutes int, want func(connection.Record) bool) connection.Record {
	p.w.t.Helper()
	for range minutes {
		p.tick()
		if r := p.w.record(id); want(r) {
			return r
		}
		p.w.advance(time.Minute)
	}
	p.w.t.Fatalf("%s did not come to it in %d minutes: %+v\n%s", id, minutes, p.w.record(id).Core, p.w.log)
	return connection.Record{}
}

// lost is a connection whose refresh token is gone for good, known only after the doubt
// has stood for its horizon. The user's next consent heals it.
func (w *world) lost(id, user string) {
	w.t.Helper()
	p := w.start()
	r := p.ticks(id, 80, func(r connection.Record) bool { return r.Status == connection.NeedsReauth })
	if r.Reason != connection.LostResponse || w.unix()-r.DoubtAt < refresh.Horizon || r.DoubtAt == 0 {
		w.t.Fatalf("%s %d s after the doubt: %+v", r.Reason, w.unix()-r.DoubtAt, r.Core)
	}
	if s := w.reconnect(w.home, user, id); s.State != connection.SessionConnected || s.Result != id {
		w.t.Fatalf("the reconnect is %s %s", s.State, s.Error)
	}
	w.settle(id)
}

// settle lifts every fault and lets time go on, a tick each minute, until each of the
// connections is refreshed and nothing of the fault is left. It fails where one is not
// within the hour, or where its token ends before (L1, L2, L3).
func (w *world) settle(ids ...string) {
	w.t.Helper()
	w.must(w.sim.ClearFaults(sim))
	p := w.start()
	gens := map[string]int64{}
	for _, id := range ids {
		gens[id] = w.record(id).Gen
	}
	for step := 0; ; step++ {
		p.replay()
		p.tick()
		open := ""
		for _, id := range ids {
			r := w.record(id)
			if r.Gen == gens[id] || r.Attempt.ID != "" || r.DoubtAt != 0 || r.RetryAt != 0 {
				open = id
			}
			if r.Status == connection.Active && r.ExpiresAt < w.unix() {
				w.t.Fatalf("%s expired before it was refreshed: %+v\n%s", id, r.Core, w.log)
			}
		}
		if open == "" {
			break
		}
		if step == 40 {
			w.t.Fatalf("%s is not refreshed: %+v\n%s", open, w.record(open).Core, w.log)
		}
		if wait := time.Minute; step < 10 {
			w.advance(wait)
		} else {
			w.advance(2 * wait)
		}
	}
	w.check(ids...)
}

// lines is the log of all processes.
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

// wire is one process's way to the provider.
type wire struct {
	base http.RoundTripper
	p    *process
}

func (t wire) RoundTrip(r *http.Request) (*http.Response, error) {
	t.p.alive()
	kind, err := kindOfRequest(r)
	if err != nil {
		return nil, err
	}
	call := func() (*http.Response, error) {
		res, err := t.base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if kind == onSend || kind == onExchange {
			return t.p.w.watch.answer(res)
		}
		return res, nil
	}
	t.p.mu.Lock()
	do := next(t.p.onWire, kind)
	t.p.mu.Unlock()
	if do == nil {
		return call()
	}
	return do(call)
}

// kindOfRequest reads a request's form; its body is put back, and can still be sent once
// only.
func kindOfRequest(r *http.Request) (string, error) {
	if r.Body == nil || r.Method != http.MethodPost {
		return onIdentity, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", err
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		return onSend, nil
	case "authorization_code":
		return onExchange, nil
	case "":
		return onRevocation, nil
	}
	return other, nil
}

// answer reads what a token answer holds, before anybody does.
func (o *watch) answer(res *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	var a struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	_ = json.Unmarshal(body, &a)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range []string{a.AccessToken, a.RefreshToken} {
		if t != "" {
			o.secrets = append(o.secrets, t)
		}
	}
	if a.Error == "invalid_grant" {
		o.refusals++
	}
	return res, nil
}

// failing is the end of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
