package threats_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
)

var (
	_ = mutant("T18", "internal/broker/begin.go", `case r.ReturnTo != "" && !i.AllowsReturnTo(r.ReturnTo):`, `case r.ReturnTo == "x":`)
	_ = mutant("T18", "internal/broker/begin.go", `case r.ReturnTo == "" || !i.AllowsReturnTo(r.ReturnTo):`, `case r.ReturnTo == "":`)
	_ = mutant("T18", "internal/broker/complete.go", `if back.sess.ReturnTo != "" && back.i.AllowsReturnTo(back.sess.ReturnTo) {`, `if back.sess.ReturnTo != "" {`)
)

// The spellings themselves are tried beside the code, in internal/config.
func TestThreat_T18_a_return_address_is_checked_when_it_comes_and_when_it_is_used(t *testing.T) {
	const elsewhere = "https://evil.example/back"
	w := newWorld(t)
	w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"redbooth","owner":"a","return_to":"`+elsewhere+`"}`).
		Want(t, http.StatusBadRequest, "return_to")
	i, _ := w.Settings.Integration("freeagent")
	i.Connect = "public"
	w.Restart()
	g := w.Browser().Open(w.Origin + "/authorize/freeagent?return_to=" + url.QueryEscape(elsewhere))
	if g.Want(t, http.StatusBadRequest, ""); g.Header.Get("Location") != "" {
		t.Errorf("public connect goes to %q", g.Header.Get("Location"))
	}
	// The address is taken out of the configuration while the user consents.
	for _, integration := range []string{"redbooth", "askfred"} {
		_, link := w.Session(integration, "tenant")
		b := w.Browser()
		good, denied := w.ToCallback(b, link, "alice"), w.ToCallback(b, link, "alice")
		i, _ := w.Settings.Integration(integration)
		i.ReturnTo = []string{"https://app.example.com/*"}
		w.Restart()
		for _, callback := range []string{good, denied + "&error=access_denied"} {
			if g := b.Open(callback); g.Header.Get("Location") != "" || !strings.Contains(g.Body, "<h1>") {
				t.Errorf("%s: %d to %q", integration, g.Status, g.Header.Get("Location"))
			}
		}
	}
}

// pages are one page of each kind, by what they tell.
func pages(t *testing.T, w *brokertest.World) map[string]brokertest.Answer {
	t.Helper()
	b := w.Browser()
	out := map[string]brokertest.Answer{
		"no such session":     b.Open(w.Origin + "/authorize/redbooth?session=cs_x"),
		"no such integration": b.Open(w.Origin + "/authorize/nothing?session=cs_x"),
		"no state":            b.Open(w.Origin + "/callback/redbooth?code=x"),
		"twice":               b.Open(w.Origin + "/callback/redbooth?code=x&code=y"),
		"one step left":       b.Open(w.ToCallback(b, plainLink(w, "redbooth"), "alice")),
		"connected":           b.Open(w.ToCallback(b, plainLink(w, "askfred"), "alice")),
		"denied":              b.Open(b.Decide(b.Open(plainLink(w, "redbooth")).Location(t).String(), "deny", "").String()),
		"refused":             b.Open(w.ToCallback(b, plainLink(w, "redbooth"), "alice") + "&error=invalid_request&error_description=why"),
	}
	for what, g := range out {
		if g.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(g.Body, "<h1>") {
			t.Fatalf("%s is no page but %d: %s", what, g.Status, g.Body)
		}
	}
	return out
}

// plainLink is a link that ends at a page of ours: its session has no return address.
func plainLink(w *brokertest.World, integration string) string {
	w.T.Helper()
	m := w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"`+integration+`","owner":"tenant"}`).Want(w.T, http.StatusCreated, "").JSON(w.T)
	return m["authorize_url"].(string)
}

var (
	_ = mutant("T20", "internal/httpapi/page.go", `; frame-ancestors 'none'`, ``)
	_ = mutant("T20", "internal/httpapi/page.go", `"X-Frame-Options":         "DENY",`, ``)
)

func TestThreat_T20_our_pages_stand_in_no_frame(t *testing.T) {
	w := newWorld(t)
	for what, g := range pages(t, w) {
		csp := strings.Split(g.Header.Get("Content-Security-Policy"), "; ")
		if !slices.Contains(csp, "frame-ancestors 'none'") || !slices.Contains(csp, "default-src 'none'") || g.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %q, X-Frame-Options %q", what, csp, g.Header.Get("X-Frame-Options"))
		}
	}
}

