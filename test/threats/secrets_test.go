package threats_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/metric/prom"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/webhook"
)

var (
	_ = mutant("T27", "internal/connection/session.go", `return hex.EncodeToString(sum[:])`, `return hex.EncodeToString(sum[:1]) + value`)
	_ = mutant("T27", "internal/panicked/panicked.go", `return fmt.Sprintf("%T", v)`, `return fmt.Sprint(v)`)
)

// TestThreat_T27_a_whole_flow_leaves_no_secret_behind takes tokens through all that can
// happen to them, and looks for each secret of the run, in each spelling, in all that was
// printed, stored, sent to others and answered.
func TestThreat_T27_a_whole_flow_leaves_no_secret_behind(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "store")
		db, err := boltstore.Open(name, boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		l := newLeaks(t, connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()})
		l.wholeLife()
		l.stop()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		stored, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		l.wantNone("the file of the store", string(stored))
		l.plant()
	})
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		l := newLeaks(t, store)
		l.wholeLife()
		for key, i := range l.Items() {
			text := key
			for name, v := range i {
				text += fmt.Sprintf("\n%s=%v", name, v)
			}
			l.wantNone("the item "+key, text)
		}
	})
}

// leaks is a world whose secrets are written down by kind, with all that it gives away.
type leaks struct {
	*brokertest.World
	metrics *prom.Registry
	stop    func() // ends the sending of webhooks

	mu      sync.Mutex
	secrets map[string]string // kinds by text; guarded by mu
	given   []given           // guarded by mu
	hooks   []string          // webhooks as they came; guarded by mu
	came    chan struct{}     // a webhook did
}

// given is one answer of the API or to a browser.
type given struct {
	what string // method, path and status
	path string
	ok   bool // no error
	text string
}

func newLeaks(t *testing.T, store connection.Store) *leaks {
	t.Helper()
	l := &leaks{metrics: prom.New(), secrets: map[string]string{}, came: make(chan struct{}, 100)}
	receiver := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(receiver.Close)
	l.World = brokertest.New(t, brokertest.Options{Integrations: integrations, Store: store})
	signing := "whsec_" + base64.StdEncoding.EncodeToString([]byte("CANARY-webhook-secret-of-32-byte"))
	sender := webhook.New(webhook.Config{
		Endpoints: []webhook.Endpoint{{URL: receiver.URL, Secrets: func(context.Context) ([]secret.Text, error) { return []secret.Text{secret.New(signing)}, nil }}},
		Table:     store.Connections, Now: l.Now, Log: l.Home.Log, UserAgent: "evergrant/test",
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sender.Run(ctx)
	}()
	l.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(l.stop)
	l.Transport = browserTap{l}
	l.Home = l.Start(func(c *broker.Config) {
		c.Metrics, c.Events, c.TakeUp = l.metrics, sender, sender.TakeUp
		c.Provider = &provider.Client{Transport: providerTap{l, c.Provider.Transport}, AllowLoopback: true, Now: c.Now}
	})
	l.Serve(l.HTTP(l.Home))
	for _, name := range []string{"all", "stranger", "token"} {
		l.note("API key", l.Key(name))
	}
	l.note("client secret", brokertest.ClientSecret)
	l.note("webhook secret", signing)
	return l
}

func (l *leaks) note(kind, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != "" && l.secrets[text] == "" {
		l.secrets[text] = kind
	}
}

func (l *leaks) receive(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	l.hooks = append(l.hooks, fmt.Sprint(r.Header, string(body)))
	l.mu.Unlock()
	l.came <- struct{}{}
}

// providerTap notes what goes to a provider and what comes back.
type providerTap struct {
	l    *leaks
	next http.RoundTripper
}

func (p providerTap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		p.l.note("code", form.Get("code"))
		p.l.note("verifier", form.Get("code_verifier"))
	}
	res, err := p.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var a struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	_ = json.Unmarshal(body, &a) // an error page is none
	p.l.note("access token", a.Access)
	p.l.note("refresh token", a.Refresh)
	return brokertest.WithBody(res, body), res.Body.Close()
}

