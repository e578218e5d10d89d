package devpage_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/devpage"
	"github.com/evergrant/evergrant/internal/secret"
)

func TestConnectionLivesFromConsentToReceipt(t *testing.T) {
	p := newStack(t).browser()
	link := p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate
	id := p.consent(link, "allow")
	got := p.ask("/app/state", nil)
	if len(got.Connections) != 1 || got.Connections[0].ID != id || got.Connections[0].Owner != "ada" || got.Connections[0].Status != "active" {
		t.Fatalf("came back with %q, got %+v", id, got.Connections)
	}
	called := p.ask("/app/call", fields{"connection": id})
	if called.Status != http.StatusOK || called.TokenID == "" || !strings.Contains(called.Body, "Alice") {
		t.Errorf("call: %+v", called)
	}
	if got := p.ask("/app/refresh", fields{"connection": id}); got.Generation != 2 {
		t.Errorf("refresh: %+v", got)
	}
	receipt := p.ask("/app/disconnect", fields{"connection": id})
	if receipt.Revoked != "unsupported" {
		t.Errorf("receipt: %+v", receipt)
	}
	if got := p.ask("/app/call", fields{"connection": id}); got.Problem.Code != "disconnected" {
		t.Errorf("call after the end: %+v", got)
	}
}

func TestOtherGrantsConnectAtOnce(t *testing.T) {
	p := newStack(t).browser()
	for _, integration := range []string{"whenfresh", "machine"} {
		made := p.ask("/app/connect", fields{"integration": integration})
		called := p.ask("/app/call", fields{"connection": made.Connection})
		if made.Existed || called.Status != http.StatusOK {
			t.Errorf("%s: %+v, %+v", integration, made, called)
		}
	}
	first := p.ask("/app/connect", fields{"integration": "machine"})
	if second := p.ask("/app/connect", fields{"integration": "machine"}); !second.Existed || second.Connection != first.Connection {
		t.Errorf("a second connection without a user: %+v after %+v", second, first)
	}
}

func TestRefusedTokenIsExchangedOnce(t *testing.T) {
	p := newStack(t).browser()
	id := p.consent(p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "allow")
	p.fault("redbooth", `{"on":"api","kind":"status","status":401,"count":1}`)
	called := p.ask("/app/call", fields{"connection": id})
	if called.Status != http.StatusOK || !called.Retried {
		t.Errorf("got %+v", called)
	}
}

// fault tells a simulator what to do, as its own interface takes it.
func (p *person) fault(provider, body string) {
	p.t.Helper()
	endpoint := p.sims.Endpoints(provider)["token_endpoint"]
	base := endpoint[:strings.Index(endpoint, provider)+len(provider)]
	p.read(p.client.Post(base+"/faults", "application/json", strings.NewReader(body)))
}

func TestFaultsAndReconnect(t *testing.T) {
	p := newStack(t).browser()
	id := p.consent(p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "allow")
	p.ask("/app/fault", fields{"connection": id, "kind": "revoke_access"})
	if got := p.ask("/app/refresh", fields{"connection": id}); got.Problem.Code != "needs_reauth" {
		t.Fatalf("refresh of a revoked one: %+v", got)
	}
	again := p.ask("/app/connect", fields{"integration": "redbooth", "connection": id})
	if back := p.consent(again.Navigate, "allow"); back != id {
		t.Errorf("came back with %q, want %q", back, id)
	}
	p.ask("/app/fault", fields{"connection": id, "kind": "lost_answer"})
	if got := p.ask("/app/refresh", fields{"connection": id}); got.Problem.Code == "" {
		t.Errorf("refresh whose answer is lost: %+v", got)
	}
	if got := p.ask("/app/fault", fields{"connection": id, "kind": "hang"}); got.Problem.Code != "not_found" {
		t.Errorf("a fault that is not offered: %+v", got)
	}
}

func TestDenialIsTold(t *testing.T) {
	p := newStack(t).browser()
	if got := p.consent(p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "deny"); got != "failed=access_denied" {
		t.Errorf("got %q", got)
	}
}

