package simprovider_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

const (
	clientID     = "app"
	clientSecret = "s3cret"
	publicID     = "public-app"
	callback     = "http://127.0.0.1:9999/callback/x"
	whenfreshID  = "r5e6j0k1oevsfgmb9secod9qd"
)

// sim is a running Server with one confidential client at each service, a public
// one at FF Logs, a clock, and a client that follows no redirects.
type sim struct {
	*simprovider.Server
	t    *testing.T
	http *http.Client

	mu  sync.Mutex // guards now
	now time.Time
}

func (s *sim) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *sim) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func start(t *testing.T, change ...func(*simprovider.Config)) *sim {
	t.Helper()
	s := &sim{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	ts := httptest.NewUnstartedServer(nil)
	cfg := simprovider.Config{BaseURL: "http://" + ts.Listener.Addr().String(), Now: s.clock}
	for _, f := range change {
		f(&cfg)
	}
	s.Server = simprovider.New(cfg)
	ts.Config.Handler = s.Server
	ts.Config.ErrorLog = nil
	ts.Start()
	t.Cleanup(ts.Close)
	s.http = ts.Client()
	s.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, p := range simprovider.Providers() {
		s.must(s.Register(p, simprovider.Client{ID: clientID, Secret: clientSecret, RedirectURIs: []string{callback}}))
	}
	s.must(s.Register("fflogs", simprovider.Client{ID: publicID, RedirectURIs: []string{callback}}))
	return s
}

func (s *sim) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// reply is a response read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) field(name string) string {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	v, _ := m[name].(string)
	return v
}

func (r reply) number(name string) float64 {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	v, _ := m[name].(float64)
	return v
}

func (r reply) has(name string) bool {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	_, ok := m[name]
	return ok
}

// send sends a request once; the error is that of the connection.
func (s *sim) send(method, target, body string, h http.Header) (reply, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	s.must(err)
	req.GetBody = nil
	req.Header = http.Header{"User-Agent": {"test/1"}}
	maps.Copy(req.Header, h)
	res, err := s.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b)}, err
}

func (s *sim) do(method, target, body string, h http.Header) reply {
	s.t.Helper()
	r, err := s.send(method, target, body, h)
	s.must(err)
	return r
}

func basic(id, secret string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// form builds url.Values from pairs.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

func (s *sim) post(target string, v url.Values, h http.Header) reply {
	s.t.Helper()
	headers := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	maps.Copy(headers, h)
	return s.do(http.MethodPost, target, v.Encode(), headers)
}

// authorizeURL is a good authorization request, changed by pairs; an empty value
// removes a parameter.
func (s *sim) authorizeURL(provider string, pairs ...string) string {
	v := form("client_id", clientID, "redirect_uri", callback, "response_type", "code", "state", "st4te")
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return s.Endpoints(provider)["authorization_endpoint"] + "?" + v.Encode()
}

// consent allows an authorization request as user and returns the code.
func (s *sim) consent(provider, user string, pairs ...string) string {
	s.t.Helper()
	r := s.post(s.authorizeURL(provider, pairs...), form("decision", "allow", "user", user), nil)
	if r.status != http.StatusFound {
		s.t.Fatalf("consent at %s: %d %s", provider, r.status, r.body)
	}
	return s.backQuery(r).Get("code")
}

// backQuery is the query of the redirect back to the application.
func (s *sim) backQuery(r reply) url.Values {
	s.t.Helper()
	u, err := url.Parse(r.header.Get("Location"))
	s.must(err)
	if !strings.HasPrefix(u.String(), callback) {
		s.t.Fatalf("redirected to %q", u)
	}
	return u.Query()
}

// token sends a token request with the confidential client's credentials where the
// service wants them.
func (s *sim) token(provider string, v url.Values) reply {
	s.t.Helper()
	target := s.Endpoints(provider)["token_endpoint"]
	if provider == "askfred" || provider == "redbooth" {
		v.Set("client_id", clientID)
		v.Set("client_secret", clientSecret)
		return s.post(target, v, nil)
	}
	return s.post(target, v, basic(clientID, clientSecret))
}

func (s *sim) exchange(provider, code string) reply {
	s.t.Helper()
	return s.token(provider, form("grant_type", "authorization_code", "code", code, "redirect_uri", callback))
}

func (s *sim) refresh(provider, token string) reply {
	s.t.Helper()
	if provider == "whenfresh" {
		return s.post(s.Endpoints(provider)["token_endpoint"],
			form("grant_type", "refresh_token", "refresh_token", token, "client_id", whenfreshID), nil)
	}
	return s.token(provider, form("grant_type", "refresh_token", "refresh_token", token))
}

// connect returns the tokens of a fresh grant of alice.
func (s *sim) connect(provider string) (access, refresh string) {
	s.t.Helper()
	var r reply
	if provider == "whenfresh" {
		refresh = s.IssueRefreshToken(provider, "alice")
		r = s.refresh(provider, refresh)
	} else {
		r = s.exchange(provider, s.consent(provider, "alice"))
		refresh = r.field("refresh_token")
	}
	access = r.field("access_token")
	if r.status != http.StatusOK || access == "" || refresh == "" {
		s.t.Fatalf("connect %s: %d %s", provider, r.status, r.body)
	}
	return access, refresh
}

// call makes the service's example call.
func (s *sim) call(provider, access string) reply {
	s.t.Helper()
	c, err := s.Example(provider, "authorization_code")
	s.must(err)
	return s.do(c.Method, c.URL, c.Body, bearer(access))
}

func (s *sim) live(provider, token string) bool {
	s.t.Helper()
	info, ok := s.Lookup(provider, token)
	if !ok {
		s.t.Fatalf("%s never issued that token", provider)
	}
	return info.Live
}

// want checks status and OAuth error code of a reply; code "" means no JSON code.
func (s *sim) want(what string, r reply, status int, code string) {
	s.t.Helper()
	if r.status != status || r.field("error") != code {
		s.t.Errorf("%s: got %d %q, want %d %q; body %s", what, r.status, r.field("error"), status, code, r.body)
	}
}

// codeProviders are the services with an authorization endpoint.
func codeProviders() []string { return []string{"askfred", "freeagent", "redbooth", "fflogs"} }

const verifier = "abcdefghijklmnopqrstuvwxyz-0123456789._~ABCDEF"

func challenge(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
