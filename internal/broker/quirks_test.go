package broker_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

// centres is a provider with a shop and a data centre in its URLs: the shop is told by
// the application, the centre by the callback, the API's place by the account. It
// remembers what it was asked.
type centres struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // guarded by mu
	n    int      // guarded by mu
}

func newCentres(t *testing.T) *centres {
	c := &centres{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *centres) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(b))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, r.Method+" "+r.URL.Path+" "+form.Get("grant_type")+" "+form.Get("redirect_uri"))
	if r.URL.Path == "/me" {
		_, _ = io.WriteString(w, `{"id":"alice","home":"west"}`)
		return
	}
	c.n++
	_, _ = fmt.Fprintf(w, `{"access_token":"at-%d","refresh_token":"rt-%d","token_type":"Bearer","expires_in":600}`, c.n, c.n)
}

func (c *centres) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[len(c.seen)-1]
}

// requests says how many token requests there were.
func (c *centres) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

const centresEntry = `
  acme:
    client_id: app
    client_secret: "${env:CLIENT_SECRET}"
    binding: cookie
    provider:
      authorization_endpoint: ORIGIN/auth/{shop}
      token_endpoint: ORIGIN/token/{dc}
      token_endpoint_auth_method: client_secret_post
      pkce: unsupported
      variables: {shop: "^[a-z]+$", dc: "^(com|eu)$", fixed: "^[a-z]+$"}
      connection_variables: [shop, fixed]
      default_variables: {dc: com}
      callback_scope: true
      refresh_sends_redirect_uri: true
      minimum_token_age_s: 570
      refresh: {supported: true, rotation: always, previous_token: dies_at_once, reuse: rejected}
      identity: {endpoint: "ORIGIN/me", id_field: id}
      api: {base_urls: ["https://{home}.acme.example/{shop}"], rejected_when: [{status: 403}]}
      keep:
        - {from: callback, field: server, as: dc, pattern: "^https://accounts\\.acme\\.(?P<value>com|eu)$"}
        - {from: identity, field: home, pattern: "^[a-z]+$"}
    variables: {fixed: here}
`

func newCentresWorld(t *testing.T) (*brokertest.World, *centres) {
	c := newCentres(t)
	return brokertest.New(t, brokertest.Options{Integrations: strings.ReplaceAll(centresEntry, "ORIGIN", c.URL)}), c
}

// comesBack opens a session and has the provider send the browser back.
func comesBack(w *brokertest.World, session string, callback map[string]string) connection.Session {
	w.T.Helper()
	b, err := w.Home.Authorize(w.T.Context(), broker.AuthorizeRequest{Origin: w.Origin, Integration: "acme", Session: session})
	w.Must(err)
	to, err := url.Parse(b.Location)
	w.Must(err)
	params := map[string]string{"state": to.Query().Get("state"), "code": "c0de"}
	for k, v := range callback {
		params[k] = v
	}
	_, err = w.Home.Callback(w.T.Context(), broker.CallbackRequest{Origin: w.Origin, Integration: "acme", Params: params, Cookies: b.Cookies})
	w.Must(err)
	s, err := w.Store.GetSession(w.T.Context(), connection.Hash(session))
	w.Must(err)
	return s
}

func TestAConnectionHasItsOwnPartsOfTheURLs(t *testing.T) {
	w, c := newCentresWorld(t)
	ask := broker.SessionRequest{Origin: w.Origin, Integration: "acme", Owner: "tenant", Variables: map[string]string{"shop": "north"}}
	made, err := w.Home.CreateSession(t.Context(), brokertest.Caller(), ask)
	w.Must(err)
	opened, err := w.Home.Authorize(t.Context(), broker.AuthorizeRequest{Origin: w.Origin, Integration: "acme", Session: made.ID})
	w.Must(err)
	if !strings.HasPrefix(opened.Location, c.URL+"/auth/north?") {
		t.Errorf("sent to %s", opened.Location)
	}
	s := comesBack(w, made.ID, map[string]string{"server": "https://accounts.acme.eu", "scope": "read"})
	if s.State != connection.SessionConnected {
		t.Fatalf("%s %s\n%s", s.State, s.Error, w.Log)
	}
	callback := w.Origin + "/callback/acme"
	if want := "POST /token/eu authorization_code " + callback; c.seen[0] != want {
		t.Errorf("exchange: %s, want %s", c.seen[0], want)
	}
	v, err := w.Home.Token(t.Context(), brokertest.Caller(), s.Result, 0, nil)
	w.Must(err)
	if v.Fields["shop"] != "north" || v.Fields["dc"] != "eu" || v.Fields["home"] != "west" || v.Scope != "read" {
		t.Errorf("fields %v, scope %q", v.Fields, v.Scope)
	}
	if len(v.API.BaseURLs) != 1 || v.API.BaseURLs[0] != "https://west.acme.example/north" || v.API.Rejections()[0].Status != 403 {
		t.Errorf("api %+v", v.API)
	}
	w.Advance(580 * time.Second)
	w.Must(w.Home.Force(s.Result))
	if want := "POST /token/eu refresh_token " + callback; c.last() != want {
		t.Errorf("refresh: %s, want %s", c.last(), want)
	}
	// A reconnect leads to the same shop; its callback may name another centre.
	ask.ConnectionID, ask.Variables = s.Result, nil
	again, err := w.Home.CreateSession(t.Context(), brokertest.Caller(), ask)
	w.Must(err)
	if s = comesBack(w, again.ID, map[string]string{"server": "https://accounts.acme.com"}); s.Result != ask.ConnectionID {
		t.Fatalf("reconnect: %s %s\n%s", s.State, s.Error, w.Log)
	}
	rec, err := w.Store.Get(t.Context(), s.Result)
	w.Must(err)
	if rec.Fields["dc"] != "com" || rec.Fields["shop"] != "north" {
		t.Errorf("fields after the reconnect: %v", rec.Fields)
	}
}

