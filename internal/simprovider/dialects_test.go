package simprovider_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

func TestAskFRED(t *testing.T) {
	s := start(t)
	r := s.exchange("askfred", s.consent("askfred", "alice"))
	if r.field("token_type") != "Bearer" || r.number("expires_in") != 604800 || int64(r.number("created_at")) != s.clock().Unix() {
		t.Errorf("answer: %s", r.body)
	}
	me := s.call("askfred", r.field("access_token"))
	if me.number("id") != 1001 {
		t.Errorf("me: %s", me.body)
	}
	for what, h := range map[string]http.Header{"missing": nil, "unknown": bearer("x"), "other scheme": basic("x", "y")} {
		if c := s.do(http.MethodGet, s.Endpoints("askfred")["identity.endpoint"], "", h); c.status != http.StatusUnauthorized {
			t.Errorf("%s token: %d", what, c.status)
		}
	}
	s.want("dead refresh token", s.refresh("askfred", "nonsense"), 400, "invalid_grant")
}

// Doorkeeper's revocation: either token takes its row with it, an unknown one is a
// success, a foreign client is refused, and an expired row stays.
func TestAskFREDRevoke(t *testing.T) {
	const p = "askfred"
	s := start(t)
	for i := range 2 {
		access, refresh := s.connect(p)
		r := s.revoke([]string{access, refresh}[i])
		if r.status != 200 || r.body != "{}" || s.live(p, access) || s.live(p, refresh) {
			t.Errorf("revoke %d: %d %s", i, r.status, r.body)
		}
		s.want("refresh after", s.refresh(p, refresh), 400, "invalid_grant")
	}
	if r := s.revoke("nonsense"); r.status != 200 {
		t.Errorf("unknown token: %d", r.status)
	}

	access, refresh := s.connect(p)
	s.must(s.Register(p, simprovider.Client{ID: "other", Secret: "x"}))
	endpoint := s.Endpoints(p)["revocation_endpoint"]
	for what, v := range map[string]url.Values{
		"no client":      form("token", access),
		"wrong secret":   form("token", access, "client_id", clientID, "client_secret", "x"),
		"another client": form("token", access, "client_id", "other", "client_secret", "x"),
	} {
		s.want(what, s.post(endpoint, v, nil), 403, "unauthorized_client")
	}
	s.want("basic", s.post(endpoint, form("token", access), basic(clientID, clientSecret)), 403, "unauthorized_client")
	if !s.live(p, access) {
		t.Fatal("a refused revocation revoked")
	}
	s.advance(604800 * time.Second)
	if r := s.revoke(refresh); r.status != 200 || !s.live(p, refresh) {
		t.Errorf("an expired row: %d, alive %v", r.status, s.live(p, refresh))
	}
	if s.Requests(p)["revoke"] != 8 {
		t.Errorf("requests: %v", s.Requests(p))
	}
}

func TestRedbooth(t *testing.T) {
	s := start(t)
	access, _ := s.connect("redbooth")
	me := s.do(http.MethodGet, s.Endpoints("redbooth")["identity.endpoint"], "", bearer(access))
	if me.number("id") != 1001 || !strings.Contains(me.field("api_token"), "CANARY") || !me.has("email_token") {
		t.Errorf("me: %s", me.body)
	}
	s.advance(7200 * time.Second)
	c := s.call("redbooth", access)
	const want = `Bearer realm="Doorkeeper", error="invalid_token", error_description="The access token expired"`
	if c.status != http.StatusUnauthorized || c.header.Get("WWW-Authenticate") != want {
		t.Errorf("expired: %d %q", c.status, c.header.Get("WWW-Authenticate"))
	}
	s.RevokeUser("redbooth", "alice")
	if c := s.call("redbooth", access); !strings.Contains(c.header.Get("WWW-Authenticate"), "The access token was revoked") {
		t.Errorf("revoked: %q", c.header.Get("WWW-Authenticate"))
	}
	root := strings.TrimSuffix(s.Endpoints("redbooth")["token_endpoint"], "/token")
	if r := s.post(root+"/revoke", form("token", access), nil); r.status != http.StatusNotFound {
		t.Errorf("revoke: %d", r.status)
	}
}