// browserTap notes what browsers and backends are answered.
type browserTap struct{ l *leaks }

func (b browserTap) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.URL.String(), b.l.Origin) {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	for _, c := range res.Cookies() {
		b.l.note("cookie", c.Value)
	}
	if to, err := url.Parse(res.Header.Get("Location")); err == nil {
		b.l.note("state", to.Query().Get("state"))
		b.l.note("confirm token", to.Query().Get("evergrant_confirm"))
	}
	if strings.HasSuffix(r.URL.Path, "/stand-ins") {
		var made struct {
			Token  string `json:"stand_in"`
			Secret string `json:"client_secret"`
		}
		_ = json.Unmarshal(body, &made) // a list is none
		b.l.note("stand-in", made.Token)
		b.l.note("stand-in", made.Secret)
	}
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	b.l.given = append(b.l.given, given{
		fmt.Sprint(r.Method, " ", r.URL.Path, " ", res.StatusCode), r.URL.Path, res.StatusCode < 400, fmt.Sprint(res.Header, "\n", string(body)),
	})
	return brokertest.WithBody(res, body), res.Body.Close()
}

// wholeLife is everything that befalls tokens, at three providers: connect and confirm, and
// in cookie mode; reads, refreshes, a provider that echoes, a save that must be rescued, a
// refusal; stand-ins, imports, disconnects, wrong calls of each kind, a panic. Then it looks.
func (l *leaks) wholeLife() {
	l.T.Helper()
	for _, integration := range []string{"redbooth", "freeagent", "askfred"} {
		l.oneLife(integration)
	}
	l.wrongCalls()
	l.panics()
	l.Advance(time.Minute)
	l.Home.TickNow()
	l.look()
}

func (l *leaks) oneLife(integration string) {
	id := l.ConnectHTTP(integration, "tenant", "alice")
	path := "/v1/connections/" + id
	l.Call("all", "GET", path+"/token", "").Want(l.T, http.StatusOK, "access_token")
	l.Call("all", "GET", path, "").Want(l.T, http.StatusOK, "journal")
	refreshes := func() brokertest.Answer {
		l.Advance(time.Minute)
		return l.Call("all", "POST", path+"/refresh", fmt.Sprintf(`{"if_generation":%d}`, l.Item(id).Int("gen")))
	}
	refreshes().Want(l.T, http.StatusOK, "access_token")

	// What a provider says of a request may hold all that was sent.
	access, refreshToken := l.Tokens(id)
	echo, err := json.Marshal(map[string]string{"error": "slow_down", "error_description": strings.Join([]string{access, refreshToken, brokertest.ClientSecret}, " ")})
	l.Must(err)
	l.Must(l.Sim.AddFault(integration, simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests, Body: string(echo)}))
	refreshes()
	l.Advance(10 * time.Minute)
	refreshes().Want(l.T, http.StatusOK, "access_token")

	// A save that the store does not take is rescued.
	l.Home.OnStore(brokertest.OnSave, -1, brokertest.FailBefore)
	refreshes()
	if l.InRescue() == 0 {
		l.T.Fatal("nothing was rescued: the queue shows nothing")
	}
	for _, record := range l.Rescued() {
		l.wantNone("the rescue queue", string(record))
	}
	l.Home.Heal()
	l.Home.Replay()

	made := l.Call("all", "POST", path+"/stand-ins", `{"name":"tool","with_client":true}`).Want(l.T, http.StatusCreated, "token").JSON(l.T)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {made["stand_in"].(string)}, "client_id": {made["client_id"].(string)}, "client_secret": {made["client_secret"].(string)}}
	l.oauth(form).Want(l.T, http.StatusOK, "access_token")
	form.Set("client_secret", "CANARY-wrong-client-secret")
	l.note("a wrong client secret", form.Get("client_secret"))
	l.oauth(form).Want(l.T, http.StatusBadRequest, "invalid_client")

	// Imports: one that the provider takes, of another user's token, and one that it refuses.
	other := l.ConnectHTTP(integration, "another", "bob")
	_, bobs := l.Tokens(other)
	l.Call("all", "POST", "/v1/connections", `{"integration":"`+integration+`","owner":"third","refresh_token":"`+bobs+`"}`).Want(l.T, http.StatusCreated, "")
	l.note("refused import", "CANARY-imported-"+integration)
	l.Call("all", "POST", "/v1/connections", `{"integration":"`+integration+`","owner":"third","refresh_token":"CANARY-imported-`+integration+`"}`).
		Want(l.T, http.StatusUnprocessableEntity, "token_refused")

	l.Call("all", "DELETE", path, "").Want(l.T, http.StatusOK, "disconnected_at")
	l.oauth(form)
	l.Sim.RevokeUser(integration, "bob")
	l.Call("all", "POST", "/v1/connections/"+other+"/refresh", fmt.Sprintf(`{"if_generation":%d}`, l.Item(other).Int("gen"))).
		Want(l.T, http.StatusConflict, "needs_reauth")
}

