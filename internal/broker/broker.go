package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// Config is what a Broker is made of. All fields are required but those that say
// otherwise.
type Config struct {
	Settings *config.Config
	Secrets  *config.Secrets
	Store    connection.Store
	Keys     *secret.Keyring
	Provider *provider.Client
	Rescue   refresh.Rescuer
	// IDTokens verifies ID tokens; nil where no code is exchanged: none is used then.
	IDTokens provider.VerifyIDToken
	Now      func() time.Time
	Log      *slog.Logger
	// Metrics gets what the broker measures of itself. Nil: nobody wants to know.
	Metrics Metrics
	// Timers: this process lives long enough to keep exact timers for tokens that
	// live less than ten minutes (serve). On Lambda such connections are refreshed
	// when somebody asks.
	Timers bool
	// Gateway: an answer must be there within 30 s, so requests to providers are
	// given less time.
	Gateway bool
	// Chunks, where set, puts ids of one integration, ChunkSize at most, that fell due at
	// a minute, onto a queue whose messages come back to RefreshAll. A tick then
	// refreshes some by itself and hands on the rest. Nil: a tick refreshes all.
	Chunks func(ctx context.Context, integration string, minute int64, ids []string) error
	// TickTime is how long a tick begins refreshes; what it did not get to is handed to
	// the queue, or owed to the next tick. 0: as long as its context lasts.
	TickTime time.Duration
	// Spread is the time over which a tick spreads the refreshes of one integration,
	// where they are many. 0: as fast as they go.
	Spread time.Duration
	// Ready, where set, is asked before a refresh is begun whether the store takes
	// writes. An error puts the refresh off, with nothing sent.
	Ready func(ctx context.Context) error
	// Epoch is the deployment's restore epoch; 0 until a restore.
	Epoch int64
	// Place is where the store lies, in words that change when it is restored from a
	// backup: the name of a table, the number of a file. "": nobody can tell.
	Place string
	// Horizon is how long a refusal in doubt is held back, s; 0: the protocol's.
	Horizon int64
	// Events, where set, is told what becomes of connections and integrations. Nil: nobody
	// is, and nothing is kept for telling.
	Events events.Sink
	// TakeUp, where set, is given each key of the sink's own on the tick's list.
	TakeUp func(ctx context.Context, key string)
	// Pause waits between the tries of a save; nil: a timer. For tests with a clock.
	Pause func(ctx context.Context, d time.Duration) error
}

// Metrics takes measurements. It is called concurrently.
type Metrics interface {
	Observe(m metric.Metric, p metric.Point, v float64)
}

// Broker carries out the use cases. It may be used concurrently.
type Broker struct {
	Config
	circuits *circuit.Breaker
	driver   *refresh.Driver
	timers   *timers
	tallies  *tallies
	found    *discovered
	budgets  *budgets
	events   *events.Deliverer // nil without Events

	mu      sync.Mutex
	running map[string]bool            // connections that this process refreshes; guarded by mu
	spent   map[string]map[string]bool // owners whose code exchange was refused since one succeeded, by integration; guarded by mu
	tried   map[circuit.Client]bool    // configurations that corrected let one refresh through for; guarded by mu
}

// New makes a Broker.
func New(c Config) *Broker {
	var deliverer *events.Deliverer
	if c.Events != nil {
		deliverer = &events.Deliverer{Table: c.Store.Connections, Sink: c.Events, Now: c.Now, Log: c.Log}
		if c.Metrics != nil {
			deliverer.Observe = c.Metrics.Observe
		}
		c.Store.Announce = deliverer.Announcer()
	}
	b := &Broker{
		Config: c, circuits: circuit.New(c.Store.Connections, c.Now), timers: newTimers(), tallies: newTallies(),
		found: &discovered{seen: map[string]provider.Metadata{}, reach: map[string]bool{}}, running: map[string]bool{}, spent: map[string]map[string]bool{},
		tried: map[circuit.Client]bool{}, budgets: newBudgets(), events: deliverer,
	}
	b.circuits.Announce = c.Store.Announce
	b.driver = &refresh.Driver{
		Store: c.Store, Keys: c.Keys, Provider: c.Provider, Circuits: b.circuits, Rescue: c.Rescue, Now: c.Now,
		IDTokens: c.IDTokens, Links: b.link, Epoch: c.Epoch, Horizon: c.Horizon, Pause: c.Pause, Done: b.done,
		Admit: b.admit,
	}
	if c.Gateway {
		b.driver.SendTime = refresh.SendTimeGateway
	}
	return b
}

