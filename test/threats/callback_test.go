package threats_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("T11", "internal/broker/complete.go", `if st.Integration != i.Name || !b.sameBrowser(`, `if !b.sameBrowser(`)

func TestThreat_T11_a_code_of_another_provider_is_refused(t *testing.T) {
	for _, places := range [][2]string{{"redbooth", "freeagent"}, {"redbooth", "askfred"}, {"askfred", "redbooth"}} {
		w := newWorld(t)
		session, link := w.Session(places[0], "tenant")
		b := w.Browser()
		callback := w.ToCallback(b, link, "alice")
		swapped := strings.Replace(callback, "/callback/"+places[0], "/callback/"+places[1], 1)
		b.Open(swapped).Want(t, http.StatusConflict, "restart_connect")
		b.Open(callback).Want(t, http.StatusConflict, "restart_connect") // spent
		wantNothing(t, w, places[0], session)
		wantNothing(t, w, places[1])
	}
}

var (
	_ = mutant("T12", "internal/broker/complete.go", `return e.Issuer == "" || iss == e.Issuer`, `return e.Issuer == "" || strings.EqualFold(iss, e.Issuer)`)
	_ = mutant("T12", "internal/broker/complete.go", `return !e.IssParameter`, `return true`)
)

func TestThreat_T12_an_answer_must_name_the_issuer_that_was_asked(t *testing.T) {
	const issuer = "https://id.example.com/tenant"
	for _, c := range []struct {
		name, query string
		announced   bool // the entry says that iss is sent
		status      int
		end         string
	}{
		{"right", "&iss=" + url.QueryEscape(issuer), true, http.StatusSeeOther, "evergrant_confirm="},
		{"right and not announced", "&iss=" + url.QueryEscape(issuer), false, http.StatusSeeOther, "evergrant_confirm="},
		{"absent and not announced", "", false, http.StatusSeeOther, "evergrant_confirm="},
		{"absent", "", true, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"empty", "&iss=", true, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"wrong", "&iss=https%3A%2F%2Fid.evil.example%2Ftenant", true, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"wrong and not announced", "&iss=https%3A%2F%2Fid.evil.example%2Ftenant", false, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"in capitals", "&iss=" + url.QueryEscape(strings.ToUpper(issuer)), true, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"with a slash", "&iss=" + url.QueryEscape(issuer+"/"), true, http.StatusSeeOther, "evergrant_error=issuer_mismatch"},
		{"twice", strings.Repeat("&iss="+url.QueryEscape(issuer), 2), true, http.StatusBadRequest, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			i, _ := w.Settings.Integration("redbooth")
			i.Entry.Issuer, i.Entry.IssParameter = issuer, c.announced
			w.Restart()
			session, link := w.Session("redbooth", "tenant")
			b := w.Browser()
			g := b.Open(w.ToCallback(b, link, "alice") + c.query)
			g.Want(t, c.status, "")
			if to := g.Header.Get("Location"); !strings.Contains(to, c.end) || (to == "") != (c.end == "") {
				t.Errorf("the browser is sent to %q", to)
			}
			wantNothing(t, w, "redbooth", session)
		})
	}
}

var _ = mutant("T13", "internal/provider/pkce.go", `return e.PKCE != "unsupported"`, `return false`)

func TestThreat_T13_a_stolen_code_is_worth_nothing_in_another_flow(t *testing.T) {
	for _, integration := range []string{"redbooth", "askfred"} {
		t.Run(integration, func(t *testing.T) {
			w := newWorld(t)
			_, link := w.Session(integration, "victim")
			stolen, err := url.Parse(w.ToCallback(w.Browser(), link, "bob"))
			w.Must(err)
			session, link := w.Session(integration, "mallory")
			attacker := w.Browser()
			own, err := url.Parse(w.ToCallback(attacker, link, "alice"))
			w.Must(err)
			q := own.Query()
			q.Set("code", stolen.Query().Get("code"))
			own.RawQuery = q.Encode()
			back := attacker.Open(own.String()).Want(t, http.StatusSeeOther, "").Location(t).Query()
			if integration == "redbooth" {
				w.Confirm("all", session, back.Get("evergrant_confirm"), "mallory").Want(t, http.StatusConflict, "restart_connect")
			} else if back.Get("evergrant_error") != "restart_connect" {
				t.Errorf("the application is told %v", back)
			}
			if n := w.Sim.Requests(integration)["authorization_code"]; n != 1 {
				t.Errorf("%d codes were sent: the test shows nothing", n)
			}
			if s := w.Call("all", "GET", "/v1/connect-sessions/"+session, "").JSON(t); s["connection_id"] != nil {
				t.Errorf("the session is %v", s)
			}
			w.CheckSecrets()
		})
	}
}

