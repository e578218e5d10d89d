package simprovider_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

// Every service: connect, call, expire, refresh, revoke by the user.
func TestWholePath(t *testing.T) {
	ttl := map[string]time.Duration{
		"askfred": 604800 * time.Second, "freeagent": 604800 * time.Second, "whenfresh": 3600 * time.Second,
		"redbooth": 7200 * time.Second, "fflogs": 31104000 * time.Second,
	}
	for _, p := range simprovider.Providers() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			access, refresh := s.connect(p)
			if r := s.call(p, access); r.status != http.StatusOK {
				t.Fatalf("call: %d %s", r.status, r.body)
			}
			s.advance(ttl[p] - time.Second)
			if r := s.call(p, access); r.status != http.StatusOK {
				t.Errorf("call just before expiry: %d", r.status)
			}
			s.advance(time.Second)
			if r := s.call(p, access); r.status != http.StatusUnauthorized {
				t.Errorf("call at expiry: %d", r.status)
			}
			r := s.refresh(p, refresh)
			if r.status != http.StatusOK || r.number("expires_in") != ttl[p].Seconds() {
				t.Fatalf("refresh: %d %s", r.status, r.body)
			}
			if c := s.call(p, r.field("access_token")); c.status != http.StatusOK {
				t.Errorf("call after refresh: %d", c.status)
			}
			if n := s.RevokeUser(p, "alice"); n != 1 {
				t.Errorf("RevokeUser ended %d grants", n)
			}
			if c := s.call(p, r.field("access_token")); c.status != http.StatusUnauthorized {
				t.Errorf("call after the user revoked: %d", c.status)
			}
			if r.has("refresh_token") {
				refresh = r.field("refresh_token")
			}
			if d := s.refresh(p, refresh); d.status == http.StatusOK {
				t.Errorf("refresh after the user revoked: %d", d.status)
			}
		})
	}
}