func (b *Broker) now() int64 { return b.Now().Unix() }

// measure takes one value of an integration.
func (b *Broker) measure(m metric.Metric, integration, outcome string, v float64) {
	if b.Metrics != nil && integration != "" {
		b.Metrics.Observe(m, metric.Point{Integration: integration, Outcome: outcome}, v)
	}
}

// measureRefresh takes what there is to measure of a refresh that ended.
func (b *Broker) measureRefresh(r refresh.Report) {
	if r.Sent == 0 {
		return
	}
	name := r.Record.Integration
	b.measure(metric.Refreshes, name, r.Outcome.String(), 1)
	b.measure(metric.ProviderLatency, name, "", float64(r.Took.Milliseconds()))
	if r.Outcome == refresh.Verdict {
		b.measure(metric.RefreshesNeedsReauth, name, "", 1)
	}
	if r.Lost > 0 {
		b.measure(metric.AnswersLost, name, "", float64(r.Lost))
	}
	if r.Recovered {
		b.measure(metric.AnswersRecovered, name, "", 1)
	}
}

// done is told of every refresh that ended.
func (b *Broker) done(r refresh.Report) {
	now := b.now()
	b.measureRefresh(r)
	b.timers.file(r.Record, b.margin(r.Record))
	switch {
	case r.Outcome == refresh.Refused:
		b.forgetSecret(r.Record.Integration, r.Record.ClientID)
	case errors.Is(r.Err, item.ErrTooLarge):
		b.Log.Error("a connection is set aside: its item is too large", "connection", r.Record.ID, "integration", r.Record.Integration,
			"outcome", r.Outcome.String(), "error", r.Err.Error())
	case r.Err != nil:
		b.Log.Warn("refresh", "connection", r.Record.ID, "integration", r.Record.Integration, "outcome", r.Outcome.String(), "error", r.Err.Error())
	}
	if r.Restored {
		b.Log.Info("restored", "connection", r.Record.ID, "integration", r.Record.Integration, "doubt", true)
		b.tallies.count(now, r.Record.Integration, "restored")
	}
	if r.Sent > 0 {
		b.Log.Info("refresh", "connection", r.Record.ID, "integration", r.Record.Integration, "outcome", r.Outcome.String(),
			"generation", r.Record.Gen, "took_ms", r.Took.Milliseconds(), "provider_error", r.Answer)
		b.tallies.count(now, r.Record.Integration, r.Outcome.String())
	}
}

// forgetSecret drops a refused client's cached secret: it may just have been rotated.
func (b *Broker) forgetSecret(integration, clientID string) {
	if i, ok := b.Settings.Integration(integration); ok {
		if c, ok := i.ClientByID(clientID); ok {
			b.Secrets.Forget(c)
		}
	}
}

// discovered keeps the endpoints that were read from discovery documents.
type discovered struct {
	mu   sync.Mutex
	seen map[string]provider.Metadata // by URL; guarded by mu
	// reach tells, by integration, whether requests may go to a fixed entry's endpoints, which
	// are the same for all of its connections; guarded by mu.
	reach map[string]bool
}

// entry is the integration's entry as it is for one connection: with its variables put
// in, and with what it lacks taken from its discovery document. What is known of the
// connection goes before what the configuration says for all.
func (b *Broker) entry(ctx context.Context, i *config.Integration, clientID string, connection map[string]string) (provider.Entry, error) {
	e := i.Entry
	if !i.Entry.Fixed() {
		var err error
		if e, err = i.Entry.Resolve(variables(i, clientID, connection)); err != nil {
			return e, fmt.Errorf("integration %s: %w", i.Name, err)
		}
	}
	if e.DiscoveryURL != "" && e.TokenEndpoint == "" && b.Settings.MayReach(i, e) {
		m, err := b.discover(ctx, e.DiscoveryURL)
		if err != nil {
			return e, fmt.Errorf("integration %s: %w", i.Name, err)
		}
		e = e.WithMetadata(m)
	}
	if !b.mayReach(i, e) {
		return e, fmt.Errorf("integration %s: its discovery document or a variable names a host of the own network that is not open to it", i.Name)
	}
	return e, nil
}

// mayReach is config.Config.MayReach of the entry that i has for a connection. It parses every
// endpoint, so what it says of an entry that neither a connection nor a document changes is kept.
func (b *Broker) mayReach(i *config.Integration, e provider.Entry) bool {
	if i.Entry.DiscoveryURL != "" || !i.Entry.Fixed() {
		return b.Settings.MayReach(i, e)
	}
	b.found.mu.Lock()
	may, known := b.found.reach[i.Name]
	b.found.mu.Unlock()
	if known {
		return may
	}
	may = b.Settings.MayReach(i, e)
	b.found.mu.Lock()
	defer b.found.mu.Unlock()
	b.found.reach[i.Name] = may
	return may
}

