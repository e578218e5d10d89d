package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

const (
	gatewayHost  = "q7x2k9m4ab.execute-api." + region + ".amazonaws.com"
	clientSecret = "CANARY-client-secret"
	awsSecret    = "CANARY-aws-secret"
	awsToken     = "CANARY-aws-token"
	apiKey       = "evg_CANARY-api-key"
)

// The configurations that are packaged with the functions. One integration has its secret in
// the Parameter Store and one in Secrets Manager.
const (
	confirmMode = `
integrations:
  askfred: {client_id: app, client_secret: "${ssm:/evergrant/askfred}", return_to: ["https://app.example.com/*"]}
  redbooth: {client_id: app, client_secret: "${secretsmanager:evergrant/redbooth}", return_to: ["https://app.example.com/*"], connect: public}
` + access
	cookieMode = `
integrations:
  askfred: {client_id: app, client_secret: "${ssm:/evergrant/askfred}", return_to: ["https://app.example.com/*"], binding: cookie}
  redbooth: {client_id: app, client_secret: "${secretsmanager:evergrant/redbooth}", return_to: ["https://app.example.com/*"], binding: cookie}
` + access
	access = `
api_keys:
  - {name: backend, hash: "HASH", allow: [connect, token, manage, admin], integrations: ["*"], owners: ["*"]}
iam_callers:
  - {arn: "arn:aws:sts::123456789012:assumed-role/backend/*", allow: [token], integrations: ["*"], owners: ["*"]}
`
)

// tokenLife is that of the providers' access tokens. They are refreshed each 15 minutes, so
// that a tick after more than those has something to do and yet not much to look through.
const tokenLife = 20 * time.Minute

// deployment is the four functions of a stack, with everything around them.
type deployment struct {
	t         *testing.T
	stack     *stack
	roles     *roles
	proxy     *proxy
	sim       *simprovider.Server
	clock     *clock // the providers'
	log       *brokertest.Log
	functions map[string]*runtimeapi.Function
	routes    []route
	packages  string // folder in which the functions' packages are
}

// clock runs with the system's, and may be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// deploy makes a stack of its own, with the secrets where the configuration says.
func deploy(t *testing.T, c *cloud, settings string, parameters map[string]string) *deployment {
	t.Helper()
	name := "evergrant-" + strings.ReplaceAll(path.Base(t.Name()), "_", "-")
	s := newStack(t, c, name, parameters)
	d := &deployment{t: t, stack: s, roles: newRoles(s), clock: &clock{}, log: &brokertest.Log{}, functions: map[string]*runtimeapi.Function{}}
	d.proxy = newProxy(t, c, d.roles)
	var sim http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sim.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	d.sim = simprovider.New(simprovider.Config{BaseURL: server.URL, Now: d.clock.Now, TokenTTL: tokenLife})
	sim = d.sim
	d.packages = t.TempDir()
	compiled := d.compile(settings)
	for resource, v := range at(s.template, "Resources").(map[string]any) {
		if text(v, "Type") == "AWS::Serverless::Function" {
			d.pack(resource, compiled)
			d.functions[resource] = d.start(resource, nil)
			d.routes = append(d.routes, routesOf(resource, at(v, "Properties", "Events"))...)
		}
	}
	t.Cleanup(func() {
		c.ledger.add(d.roles)
		if t.Failed() {
			t.Logf("the functions of %s wrote:\n%s", name, d.log)
		}
	})
	return d
}

// putSecrets puts the clients' secrets where the configuration says. Two stacks share them.
func putSecrets(t *testing.T, c *cloud) {
	t.Helper()
	c.call(t, "ssm", "PutParameter", map[string]any{"Name": "/evergrant/askfred", "Type": "SecureString", "Value": clientSecret})
	c.call(t, "secretsmanager", "CreateSecret", map[string]any{"Name": "evergrant/redbooth", "SecretString": clientSecret, "ClientRequestToken": strings.Repeat("0", 32)})
}

// compile is what `evergrant config build` makes, with the simulators' endpoints.
func (d *deployment) compile(settings string) []byte {
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
		if err := d.sim.Register(i.Provider, simprovider.Client{ID: "app", Secret: clientSecret, RedirectURIs: []string{i.RedirectURI("https://" + gatewayHost)}}); err != nil {
			d.t.Fatal(err)
		}
	}
	b, err := c.Compile()
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// binaries is where `make functions-here` puts the functions.
const binaries = "../../build/here"

// pack lays a function's package out as Lambda unpacks it.
func (d *deployment) pack(function string, compiled []byte) {
	d.t.Helper()
	binary, err := filepath.Abs(filepath.Join(binaries, strings.ToLower(strings.TrimSuffix(function, "Function")), "bootstrap"))
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		d.t.Fatal("the functions are not built; run: make functions-here")
	}
	folder := filepath.Join(d.packages, function)
	if err := os.Mkdir(folder, 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(folder, "bootstrap")); err != nil {
		d.t.Fatal(err)
	}
	d.configure(function, compiled)
}