// Doorkeeper and Passport: a rotation ends the old pair at once, and a second use
// of the old refresh token ends nothing else.
func TestRotation(t *testing.T) {
	for _, p := range []string{"askfred", "redbooth", "fflogs"} {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			access, refresh := s.connect(p)
			r := s.refresh(p, refresh)
			next := r.field("refresh_token")
			if next == "" || next == refresh {
				t.Fatalf("refresh did not rotate: %s", r.body)
			}
			if s.live(p, access) || s.live(p, refresh) {
				t.Error("the old pair lives on")
			}
			if again := s.refresh(p, refresh); again.status == http.StatusOK {
				t.Error("a spent refresh token was accepted")
			}
			if !s.live(p, next) || !s.live(p, r.field("access_token")) {
				t.Error("reuse ended the grant")
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	const p = "redbooth"
	t.Run("dies on first use", func(t *testing.T) {
		s := start(t)
		s.must(s.SetPolicy(p, simprovider.Policy{Rotates: true, Previous: simprovider.DiesOnFirstUse}))
		access, refresh := s.connect(p)
		lost := s.refresh(p, refresh)
		if !s.live(p, refresh) || !s.live(p, access) {
			t.Fatal("the old pair died before the new one was used")
		}
		second := s.refresh(p, refresh)
		if second.status != http.StatusOK {
			t.Fatalf("second use: %d", second.status)
		}
		s.call(p, second.field("access_token"))
		if s.live(p, refresh) || s.live(p, access) {
			t.Error("the old pair outlived the first use of the new one")
		}
		if !s.live(p, lost.field("refresh_token")) {
			t.Error("the pair of the lost answer is not ended by another's use")
		}
	})
	t.Run("reuse ends the grant", func(t *testing.T) {
		s := start(t)
		s.must(s.SetPolicy(p, simprovider.Policy{Rotates: true, ReuseEndsGrant: true}))
		_, refresh := s.connect(p)
		next := s.refresh(p, refresh)
		s.want("reuse", s.refresh(p, refresh), 400, "invalid_grant")
		if s.live(p, next.field("access_token")) || s.live(p, next.field("refresh_token")) {
			t.Error("the new pair survived the reuse")
		}
	})
	t.Run("stays", func(t *testing.T) {
		s := start(t)
		s.must(s.SetPolicy(p, simprovider.Policy{Rotates: true, Previous: simprovider.Stays, KeepsOldAccess: true}))
		access, refresh := s.connect(p)
		first, again := s.refresh(p, refresh), s.refresh(p, refresh)
		if first.status != 200 || again.status != 200 || !s.live(p, access) {
			t.Error("something died")
		}
	})
	t.Run("no rotation, old access dies", func(t *testing.T) {
		s := start(t)
		s.must(s.SetPolicy(p, simprovider.Policy{}))
		access, refresh := s.connect(p)
		r := s.refresh(p, refresh)
		if r.has("refresh_token") || s.live(p, access) || !s.live(p, refresh) || !s.live(p, r.field("access_token")) {
			t.Errorf("got %s", r.body)
		}
	})
}

// A code is good once, for its client, its redirect URI and its time; a refused
// exchange does not spend it.
func TestCodes(t *testing.T) {
	for _, p := range codeProviders() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			s.must(s.Register(p, simprovider.Client{ID: "other", Secret: "x", RedirectURIs: []string{callback, callback + "2"}}))
			code := s.consent(p, "bob")
			for what, v := range map[string][]string{
				"no code":            {"redirect_uri", callback},
				"unknown code":       {"redirect_uri", callback, "code", "nonsense"},
				"no redirect_uri":    {"code", code},
				"other redirect_uri": {"code", code, "redirect_uri", callback + "?x=1"},
				"needless verifier":  {"code", code, "redirect_uri", callback, "code_verifier", verifier},
			} {
				r := s.token(p, form(append(v, "grant_type", "authorization_code")...))
				if r.status != http.StatusBadRequest || !r.has("error") {
					t.Errorf("%s: %d %s", what, r.status, r.body)
				}
			}
			foreign := s.consent(p, "bob", "client_id", "other")
			if r := s.exchange(p, foreign); r.status != http.StatusBadRequest {
				t.Errorf("another client's code: %d", r.status)
			}
			ok := s.exchange(p, code)
			if ok.status != http.StatusOK {
				t.Fatalf("exchange: %d %s", ok.status, ok.body)
			}
			if info, _ := s.Lookup(p, ok.field("refresh_token")); info.User != "bob" || info.ClientID != clientID || !info.Refresh || !info.Live {
				t.Errorf("lookup: %+v", info)
			}
			if r := s.exchange(p, code); r.status == http.StatusOK {
				t.Error("a code was good twice")
			}
			if !s.live(p, ok.field("access_token")) {
				t.Error("a second exchange ended the tokens of the first")
			}
			late := s.consent(p, "bob")
			s.advance(time.Hour)
			if r := s.exchange(p, late); r.status != http.StatusBadRequest {
				t.Errorf("expired code: %d", r.status)
			}
			revoked := s.consent(p, "bob")
			s.RevokeUser(p, "bob")
			if r := s.exchange(p, revoked); r.status != http.StatusBadRequest {
				t.Errorf("code of an ended grant: %d", r.status)
			}
		})
	}
}

func TestPKCE(t *testing.T) {
	for _, p := range codeProviders() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			code := s.consent(p, "alice", "code_challenge", challenge(verifier), "code_challenge_method", "S256")
			exchange := func(pairs ...string) int {
				return s.token(p, form(append(pairs, "grant_type", "authorization_code", "code", code, "redirect_uri", callback)...)).status
			}
			if got := exchange(); got != http.StatusBadRequest {
				t.Errorf("no verifier: %d", got)
			}
			if got := exchange("code_verifier", verifier+"x"); got != http.StatusBadRequest {
				t.Errorf("wrong verifier: %d", got)
			}
			if got := exchange("code_verifier", verifier); got != http.StatusOK {
				t.Errorf("right verifier: %d", got)
			}
			for _, pairs := range [][]string{
				{"code_challenge", verifier, "code_challenge_method", "plain"},
				{"code_challenge", challenge(verifier)},
				{"code_challenge", "short", "code_challenge_method", "S256"},
			} {
				r := s.do(http.MethodGet, s.authorizeURL(p, pairs...), "", nil)
				if q := s.backQuery(r); q.Get("error") != "invalid_request" || q.Get("state") != "st4te" {
					t.Errorf("%v: %v", pairs, q)
				}
			}
		})
	}
}