// discover reads a discovery document once in this process.
func (b *Broker) discover(ctx context.Context, address string) (provider.Metadata, error) {
	b.found.mu.Lock()
	m, ok := b.found.seen[address]
	b.found.mu.Unlock()
	if ok {
		return m, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m, err := b.Provider.Discover(ctx, address)
	if err != nil {
		return m, err
	}
	b.found.mu.Lock()
	defer b.found.mu.Unlock()
	b.found.seen[address] = m
	return m, nil
}

// variables are what may stand in the URLs of the provider for one connection.
func variables(i *config.Integration, clientID string, connection map[string]string) map[string]string {
	vars := map[string]string{}
	maps.Copy(vars, i.Variables)
	maps.Copy(vars, connection)
	vars["client_id"] = clientID
	return vars
}

// margin is how long before its end a token of this connection is replaced, s.
func (b *Broker) margin(rec connection.Record) int64 {
	if i, ok := b.Settings.Integration(rec.Integration); ok {
		return b.plan(i).Margin(rec.Life())
	}
	return schedule.Margin(rec.Life())
}

// plan is when the integration's connections are refreshed.
func (b *Broker) plan(i *config.Integration) schedule.Plan {
	return schedule.Plan{Mode: schedule.Mode(i.Refresh), Idle: i.Entry.Refresh.IdleLifetimeS, NoTimers: !b.Timers, MinAge: i.Entry.MinimumTokenAge}
}

// redirectURI is what the integration's redirect URI is as far as is known without a
// request: "" where only the gateway knows its own origin.
func (b *Broker) redirectURI(i *config.Integration) string {
	if b.Settings.PublicURL == "" {
		return ""
	}
	return i.RedirectURI(b.Settings.PublicURL)
}

// link is what a connection hangs on; see refresh.Driver.Links.
func (b *Broker) link(ctx context.Context, integration, clientID string, connection map[string]string) (refresh.Link, bool, error) {
	i, ok := b.Settings.Integration(integration)
	if !ok {
		return refresh.Link{}, false, nil
	}
	c, ok := i.ClientByID(clientID)
	if !ok {
		return refresh.Link{}, false, nil
	}
	e, err := b.entry(ctx, i, clientID, connection)
	if err == nil {
		err = e.Whole()
	}
	if err != nil {
		return refresh.Link{}, true, err
	}
	gen, err := b.Secrets.Generation(ctx, c)
	if err != nil {
		return refresh.Link{}, true, err
	}
	return refresh.Link{
		Entry: e, MayReach: func(e provider.Entry) bool { return b.Settings.MayReach(i, e) },
		Client: circuit.Client{Integration: i.Name, Name: c.Name, Generation: gen}, Plan: b.plan(i),
		Credentials: func(ctx context.Context) (provider.Credentials, error) {
			s, err := b.Secrets.Get(ctx, c)
			return provider.Credentials{ClientID: c.ClientID, ClientSecret: s, KeyID: c.KeyID}, err
		},
		RedirectURI: b.redirectURI(i),
	}, true, nil
}

// Ping reports whether the store answers.
func (b *Broker) Ping(ctx context.Context) error { return b.Store.Ping(ctx) }

// acquire takes the right to refresh a connection in this process; false where
// another call has it.
func (b *Broker) acquire(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running[id] {
		return false
	}
	b.running[id] = true
	return true
}

func (b *Broker) release(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.running, id)
}

// refreshOne runs one refresh unless this process has one of that connection under
// way, in which case the outcome is Busy.
func (b *Broker) refreshOne(ctx context.Context, in refresh.Input) refresh.Report {
	if !b.acquire(in.ID) {
		return refresh.Report{Record: connection.Record{Core: connection.Core{ID: in.ID}}, Outcome: refresh.Busy, Why: in.Why}
	}
	defer b.release(in.ID)
	rep := b.driver.Refresh(ctx, in)
	if rep.Outcome == refresh.Suspended {
		if client, ok := b.corrected(ctx, rep.Record); ok {
			in.Probe = true
			rep = b.driver.Refresh(ctx, in)
			if rep.Sent == 0 {
				_ = b.circuits.GiveBack(ctx, client) // else the next interval's probe comes
			}
		}
	}
	return rep
}