func TestFreeAgent(t *testing.T) {
	const p = "freeagent"
	s := start(t)
	code := s.consent(p, "alice")
	r := s.exchange(p, code)
	if r.number("expires_in") != 604800 || r.field("refresh_token") == "" || r.field("token_type") != "bearer" || r.has("refresh_token_expires_in") {
		t.Errorf("exchange: %s", r.body)
	}
	again := s.exchange(p, code)
	if again.status != 401 || again.header.Get("WWW-Authenticate") != `Basic realm="Application"` ||
		again.header.Get("Content-Type") != "text/html; charset=utf-8" || again.body != "HTTP Basic: Access denied.\n" {
		t.Errorf("used code: %d %v %q", again.status, again.header, again.body)
	}
	first, refresh := r.field("access_token"), r.field("refresh_token")
	next := s.refresh(p, refresh) // at any time, long before expiry
	if next.has("refresh_token") || !s.live(p, first) || !s.live(p, refresh) {
		t.Errorf("refresh: %s", next.body)
	}
	if c := s.call(p, next.field("access_token")); c.status != 200 || !strings.Contains(c.body, "company") {
		t.Errorf("company: %d %s", c.status, c.body)
	}
	me := s.do(http.MethodGet, s.Endpoints(p)["identity.endpoint"], "", bearer(first))
	if !strings.Contains(me.body, `/v2/users/1001"`) || !strings.Contains(me.body, "CANARY-ni-number") {
		t.Errorf("me: %s", me.body)
	}
	s.want("dead refresh token", s.refresh(p, "nonsense"), 400, "invalid_grant")
}

func TestFreeAgentWantsUserAgent(t *testing.T) {
	const p = "freeagent"
	s := start(t)
	access, refresh := s.connect(p)
	h := basic(clientID, clientSecret)
	h.Set("User-Agent", "") // net/http then sends none
	r := s.post(s.Endpoints(p)["token_endpoint"], form("grant_type", "refresh_token", "refresh_token", refresh), h)
	if r.status != http.StatusForbidden {
		t.Errorf("token: %d", r.status)
	}
	h = bearer(access)
	h.Set("User-Agent", "")
	if r := s.do(http.MethodGet, s.Endpoints(p)["identity.endpoint"], "", h); r.status != http.StatusForbidden {
		t.Errorf("api: %d", r.status)
	}
}

// Basic at FreeAgent works with the credentials form-encoded or plain; elsewhere
// plain only.
func TestBasicSpelling(t *testing.T) {
	const id, secret = "a b+c", "p%q:r&s"
	for p, both := range map[string]bool{"freeagent": true, "fflogs": false, "whenfresh": false} {
		s := start(t)
		s.must(s.Register(p, simprovider.Client{ID: id, Secret: secret}))
		v := form("grant_type", "client_credentials")
		accepted := http.StatusOK
		if p == "freeagent" {
			v, accepted = form("grant_type", "refresh_token", "refresh_token", "x"), http.StatusBadRequest // past the client check
		}
		if r := s.post(s.Endpoints(p)["token_endpoint"], v, basic(id, secret)); r.status != accepted || r.field("error") == "invalid_client" {
			t.Errorf("%s, plain: %d %s", p, r.status, r.body)
		}
		r := s.post(s.Endpoints(p)["token_endpoint"], v, basic(url.QueryEscape(id), url.QueryEscape(secret)))
		if got := r.status == accepted && r.field("error") != "invalid_client"; got != both {
			t.Errorf("%s, encoded: %d %s", p, r.status, r.body)
		}
	}
}

func TestFreeAgentModern(t *testing.T) {
	const p = "freeagent"
	s := start(t, func(c *simprovider.Config) { c.FreeAgentModern = true })
	code := s.consent(p, "alice")
	s.advance(15*time.Minute - time.Second)
	r := s.exchange(p, code)
	if r.number("expires_in") != 3600 || r.number("refresh_token_expires_in") != 631139040 {
		t.Fatalf("exchange: %s", r.body)
	}
	s.advance(40 * time.Second)
	next := s.refresh(p, r.field("refresh_token"))
	if next.field("refresh_token") != r.field("refresh_token") || next.number("refresh_token_expires_in") != 631139000 {
		t.Errorf("refresh: %s", next.body)
	}
	s.advance(631139000 * time.Second)
	s.want("expired refresh token", s.refresh(p, r.field("refresh_token")), 400, "invalid_grant")
	late := s.consent(p, "alice")
	s.advance(15 * time.Minute)
	s.want("expired code", s.exchange(p, late), 400, "invalid_grant")
}