// Credentials in the wrong place, in two places, or wrong are refused in the
// service's own words.
func TestClientAuthentication(t *testing.T) {
	type refused struct {
		status           int
		code, challenged string
	}
	words := map[string]refused{
		"askfred":   {401, "invalid_client", `Bearer realm="Doorkeeper", error="invalid_client"`},
		"redbooth":  {401, "invalid_client", `Bearer realm="Doorkeeper", error="invalid_client"`},
		"freeagent": {401, "", `Basic realm="Application"`},
		"fflogs":    {401, "invalid_client", ""},
		"whenfresh": {400, "invalid_client", ""},
	}
	grant := map[string]string{
		"askfred": "refresh_token", "redbooth": "refresh_token", "freeagent": "refresh_token",
		"fflogs": "client_credentials", "whenfresh": "client_credentials",
	}
	for _, p := range simprovider.Providers() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			inBody := p == "askfred" || p == "redbooth"
			creds := form("client_id", clientID, "client_secret", clientSecret)
			wrongBody := form("client_id", clientID, "client_secret", "wrong")
			type attempt struct {
				form   map[string][]string
				header http.Header
			}
			attempts := map[string]attempt{
				"none":            {form(), nil},
				"unknown in body": {form("client_id", "nobody", "client_secret", "x"), nil},
				"unknown basic":   {form(), basic("nobody", "x")},
				"wrong in body":   {wrongBody, nil},
				"wrong basic":     {form(), basic(clientID, "wrong")},
				"no secret":       {form("client_id", clientID), nil},
				"both places":     {creds, basic(clientID, clientSecret)},
			}
			if inBody {
				attempts["wrong place"] = attempt{form(), basic(clientID, clientSecret)}
			} else {
				attempts["wrong place"] = attempt{creds, nil}
			}
			for what, a := range attempts {
				v := form("grant_type", grant[p], "refresh_token", "x")
				for k, values := range a.form {
					v[k] = values
				}
				r := s.post(s.Endpoints(p)["token_endpoint"], v, a.header)
				s.want(what, r, words[p].status, words[p].code)
				if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), words[p].challenged) {
					t.Errorf("%s: WWW-Authenticate %q", what, r.header.Get("WWW-Authenticate"))
				}
			}
		})
	}
}

func TestWrongMethodAndBadRequests(t *testing.T) {
	method := map[string]int{"askfred": 404, "redbooth": 404, "freeagent": 404, "whenfresh": 405, "fflogs": 405}
	for _, p := range simprovider.Providers() {
		t.Run(p, func(t *testing.T) {
			s := start(t)
			target := s.Endpoints(p)["token_endpoint"]
			if r := s.do(http.MethodGet, target+"?grant_type=client_credentials", "", nil); r.status != method[p] {
				t.Errorf("GET: %d", r.status)
			}
			s.want("unknown grant", s.token(p, form("grant_type", "password")), 400, "unsupported_grant_type")
			s.want("no grant", s.token(p, form()), 400, "invalid_request")
			twice := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			s.want("parameter twice", s.do("POST", target, "grant_type=refresh_token&grant_type=refresh_token", twice), 400, "invalid_request")
			s.want("bad escape", s.do("POST", target, "grant_type=%zz", twice), 400, "invalid_request")
			s.want("JSON", s.do("POST", target, `{"grant_type":"refresh_token"}`,
				http.Header{"Content-Type": {"application/json"}}), 400, "invalid_request")
			s.want("in the query", s.do("POST", target+"?grant_type=refresh_token", "", twice), 400, "invalid_request")
			if r := s.do("POST", target, strings.Repeat("x", 65<<10), twice); r.status != http.StatusRequestEntityTooLarge {
				t.Errorf("large body: %d", r.status)
			}
			if r := s.do("GET", strings.TrimSuffix(target, "token")+"nothing", "", nil); r.status != http.StatusNotFound {
				t.Errorf("unknown path: %d", r.status)
			}
		})
	}
	s := start(t)
	root, _, _ := strings.Cut(s.Endpoints("askfred")["token_endpoint"], "/sim/")
	for _, path := range []string{"/", "/sim/", "/sim/nobody/oauth/token", "/askfred/oauth/token"} {
		if r := s.do("GET", root+path, "", nil); r.status != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, r.status)
		}
	}
}