func (l *leaks) oauth(form url.Values) brokertest.Answer {
	r := l.Request("", http.MethodPost, "/oauth/token", form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return l.Browser().Do(r)
}

// wrongCalls are calls that hold secrets in their places and in wrong ones.
func (l *leaks) wrongCalls() {
	session, link := l.Session("redbooth", "tenant")
	b := l.Browser()
	callback := l.ToCallback(b, link, "alice")
	address, err := url.Parse(callback)
	l.Must(err)
	l.note("code", address.Query().Get("code"))
	l.Browser().Open(callback).Want(l.T, http.StatusConflict, "") // another browser: the state is spent
	b.Open(callback).Want(l.T, http.StatusConflict, "")
	b.Open(callback + "&error=access_denied&error_description=" + address.Query().Get("code"))
	l.Confirm("all", session, "CANARY-confirm-token", "tenant")
	l.note("a wrong confirm token", "CANARY-confirm-token")

	confirm := l.Return(b, link, "alice").Get("evergrant_confirm")
	l.Confirm("all", session, confirm, "somebody else").Want(l.T, http.StatusForbidden, "")
	l.Confirm("stranger", session, confirm, "tenant")

	wrong := l.Request("", http.MethodGet, "/v1/connections?owner=tenant", "")
	wrong.Header.Set("Authorization", "Bearer evg_CANARY-wrong-key")
	l.note("a wrong key", "evg_CANARY-wrong-key")
	l.Browser().Do(wrong).Want(l.T, http.StatusUnauthorized, "")
	l.Call("", "GET", "/v1/connections?owner=tenant&key="+l.Key("all"), "").Want(l.T, http.StatusUnauthorized, "")
	l.Call("all", "GET", "/v1/"+l.Key("all"), "").Want(l.T, http.StatusNotFound, "")
	l.Call("all", "POST", "/v1/connections", `{"refresh_token":"`+l.Key("all")+`","unknown":"`+l.Key("all")+`"}`)
	l.Call("all", "POST", "/v1/connections", `{"refresh_token":"`+l.Key("all"))
}

// panics has the API fail with a token at hand.
func (l *leaks) panics() {
	id := l.ConnectHTTP("askfred", "panics", "alice")
	access, _ := l.Tokens(id)
	c := l.HTTP(l.Home)
	c.Admin = maps.Clone(c.Admin)
	c.Admin["restore"] = func(context.Context) (any, error) { panic("no place for " + access) }
	l.Serve(c)
	l.Call("all", "POST", "/v1/admin/restore", "").Want(l.T, http.StatusInternalServerError, "")
}

// look looks for secrets where none may be. First it makes sure that there is something to
// find and to look at.
func (l *leaks) look() {
	l.T.Helper()
	<-l.came
	l.mu.Lock()
	kinds := map[string]int{}
	for _, kind := range l.secrets {
		kinds[kind]++
	}
	answers, hooks := slices.Clone(l.given), slices.Clone(l.hooks)
	l.mu.Unlock()
	for _, kind := range []string{"code", "verifier", "state", "cookie", "confirm token", "access token", "refresh token", "stand-in", "API key", "client secret"} {
		if kinds[kind] == 0 {
			l.T.Errorf("no %s was seen", kind)
		}
	}
	l.T.Logf("secrets: %v; %d answers, %d webhooks", kinds, len(answers), len(hooks))
	l.wantNone("the log", l.Log.String())
	_, metrics, err := l.metrics.Text()
	l.Must(err)
	l.wantNone("the metrics", string(metrics))
	for _, h := range hooks {
		l.wantNone("a webhook", h)
	}
	for _, a := range answers {
		l.wantNone(a.what, a.text, mayHold(a)...)
	}
}

// mayHold are the kinds of secrets that an answer is there to bring.
func mayHold(a given) []string {
	switch {
	case !a.ok:
		return nil
	case strings.HasPrefix(a.path, "/authorize/"):
		return []string{"state", "cookie"}
	case strings.HasPrefix(a.path, "/callback/"):
		return []string{"confirm token"}
	case strings.HasSuffix(a.path, "/token") && strings.HasPrefix(a.path, "/v1/"), strings.HasSuffix(a.path, "/refresh"):
		return []string{"access token"}
	case a.path == "/oauth/token":
		return []string{"access token", "stand-in"}
	case strings.HasSuffix(a.path, "/stand-ins"):
		return []string{"stand-in"}
	}
	return nil
}

// wantNone fails where a text holds a secret, in whatever spelling, of a kind that it may
// not hold.
func (l *leaks) wantNone(what, text string, but ...string) {
	l.T.Helper()
	for _, found := range l.found(text, but...) {
		l.T.Errorf("%s holds a %s", what, found)
	}
}

func (l *leaks) found(text string, but ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for s, kind := range l.secrets {
		if slices.Contains(but, kind) {
			continue
		}
		for how, spelled := range spellings(s) {
			if strings.Contains(text, spelled) {
				all = append(all, kind+" ("+how+")")
			}
		}
	}
	return all
}

// spellings are the ways in which a text may stand in another. What base64 makes of it depends
// on where it begins in what was encoded, so there are three of each alphabet.
func spellings(s string) map[string]string {
	quoted, _ := json.Marshal(s) // a string has JSON
	all := map[string]string{
		"raw": s, "hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		"URL": url.QueryEscape(s), "path": url.PathEscape(s), "JSON": strings.Trim(string(quoted), `"`), "Go": strings.Trim(fmt.Sprintf("%q", s), `"`),
		"bytes": strings.Trim(fmt.Sprint([]byte(s)), "[]"),
	}
	for shift, lost := range []int{0, 2, 3} { // characters that hold bits of what comes before
		text := append(make([]byte, shift), s...)
		for name, alphabet := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			spelled := alphabet.EncodeToString(text)[lost:]
			if len(text)%3 != 0 {
				spelled = spelled[:len(spelled)-1] // it holds bits of what comes behind
			}
			all[fmt.Sprint(name, " at ", shift)] = spelled
		}
	}
	return all
}

