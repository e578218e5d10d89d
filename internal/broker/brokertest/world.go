package brokertest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

const (
	// Integration is the one that every World has unless Options say otherwise. Its name
	// is the dialect in which it speaks; policies vary.
	Integration = "askfred"
	// Life of access tokens, s, at a World that has a profile.
	Life = 3600
	// ClientID is that of every integration's client.
	ClientID = "app"
	// ClientSecret goes with ClientID.
	ClientSecret = "CANARY-client-secret"
	// ReturnTo is where Return sends browsers back to. Integrations must allow it.
	ReturnTo = "http://127.0.0.1:9/back"

	integrations = `
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie, min_interval_s: 0, return_to: ["http://127.0.0.1:9/back"]}
`
)

// Options are what a World is made of. The zero Options are fine.
type Options struct {
	// Profile names the Profile of the first integration, which must then be AskFRED.
	// "": each provider does as its dialect does.
	Profile string
	// Integrations is the section of that name of the configuration, indented. Those
	// whose provider is simulated are pointed to the simulator; see Simulate. "":
	// AskFRED in cookie mode.
	Integrations string
	// Keys are further API keys, beside those of Keys.
	Keys []config.APIKey
	// More is whatever else the configuration has to say.
	More string
	// Store holds the tables; the zero Store: in a file of the test.
	Store connection.Store
	// Start is when the clock begins; the zero Time: some Sunday at 12:07.
	Start time.Time
}

// Caller may do everything that a backend may.
func Caller() broker.Caller {
	return broker.Caller{Name: "backend", Rights: config.Rights{
		Allow: []string{"connect", "token", "manage"}, Integrations: []string{"*"}, Owners: []string{"*"}, ImportsPerMinute: 1_000_000,
	}}
}

// World is one deployment: its tables, its provider, its clock, and any number of
// processes that work on them.
type World struct {
	*Clock
	T        *testing.T
	Sim      *simprovider.Server
	Settings *config.Config   // of processes that start from now on
	Log      *Log             // of all processes
	Store    connection.Store // the tables themselves, without faults
	Origin   string           // of the API
	Home     *Process         // one that nothing befalls
	Conns    atomic.Int64     // connections that reached the provider
	// Transport is that of browsers and backends; nil: the network.
	Transport http.RoundTripper

	keyFile string
	apiKeys map[string]string // by name
	over    chan struct{}     // closed when the test is over
	running sync.WaitGroup    // crashed processes

	mu     sync.Mutex   // guards the fields below
	front  http.Handler // of Origin
	secret string       // of the client, as configured
	rescue []rescued
	told   []wire.Event // as they were delivered
	deaf   bool         // nobody is there to be told
	watch  watch        // has a lock of its own
}

// New is a world in which nothing has happened yet. It ends with the test.
func New(t *testing.T, o Options) *World {
	t.Helper()
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 3, 1, 12, 7, 0, 0, time.UTC)
	}
	if o.Store.Connections == nil {
		o.Store = Bolt(t)
	}
	w := &World{
		Clock: NewClock(o.Start), T: t, Store: o.Store, keyFile: filepath.Join(t.TempDir(), "key"), Log: &Log{}, over: make(chan struct{}),
		apiKeys: map[string]string{}, secret: ClientSecret, watch: newWatch(),
	}
	w.serveAll(o)
	w.read(o)
	Seed(t)
	w.Home = w.Start()
	w.Serve(w.HTTP(w.Home))
	_, err := w.Home.Tick(t.Context(), w.Minute()) // the cursor stands now: nothing is caught up
	w.Must(err)
	return w
}

// serveAll starts the servers of the provider and of the API.
func (w *World) serveAll(o Options) {
	life := time.Duration(0)
	if o.Profile != "" {
		life = Life * time.Second
	}
	sim, front := httptest.NewUnstartedServer(nil), httptest.NewUnstartedServer(http.HandlerFunc(w.serveFront))
	w.Origin = "http://" + front.Listener.Addr().String()
	w.Sim = simprovider.New(simprovider.Config{BaseURL: "http://" + sim.Listener.Addr().String(), Now: w.Now, TokenTTL: life})
	sim.Config.Handler = w.Sim
	sim.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.Conns.Add(1)
		}
	}
	for _, s := range []*httptest.Server{sim, front} {
		s.Start()
		w.T.Cleanup(s.Close)
	}
	w.T.Cleanup(func() {
		close(w.over)
		w.running.Wait()
	})
}

// read makes the configuration and points it to the simulators.
func (w *World) read(o Options) {
	w.T.Helper()
	section := o.Integrations
	if section == "" {
		section = integrations
	}
	c, err := yamlfile.Parse([]byte("public_url: " + w.Origin + "\nintegrations:\n" + section + "\n" + o.More))
	w.Must(err)
	for _, k := range append(keys(), o.Keys...) {
		key, hash := config.NewAPIKey()
		w.apiKeys[k.Name], k.Hash = key.Reveal(), hash
		w.Secret(key.Reveal())
		c.APIKeys = append(c.APIKeys, k)
	}
	w.Secret(ClientSecret)
	w.Settings = c
	for n := range c.Integrations {
		if i := &c.Integrations[n]; w.Sim.Endpoints(i.Provider) != nil {
			w.Must(Simulate(w.Sim, i, w.Origin))
		}
	}
	if o.Profile != "" {
		w.SetProfile(o.Profile)
	}
}

// SetProfile makes the entry and the simulator follow a profile, for processes that start
// from now on.
func (w *World) SetProfile(name string) {
	w.T.Helper()
	e := &w.Settings.Integrations[0].Entry
	e.Identity.IDField, e.Identity.NameField = "id", "first_name"
	facts, policy := Profile(name)
	e.Refresh = facts
	w.Must(w.Sim.SetPolicy(Integration, policy))
}

// Must ends the test where there is an error.
func (w *World) Must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// Secret notes a text that no log and no stored value may hold in clear.
func (w *World) Secret(s string) { w.watch.secret(s) }

// WantCode fails unless the error is the API's of that code; "" is none.
func (w *World) WantCode(err error, want broker.Code) {
	w.T.Helper()
	if Code(err) != want {
		w.T.Fatalf("code %q, want %q: %v", Code(err), want, err)
	}
}

// Sent is how many requests of a kind reached the provider: refresh_token,
// authorization_code, revoke.
func (w *World) Sent(kind string) int { return w.Sim.Requests(Integration)[kind] }

// ProviderFault makes the provider's next requests go wrong.
func (w *World) ProviderFault(f simprovider.Fault) {
	w.T.Helper()
	if f.On == "" {
		f.On = "token"
	}
	w.Must(w.Sim.AddFault(Integration, f))
}

// UserEnds has the user remove the application at the provider.
func (w *World) UserEnds(user string) {
	w.Sim.RevokeUser(Integration, user)
	w.UserEnded()
}