func TestAnotherClientsRefreshToken(t *testing.T) {
	for p, want := range map[string]int{"askfred": 400, "redbooth": 400, "freeagent": 400, "fflogs": 401} {
		s := start(t)
		_, refresh := s.connect(p)
		s.must(s.Register(p, simprovider.Client{ID: "other", Secret: "x"}))
		v, h := form("grant_type", "refresh_token", "refresh_token", refresh), basic("other", "x")
		if p == "askfred" || p == "redbooth" {
			h = nil
			v.Set("client_id", "other")
			v.Set("client_secret", "x")
		}
		if r := s.post(s.Endpoints(p)["token_endpoint"], v, h); r.status != want {
			t.Errorf("%s: %d %s", p, r.status, r.body)
		}
		if !s.live(p, refresh) {
			t.Errorf("%s: the token died of it", p)
		}
	}
}

func TestRegisterRefuses(t *testing.T) {
	s := start(t)
	for what, c := range map[string]simprovider.Client{
		"no ID":          {Secret: "x"},
		"no secret":      {ID: "x"},
		"plain http":     {ID: "x", Secret: "x", RedirectURIs: []string{"http://app.example/callback"}},
		"fragment":       {ID: "x", Secret: "x", RedirectURIs: []string{"https://app.example/callback#x"}},
		"relative":       {ID: "x", Secret: "x", RedirectURIs: []string{"/callback"}},
		"another scheme": {ID: "x", Secret: "x", RedirectURIs: []string{"javascript://x/"}},
	} {
		if s.Register("askfred", c) == nil {
			t.Errorf("%s: registered", what)
		}
	}
	if s.Register("whenfresh", simprovider.Client{ID: whenfreshID, Secret: "x"}) == nil {
		t.Error("the fixed client was replaced")
	}
	if err := s.Register("nobody", simprovider.Client{ID: "x", Secret: "x"}); !errors.Is(err, simprovider.ErrUnknownProvider) {
		t.Errorf("unknown provider: %v", err)
	}
	if s.Endpoints("nobody") != nil || s.RevokeUser("nobody", "alice") != 0 || s.IssueRefreshToken("askfred", "alice") != "" {
		t.Error("an unknown provider has something")
	}
}

func TestSetTTL(t *testing.T) {
	s := start(t, func(c *simprovider.Config) { c.TokenTTL = 120 * time.Second })
	for _, p := range simprovider.Providers() {
		_, refresh := s.connect(p)
		r := s.refresh(p, refresh)
		if r.number("expires_in") != 120 {
			t.Errorf("%s: %s", p, r.body)
		}
		s.must(s.SetTTL(p, 5*time.Second))
		access, _ := s.connect(p)
		s.advance(5 * time.Second)
		if s.live(p, access) {
			t.Errorf("%s: alive after its life", p)
		}
	}
}