var (
	_ = mutant("T14", "internal/provider/authorize.go", `r.CodeChallenge, "S256"`, `r.CodeChallenge, "plain"`)
	_ = mutant("T14", "internal/provider/validate.go", `m.oneOf("pkce", e.PKCE, "S256", "required", "unsupported", "unknown")`, ``)
	_ = mutant("T14", "internal/provider/validate.go", `if public && e.grants(GrantAuthorizationCode) && e.PKCE != "S256" && e.PKCE != "required" {`, `if public && e.PKCE == "plain" {`)
	_ = mutant("T14", "internal/provider/client.go", `if e.SendsPKCE() && !req.CodeVerifier.IsZero() {`, `if e.PKCE == "required" && !req.CodeVerifier.IsZero() {`)
)

func TestThreat_T14_PKCE_is_S256_or_documented_as_absent(t *testing.T) {
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		e.Variables = nil
		address, err := e.AuthorizeURL(provider.AuthorizeRequest{ClientID: "a", RedirectURI: "https://b.example/", State: "c", CodeChallenge: "d"})
		if err != nil {
			continue // no browser goes there
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		method, challenge := u.Query().Get("code_challenge_method"), u.Query().Get("code_challenge")
		if documented := e.PKCE == "unsupported"; documented != (method == "") || !documented && (method != "S256" || challenge != "d") {
			t.Errorf("%s has pkce %q and sends the challenge %q by %q", id, e.PKCE, challenge, method)
		}
	}
	for _, c := range []struct {
		pkce                 string
		public, confidential bool // whether such a client may have it
	}{
		{"plain", false, false},
		{"none", false, false},
		{"S256", true, true},
		{"required", true, true},
		{"unsupported", false, true},
		{"unknown", false, true},
	} {
		if err := parsePKCE(c.pkce, "client_id: a", "none"); (err == nil) != c.public || err != nil && !strings.Contains(err.Error(), "pkce") {
			t.Errorf("a public client with pkce: %s: %v", c.pkce, err)
		}
		if err := parsePKCE(c.pkce, "client_id: a, client_secret: \"${env:A}\"", "client_secret_post"); (err == nil) != c.confidential {
			t.Errorf("a confidential client with pkce: %s: %v", c.pkce, err)
		}
	}
	// The verifier goes along exactly where the challenge did.
	for pkce, sends := range map[string]bool{"S256": true, "unknown": true, "unsupported": false} {
		w := newWorld(t)
		i, _ := w.Settings.Integration("redbooth")
		i.Entry.PKCE = pkce
		sent := &verifiers{}
		w.Home = w.Start(w.OverTransport(sent))
		w.Serve(w.HTTP(w.Home))
		session, link := w.Session("redbooth", "tenant")
		b := w.Browser()
		if challenge := b.Open(link).Location(t).Query().Get("code_challenge"); (challenge != "") != sends {
			t.Errorf("pkce %s: the challenge is %q", pkce, challenge)
		}
		home := w.Return(b, link, "alice")
		w.Confirm("all", session, home.Get("evergrant_confirm"), "tenant").Want(t, http.StatusOK, "")
		if len(sent.seen) != 1 || (len(sent.seen[0]) == 43) != sends {
			t.Errorf("pkce %s: %d exchanges, the verifiers are not as they should be", pkce, len(sent.seen))
		}
	}
}

// parsePKCE reads a configuration with a client of a provider that has this pkce.
func parsePKCE(pkce, client, method string) error {
	_, err := yamlfile.Parse([]byte(`integrations: {acme: {` + client + `, provider: {pkce: ` + pkce + `, token_endpoint_auth_method: ` + method +
		`, authorization_endpoint: "https://acme.example/authorize", token_endpoint: "https://acme.example/token"}}}`))
	return err
}

// verifiers notes the PKCE verifier of each code exchange, "" where none was sent.
type verifiers struct{ seen []string }