var (
	_ = mutant("T21", "internal/httpapi/page.go", `return html.EscapeString(visible(s, limit))`, `return html.UnescapeString(html.EscapeString(visible(s, limit)))`)
	_ = mutant("T21", "internal/httpapi/page.go", `			b.WriteString(escape(r))
		}
	}
	return`, `			b.WriteRune(r)
		}
	}
	return`)
	_ = mutant("T21", "internal/httpapi/page.go", `if count == limit {`, `if count == 2*limit {`)
	_ = mutant("T21", "internal/httpapi/face.go", `	header.Set("X-Content-Type-Options", "nosniff")
`, ``)
)

func TestThreat_T21_no_text_of_others_becomes_markup(t *testing.T) {
	for _, payload := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title><svg onload=alert(1)>`, `' onmouseover='x`, `<a href="javascript:x">`,
		`{{7*7}}<b>`, `--><iframe srcdoc=x>`, "\u202e<\u2066bidi", "\x1b[2J<esc", "a\x00<b", "line\u2028<end", strings.Repeat("<", 300),
	} {
		w := newWorld(t)
		for n := range w.Settings.Integrations {
			w.Settings.Integrations[n].Entry.Name = payload
		}
		w.Restart()
		b := w.Browser()
		callback := w.ToCallback(b, plainLink(w, "redbooth"), "alice")
		q := url.Values{"error": {"x" + payload}, "error_description": {payload}, "error_uri": {payload}, "iss": {payload}}
		shown := []string{
			b.Open(callback+"&"+q.Encode()).Want(t, http.StatusBadRequest, "provider_error").Body,
			b.Open(w.ToCallback(b, plainLink(w, "askfred"), "alice")).Want(t, http.StatusOK, "is connected").Body,
			b.Open(w.Origin+"/authorize/redbooth?session="+url.QueryEscape(payload)).Want(t, http.StatusConflict, "").Body,
		}
		for _, page := range shown {
			wantHarmless(t, payload, page)
		}
		owner, _ := json.Marshal(map[string]any{"integration": "redbooth", "owner": payload, "tags": map[string]string{"a": payload}})
		for _, g := range []brokertest.Answer{
			w.Call("all", "POST", "/v1/connect-sessions", string(owner)),
			w.Call("all", "GET", "/v1/connections?owner="+url.QueryEscape(payload), ""),
			w.Call("all", "GET", "/v1/connections?owner=a&"+url.QueryEscape(payload)+"=1", ""),
			w.Call("all", "GET", "/v1/integrations", ""),
		} {
			kind := g.Header.Get("Content-Type")
			if g.Header.Get("X-Content-Type-Options") != "nosniff" || kind != "application/json" && kind != "application/problem+json" {
				t.Errorf("an answer of the API is of type %q, %q", kind, g.Header.Get("X-Content-Type-Options"))
			}
		}
	}
	if _, err := yamlfile.Parse([]byte(`integrations: {"<b>": {provider: redbooth, client_id: a, client_secret: "${env:A}"}}`)); err == nil {
		t.Error("an integration may be named <b>")
	}
}

// wantHarmless fails where a page holds other markup than the page that says nothing, a
// text that is longer than 200 characters, or characters that cannot be seen.
func wantHarmless(t *testing.T, payload, page string) {
	t.Helper()
	ours := []string{"!doctype", "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "figure", "blockquote", "figcaption", "code", "footer"}
	for _, m := range regexp.MustCompile(`<\s*/?\s*([^\s>]*)`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(ours, m[1]) {
			t.Errorf("%q makes the element %q", payload, m[1])
		}
	}
	for _, r := range page {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028') {
			t.Errorf("%q puts %U into the page", payload, r)
		}
	}
	if _, quote, ok := strings.Cut(page, "<blockquote>“"); ok {
		quote, _, _ = strings.Cut(quote, "”</blockquote>")
		if n := strings.Count(quote, "&lt;"); n > 200 {
			t.Errorf("%d characters of a stranger are shown", n)
		}
	}
}

var (
	_ = mutant("T22", "internal/broker/complete.go", `	if errors.Is(err, connection.ErrNotFound) {
		return Browser{}, linkOver()
`, `	if errors.Is(err, connection.ErrNotFound) {
		return Browser{Status: http.StatusBadRequest, Page: refusedPage(i, "access_denied", r.Params["error_description"], "")}, nil
`)
	_ = mutant("T22", "internal/httpapi/page.go", `l.words.Label(wording.QuoteFrom, v, html.EscapeString), "</figcaption>`, `"</figcaption>`)
)

func TestThreat_T22_the_words_of_strangers_are_not_shown(t *testing.T) {
	const words = "Call+0900-PHISH+to+go+on"
	w := newWorld(t)
	b := w.Browser()
	spent := w.ToCallback(b, plainLink(w, "redbooth"), "alice")
	b.Open(spent).Want(t, http.StatusOK, "")
	for _, address := range []string{
		w.Origin + "/callback/redbooth?error=PHISH&error_description=" + words,
		w.Origin + "/callback/redbooth?error=access_denied&error_description=" + words + "&state=PHISH",
		w.Origin + "/callback/redbooth?PHISH=1&PHISH=2",
		w.Origin + "/authorize/redbooth?session=PHISH", w.Origin + "/authorize/PHISH", w.Origin + "/callback/PHISH?code=x",
		spent + "&error=access_denied&error_description=" + words,
		w.ToCallback(w.Browser(), plainLink(w, "redbooth"), "bob") + "&error=access_denied&error_description=" + words, // another's browser
	} {
		g := b.Open(address)
		if strings.Contains(g.Body, "PHISH") || g.Header.Get("Location") != "" || g.Status < 400 {
			t.Errorf("%.60s: %d %s", address, g.Status, g.Body)
		}
	}
	// After a valid state they are shown as what they are.
	g := b.Open(w.ToCallback(b, plainLink(w, "redbooth"), "alice") + "&error=access_denied&error_description=" + words)
	g.Want(t, http.StatusBadRequest, "<blockquote>“Call 0900-PHISH to go on”</blockquote>\n<figcaption>These are the words of Redbooth, not ours.</figcaption>")
	if n := strings.Count(g.Body, "PHISH"); n != 1 {
		t.Errorf("they stand in %d places", n)
	}
	_, link := w.Session("redbooth", "tenant")
	to := b.Open(w.ToCallback(b, link, "alice") + "&error=PHISH&error_description=" + words).Location(t).String()
	if strings.Contains(to, "PHISH") {
		t.Errorf("the application gets %s", to)
	}
}

var (
	_ = mutant("T23", "internal/broker/complete.go", `return Browser{Status: http.StatusSeeOther, Location`, `return Browser{Status: http.StatusOK, Location`)
	_ = mutant("T23", "internal/httpapi/page.go", `img-src data:`, `img-src data: https:`)
	_ = mutant("T23", "internal/httpapi/page.go", `rel=\"noreferrer\"`, ``)
	_ = mutant("T23", "internal/httpapi/page.go", `"default-src 'none'; `, `"default-src 'self'; `)
	_ = mutant("T23", "internal/httpapi/face.go", `	header.Set("Referrer-Policy", "no-referrer")
`, ``)
)

func TestThreat_T23_no_page_with_a_code_in_its_address_stays_or_loads_anything(t *testing.T) {
	w := newWorld(t)
	for _, integration := range []string{"redbooth", "askfred"} {
		_, link := w.Session(integration, "tenant")
		b := w.Browser()
		callback := w.ToCallback(b, link, "alice")
		address, err := url.Parse(callback)
		w.Must(err)
		g := b.Open(callback).Want(t, http.StatusSeeOther, "")
		if g.Body != "" || g.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%d bytes, Referrer-Policy %q", len(g.Body), g.Header.Get("Referrer-Policy"))
		}
		for _, name := range []string{"code", "state"} {
			if strings.Contains(g.Header.Get("Location"), address.Query().Get(name)) {
				t.Errorf("the application gets the %s", name)
			}
		}
	}
	loads := regexp.MustCompile(`(?i)\b(src|href|srcset|action|http-equiv|ping)\s*=|url\(|@import|<(link|script|img|iframe|object|base|form)\b`)
	for what, g := range pages(t, w) {
		policy := g.Header.Get("Content-Security-Policy")
		if g.Header.Get("Referrer-Policy") != "no-referrer" || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Count(policy, "-src ") != 2 {
			t.Errorf("%s: %q, Referrer-Policy %q", what, policy, g.Header.Get("Referrer-Policy"))
		}
		if found := loads.FindString(g.Body); found != "" {
			t.Errorf("%s holds %s", what, found)
		}
		w.WantNoSecrets(what, g.Body)
	}
	// An application's logo is part of the page, and its button does not tell where it was
	// clicked.
	w.Settings.Pages = config.Pages{Name: "Acme", Logo: "data:image/png;base64,iVBORw0KGgo=", Color: "#1d4fd7", Home: "https://app.example.com/"}
	w.Restart()
	for what, g := range pages(t, w) {
		policy := g.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || !strings.HasSuffix(policy, "; img-src data:") || strings.Count(policy, "-src ") != 3 {
			t.Errorf("%s with a logo: %q", what, policy)
		}
		for _, own := range []string{`<img src="data:image/png;base64,iVBORw0KGgo=" alt="">`, `<a href="https://app.example.com/" rel="noreferrer">`} {
			if strings.Count(g.Body, own) != 1 {
				t.Errorf("%s lacks %s", what, own)
			}
			g.Body = strings.Replace(g.Body, own, "", 1)
		}
		if found := loads.FindString(g.Body); found != "" {
			t.Errorf("%s with a logo holds %s", what, found)
		}
	}
}

var _ = mutant("T24", "internal/httpapi/face.go", `slog.String("path", s.path)`, `slog.String("path", x.r.URL.String())`)

func TestThreat_T24_logs_hold_templates_of_paths_and_no_query(t *testing.T) {
	w := newWorld(t)
	for _, integration := range []string{"redbooth", "askfred"} {
		w.ConnectHTTP(integration, "tenant", "alice")
	}
	for _, path := range []string{
		"/callback/redbooth?code=CANARY-code&state=CANARY-state", "/callback/CANARY-path?code=x", "/CANARY-path?code=CANARY-code",
		"/authorize/redbooth?session=CANARY-session", "/authorize/redbooth/CANARY-path", "/v1/connect-sessions/CANARY-session",
	} {
		w.Browser().Open(w.Origin + path)
	}
	log := w.Log.String()
	for _, path := range []string{"/callback/{integration}", "/authorize/{integration}", "/v1/connect-sessions/{id}", "/v1/connect-sessions/{id}/confirm", "unknown"} {
		if !strings.Contains(log, `"path":"`+path+`"`) {
			t.Errorf("the log has no line of %s", path)
		}
	}
	if strings.Contains(log, "CANARY") || strings.Contains(log, "?") {
		t.Errorf("the log holds what came in an address:\n%s", log)
	}
	w.CheckSecrets()

	// What API Gateway writes: nothing of the path but the route's name.
	template, err := os.ReadFile("../../template.yaml")
	w.Must(err)
	variables := regexp.MustCompile(`\$context\.[\w.]+`).FindAllString(string(template), -1)
	if !slices.Contains(variables, "$context.routeKey") {
		t.Error("template.yaml has no access log")
	}
	for _, v := range variables {
		switch strings.TrimPrefix(v, "$context.") {
		case "requestId", "requestTime", "identity.sourceIp", "httpMethod", "routeKey", "status", "responseLength", "responseLatency",
			"integrationStatus", "integrationLatency", "identity.userArn":
		default:
			t.Errorf("API Gateway's access log holds %s", v)
		}
	}
}

var _ = mutant("T25", "internal/httpapi/face.go", `	header.Set("Cache-Control", "no-store")
`, `	if s.path != "/v1/connections/{id}/token" {
		header.Set("Cache-Control", "no-store")
	}
`)

func TestThreat_T25_no_answer_may_be_cached(t *testing.T) {
	w := newWorld(t)
	id := w.ConnectHTTP("redbooth", "tenant", "alice")
	session, link := w.Session("redbooth", "tenant")
	b := w.Browser()
	answers := pages(t, w)
	answers["link"] = b.Open(link)
	answers["callback"] = b.Open(w.ToCallback(b, link, "alice"))
	var document struct{ Paths map[string]map[string]any }
	w.Must(json.Unmarshal([]byte(w.Call("", "GET", "/v1/openapi.json", "").Body), &document))
	if len(document.Paths) < 20 {
		t.Errorf("%d paths: the document is not whole", len(document.Paths))
	}
	for path, methods := range document.Paths {
		path = strings.Replace(path, "connect-sessions/{id}", "connect-sessions/"+session, 1)
		path = strings.NewReplacer("{id}", id, "{integration}", "redbooth", "{stand_in}", "st_x").Replace(path)
		for method := range methods {
			method = strings.ToUpper(method)
			if method == http.MethodDelete || method == "PARAMETERS" {
				continue // the last one; and no method
			}
			for _, key := range []string{"", "all", "stranger"} {
				answers[method+" "+path+" by "+key] = w.Call(key, method, path, "")
				answers[method+" "+path+"?wrong=1 by "+key] = w.Call(key, method, path+"?wrong=1", "{}")
			}
		}
		answers["PUT "+path] = w.Call("all", http.MethodPut, path, "{}")
	}
	answers["token"] = w.Call("all", "GET", "/v1/connections/"+id+"/token", "").Want(t, http.StatusOK, "access_token")
	answers["no such path"] = w.Call("", "GET", "/nothing", "")
	answers["disconnect"] = w.Call("all", http.MethodDelete, "/v1/connections/"+id, "").Want(t, http.StatusOK, "")
	for what, g := range answers {
		if c := g.Header.Values("Cache-Control"); len(c) != 1 || c[0] != "no-store" {
			t.Errorf("%s: %d with Cache-Control %q", what, g.Status, c)
		}
	}
	template, err := os.ReadFile("../../template.yaml")
	w.Must(err)
	if strings.Contains(string(template), "CloudFront") || strings.Contains(string(template), "CachePolicy") {
		t.Error("template.yaml puts a cache before the functions")
	}
}
