package app_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/api"
	"github.com/evergrant/evergrant/internal/app/authorize"
	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/app/callback"
	"github.com/evergrant/evergrant/internal/app/refresh"
	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

const (
	gatewayHost  = "q7x2k9m4ab.execute-api.eu-central-1.amazonaws.com"
	chunkQueue   = "https://sqs.eu-central-1.amazonaws.com/123456789012/evergrant-ChunkQueue"
	rescueQueue  = "https://sqs.eu-central-1.amazonaws.com/123456789012/evergrant-RescueQueue"
	clientSecret = "CANARY-client-secret"
	apiKey       = "evg_example" // the one of the sample events
)

// settings are the packaged configuration, before the providers are pointed to the
// simulators. AskFRED is in confirm mode, Redbooth in cookie mode.
const settings = `
integrations:
  redbooth: {client_id: app, client_secret: "${secretsmanager:evergrant/redbooth}", binding: cookie, return_to: ["https://app.example.com/*"]}
  askfred: {client_id: app, client_secret: "${ssm:/evergrant/askfred}", return_to: ["https://app.example.com/*"]}
api_keys:
  - {name: backend, hash: "HASH", allow: [connect, token, manage], integrations: ["*"], owners: ["*"]}
iam_callers:
  - {arn: "arn:aws:sts::123456789012:assumed-role/backend/*", allow: [token], integrations: ["*"], owners: ["*"]}
`

// deployment is the four functions with simulators of everything around them.
type deployment struct {
	t     *testing.T
	aws   *awssim.Server
	sim   *simprovider.Server
	now   *clock
	log   *lines
	vars  map[string]string // the functions' environment
	parts app.Parts
}

type clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
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

// onBolt is a deployment whose tables are in a file.
func onBolt(t *testing.T) *deployment {
	t.Helper()
	d := newDeployment(t, nil)
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	d.parts.Store = connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}
	return d
}

// onDynamoDB is a deployment just as the environment describes it, on DynamoDB Local.
func onDynamoDB(t *testing.T) *deployment {
	t.Helper()
	client := dynamolocal.Client(t)
	connections, authorizations, err := dynamolocal.CreateTables(t.Context(), client, "evergrant-")
	if err != nil {
		t.Fatal(err)
	}
	o := client.Options()
	c, err := o.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newDeployment(t, map[string]string{
		"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_REGION": o.Region, "AWS_ENDPOINT_URL_DYNAMODB": *o.BaseEndpoint,
		"EVERGRANT_CONNECTIONS_TABLE": connections, "EVERGRANT_AUTHORIZATIONS_TABLE": authorizations,
	})
}