func (v *verifiers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if form, err := url.ParseQuery(string(body)); err == nil && form.Get("grant_type") == "authorization_code" {
			v.seen = append(v.seen, form.Get("code_verifier"))
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultTransport.RoundTrip(r)
}

var (
	_ = mutant("T15", "internal/refresh/consent.go", `return s.fail(ExchangeLost, "restart_connect")`, `return s.do(consentExchange, ConsentExchange)`)
	_ = mutant("T15", "internal/broker/complete.go", `b.Log.Info("connect", "integration", sess.Integration,`, `b.Log.Info("connect", "integration", sess.Integration, "code", code.Code.Reveal(),`)
)

func TestThreat_T15_a_code_is_sent_once_whatever_comes_back(t *testing.T) {
	for _, kind := range []string{"", "lost_answer", "reset_before", "status", "status_after", "malformed"} {
		for _, integration := range []string{"redbooth", "askfred"} {
			t.Run(kind+" "+integration, func(t *testing.T) {
				w := newWorld(t)
				if kind != "" {
					f := simprovider.Fault{On: "token", Kind: kind}
					if strings.HasPrefix(kind, "status") {
						f.Status = http.StatusBadGateway
					}
					w.Must(w.Sim.AddFault(integration, f))
				}
				session, link := w.Session(integration, "tenant")
				confirm := w.Return(w.Browser(), link, "alice").Get("evergrant_confirm")
				if confirm != "" {
					var group sync.WaitGroup
					for range 4 { // backends repeat their calls
						group.Go(func() { w.Confirm("all", session, confirm, "tenant") })
					}
					group.Wait()
					w.Confirm("all", session, confirm, "tenant")
				}
				w.Advance(2 * time.Minute)
				w.Home.TickNow()
				if n := w.Sim.Requests(integration)["authorization_code"]; n != 1 {
					t.Errorf("%d requests with the code", n)
				}
				w.CheckSecrets()
			})
		}
	}
}

var _ = mutant("T16", "internal/httpapi/query.go", `if _, twice := params[name]; twice {`, `if _, twice := params[name]; twice && limit == maxQuery {`)

func TestThreat_T16_a_parameter_that_is_repeated_is_refused(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("redbooth", "tenant")
	b := w.Browser()
	callback := w.ToCallback(b, link, "alice")
	for _, more := range []string{
		"&code=x", "&code=", "&c%6fde=x", "&state=x", "&stat%65=x", "&error=a&error=b", "&iss=a&iss=b", "&session=1&session=2",
		"&error_description=a&error_description=b", "&%00=a&%00=b", "&x=1&y=2&x=1",
	} {
		if g := b.Open(callback + more); g.Status != http.StatusBadRequest || g.Header.Get("Location") != "" {
			t.Errorf("%s: %d to %q", more, g.Status, g.Header.Get("Location"))
		}
		before, after, _ := strings.Cut(callback, "?")
		if g := b.Open(before + "?" + strings.TrimPrefix(more, "&") + "&" + after); g.Status != http.StatusBadRequest {
			t.Errorf("%s in front: %d", more, g.Status)
		}
	}
	// Nothing was spent by that, and what is not known is no matter.
	home := b.Open(callback+"&utm_source=x&session_state=y&Code=z&code%20=w").Want(t, http.StatusSeeOther, "").Location(t).Query()
	w.Confirm("all", session, home.Get("evergrant_confirm"), "tenant").Want(t, http.StatusOK, "")
}

var (
	_ = mutant("T17", "internal/broker/complete.go", `case r.Params["error"] != "":`, `case r.Params["error"] != "" && r.Params["code"] == "":`)
	_ = mutant("T17", "internal/broker/complete.go", `	state := r.Params["state"]
`, `	if r.Params["error"] != "" {
		return Browser{Status: http.StatusSeeOther, Location: withParams(i.ReturnTo[0], map[string]string{"evergrant_error": "provider_error"})}, nil
	}
	state := r.Params["state"]
`)
)

func TestThreat_T17_an_error_counts_after_a_valid_state_and_before_a_code(t *testing.T) {
	for _, integration := range []string{"redbooth", "askfred"} {
		w := newWorld(t)
		session, link := w.Session(integration, "tenant")
		b := w.Browser()
		callback := w.ToCallback(b, link, "alice")
		for _, query := range []string{
			"error=access_denied", "error=access_denied&error_description=x", "error=access_denied&state=", "error=access_denied&state=wrong",
			"error=access_denied&code=x&state=wrong", "error=", "",
		} {
			g := b.Open(w.Origin + "/callback/" + integration + "?" + query)
			if g.Status != http.StatusConflict || g.Header.Get("Location") != "" || !strings.Contains(g.Body, "<h1>Please start again</h1>") {
				t.Errorf("%q: %d to %q", query, g.Status, g.Header.Get("Location"))
			}
		}
		home := b.Open(callback+"&error=access_denied").Want(t, http.StatusSeeOther, "").Location(t).Query()
		if home.Get("evergrant_error") != "access_denied" || home.Has("evergrant_confirm") || home.Has("evergrant_connection") {
			t.Errorf("with both the application is told %v", home)
		}
		wantNothing(t, w, integration, session)
	}
}
