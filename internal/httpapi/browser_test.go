package httpapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/wording"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func TestCookieOfAFlow(t *testing.T) {
	w := newWorld(t)
	_, link := w.Session("freeagent", "alice")
	g := w.Browser().Open(link).Want(t, 302, "")
	cookies := g.Header.Values("Set-Cookie")
	if len(cookies) != 1 {
		t.Fatalf("cookies: %q", cookies)
	}
	name, attributes, _ := strings.Cut(cookies[0], "; ")
	if !strings.HasPrefix(name, "evg-dev-") || attributes != "Path=/; Max-Age=900; HttpOnly; SameSite=Lax" {
		t.Errorf("cookie %q; %q", name, attributes)
	}
}

// Under https the cookie is one that no sibling domain can set, and one without the
// prefix counts for nothing.
func TestCookieUnderHTTPS(t *testing.T) {
	w := newWorld(t)
	w.cfg.Keys.PublicURL = "https://auth.example.com"
	h := httpapi.New(w.cfg)
	link := func() string {
		_, link := w.Session("fflogs", "alice")
		u, err := url.Parse(link)
		if err != nil || u.Host != "auth.example.com" {
			t.Fatalf("link to %q: %v", u.Host, err)
		}
		return u.RequestURI()
	}
	g := serve(t, h, "GET", link(), func(r *http.Request) { r.Host = "evil.example" }).Want(t, 302, "")
	name, attributes, _ := strings.Cut(g.Header.Get("Set-Cookie"), "; ")
	if !strings.HasPrefix(name, "__Host-evg-") || attributes != "Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("cookie %q; %q", name, attributes)
	}
	to, err := url.Parse(g.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if to.Query().Get("redirect_uri") != "https://auth.example.com/callback/fflogs" {
		t.Errorf("the Host header made the redirect URI %q", to.Query().Get("redirect_uri"))
	}
	callback := "/callback/fflogs?code=x&state=" + to.Query().Get("state")
	serve(t, h, "GET", callback, func(r *http.Request) {
		r.Header.Set("Cookie", strings.Replace(name, "__Host-evg-", "evg-dev-", 1))
	}).Want(t, 409, "restart_connect")
}

func TestPreviewerUsesNothingUp(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("freeagent", "alice")
	g := w.request("HEAD", strings.TrimPrefix(link, w.Origin), nil)
	if g.Status != 200 || g.Header.Get("Set-Cookie") != "" || g.Header.Get("Location") != "" {
		t.Errorf("HEAD makes %d, cookie %q", g.Status, g.Header.Get("Set-Cookie"))
	}
	w.Call("all", "GET", "/v1/connect-sessions/"+session, "").Want(t, 200, `"status":"open"`)
	w.Browser().Open(link).Want(t, 302, "")
	w.Browser().Open(link).Want(t, 302, "")
}

func TestCallbackQueries(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("c", 6<<10)
	for query, status := range map[string]int{
		"code=a&code=b&state=s":                                400,
		"code=a&c%6fde=b&state=s":                              400,
		"code=a&state=s&state=s":                               400,
		"error=a&error=b&state=s":                              400,
		"code=a&state=s&iss=x&iss=y":                           400,
		"code=a&state=s&realmId=1&realmId=2":                   400,
		"code=%zz&state=s":                                     400,
		"code=%FF&state=s":                                     400,
		strings.Repeat("a", 17<<10):                            400,
		"code=" + long + "&state=s":                            409, // read, and no such state
		"code=a;b&state=s":                                     409,
		"code=a&state=s&utm_source=x&hd=example":               409,
		"error=access_denied&error_description=%E4%F6&state=s": 409,
		"":             409,
		"code=a":       409,
		"error=a&x":    409,
		"state=&code=": 409,
	} {
		g := w.Browser().Open(w.Origin + "/callback/freeagent?" + query)
		if g.Status != status || !strings.Contains(g.Body, "<h1>") {
			t.Errorf("%.40s: %d %s", query, g.Status, g.Body)
		}
	}
}

// Without a valid state nothing of the query gets onto the page: it would be anybody's
// words under our name.
func TestWordsOfAStrangerAreNotShown(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{
		"/callback/freeagent?error=PHISH&error_description=PHISH&state=PHISH", "/callback/freeagent?PHISH=1&PHISH=2",
		"/authorize/freeagent?session=PHISH", "/authorize/fflogs?return_to=https://PHISH.example/", "/authorize/PHISH?session=x", "/callback/PHISH?code=x",
	} {
		g := w.Browser().Open(w.Origin + path)
		if strings.Contains(g.Body, "PHISH") || g.Header.Get("Location") != "" || g.Status < 400 {
			t.Errorf("%s: %d %s", path, g.Status, g.Body)
		}
	}
}

func TestRefusedConsent(t *testing.T) {
	w := newWorld(t)
	_, link := w.Session("freeagent", "alice")
	browser := w.Browser()
	back := browser.Decide(browser.Open(link).Header.Get("Location"), "deny", "").String()
	g := browser.Open(back).Want(t, 303, "")
	if !strings.Contains(g.Header.Get("Location"), "evergrant_error=access_denied") {
		t.Errorf("the application is told %q", g.Header.Get("Location"))
	}
	browser.Open(back).Want(t, 409, "start again") // the state is spent
}