func TestACallbackCannotLeadTheCodeElsewhere(t *testing.T) {
	w, c := newCentresWorld(t)
	for _, server := range []string{"https://accounts.acme.evil", "https://accounts.acme.eu.evil.example", "https://accounts.acme.eu@evil.example"} {
		made, err := w.Home.CreateSession(t.Context(), brokertest.Caller(),
			broker.SessionRequest{Origin: w.Origin, Integration: "acme", Owner: "tenant", Variables: map[string]string{"shop": "north"}})
		w.Must(err)
		if s := comesBack(w, made.ID, map[string]string{"server": server}); s.State != connection.SessionFailed {
			t.Errorf("%s: %s", server, s.State)
		}
	}
	if c.requests() != 0 {
		t.Error("a code was sent")
	}
}

func TestVariablesOfASessionAreChecked(t *testing.T) {
	w, c := newCentresWorld(t)
	for name, vars := range map[string]map[string]string{
		"none":                 nil,
		"another form":         {"shop": "north.evil.example/"},
		"not left to it":       {"shop": "north", "dc": "eu"},
		"set by configuration": {"shop": "north", "fixed": "there"},
		"unknown":              {"shop": "north", "planet": "mars"},
	} {
		_, err := w.Home.CreateSession(t.Context(), brokertest.Caller(),
			broker.SessionRequest{Origin: w.Origin, Integration: "acme", Owner: "tenant", Variables: vars})
		if brokertest.Code(err) != broker.InvalidRequest || strings.Contains(fmt.Sprint(err), "evil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer := w.Call("connect", "POST", "/v1/connect-sessions", `{"integration":"acme","owner":"tenant","variables":{"shop":"north"}}`)
	if answer.Status != http.StatusCreated {
		t.Errorf("over HTTP: %+v", answer)
	}
	// An import says where it comes from.
	imported := w.Call("manage", "POST", "/v1/connections", `{"integration":"acme","owner":"tenant","refresh_token":"rt","variables":{"shop":"south"}}`)
	if fields, _ := imported.JSON(t)["fields"].(map[string]any); imported.Status != http.StatusCreated || fields["shop"] != "south" {
		t.Errorf("import: %+v", imported)
	}
	if want := "POST /token/com refresh_token " + w.Origin + "/callback/acme"; c.last() != want {
		t.Errorf("import: %s, want %s", c.last(), want)
	}
}

// A provider that refuses an early refresh is not asked for one, by whomever.
func TestATooYoungTokenIsNotRefreshed(t *testing.T) {
	w, c := newCentresWorld(t)
	made, err := w.Home.CreateSession(t.Context(), brokertest.Caller(),
		broker.SessionRequest{Origin: w.Origin, Integration: "acme", Owner: "tenant", Variables: map[string]string{"shop": "north"}})
	w.Must(err)
	id := comesBack(w, made.ID, nil).Result
	w.Advance(500 * time.Second)
	for name, ask := range map[string]func(context.Context) (broker.TokenView, error){
		"a read that wants more": func(ctx context.Context) (broker.TokenView, error) {
			return w.Home.Token(ctx, brokertest.Caller(), id, 600, nil)
		},
		"a 401": func(ctx context.Context) (broker.TokenView, error) {
			return w.Home.Refresh(ctx, brokertest.Caller(), id, 1, "")
		},
	} {
		v, err := ask(t.Context())
		if refused := brokertest.Code(err); refused != "" && refused != broker.ProviderUnavailable || refused == "" && v.Generation != 1 {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	if err := w.Home.Force(id); brokertest.Code(err) != broker.ProviderUnavailable {
		t.Errorf("forced: %v", err)
	}
	if c.requests() != 1 {
		t.Errorf("%d token requests", c.requests())
	}
	rec, err := w.Store.Get(t.Context(), id)
	w.Must(err)
	if rec.Sched != "" || rec.DoubtAt != 0 || rec.RetryAt != 0 {
		t.Errorf("a slot cannot hit the window of 30 s: %q, doubt %d, retry %d", rec.Sched, rec.DoubtAt, rec.RetryAt)
	}
	w.Advance(75 * time.Second)
	w.Must(w.Home.Force(id))
	if c.requests() != 2 {
		t.Errorf("%d token requests", c.requests())
	}
}