func (d *deployment) configure(function string, compiled []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.packages, function, "evergrant.json"), compiled, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// start makes a function as the template describes it. change may alter that.
func (d *deployment) start(function string, change func(*runtimeapi.Config)) *runtimeapi.Function {
	d.t.Helper()
	globals, own := at(d.stack.template, "Globals", "Function"), at(d.stack.template, "Resources", function, "Properties")
	role := text(own, "Role", "Fn::GetAtt")
	if pair := list(own, "Role", "Fn::GetAtt"); len(pair) == 2 {
		role = fmt.Sprint(pair[0])
	}
	c := runtimeapi.Config{
		Name: d.stack.ref(function), Bootstrap: filepath.Join(d.packages, function, "bootstrap"), Region: region,
		Timeout: time.Duration(number(globals, own, "Timeout")) * time.Second, MemoryMB: number(globals, own, "MemorySize"),
		Log: d.log, Env: map[string]string{
			"AWS_ENDPOINT_URL": d.proxy.at, "AWS_ACCESS_KEY_ID": accessKey(role), "AWS_SECRET_ACCESS_KEY": awsSecret, "AWS_SESSION_TOKEN": awsToken,
		},
	}
	for _, from := range []any{globals, own} {
		variables, _ := d.stack.value(at(from, "Environment", "Variables")).(map[string]any)
		for name, value := range variables {
			c.Env[name] = fmt.Sprint(value)
		}
	}
	if change != nil {
		change(&c)
	}
	f := runtimeapi.New(c)
	d.t.Cleanup(f.Close)
	return f
}

// number is a setting of the function, or else of all.
func number(globals, own any, name string) int {
	v := at(own, name)
	if v == nil {
		v = at(globals, name)
	}
	var n int
	_, _ = fmt.Sscan(fmt.Sprint(v), &n)
	return n
}

// route is a route of the gateway.
type route struct {
	function, key, path string
	signed              bool // the gateway checks a signature
}

func routesOf(function string, triggers any) []route {
	var out []route
	m, _ := triggers.(map[string]any)
	for _, v := range m {
		if p := at(v, "Properties"); text(v, "Type") == "HttpApi" {
			out = append(out, route{function, text(p, "Method") + " " + text(p, "Path"), text(p, "Path"), text(p, "Auth", "Authorizer") == "AWS_IAM"})
		}
	}
	return out
}

// matches is how an HTTP API compares a path: {x} is one part, {x+} all the rest.
func (r route) matches(path string) bool {
	want, got := strings.Split(r.path, "/"), strings.Split(path, "/")
	for n, part := range want {
		switch {
		case strings.HasSuffix(part, "+}"):
			return len(got) > n
		case n >= len(got) || !strings.HasPrefix(part, "{") && part != got[n]:
			return false
		}
	}
	return len(want) == len(got)
}

// RoundTrip is the gateway: it makes an event of the request and invokes the function that
// the template routes it to. Requests for other hosts go there.
func (d *deployment) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != gatewayHost {
		return http.DefaultTransport.RoundTrip(r)
	}
	for _, route := range d.routes {
		if route.matches(r.URL.Path) {
			return lambdahttp.Transport(func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (a events.APIGatewayV2HTTPResponse, err error) {
				e.RouteKey, e.RequestContext.RouteKey = route.key, route.key
				if caller := r.Header.Get(brokertest.ARNHeader); route.signed && caller != "" {
					e.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
						IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: caller, AccountID: account},
					}
				}
				b, err := d.invoke(ctx, route.function, e)
				if err != nil {
					return a, err
				}
				return a, json.Unmarshal(b, &a)
			}).RoundTrip(r)
		}
	}
	return nil, fmt.Errorf("the gateway has no route for %s", r.URL.Path)
}

// invoke returns the function's answer; an error is what it failed by.
func (d *deployment) invoke(ctx context.Context, function string, event any) ([]byte, error) {
	b, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	r, err := d.functions[function].Invoke(ctx, b)
	if err == nil && r.Failed {
		err = errors.New(string(r.Payload))
	}
	return r.Payload, err
}

// through opens a link, allows what the provider's page asks, and returns to where the
// callback sends the browser in the end.
func (d *deployment) through(link string) url.Values {
	d.t.Helper()
	b := brokertest.NewBrowser(d.t, d)
	page := b.Open(link).Header.Get("Location")
	if !strings.HasPrefix(page, "http://127.0.0.1:") {
		d.t.Fatalf("the link leads to %q", page)
	}
	home, _ := b.Follow(b.Decide(page, "allow", "").String(), "https://"+gatewayHost)
	to, err := url.Parse(home)
	if err != nil || to.Host != "app.example.com" {
		d.t.Fatalf("the browser ends at %q", home)
	}
	return to.Query()
}

// ask is one API call.
func (d *deployment) ask(method, path, body string, header map[string]string) brokertest.Answer {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, "https://"+gatewayHost+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return brokertest.NewBrowser(d.t, d).Do(r)
}