// Without a return address a person reads what happened, the provider's words as its
// own.
func TestPlainPage(t *testing.T) {
	w := newWorld(t)
	link := w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"freeagent","owner":"a"}`).Want(t, 201, "").JSON(t)["authorize_url"].(string)
	browser := w.Browser()
	to, err := url.Parse(browser.Open(link).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	words := "<script>alert(1)</script>\u202ecod.exe" + strings.Repeat("x", 300)
	query := url.Values{"error": {"access_denied"}, "error_description": {words}, "state": {to.Query().Get("state")}}
	g := browser.Open(w.Origin+"/callback/freeagent?"+query.Encode()).Want(t, 400, "These are the words of FreeAgent, not ours.")
	_, style, _ := strings.Cut(g.Body, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	if !strings.Contains(g.Header.Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Error("the policy forbids the page's own style")
	}
	for _, bad := range []string{"<script", "\u202e", strings.Repeat("x", 201)} {
		if strings.Contains(g.Body, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if !strings.Contains(g.Body, `“&lt;script&gt;alert(1)&lt;/script&gt;\u202ecod.exe`) {
		t.Errorf("the provider's words are lost: %s", g.Body)
	}
}

func TestLocalhostGoesTo127(t *testing.T) {
	w := newWorld(t)
	h := httpapi.New(w.cfg)
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for name, to := range map[string]string{
		"localhost:8080": "http://127.0.0.1:8080/callback/freeagent?code=a%20b&state=s", "localhost": "http://127.0.0.1/callback/freeagent?code=a%20b&state=s",
		"127.0.0.1:8080": "", "localhost:80x": "", "localhost.evil.example:80": "", "evil.example": "",
	} {
		g := serve(t, h, "GET", "/callback/freeagent?code=a%20b&state=s", host(name))
		if g.Header.Get("Location") != to || (to != "") != (g.Status == 302) {
			t.Errorf("%s: %d to %q", name, g.Status, g.Header.Get("Location"))
		}
	}
	serve(t, h, "GET", "/healthz", host("localhost:8080")).Want(t, 200, "")
	w.cfg.Keys.PublicURL = "https://auth.example.com"
	serve(t, httpapi.New(w.cfg), "GET", "/callback/freeagent?code=a&state=s", host("localhost:8080")).Want(t, 409, "")
}

func TestOriginOfTheEntrance(t *testing.T) {
	w := newWorld(t)
	w.cfg.Keys.PublicURL = ""
	serve(t, httpapi.New(w.cfg), "GET", "/callback/freeagent?code=a&state=s", nil).Want(t, 500, "public_url")
	w.cfg.Origin = func(*http.Request) string { return "https://abc.execute-api.eu-west-1.amazonaws.com" }
	g := serve(t, httpapi.New(w.cfg), "GET", "/v1/integrations", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+w.Key("all")) })
	g.Want(t, 200, `"redirect_uri":"https://abc.execute-api.eu-west-1.amazonaws.com/callback/freeagent"`)
}

var _ = mutant("T59", "internal/httpapi/limit.go", `maxOpenings = 30`, `maxOpenings = 30000`)

func TestThreat_T59_public_connects_are_rationed(t *testing.T) {
	w := newWorld(t)
	path := "/authorize/fflogs?return_to=" + url.QueryEscape("http://127.0.0.1:9/back")
	last := brokertest.Answer{}
	for range 31 {
		last = w.Browser().Open(w.Origin + path)
	}
	if last.Want(t, 429, "rate_limited"); last.Header.Get("Retry-After") == "" || !strings.Contains(last.Body, "<h1>") {
		t.Errorf("the person is told %s", last.Body)
	}
	_, link := w.Session("fflogs", "alice")
	w.Browser().Open(link).Want(t, 302, "") // with a session there is no such limit
}

// Every text of a page is escaped, whoever it is from.
func TestPageEscapes(t *testing.T) {
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title><script>`, `&lt;script&gt;`, `' onmouseover='x`,
		"\x1b[31mred", "a\r\nb", "\u202egpj.exe", "zero\u200bwidth", "\u2066x\u2069", "bad\xffutf8", "\ue000private", "\u2028line", "\u00adsoft",
	} {
		page := httpapi.Markup(config.Pages{Name: evil}, broker.Page{
			Says: wording.Refused, Provider: evil, Quote: evil, RedirectURI: evil, Code: broker.Code(evil), Detail: evil,
		})
		for _, bad := range []string{"<script", "<img", "\x1b", "\r", "\u202e", "\u200b", "\u2066", "\u2069", "\xff", "\ue000", "\u2028", "\u00ad", `"><`, `' on`} {
			if strings.Contains(page, bad) {
				t.Errorf("%q gets into the page as %q", evil, bad)
			}
		}
	}
	if page := httpapi.Markup(config.Pages{}, broker.Page{Says: wording.Connected, Provider: "Zürich, 東京 ✓"}); !strings.Contains(page, "<h1>Zürich, 東京 ✓ is connected</h1>") {
		t.Error("plain text is not shown plainly")
	}
}

// Templates would be a third of a function's size.
func TestNoTemplatesAreLinked(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		if p := strings.TrimSpace(pkg); p == "html/template" || p == "text/template" {
			t.Errorf("%s is linked", p)
		}
	}
}