// plant shows that the search finds: each kind of secret, spelled in each way, in the middle
// of something else; and one in the log.
func (l *leaks) plant() {
	l.T.Helper()
	l.Home.Log.Info("planted", "what", brokertest.ClientSecret)
	if !slices.Contains(l.found(l.Log.String()), "client secret (raw)") {
		l.T.Error("a secret in the log is not found")
	}
	for s, kind := range maps.Clone(l.secrets) {
		inner := "before " + s + " behind"
		for how, text := range map[string]string{
			"raw": inner, "hex": hex.EncodeToString([]byte(inner)), "HEX": fmt.Sprintf("%X", inner), "URL": url.QueryEscape(inner), "bytes": fmt.Sprint([]byte(inner)),
			"base64 at 0": base64.StdEncoding.EncodeToString([]byte(s + "!")), "base64 at 1": base64.StdEncoding.EncodeToString([]byte(inner)),
			"base64 at 2": base64.StdEncoding.EncodeToString([]byte("x " + s)), "base64url at 1": base64.RawURLEncoding.EncodeToString([]byte("app:" + s)),
		} {
			if !slices.Contains(l.found(text), kind+" ("+how+")") {
				l.T.Errorf("a %s, planted as %s, is not found", kind, how)
			}
		}
	}
}