func TestReturnAddressSaysNothingOfItsOwn(t *testing.T) {
	p := newStack(t).browser()
	for query, want := range map[string]string{
		"":                                         "failed=unknown",
		"evergrant_error=access_denied":            "failed=access_denied",
		"evergrant_error=%3Cscript%3E":             "failed=unknown",
		"evergrant_error=Call+555-1234":            "failed=unknown",
		"evergrant_session=../../healthz":          "failed=unknown",
		"evergrant_session=cs_0123456789012345678": "failed=invalid_request",
	} {
		if end, _ := p.get(p.origin + "/app/return?" + query); end.Fragment != want {
			t.Errorf("%q: got %q, want %q", query, end.Fragment, want)
		}
	}
	res, err := p.client.Head(p.origin + "/app/return?evergrant_error=x")
	if err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a look ahead: %v, %v", res, err)
	}
}

// A link that Grace was sent by Ada must not give Ada Grace's account.
func TestForwardedLinkConnectsNothing(t *testing.T) {
	s := newStack(t)
	ada, grace := s.browser(), s.browser()
	grace.ask("/app/login", fields{"person": "grace"})
	link := ada.ask("/app/connect", fields{"integration": "redbooth"}).Navigate
	if got := grace.consent(link, "allow"); got != "failed=forbidden" {
		t.Errorf("came back with %q", got)
	}
	if got := ada.ask("/app/state", nil); len(got.Connections) != 0 {
		t.Errorf("connected: %+v", got.Connections)
	}
}

