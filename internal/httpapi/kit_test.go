package httpapi_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// world is a whole Evergrant with simulated providers, on loopback.
type world struct {
	t   *testing.T
	cfg httpapi.Config
	sim *simprovider.Server
	url string // of Evergrant
	log *lines
	key map[string]string // API keys by name
	now *clock
}

// clock is a settable one.
type clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// lines collects the log.
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

// plainWrapper keeps data keys as they are: how they are wrapped is no matter here.
type plainWrapper struct{}

func (plainWrapper) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return plain, nil
}

func (plainWrapper) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return wrapped, nil
}

// noRescue has nothing to rescue: the store of these tests does not fail.
type noRescue struct{}

func (noRescue) Put(context.Context, string, []byte) error { return nil }
func (noRescue) Holds(string) bool                         { return false }

const settings = `
public_url: PUBLIC
integrations:
  freeagent: {client_id: app, client_secret: "${env:SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  redbooth: {client_id: app, client_secret: "${env:SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  fflogs: {client_id: app, client_secret: "${env:SECRET}", connect: public, return_to: ["http://127.0.0.1:9/back"]}
api_keys:
  - {name: all, hash: "HASH-all", allow: [connect, token, manage, admin], integrations: ["*"], owners: ["*"]}
  - {name: none, hash: "HASH-none", allow: [connect], integrations: [fflogs], owners: ["nobody"]}
  - {name: connect, hash: "HASH-connect", allow: [connect], integrations: ["*"], owners: ["*"]}
  - {name: token, hash: "HASH-token", allow: [token], integrations: ["*"], owners: ["*"]}
  - {name: manage, hash: "HASH-manage", allow: [manage], integrations: ["*"], owners: ["*"]}
  - {name: admin, hash: "HASH-admin", allow: [admin], integrations: ["*"], owners: ["*"]}
  - {name: foreign, hash: "HASH-foreign", allow: [connect, token, manage], integrations: [redbooth], owners: ["*"]}
  - {name: stranger, hash: "HASH-stranger", allow: [connect, token, manage], integrations: ["*"], owners: ["x-*"]}
iam_callers:
  - {arn: "arn:aws:sts::123456789012:assumed-role/backend/*", allow: [connect, token, manage], integrations: ["*"], owners: ["*"]}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, log: &lines{}, key: map[string]string{}, now: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	var front, sim http.Handler
	simServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { sim.ServeHTTP(rw, r) }))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { front.ServeHTTP(rw, r) }))
	t.Cleanup(simServer.Close)
	t.Cleanup(server.Close)
	w.url = server.URL
	w.sim = simprovider.New(simprovider.Config{BaseURL: simServer.URL, Now: w.now.Now})
	sim = w.sim

	keys := w.settings()
	w.cfg = httpapi.Config{
		Broker: w.broker(keys), Keys: keys, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: w.now.Now, Version: "v1.2.3",
		Catalog: config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs},
		IAMCaller: func(r *http.Request) (string, bool) {
			arn := r.Header.Get("Test-Arn") // the gateway's context, in these tests
			return arn, arn != ""
		},
	}
	front = httpapi.New(w.cfg)
	return w
}

// settings reads the configuration and points its providers to the simulators.
func (w *world) settings() *config.Config {
	w.t.Helper()
	text := strings.ReplaceAll(settings, "PUBLIC", w.url)
	for _, name := range []string{"all", "none", "connect", "token", "manage", "admin", "foreign", "stranger"} {
		key, hash := config.NewAPIKey()
		w.key[name] = key.Reveal()
		text = strings.ReplaceAll(text, "HASH-"+name+`"`, hash+`"`)
	}
	c, err := yamlfile.Parse([]byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	for n := range c.Integrations {
		i := &c.Integrations[n]
		at := w.sim.Endpoints(i.Provider)
		i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint = at["authorization_endpoint"], at["token_endpoint"]
		i.Entry.RevocationEndpoint, i.Entry.Identity.Endpoint = at["revocation_endpoint"], at["identity.endpoint"]
		err := w.sim.Register(i.Provider, simprovider.Client{ID: "app", Secret: "sim-secret", RedirectURIs: []string{i.RedirectURI(w.url)}})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

func (w *world) broker(settings *config.Config) *broker.Broker {
	w.t.Helper()
	db, err := boltstore.Open(filepath.Join(w.t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	store := connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}
	resolve := func(context.Context, config.SecretRef) (secret.Text, error) { return secret.New("sim-secret"), nil }
	return broker.New(broker.Config{
		Settings: settings, Secrets: config.NewSecrets(resolve, w.now.Now), Store: store,
		Keys: secret.NewKeyring(settings.Deployment, plainWrapper{}, store), Provider: &provider.Client{Now: w.now.Now, AllowLoopback: true},
		Rescue: noRescue{}, Now: w.now.Now, Log: slog.New(slog.NewJSONHandler(w.log, nil)),
		Pause: func(context.Context, time.Duration) error { return nil },
	})
}

// got is an answer, read to its end.
type got struct {
	status int
	header http.Header
	body   string
}

// json reads the answer's body.
func (g got) json(t *testing.T) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(g.body), &m); err != nil {
		t.Fatalf("answer %d is no JSON object: %v: %s", g.status, err, g.body)
	}
	return m
}

// want fails the test unless the answer has the status, and where it is an error the
// code.
func (g got) want(t *testing.T, status int, code string) got {
	t.Helper()
	if g.status != status {
		t.Fatalf("status %d, want %d: %s", g.status, status, g.body)
	}
	if code != "" && !strings.Contains(g.body, code) {
		t.Fatalf("answer does not say %s: %s", code, g.body)
	}
	return g
}

// send sends r, by a client that follows no redirect, and checks what holds of every
// answer.
func (w *world) send(jar http.CookieJar, r *http.Request) got {
	w.t.Helper()
	client := http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	g := got{res.StatusCode, res.Header, string(body)}
	if strings.HasPrefix(r.URL.String(), w.url) {
		checkHeaders(w.t, g)
	}
	return g
}

// checkHeaders checks what every answer of ours must say.
func checkHeaders(t *testing.T, g got) {
	t.Helper()
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if g.header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, g.header.Get(name), want)
		}
	}
	if g.header.Get("X-Request-Id") == "" {
		t.Error("the answer has no request id")
	}
	for name := range g.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the answer has the header %s", name)
		}
	}
	kind := g.header.Get("Content-Type")
	switch {
	case strings.HasPrefix(kind, "text/html"):
		csp := g.header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || !strings.HasSuffix(csp, "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'") || g.header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("a page may be framed or load something: %q, %q", csp, g.header.Get("X-Frame-Options"))
		}
	case g.status >= 400 && kind != "application/problem+json":
		t.Errorf("error %d is of type %q", g.status, kind)
	}
}

// call is one API call with the key of that name; body "" for none.
func (w *world) call(key, method, path, body string) got {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+w.key[key])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return w.send(nil, r)
}

// open has a browser open an address.
func (w *world) open(jar http.CookieJar, address string) got {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.send(jar, r)
}

func newJar(t *testing.T) http.CookieJar {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return jar
}

// consent answers the provider's consent page with the decision, and returns where it
// sends the browser.
func (w *world) consent(jar http.CookieJar, address, decision string) string {
	w.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		w.t.Fatal(err)
	}
	form := u.Query()
	form.Set("decision", decision)
	u.RawQuery = ""
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	g := w.send(jar, r)
	if g.header.Get("Location") == "" {
		w.t.Fatalf("the provider answers %d: %s", g.status, g.body)
	}
	return g.header.Get("Location")
}

// session makes a connect session and returns its id and link.
func (w *world) session(integration, owner string) (id, link string) {
	w.t.Helper()
	body := `{"integration":"` + integration + `","owner":"` + owner + `","return_to":"http://127.0.0.1:9/back"}`
	m := w.call("all", "POST", "/v1/connect-sessions", body).want(w.t, 201, "").json(w.t)
	return m["id"].(string), m["authorize_url"].(string)
}

// returned takes a browser through the link and the provider, and returns the
// parameters with which it comes back to the application.
func (w *world) returned(jar http.CookieJar, link string) url.Values {
	w.t.Helper()
	toProvider := w.open(jar, link).want(w.t, 302, "").header.Get("Location")
	back := w.open(jar, w.consent(jar, toProvider, "allow")).want(w.t, 303, "").header.Get("Location")
	u, err := url.Parse(back)
	if err != nil {
		w.t.Fatal(err)
	}
	return u.Query()
}

// connect connects the owner and returns the connection's id.
func (w *world) connect(integration, owner string) string {
	w.t.Helper()
	id, link := w.session(integration, owner)
	confirm := w.returned(newJar(w.t), link).Get("evergrant_confirm")
	g := w.call("all", "POST", "/v1/connect-sessions/"+id+"/confirm", `{"confirm":"`+confirm+`","owner":"`+owner+`"}`)
	return g.want(w.t, 200, "").json(w.t)["id"].(string)
}

// absent is an id of the right form that nothing has.
func absent(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