func newDeployment(t *testing.T, vars map[string]string) *deployment {
	t.Helper()
	d := &deployment{t: t, aws: awssim.New(), log: &lines{}, now: &clock{at: time.Date(2026, 3, 12, 19, 3, 58, 0, time.UTC)}}
	awsServer := httptest.NewServer(d.aws)
	t.Cleanup(awsServer.Close)
	var sim http.Handler
	simServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sim.ServeHTTP(w, r) }))
	t.Cleanup(simServer.Close)
	d.sim = simprovider.New(simprovider.Config{BaseURL: simServer.URL, Now: d.now.Now})
	sim = d.sim
	d.aws.SetParameter("/evergrant/askfred", clientSecret)
	d.aws.SetSecret("evergrant/redbooth", clientSecret)

	file := filepath.Join(t.TempDir(), "evergrant.json")
	if err := os.WriteFile(file, d.packaged(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.vars = map[string]string{
		"EVERGRANT_DEPLOYMENT": "evergrant", "EVERGRANT_RESTORE_EPOCH": "0", "EVERGRANT_KMS_KEY": "arn:aws:kms:eu-central-1:123456789012:key/one",
		"EVERGRANT_CONNECTIONS_TABLE": "connections", "EVERGRANT_AUTHORIZATIONS_TABLE": "authorizations",
		"EVERGRANT_CHUNK_QUEUE": chunkQueue, "EVERGRANT_RESCUE_QUEUE": rescueQueue, "EVERGRANT_CONFIG": file,
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "CANARY-aws-secret", "AWS_SESSION_TOKEN": "CANARY-aws-token",
		"AWS_ENDPOINT_URL": awsServer.URL,
	}
	for name, value := range vars {
		d.vars[name] = value
	}
	e, err := app.ReadEnv(func(name string) string { return d.vars[name] }, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := app.ReadSettings(e)
	if err != nil {
		t.Fatal(err)
	}
	d.parts = app.Assemble(e, s, slog.New(slog.NewJSONHandler(d.log, nil)))
	d.parts.Now = d.now.Now
	return d
}

// packaged is the compiled configuration, with the simulators' endpoints.
func (d *deployment) packaged() []byte {
	d.t.Helper()
	c, err := yamlfile.Parse([]byte(strings.ReplaceAll(settings, "HASH", config.HashAPIKey(secret.New(apiKey)))))
	if err != nil {
		d.t.Fatal(err)
	}
	for n := range c.Integrations {
		i := &c.Integrations[n]
		at := d.sim.Endpoints(i.Provider)
		i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint = at["authorization_endpoint"], at["token_endpoint"]
		i.Entry.RevocationEndpoint, i.Entry.Identity.Endpoint = at["revocation_endpoint"], at["identity.endpoint"]
		i.Entry.Evidence = nil
		err := d.sim.Register(i.Provider, simprovider.Client{ID: "app", Secret: clientSecret, RedirectURIs: []string{i.RedirectURI("https://" + gatewayHost)}})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	b, err := c.Compile()
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// gateway sends each request to the function that template.yaml routes it to. All of them
// start cold with it.
func (d *deployment) gateway() http.RoundTripper {
	function := func(h http.Handler) http.RoundTripper {
		return lambdahttp.Transport(lambdahttp.Handler(h, d.parts.Log))
	}
	return routed{authorize: function(authorize.New(d.parts)), callback: function(callback.New(d.parts)), api: function(api.New(d.parts))}
}

type routed struct{ authorize, callback, api http.RoundTripper }

func (g routed) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel() // the answer is whole when it comes
	r = r.WithContext(ctx)
	switch {
	case r.URL.Host != gatewayHost:
		return http.DefaultTransport.RoundTrip(r.WithContext(context.WithoutCancel(ctx)))
	case strings.HasPrefix(r.URL.Path, "/authorize/"):
		return g.authorize.RoundTrip(r)
	case strings.HasPrefix(r.URL.Path, "/callback/"):
		return g.callback.RoundTrip(r)
	}
	return g.api.RoundTrip(r)
}

// tick wakes the refresh function for the minute of the clock, as if it had been woken
// in every minute before.
func (d *deployment) tick() {
	d.t.Helper()
	at := d.now.Now().UTC().Truncate(time.Minute)
	cursor, err := d.parts.Store.Cursor(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.parts.Store.MoveCursor(d.t.Context(), cursor, at.Unix()/60-1); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.wake(`{"tick":"` + at.Format(time.RFC3339) + `"}`); err != nil {
		d.t.Fatal(err)
	}
}

// wake invokes the refresh function, cold.
func (d *deployment) wake(event string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	answer, err := refresh.New(d.parts).Invoke(ctx, []byte(event))
	return string(answer), err
}

// browser is a browser or a backend that follows no redirect by itself.
type browser struct {
	t      *testing.T
	client *http.Client
}

func (d *deployment) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{d.t, &http.Client{Jar: jar, Transport: d.gateway(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is one, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(r *http.Request) answer {
	b.t.Helper()
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// open returns where the page sends the browser.
func (b *browser) open(address string) *url.URL {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.sentOn(b.do(r))
}

func (b *browser) sentOn(a answer) *url.URL {
	b.t.Helper()
	to, err := url.Parse(a.header.Get("Location"))
	if err != nil || to.Host == "" {
		b.t.Fatalf("no redirect but %d: %s", a.status, a.body)
	}
	return to
}

// allow answers the provider's consent page.
func (b *browser) allow(page *url.URL) *url.URL {
	b.t.Helper()
	form := page.Query()
	form.Set("decision", "allow")
	to := *page
	to.RawQuery = ""
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.sentOn(b.do(r))
}

// call is one API call of the backend; it fails the test unless the status is want.
func (d *deployment) call(want int, method, path, body string) map[string]any {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "https://"+gatewayHost+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a := d.browser().do(r)
	if a.status != want {
		d.t.Fatalf("%s %s: %d, want %d: %s\n%s", method, path, a.status, want, a.body, d.log)
	}
	out := map[string]any{}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// connect takes a user through a link, to the callback's answer.
func (d *deployment) connect(integration, owner string) (session string, back url.Values) {
	d.t.Helper()
	made := d.call(201, "POST", "/v1/connect-sessions", `{"integration":"`+integration+`","owner":"`+owner+`","return_to":"https://app.example.com/back"}`)
	b := d.browser()
	home := b.open(b.allow(b.open(made["authorize_url"].(string))).String())
	if home.Host != "app.example.com" {
		d.t.Fatalf("the browser ends at %s\n%s", home.Host, d.log)
	}
	return made["id"].(string), home.Query()
}

// flakyTable fails updates while it is told to.
type flakyTable struct {
	item.Table
	fail func(key string) error // nil: let it through
}

func (f *flakyTable) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	if err := f.fail(key); err != nil {
		return item.Result{}, err
	}
	return f.Table.Update(ctx, key, u)
}