func TestWhenFresh(t *testing.T) {
	const p = "whenfresh"
	s := start(t)
	e := s.Endpoints(p)
	d := s.do(http.MethodGet, e["discovery_url"], "", nil)
	if d.has("issuer") || d.field("token_endpoint") != e["token_endpoint"] || d.field("authorization_endpoint") == "" {
		t.Errorf("discovery: %s", d.body)
	}
	account := s.do(http.MethodGet, e["account_url"]+"?user=bob", "", http.Header{"Accept": {"application/json"}})
	token := account.field("refresh_token")
	if account.field("client_id") != whenfreshID || account.field("user") != "bob" || token == "" {
		t.Fatalf("account: %s", account.body)
	}
	r := s.refresh(p, token)
	if r.status != 200 || r.has("refresh_token") || r.number("expires_in") != 3600 || strings.Count(r.field("id_token"), ".") != 2 {
		t.Errorf("refresh: %d %s", r.status, r.body)
	}
	if s.refresh(p, token).status != 200 || !s.live(p, r.field("access_token")) {
		t.Error("a refresh ended something")
	}
	v := form("grant_type", "refresh_token", "refresh_token", token, "client_id", whenfreshID)
	s.want("Authorization header", s.post(e["token_endpoint"], v, basic(whenfreshID, "")), 400, "invalid_client")
	v.Set("client_secret", "x")
	s.want("a secret", s.post(e["token_endpoint"], v, nil), 400, "invalid_client")
	s.want("dead", s.refresh(p, "nonsense"), 400, "invalid_grant")
	s.RevokeUser(p, "bob")
	s.want("revoked", s.refresh(p, token), 400, "invalid_grant")
	if r := s.do(http.MethodGet, s.authorizeURL(p), "", nil); r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
		t.Errorf("authorize: %d", r.status)
	}
}

func TestWhenFreshMachine(t *testing.T) {
	const p = "whenfresh"
	s := start(t)
	r := s.token(p, form("grant_type", "client_credentials"))
	if r.status != 200 || r.has("id_token") || r.has("refresh_token") || r.number("expires_in") != 3600 {
		t.Errorf("client credentials: %d %s", r.status, r.body)
	}
	if c := s.call(p, r.field("access_token")); c.status != 200 || c.field("client_id") != clientID {
		t.Errorf("call: %d %s", c.status, c.body)
	}
	if c := s.call(p, "x"); c.status != http.StatusUnauthorized {
		t.Errorf("unknown token: %d", c.status)
	}
	v := form("grant_type", "client_credentials", "client_id", whenfreshID)
	s.want("public client", s.post(s.Endpoints(p)["token_endpoint"], v, nil), 400, "unauthorized_client")
	pasted := s.IssueRefreshToken(p, "alice")
	s.want("pasted token, machine client", s.token(p, form("grant_type", "refresh_token", "refresh_token", pasted)), 400, "invalid_grant")
	s.want("code", s.token(p, form("grant_type", "authorization_code", "code", "x")), 400, "unsupported_grant_type")
}

func TestWhenFreshAccountPage(t *testing.T) {
	s := start(t)
	url := s.Endpoints("whenfresh")["account_url"]
	r := s.do(http.MethodGet, url, "", nil)
	_, after, _ := strings.Cut(r.body, `id="refresh_token" tabindex="0">`)
	token, _, _ := strings.Cut(after, "<")
	if info, ok := s.Lookup("whenfresh", token); !ok || info.User != "alice" || !info.Live {
		t.Errorf("page: %d %s", r.status, r.body)
	}
	if r := s.do(http.MethodGet, url+"?user=carol", "", nil); r.status != http.StatusBadRequest {
		t.Errorf("unknown user: %d", r.status)
	}
}