func TestBreak(t *testing.T) {
	type test struct {
		provider string
		what     simprovider.Breakage
		broken   func(s *sim) bool
	}
	for _, tt := range []test{
		{"askfred", simprovider.AcceptReusedRefreshToken, func(s *sim) bool {
			_, refresh := s.connect("askfred")
			s.refresh("askfred", refresh)
			return s.refresh("askfred", refresh).status == 200 && s.live("askfred", refresh)
		}},
		{"redbooth", simprovider.NeverRotate, func(s *sim) bool {
			_, refresh := s.connect("redbooth")
			return s.refresh("redbooth", refresh).field("refresh_token") == refresh
		}},
		{"askfred", simprovider.RevokeDoesNothing, func(s *sim) bool {
			access, _ := s.connect("askfred")
			r := s.revoke(access)
			return r.status == 200 && s.live("askfred", access)
		}},
		{"fflogs", simprovider.IgnoreExpiry, func(s *sim) bool {
			access, _ := s.connect("fflogs")
			s.advance(31104000 * time.Second)
			return s.call("fflogs", access).status == 200
		}},
		{"freeagent", simprovider.IgnoreUserRevocation, func(s *sim) bool {
			access, _ := s.connect("freeagent")
			s.RevokeUser("freeagent", "alice")
			return s.live("freeagent", access)
		}},
		{"freeagent", simprovider.WrongAuthPlace, func(s *sim) bool {
			return s.exchange("freeagent", s.consent("freeagent", "alice")).status == 401
		}},
		{"redbooth", simprovider.WrongAuthPlace, func(s *sim) bool {
			code := s.consent("redbooth", "alice")
			right := s.exchange("redbooth", code).status
			wrong := s.post(s.Endpoints("redbooth")["token_endpoint"],
				form("grant_type", "authorization_code", "code", code, "redirect_uri", callback), basic(clientID, clientSecret)).status
			return right == 401 && wrong == 200
		}},
	} {
		t.Run(tt.provider+" "+string(tt.what), func(t *testing.T) {
			s := start(t)
			if tt.broken(s) {
				t.Error("broken before it was broken")
			}
			s.must(s.Break(tt.provider, tt.what))
			if !tt.broken(s) {
				t.Error("not broken")
			}
			s.must(s.Break(tt.provider, ""))
			if tt.broken(s) {
				t.Error("still broken")
			}
		})
	}
	if start(t).Break("askfred", "everything") == nil {
		t.Error("an unknown breakage was accepted")
	}
}

// revoke revokes a token at AskFRED.
func (s *sim) revoke(token string) reply {
	s.t.Helper()
	return s.post(s.Endpoints("askfred")["revocation_endpoint"],
		form("token", token, "client_id", clientID, "client_secret", clientSecret), nil)
}

// Of many refreshes at once with one rotating token exactly one succeeds.
func TestConcurrentRefresh(t *testing.T) {
	s := start(t)
	_, refresh := s.connect("redbooth")
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		ok int
	)
	for range 16 {
		wg.Go(func() {
			r := s.refresh("redbooth", refresh)
			mu.Lock()
			defer mu.Unlock()
			if r.status == http.StatusOK {
				ok++
			}
		})
	}
	wg.Wait()
	if n := s.Requests("redbooth")["refresh_token"]; ok != 1 || n != 16 {
		t.Errorf("%d of %d requests succeeded", ok, n)
	}
}

// A long-running service forgets dead tokens but never the live ones.
func TestLongGrant(t *testing.T) {
	for _, p := range []string{"freeagent", "redbooth"} {
		s := start(t)
		_, refresh := s.connect(p)
		for range 600 {
			r := s.refresh(p, refresh)
			if r.status != http.StatusOK {
				t.Fatalf("%s: %d", p, r.status)
			}
			if r.has("refresh_token") {
				refresh = r.field("refresh_token")
			}
			s.advance(31 * 24 * time.Hour)
		}
		if !s.live(p, refresh) {
			t.Errorf("%s: the refresh token was forgotten", p)
		}
	}
}
