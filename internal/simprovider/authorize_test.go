package simprovider_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/simprovider"
)

// The consent page is a form that works without its query: all that it needs is in
// hidden fields.
func TestConsentPage(t *testing.T) {
	hidden := regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	for _, p := range codeProviders() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			r := s.do(http.MethodGet, s.authorizeURL(p, "scope", "read write", "state", `"><script>`), "", nil)
			if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
				t.Fatalf("page: %d %s", r.status, r.body)
			}
			if strings.Contains(r.body, "<script>") || strings.Contains(r.body, "http-equiv") {
				t.Error("the page lets the request write HTML")
			}
			for _, part := range []string{`<form method="post"`, `name="user"`, `name="decision" value="allow"`, `name="decision" value="deny"`, "<li>read</li>"} {
				if !strings.Contains(r.body, part) {
					t.Errorf("the page lacks %s", part)
				}
			}
			v := form("decision", "allow", "user", "bob")
			for _, m := range hidden.FindAllStringSubmatch(r.body, -1) {
				v.Set(m[1], strings.NewReplacer("&#34;", `"`, "&gt;", ">", "&lt;", "<", "&amp;", "&").Replace(m[2]))
			}
			back := s.post(s.Endpoints(p)["authorization_endpoint"], v, nil)
			q := s.backQuery(back)
			if back.status != http.StatusFound || q.Get("state") != `"><script>` {
				t.Fatalf("allow: %d %v", back.status, q)
			}
			ok := s.exchange(p, q.Get("code"))
			if info, _ := s.Lookup(p, ok.field("access_token")); info.User != "bob" {
				t.Errorf("connected %+v", info)
			}
		})
	}
}

func TestDeny(t *testing.T) {
	describes := map[string]bool{"askfred": true, "redbooth": true, "fflogs": true}
	for _, p := range codeProviders() {
		s := start(t)
		for range 2 {
			r := s.post(s.authorizeURL(p), form("decision", "deny"), nil)
			q := s.backQuery(r)
			if r.status != http.StatusFound || q.Get("error") != "access_denied" || q.Get("state") != "st4te" || q.Has("code") {
				t.Errorf("%s: %d %v", p, r.status, q)
			}
			if q.Has("error_description") != describes[p] {
				t.Errorf("%s: error_description %q", p, q.Get("error_description"))
			}
		}
	}
}

// What must not be answered by a redirect is answered by a page, whether it is
// asked or decided.
func TestNoRedirectToStrangers(t *testing.T) {
	for _, p := range codeProviders() {
		s := start(t)
		for _, target := range []string{
			s.authorizeURL(p, "client_id", "nobody"),
			s.authorizeURL(p, "client_id", ""),
			s.authorizeURL(p, "redirect_uri", ""),
			s.authorizeURL(p, "redirect_uri", "http://evil.example/callback/x"),
			s.authorizeURL(p, "redirect_uri", callback+"/more"),
			s.authorizeURL(p, "redirect_uri", strings.Replace(callback, "9999", "9998", 1)),
			s.authorizeURL(p, "redirect_uri", strings.Replace(callback, "//", "//user@", 1)),
			s.authorizeURL(p, "redirect_uri", callback+"#x"),
			s.authorizeURL(p) + "&state=again",
			s.authorizeURL(p) + "&x=%zz",
		} {
			for _, v := range []url.Values{nil, form("decision", "allow"), form("decision", "deny")} {
				r := s.do(http.MethodGet, target, "", nil)
				if v != nil {
					r = s.post(target, v, nil)
				}
				if r.status != http.StatusBadRequest || r.header.Get("Location") != "" || !strings.Contains(r.body, "<h1>") {
					t.Errorf("%s %v %s: %d to %q", p, v, target, r.status, r.header.Get("Location"))
				}
			}
		}
		for _, v := range []url.Values{form("decision", "maybe"), form("decision", "allow", "user", "carol")} {
			if r := s.post(s.authorizeURL(p), v, nil); r.status != http.StatusBadRequest {
				t.Errorf("%s %v: %d", p, v, r.status)
			}
		}
	}
}

func TestAuthorizationErrorsGoBack(t *testing.T) {
	for _, p := range codeProviders() {
		s := start(t)
		for want, responseType := range map[string]string{"invalid_request": "", "unsupported_response_type": "token"} {
			q := s.backQuery(s.do(http.MethodGet, s.authorizeURL(p, "response_type", responseType), "", nil))
			if q.Get("error") != want || q.Get("state") != "st4te" {
				t.Errorf("%s: %v", p, q)
			}
		}
		// RFC 6749 only recommends state; real servers go on without it.
		q := s.backQuery(s.post(s.authorizeURL(p, "state", ""), form("decision", "allow"), nil))
		if q.Get("code") == "" || q.Has("state") {
			t.Errorf("%s without state: %v", p, q)
		}
	}
}

// Redbooth's documents allow the authorization request itself to be a POST, and a
// redirect URI whose query differs.
func TestRedboothAuthorization(t *testing.T) {
	s := start(t)
	endpoint := s.Endpoints("redbooth")["authorization_endpoint"]
	v := form("client_id", clientID, "redirect_uri", callback+"?a=b", "response_type", "code", "state", "s")
	r := s.post(endpoint, v, nil)
	if r.status != http.StatusOK || !strings.Contains(r.body, "<form") {
		t.Fatalf("POST: %d %s", r.status, r.body)
	}
	v.Set("decision", "allow")
	q := s.backQuery(s.post(endpoint, v, nil))
	if q.Get("a") != "b" || q.Get("code") == "" {
		t.Fatalf("redirected with %v", q)
	}
	exchange := form("grant_type", "authorization_code", "code", q.Get("code"), "redirect_uri", callback)
	s.want("exchange without the query", s.token("redbooth", exchange), 400, "invalid_grant")
	exchange.Set("redirect_uri", callback+"?a=b")
	s.want("exchange", s.token("redbooth", exchange), 200, "")

	if r := s.post(s.authorizeURL("askfred"), nil, nil); r.status != http.StatusBadRequest {
		t.Errorf("askfred, POST without a decision: %d", r.status)
	}
	if r := s.post(s.authorizeURL("askfred", "redirect_uri", callback+"?a=b"), form("decision", "allow"), nil); r.status != http.StatusBadRequest {
		t.Errorf("askfred, another query: %d", r.status)
	}
}

// FreeAgent asks a user once; until the user takes the approval back.
func TestFreeAgentAsksOnce(t *testing.T) {
	s := start(t)
	jar, err := cookiejar.New(nil)
	s.must(err)
	s.http.Jar = jar
	s.consent("freeagent", "bob")
	again := s.do(http.MethodGet, s.authorizeURL("freeagent"), "", nil)
	if again.status != http.StatusFound {
		t.Fatalf("second authorization: %d", again.status)
	}
	ok := s.exchange("freeagent", s.backQuery(again).Get("code"))
	if info, _ := s.Lookup("freeagent", ok.field("access_token")); info.User != "bob" {
		t.Errorf("connected %+v", info)
	}
	s.must(s.Register("freeagent", simprovider.Client{ID: "other", Secret: "x", RedirectURIs: []string{callback}}))
	if r := s.do(http.MethodGet, s.authorizeURL("freeagent", "client_id", "other"), "", nil); r.status != http.StatusOK {
		t.Errorf("another client: %d", r.status)
	}
	s.RevokeUser("freeagent", "bob")
	if r := s.do(http.MethodGet, s.authorizeURL("freeagent"), "", nil); r.status != http.StatusOK {
		t.Errorf("after the user revoked: %d", r.status)
	}
}