// corrected takes the probe of a client, and reports whether this refresh may go through the open circuit of its client
// because the client's configuration was changed: an operator who has put it right need
// not wait for the next tick's probe. A process lets one through for each configuration.
// Were there more, a connection that is itself at fault and often asked for could take
// every probe, and keep the circuit open for all.
func (b *Broker) corrected(ctx context.Context, rec connection.Record) (circuit.Client, bool) {
	link, known, err := b.link(ctx, rec.Integration, rec.ClientID, rec.Fields)
	if err != nil || !known {
		return circuit.Client{}, false
	}
	status, err := b.circuits.Status(ctx, link.Client)
	if err != nil || !status.Young || status.NextProbe > b.now() {
		return circuit.Client{}, false
	}
	b.mu.Lock()
	tried := b.tried[link.Client]
	b.mu.Unlock()
	if tried {
		return circuit.Client{}, false
	}
	took, err := b.circuits.TakeProbe(ctx, link.Client)
	if err != nil || !took {
		return circuit.Client{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried[link.Client] = true
	return link.Client, true
}

func fail(code Code, detail string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(detail, args...)}
}

// internal is a refusal for which the caller can do nothing but ask again.
func internal(err error) *Error {
	return &Error{Code: Internal, Detail: "something failed on our side; ask again, and if it stays so give the request id to the operator", Err: err}
}

// notNow is a refusal that passes, unless a client secret is missing: then it names it.
func notNow(err error, after int64, detail string) *Error {
	if missing, ok := errors.AsType[*config.SecretError](err); ok {
		detail = "the client secret " + missing.Ref.String() + " cannot be read; the operator must look at it"
	}
	return &Error{Code: ProviderUnavailable, Detail: detail, RetryAfter: after, Err: err}
}

// found turns the store's error of a read into a refusal.
func readError(err error, what string) *Error {
	if errors.Is(err, connection.ErrNotFound) {
		return fail(NotFound, "there is no such %s", what)
	}
	return internal(err)
}

// integration finds one that the caller may use. A foreign one is absent.
func (b *Broker) integration(c Caller, name string) (*config.Integration, *Error) {
	i, ok := b.Settings.Integration(name)
	if !ok || !c.MayIntegration(name) {
		return nil, fail(NotFound, "there is no integration of that name, or this key may not use it")
	}
	return i, nil
}

// record reads a connection that the caller may see. A foreign one is absent.
func (b *Broker) record(ctx context.Context, c Caller, id string) (connection.Record, *Error) {
	if !validID(id, "conn_") {
		return connection.Record{}, fail(NotFound, "there is no such connection")
	}
	rec, err := b.Store.Get(ctx, id)
	if err != nil {
		return rec, readError(err, "connection")
	}
	if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) {
		return connection.Record{}, fail(NotFound, "there is no such connection")
	}
	return rec, nil
}

// validID reports whether s can be an id of ours: only such ones become keys.
func validID(s, prefix string) bool {
	if len(s) < len(prefix)+20 || len(s) > 64 || s[:len(prefix)] != prefix {
		return false
	}
	for _, c := range s[len(prefix):] {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// checkOwner bounds the application's own id.
func checkOwner(c Caller, owner string) *Error {
	switch {
	case owner == "" || len(owner) > 256 || !utf8.ValidString(owner) || hasControl(owner) || strings.ContainsRune(owner, utf8.RuneError):
		// U+FFFD is what half a surrogate pair decodes to: two owners must not become one.
		return fail(InvalidRequest, "owner must be 1 to 256 bytes of text without control characters and U+FFFD")
	case !c.MayOwner(owner):
		return fail(Forbidden, "this key may not act for that owner")
	}
	return nil
}

func hasControl(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return true
		}
	}
	return false
}

// The bounds of tags.
const (
	maxTags     = 10
	maxTagName  = 40
	maxTagValue = 200
)

func checkTags(tags map[string]string) *Error {
	if len(tags) > maxTags {
		return fail(InvalidRequest, "at most %d tags", maxTags)
	}
	for k, v := range tags {
		if k == "" || utf8.RuneCountInString(k) > maxTagName || utf8.RuneCountInString(v) > maxTagValue || hasControl(k) || hasControl(v) ||
			!utf8.ValidString(k) || !utf8.ValidString(v) {
			return fail(InvalidRequest, "a tag's name has 1 to %d characters and its value at most %d, without control characters", maxTagName, maxTagValue)
		}
	}
	return nil
}

func withParams(address string, params map[string]string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	for k, v := range params {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	return u.String()
}