func TestFFLogs(t *testing.T) {
	const p = "fflogs"
	s := start(t)
	access, refresh := s.connect(p)
	if !strings.HasPrefix(refresh, "def502") {
		t.Errorf("refresh token %q", refresh)
	}
	me := s.call(p, access)
	if !strings.Contains(me.body, `"currentUser":{"id":1001,"name":"Alice Adams"}`) {
		t.Errorf("user API: %s", me.body)
	}
	s.refresh(p, refresh)
	dead := s.refresh(p, refresh)
	s.want("dead refresh token", dead, 401, "invalid_request")
	if dead.field("hint") != "Token has been revoked" || dead.field("message") != "The refresh token is invalid." ||
		dead.field("error_description") != dead.field("message") {
		t.Errorf("dead refresh token: %s", dead.body)
	}
	bad := s.post(s.Endpoints(p)["token_endpoint"], form("grant_type", "client_credentials"), basic(clientID, "wrong"))
	s.want("wrong secret", bad, 401, "invalid_client")
	if bad.field("message") != "Client authentication failed" || bad.header.Get("WWW-Authenticate") == "" {
		t.Errorf("wrong secret: %s", bad.body)
	}
	code := s.consent(p, "alice")
	s.exchange(p, code)
	s.want("used code", s.exchange(p, code), 400, "invalid_grant")
}

func TestFFLogsPublicClient(t *testing.T) {
	const p = "fflogs"
	s := start(t)
	if r := s.do(http.MethodGet, s.authorizeURL(p, "client_id", publicID), "", nil); r.status != http.StatusBadRequest {
		t.Errorf("without PKCE: %d", r.status)
	}
	code := s.consent(p, "bob", "client_id", publicID, "code_challenge", challenge(verifier), "code_challenge_method", "S256")
	endpoint := s.Endpoints(p)["token_endpoint"]
	v := form("grant_type", "authorization_code", "client_id", publicID, "code", code, "redirect_uri", callback, "code_verifier", verifier)
	s.want("basic", s.post(endpoint, v, basic(publicID, "")), 401, "invalid_client")
	r := s.post(endpoint, v, nil)
	s.want("exchange", r, 200, "")
	if me := s.call(p, r.field("access_token")); !strings.Contains(me.body, `"name":"Bob Brown"`) {
		t.Errorf("user API: %s", me.body)
	}
	refresh := form("grant_type", "refresh_token", "client_id", publicID, "refresh_token", r.field("refresh_token"))
	s.want("refresh", s.post(endpoint, refresh, nil), 200, "")
	s.want("client credentials", s.post(endpoint, form("grant_type", "client_credentials", "client_id", publicID), nil), 401, "invalid_client")
}

func TestFFLogsAPIs(t *testing.T) {
	const p = "fflogs"
	s := start(t)
	e := s.Endpoints(p)
	userAPI, clientAPI := e["api.base_url_by_grant.authorization_code"], e["api.base_url_by_grant.client_credentials"]
	// The documents speak of multipart form data for this grant.
	multi := basic(clientID, clientSecret)
	multi.Set("Content-Type", "multipart/form-data; boundary=b")
	r := s.do(http.MethodPost, e["token_endpoint"],
		"--b\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--b--\r\n", multi)
	if r.status != 200 || r.has("refresh_token") {
		t.Fatalf("client credentials: %d %s", r.status, r.body)
	}
	machine := r.field("access_token")
	person, _ := s.connect(p)
	const rate, me = `{"query":"{ rateLimitData { limitPerHour } }"}`, `{"query":"{ userData { currentUser { id } } }"}`
	for _, tt := range []struct {
		what, url, token, body string
		status                 int
		holds                  string
	}{
		{"machine, public", clientAPI, machine, rate, 200, `"limitPerHour":3600`},
		{"machine, public, user field", clientAPI, machine, me, 200, `"currentUser":null`},
		{"machine, user", userAPI, machine, me, 403, `"errors"`},
		{"person, public", clientAPI, person, rate, 200, `"limitPerHour":3600`},
		{"person, user", userAPI, person, `{"query":"{ worldData { expansions { id } } }"}`, 200, `"worldData"`},
		{"unknown field", userAPI, person, `{"query":"{ nonsense }"}`, 200, `"errors"`},
		{"no query", userAPI, person, `{}`, 400, `"errors"`},
		{"not JSON", clientAPI, person, `nonsense`, 400, `"errors"`},
		{"no token", clientAPI, "", rate, 401, `Unauthenticated`},
		{"unknown token", userAPI, "x", me, 401, `Unauthenticated`},
	} {
		r := s.do(http.MethodPost, tt.url, tt.body, bearer(tt.token))
		if r.status != tt.status || !strings.Contains(r.body, tt.holds) {
			t.Errorf("%s: %d %s", tt.what, r.status, r.body)
		}
	}
	if r := s.do(http.MethodGet, userAPI, "", bearer(person)); r.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", r.status)
	}
}