// call is one API call of the backend; it fails the test unless the status is want.
func (d *deployment) call(want int, method, path, body string) map[string]any {
	d.t.Helper()
	a := d.ask(method, path, body, map[string]string{"Authorization": "Bearer " + apiKey})
	if a.Status != want {
		d.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.Status, want, a.Body)
	}
	return a.JSON(d.t)
}

// session makes a connect session and takes a user through its link.
func (d *deployment) session(integration, owner string) (id string, back url.Values) {
	d.t.Helper()
	made := d.call(201, "POST", "/v1/connect-sessions", `{"integration":"`+integration+`","owner":"`+owner+`","return_to":"https://app.example.com/back"}`)
	return text(made, "id"), d.through(text(made, "authorize_url"))
}

// connect connects an owner in confirm mode and returns the connection's id. On a machine so
// busy that a server answers too late, a code may be taken by a call that never learned of it;
// then the user starts again, as an application would have it.
func (d *deployment) connect(integration, owner string) string {
	d.t.Helper()
	var a brokertest.Answer
	for range 3 {
		id, back := d.session(integration, owner)
		confirm := `{"confirm":"` + back.Get("evergrant_confirm") + `","owner":"` + owner + `"}`
		a = d.ask("POST", "/v1/connect-sessions/"+id+"/confirm", confirm, map[string]string{"Authorization": "Bearer " + apiKey})
		if a.Status != http.StatusConflict || !strings.Contains(a.Body, "restart_connect") {
			break
		}
	}
	return text(a.Want(d.t, http.StatusOK, "").JSON(d.t), "id")
}

// minute is the one that the schedule's events are for, in the last half of the hour and not
// in the future: the tick of a full hour, or over one, looks back a whole day.
func minute() time.Time {
	now := time.Now().UTC()
	if now.Minute() < 30 {
		now = now.Truncate(time.Hour).Add(-time.Minute)
	}
	return now.Truncate(time.Minute)
}

// tick wakes the refresh function as the template's schedule does, for that minute.
func (d *deployment) tick(minute time.Time) {
	d.t.Helper()
	if err := d.wake(minute); err != nil {
		d.t.Fatalf("tick: %v", err)
	}
}

func (d *deployment) wake(minute time.Time) error {
	d.t.Helper()
	input := text(d.stack.template, "Resources", "Tick", "Properties", "Target", "Input")
	if !strings.Contains(input, "<aws.scheduler.scheduled-time>") {
		d.t.Fatalf("the schedule does not say which minute it is for: %s", input)
	}
	event := strings.ReplaceAll(input, "<aws.scheduler.scheduled-time>", minute.UTC().Truncate(time.Minute).Format(time.RFC3339))
	_, err := d.invoke(d.t.Context(), "RefreshFunction", json.RawMessage(event))
	return err
}

// pass lets time pass for what is stored and for the providers: the functions' own clock is
// the system's and cannot be put forward, so what they stored is put back.
func (d *deployment) pass(by time.Duration) {
	d.t.Helper()
	table := d.stack.ref("ConnectionsTable")
	all := d.stack.cloud.call(d.t, "dynamodb", "Scan", map[string]any{"TableName": table})
	for _, row := range list(all, "Items") {
		key := text(row, "pk", "S")
		columns, ago := []string{"issued_at", "expires_at", "consented_at"}, int64(by/time.Second)
		switch {
		case key == "sys#cursor":
			columns, ago = []string{"c"}, int64(by/time.Minute)
		case !strings.HasPrefix(key, "conn_"):
			continue
		}
		sets, names := []string{}, map[string]string{}
		for _, name := range columns {
			if at(row, name) != nil {
				sets, names["#"+name] = append(sets, "#"+name+" = #"+name+" - :ago"), name
			}
		}
		d.stack.cloud.call(d.t, "dynamodb", "UpdateItem", map[string]any{
			"TableName": table, "Key": map[string]any{"pk": map[string]string{"S": key}}, "UpdateExpression": "SET " + strings.Join(sets, ", "),
			"ExpressionAttributeNames": names, "ExpressionAttributeValues": map[string]any{":ago": map[string]string{"N": fmt.Sprint(ago)}},
		})
	}
	d.clock.forward(by)
}

// says waits until the functions have written a text: what they write comes by a pipe, and
// an answer may come before it.
func (d *deployment) says(text string) bool {
	d.t.Helper()
	end := time.After(20 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !strings.Contains(d.log.String(), text) {
		select {
		case <-again.C:
		case <-end:
			return false
		}
	}
	return true
}

// silent ends the functions, and fails the test if they wrote any of the secrets.
func (d *deployment) silent(secrets ...string) {
	d.t.Helper()
	for _, f := range d.functions {
		f.Close() // with that all is read that they wrote
	}
	for _, s := range append(secrets, "CANARY") {
		if s != "" && strings.Contains(d.log.String(), s) {
			d.t.Errorf("the log holds %.12s…", s)
		}
	}
}