func TestPeopleReachTheirOwnConnectionsOnly(t *testing.T) {
	s := newStack(t)
	ada, grace := s.browser(), s.browser()
	grace.ask("/app/login", fields{"person": "grace"})
	id := ada.ask("/app/connect", fields{"integration": "machine"}).Connection
	for _, path := range []string{"/app/call", "/app/refresh", "/app/disconnect", "/app/fault"} {
		if got := grace.ask(path, fields{"connection": id}); got.Problem.Code != "not_found" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if got := grace.ask("/app/state", nil); got.Person != "grace" || len(got.Connections) != 0 || len(got.Calls) != 0 {
		t.Errorf("Grace sees %+v", got)
	}
	consented := ada.consent(ada.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "allow")
	if got := grace.ask("/app/connect", fields{"integration": "redbooth", "connection": consented}); got.Navigate != "" || got.Problem.Code == "" {
		t.Errorf("Grace may reconnect Ada's: %+v", got)
	}
	for _, odd := range []string{"", "conn_", "../integrations", "conn_a/token", "conn_" + strings.Repeat("a", 30)} {
		if got := ada.ask("/app/call", fields{"connection": odd}); got.Problem.Code != "not_found" {
			t.Errorf("%q: %+v", odd, got)
		}
	}
	if got := ada.ask("/app/login", fields{"person": "eve"}); got.Problem.Code != "unknown_person" {
		t.Errorf("Eve: %+v", got)
	}
}

func TestCallsOfTheBackendAreListed(t *testing.T) {
	p := newStack(t).browser()
	id := p.consent(p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "allow")
	p.ask("/app/call", fields{"connection": id})
	var got []string
	for _, c := range p.ask("/app/state", nil).Calls {
		got = append(got, c.To+" "+c.Method+" "+c.Path)
	}
	want := []string{
		"evergrant POST /v1/connect-sessions", "evergrant POST /v1/connect-sessions/cs_…/confirm",
		"evergrant GET /v1/connections/" + id + "/token", "REDBOOTH GET /sim/redbooth/api/3/projects",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestNoSecretReachesThePage(t *testing.T) {
	p := newStack(t).browser()
	id := p.consent(p.ask("/app/connect", fields{"integration": "redbooth"}).Navigate, "allow")
	imported := p.ask("/app/connect", fields{"integration": "whenfresh"}).Connection
	for _, connection := range []string{id, imported} {
		p.ask("/app/call", fields{"connection": connection})
		p.ask("/app/refresh", fields{"connection": connection})
	}
	p.ask("/app/state", nil)
	p.ask("/app/integrations", nil)
	p.ask("/app/disconnect", fields{"connection": id})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, word := range []string{"evg_", "access_token", "refresh_token\":", "app-secret"} {
		if strings.Contains(p.seen.String(), word) {
			t.Errorf("the backend told the page %q", word)
		}
	}
	// A token of the simulators, as the backend sent it, is known to them.
	for _, text := range strings.FieldsFunc(p.seen.String(), func(r rune) bool { return !strings.ContainsRune(tokenLetters, r) }) {
		for _, provider := range []string{"redbooth", "whenfresh"} {
			if _, known := p.sims.Lookup(provider, text); known && len(text) > 8 {
				t.Errorf("the backend told the page a token of %s", provider)
			}
		}
	}
}

const tokenLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func TestIntegrationsNameWhatToRegister(t *testing.T) {
	p := newStack(t).browser()
	got := p.ask("/app/integrations", nil).Items
	if len(got) != 3 || got[0].RedirectURI != p.origin+"/callback/redbooth" || got[1].RedirectURI != "" {
		t.Errorf("got %+v", got)
	}
}

func bare(t *testing.T) http.Handler {
	t.Helper()
	return devpage.New(devpage.Config{
		API: http.NotFoundHandler(), Key: secret.New("evg_test"), Origin: "http://127.0.0.1:8080", Now: time.Now,
		Integrations: []devpage.Integration{{Name: "a", Provider: "a", Title: "A", Grant: devpage.ByClientCredentials}},
	})
}

func TestOnlyThePageItselfMayAsk(t *testing.T) {
	h := bare(t)
	for name, c := range map[string]struct {
		host   string
		header map[string]string
		want   int
	}{
		"the page":                  {"127.0.0.1:8080", map[string]string{"Evergrant-Page": "1", "Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"}, 200},
		"a program":                 {"127.0.0.1:8080", map[string]string{"Evergrant-Page": "1"}, 200},
		"a form":                    {"127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "same-origin"}, 403},
		"another site":              {"127.0.0.1:8080", map[string]string{"Evergrant-Page": "1", "Sec-Fetch-Site": "cross-site"}, 403},
		"another port":              {"127.0.0.1:8080", map[string]string{"Evergrant-Page": "1", "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8081"}, 403},
		"an old browser, elsewhere": {"127.0.0.1:8080", map[string]string{"Evergrant-Page": "1", "Origin": "https://attacker.example"}, 403},
		"a rebound name":            {"attacker.example:8080", map[string]string{"Evergrant-Page": "1", "Sec-Fetch-Site": "same-origin", "Origin": "http://attacker.example:8080"}, 421},
		"another port's name":       {"127.0.0.1:9090", map[string]string{"Evergrant-Page": "1"}, 421},
	} {
		r := httptest.NewRequest(http.MethodPost, "/app/login", strings.NewReader(`{"person":"ada"}`))
		r.Host = c.host
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	h := bare(t)
	for path, want := range map[string]int{
		"/": 200, "/app/page.js": 200, "/app/style.css": 200, "/app/icon.svg": 200, "/app/state": 200, "/app/return": 303, "/app/done": 200,
		"/app/": 404, "/app/index.html": 404, "/app/../devpage.go": 404, "/other": 404, "/app/login": 405,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080"+path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		// The mux cleans a path by a redirect to where there is nothing.
		if w.Code != want && !(strings.Contains(path, "..") && w.Code == http.StatusTemporaryRedirect) {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
		for name, value := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if w.Header().Get(name) != value {
				t.Errorf("%s: %s is %q", path, name, w.Header().Get(name))
			}
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins may read it", path)
		}
	}
}

func TestLocalhostIsSentToTheOneName(t *testing.T) {
	h := bare(t)
	for path, want := range map[string]int{"/": http.StatusFound, "/app/state": http.StatusMisdirectedRequest} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost:8080"+path, nil))
		if w.Code != want || want == http.StatusFound && w.Header().Get("Location") != "http://127.0.0.1:8080/" {
			t.Errorf("%s: %d to %s", path, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestOddBodiesAreRefused(t *testing.T) {
	h := bare(t)
	for _, body := range []string{"", "null", "[]", `{"person":1}`, `{"person":"ada","x":1}`, strings.Repeat(" ", 5000) + `{"person":"ada"}`} {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/app/login", strings.NewReader(body))
		r.Header.Set("Evergrant-Page", "1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"problem"`) || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%.20q: %s", body, w.Body)
		}
	}
}

func TestPageIsWholeInItself(t *testing.T) {
	h := bare(t)
	for _, path := range []string{"/", "/app/style.css", "/app/page.js", "/app/done"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8080"+path, nil))
		for _, word := range []string{"https://", "//cdn", "<script>", " onclick=", " style=", "innerHTML", "eval(", "@import", "url("} {
			if strings.Contains(w.Body.String(), word) {
				t.Errorf("%s holds %q", path, word)
			}
		}
	}
}
