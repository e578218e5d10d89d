package app_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/api"
	"github.com/evergrant/evergrant/internal/app/authorize"
	"github.com/evergrant/evergrant/internal/app/awssim"
	"github.com/evergrant/evergrant/internal/app/callback"
	"github.com/evergrant/evergrant/internal/app/refresh"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

const (
	gatewayHost = "q7x2k9m4ab.execute-api.eu-central-1.amazonaws.com"
	chunkQueue  = "https://sqs.eu-central-1.amazonaws.com/123456789012/evergrant-ChunkQueue"
	rescueQueue = "https://sqs.eu-central-1.amazonaws.com/123456789012/evergrant-RescueQueue"
	apiKey      = "evg_example" // the one of the sample events
	operatorKey = "evg_operator"
)

// settings are the packaged configuration, before the providers are pointed to the
// simulators. AskFRED is in confirm mode, Redbooth in cookie mode.
const settings = `
integrations:
  redbooth: {client_id: app, client_secret: "${secretsmanager:evergrant/redbooth}", binding: cookie, return_to: ["https://app.example.com/*"]}
  askfred: {client_id: app, client_secret: "${ssm:/evergrant/askfred}", return_to: ["https://app.example.com/*"]}
api_keys:
  - {name: backend, hash: "HASH", allow: [connect, token, manage], integrations: ["*"], owners: ["*"]}
  - {name: operator, hash: "OPERATOR", allow: [admin], integrations: ["*"], owners: ["*"]}
iam_callers:
  - {arn: "arn:aws:sts::123456789012:assumed-role/backend/*", allow: [token], integrations: ["*"], owners: ["*"]}
`

// deployment is the four functions with simulators of everything around them.
type deployment struct {
	t     *testing.T
	aws   *awssim.Server
	sim   *simprovider.Server
	now   *brokertest.Clock
	log   *brokertest.Log
	vars  map[string]string // the functions' environment
	parts app.Parts
}

// onBolt is a deployment whose tables are in a file.
func onBolt(t *testing.T) *deployment {
	t.Helper()
	d := newDeployment(t, nil)
	d.parts.Store = brokertest.Bolt(t)
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
	d := &deployment{t: t, aws: awssim.New(), log: &brokertest.Log{}, now: brokertest.NewClock(time.Date(2026, 3, 12, 19, 3, 58, 0, time.UTC))}
	awsServer := httptest.NewServer(d.aws)
	t.Cleanup(awsServer.Close)
	var sim http.Handler
	simServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sim.ServeHTTP(w, r) }))
	t.Cleanup(simServer.Close)
	d.sim = simprovider.New(simprovider.Config{BaseURL: simServer.URL, Now: d.now.Now})
	sim = d.sim
	d.aws.SetParameter("/evergrant/askfred", brokertest.ClientSecret)
	d.aws.SetSecret("evergrant/redbooth", brokertest.ClientSecret)

	file := filepath.Join(t.TempDir(), "evergrant.json")
	if err := os.WriteFile(file, d.packaged(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.vars = map[string]string{
		"EVERGRANT_DEPLOYMENT": "evergrant", "EVERGRANT_RESTORE_EPOCH": "0", "EVERGRANT_CONSOLE": "true", "EVERGRANT_KMS_KEY": "arn:aws:kms:eu-central-1:123456789012:key/one",
		"EVERGRANT_CONNECTIONS_TABLE": "connections", "EVERGRANT_AUTHORIZATIONS_TABLE": "authorizations",
		"EVERGRANT_CHUNK_QUEUE": chunkQueue, "EVERGRANT_RESCUE_QUEUE": rescueQueue, "EVERGRANT_CONFIG": file,
		"EVERGRANT_CHUNK_DEAD_LETTERS": chunkQueue + "-dead", "EVERGRANT_RESCUE_DEAD_LETTERS": rescueQueue + "-dead",
		"EVERGRANT_EVENT_BUS": "evergrant",
		"AWS_REGION":          "eu-central-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "CANARY-aws-secret", "AWS_SESSION_TOKEN": "CANARY-aws-token",
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
	c, err := yamlfile.Parse([]byte(strings.NewReplacer(
		"HASH", config.HashAPIKey(secret.New(apiKey)), "OPERATOR", config.HashAPIKey(secret.New(operatorKey)),
	).Replace(settings)))
	if err != nil {
		d.t.Fatal(err)
	}
	for n := range c.Integrations {
		if err := brokertest.Simulate(d.sim, &c.Integrations[n], "https://"+gatewayHost); err != nil {
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
	progress, err := d.parts.Store.Progress(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.parts.Store.MoveCursor(d.t.Context(), progress.Minute, at.Unix()/60-1); err != nil {
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

// browser is a browser or a backend.
func (d *deployment) browser() *brokertest.Browser { return brokertest.NewBrowser(d.t, d.gateway()) }

// call is one API call of the backend; it fails the test unless the status is want.
func (d *deployment) call(want int, method, path, body string) map[string]any {
	d.t.Helper()
	return d.callAs(apiKey, want, method, path, body)
}

func (d *deployment) callAs(key string, want int, method, path, body string) map[string]any {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "https://"+gatewayHost+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a := d.browser().Do(r)
	if a.Status != want {
		d.t.Fatalf("%s %s: %d, want %d: %s\n%s", method, path, a.Status, want, a.Body, d.log)
	}
	return a.JSON(d.t)
}

// connect takes a user through a link, to the callback's answer.
func (d *deployment) connect(integration, owner string) (session string, back url.Values) {
	d.t.Helper()
	made := d.call(201, "POST", "/v1/connect-sessions", `{"integration":"`+integration+`","owner":"`+owner+`","return_to":"https://app.example.com/back"}`)
	b := d.browser()
	page := b.Open(made["authorize_url"].(string)).Location(d.t)
	home := b.Open(b.Decide(page.String(), "allow", "").String()).Location(d.t)
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
