package httpapi_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/simprovider"
	"golang.org/x/oauth2"
)

// standIn makes a stand-in of the connection and returns what was told of it.
func (w *world) standIn(conn, body string) map[string]any {
	w.T.Helper()
	return w.Call("manage", "POST", "/v1/connections/"+conn+"/stand-ins", body).Want(w.T, 201, "").JSON(w.T)
}

// refreshBy sends the form to the token endpoint.
func (w *world) refreshBy(form url.Values, change ...func(*http.Request)) brokertest.Answer {
	w.T.Helper()
	r, err := http.NewRequestWithContext(w.T.Context(), "POST", w.Origin+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		w.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range change {
		f(r)
	}
	return w.Browser().Do(r)
}

func refreshForm(standIn any, more ...string) url.Values {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {fmt.Sprint(standIn)}}
	for n := 0; n < len(more); n += 2 {
		form.Add(more[n], more[n+1])
	}
	return form
}

func basic(user, pass string) func(*http.Request) {
	return authorized("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass)))
}

func TestAStandInGetsTheOneLiveToken(t *testing.T) {
	w := newWorld(t)
	conn := w.connect("freeagent", "alice")
	made := w.standIn(conn, `{"name":"rclone"}`)
	if made["token_endpoint"] != w.Origin+"/oauth/token" || made["client_id"] != nil || made["client_secret"] != nil {
		t.Errorf("made: %v", made)
	}
	stored := w.Call("token", "GET", "/v1/connections/"+conn+"/token", "").Want(t, 200, "").JSON(t)
	until, err := time.Parse(time.RFC3339, stored["use_until"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*http.Request){
		func(*http.Request) {}, basic("whatever", "it likes"), authorized("Basic !"), authorized("Bearer x"),
	} {
		g := w.refreshBy(refreshForm(made["stand_in"], "client_id", "any", "client_secret", "any", "unknown", "ignored", "scope", ""), change)
		m := g.Want(t, 200, "").JSON(t)
		if m["access_token"] != stored["access_token"] || m["token_type"] != stored["token_type"] || m["refresh_token"] != made["stand_in"] {
			t.Errorf("answer %v; stored is %v", m, stored)
		}
		if want := until.Sub(w.Now()).Seconds(); m["expires_in"] != want {
			t.Errorf("expires_in %v, want the time until use_until, %v", m["expires_in"], want)
		}
		if g.Header.Get("Pragma") != "no-cache" || g.Header.Get("Content-Type") != "application/json" {
			t.Errorf("header: %v", g.Header)
		}
	}
	listed := w.Call("manage", "GET", "/v1/connections/"+conn+"/stand-ins", "").Want(t, 200, `"name":"rclone"`)
	if strings.Contains(listed.Body, made["stand_in"].(string)) || !strings.Contains(listed.Body, made["id"].(string)) || !strings.Contains(listed.Body, `"created_by":"manage"`) {
		t.Errorf("listed: %s", listed.Body)
	}
	if strings.Contains(w.Log.String(), made["stand_in"].(string)) {
		t.Error("the log holds a stand-in")
	}
}

// The refusals are those of RFC 6749 section 5.2, in its form.
func TestTokenEndpointRefusesInOAuthsWords(t *testing.T) {
	w := newWorld(t)
	standIn := w.standIn(w.connect("freeagent", "alice"), `{"name":"x"}`)["stand_in"].(string)
	twice := refreshForm(standIn)
	twice.Add("scope", "a")
	twice.Add("scope", "b")
	for _, c := range []struct {
		form   url.Values
		change func(*http.Request)
		code   string
	}{
		{url.Values{}, nil, "invalid_request"},
		{url.Values{"grant_type": {""}, "refresh_token": {standIn}}, nil, "invalid_request"},
		{url.Values{"grant_type": {"refresh_token"}}, nil, "invalid_request"},
		{twice, nil, "invalid_request"},
		{refreshForm(standIn), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, "invalid_request"},
		{refreshForm(standIn), func(r *http.Request) { r.URL.RawQuery = "client_id=x" }, "invalid_request"},
		{refreshForm(standIn, "x", strings.Repeat("x", 70<<10)), nil, "invalid_request"},
		{url.Values{"grant_type": {"authorization_code"}, "code": {"x"}}, nil, "unsupported_grant_type"},
		{url.Values{"grant_type": {"password"}}, basic("x", "y"), "unsupported_grant_type"},
		{refreshForm("evgst_unknown"), nil, "invalid_grant"},
		{refreshForm(w.Key("all")), nil, "invalid_grant"},
		{refreshForm(standIn, "scope", "more than was granted"), nil, "invalid_scope"},
	} {
		if c.change == nil {
			c.change = func(*http.Request) {}
		}
		g := w.refreshBy(c.form, c.change).Want(t, 400, "")
		m := g.JSON(t)
		if m["error"] != c.code || m["error_description"] == "" || len(m) != 2 || g.Header.Get("Pragma") != "no-cache" || g.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%.80v: %s, want %s", c.form, g.Body, c.code)
		}
	}
	serve(t, httpapi.New(w.cfg), "GET", "/oauth/token?refresh_token="+standIn, nil).Want(t, 405, "method_not_allowed")
}

func TestAStandInMadeWithAClientWantsIt(t *testing.T) {
	w := newWorld(t)
	made := w.standIn(w.connect("freeagent", "alice"), `{"name":"n8n","with_client":true}`)
	form, id, key := refreshForm(made["stand_in"]), made["client_id"].(string), made["client_secret"].(string)
	w.refreshBy(form, basic(id, key)).Want(t, 200, "access_token")
	w.refreshBy(refreshForm(made["stand_in"], "client_id", id, "client_secret", key)).Want(t, 200, "access_token")
	for _, g := range []brokertest.Answer{w.refreshBy(form, basic(id, "wrong")), w.refreshBy(form, basic("wrong", key)), w.refreshBy(form, basic("", ""))} {
		if g.Want(t, 401, `"error":"invalid_client"`); !strings.HasPrefix(g.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("WWW-Authenticate is %q", g.Header.Get("WWW-Authenticate"))
		}
	}
	// A client that did not use the header is not challenged to.
	for _, g := range []brokertest.Answer{
		w.refreshBy(form), w.refreshBy(refreshForm(made["stand_in"], "client_id", id)), w.refreshBy(refreshForm(made["stand_in"], "client_id", id, "client_secret", "")),
	} {
		if g.Want(t, 400, `"error":"invalid_client"`); g.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("WWW-Authenticate is %q", g.Header.Get("WWW-Authenticate"))
		}
	}
}

func TestAStandInEndsWithItsConnection(t *testing.T) {
	w := newWorld(t)
	conn := w.connect("freeagent", "alice")
	path := "/v1/connections/" + conn
	one, other := w.standIn(conn, `{"name":"one"}`), w.standIn(conn, `{"name":"other"}`)
	w.refreshBy(refreshForm(one["stand_in"])).Want(t, 200, "")

	// Revoked, it is over by itself; another connection cannot revoke it.
	elsewhere := w.connect("redbooth", "alice")
	w.Call("manage", "DELETE", "/v1/connections/"+elsewhere+"/stand-ins/"+one["id"].(string), "").Want(t, 404, "")
	w.Call("manage", "DELETE", path+"/stand-ins/"+one["id"].(string), "").Want(t, 204, "")
	w.Call("manage", "DELETE", path+"/stand-ins/"+one["id"].(string), "").Want(t, 404, "")
	w.refreshBy(refreshForm(one["stand_in"])).Want(t, 400, `"error":"invalid_grant"`)
	w.refreshBy(refreshForm(other["stand_in"])).Want(t, 200, "")

	// While the user has to consent again it says so; after that the same one works.
	w.Sim.RevokeUser("freeagent", "alice")
	w.Call("all", "POST", path+"/refresh", `{"if_generation":1}`).Want(t, 409, "needs_reauth")
	w.refreshBy(refreshForm(other["stand_in"])).Want(t, 400, "(needs_reauth: revoked)").Want(t, 400, `"error":"invalid_grant"`)
	w.reconnect("freeagent", "alice", conn)
	w.refreshBy(refreshForm(other["stand_in"])).Want(t, 200, "")

	// A disconnect ends it for good, even where the connection comes back to life.
	w.Call("all", "DELETE", path, "").Want(t, 200, "")
	w.refreshBy(refreshForm(other["stand_in"])).Want(t, 400, `"error":"invalid_grant"`)
	w.Call("manage", "POST", path+"/stand-ins", `{"name":"late"}`).Want(t, 410, "disconnected")
	w.reconnect("freeagent", "alice", conn)
	w.refreshBy(refreshForm(other["stand_in"])).Want(t, 400, `"error":"invalid_grant"`)
	w.Call("manage", "GET", path+"/stand-ins", "").Want(t, 200, `"items":[]`)
}

// reconnect takes the owner through the provider once more, for the same connection.
func (w *world) reconnect(integration, owner, conn string) {
	w.T.Helper()
	body := `{"integration":"` + integration + `","owner":"` + owner + `","connection_id":"` + conn + `","return_to":"http://127.0.0.1:9/back"}`
	m := w.Call("all", "POST", "/v1/connect-sessions", body).Want(w.T, 201, "").JSON(w.T)
	confirm := w.Return(w.Browser(), m["authorize_url"].(string), "").Get("evergrant_confirm")
	w.Confirm("all", m["id"].(string), confirm, owner).Want(w.T, 200, conn)
}

// A disconnect ends stand-ins by the connection's own item, whatever becomes of their
// rows: here they were put back, as by a restore of a backup.
func TestADisconnectFencesStandIns(t *testing.T) {
	w := newWorld(t)
	conn := w.connect("freeagent", "alice")
	made := w.standIn(conn, `{"name":"x"}`)
	st, err := w.Store.StandIn(t.Context(), made["id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	w.Call("all", "DELETE", "/v1/connections/"+conn, "").Want(t, 200, "")
	w.reconnect("freeagent", "alice", conn)
	if err := w.Store.PutStandIn(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	w.refreshBy(refreshForm(made["stand_in"])).Want(t, 400, `"error":"invalid_grant"`)
}

// Who can write the table, and has no data key, cannot make a stand-in: neither one of
// their own nor, of another one, one for a connection of their choice.
func TestAForgedRowIsNoStandIn(t *testing.T) {
	w := newWorld(t)
	conn, other := w.connect("freeagent", "alice"), w.connect("redbooth", "alice")
	made := w.standIn(conn, `{"name":"x","with_client":true}`)
	st, err := w.Store.StandIn(t.Context(), made["id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string, st connection.StandIn) {
		st.ID = connection.StandInID(text)
		if err := w.Store.PutStandIn(t.Context(), st); err != nil {
			t.Fatal(err)
		}
	}
	put("evgst_forged", connection.StandIn{Connection: other})
	w.refreshBy(refreshForm("evgst_forged")).Want(t, 500, "server_error")
	copied := st
	put("evgst_copied", copied)
	w.refreshBy(refreshForm("evgst_copied", "client_id", connection.StandInID("evgst_copied"), "client_secret", made["client_secret"].(string))).Want(t, 500, "server_error")
	if _, err := w.Store.DropStandIn(t.Context(), conn, st.ID); err != nil {
		t.Fatal(err)
	}
	st.Client = "" // nobody need show the secret any more
	put(made["stand_in"].(string), st)
	w.refreshBy(refreshForm(made["stand_in"])).Want(t, 400, "invalid_grant")
}

func TestAnAwayProviderIsNoEndOfAStandIn(t *testing.T) {
	w := newWorld(t)
	conn := w.connect("freeagent", "alice")
	form := refreshForm(w.standIn(conn, `{"name":"x"}`)["stand_in"])
	w.Advance(8 * 24 * time.Hour)
	if err := w.Sim.AddFault("freeagent", simprovider.Fault{On: "token", Kind: "status", Status: 503, Count: -1}); err != nil {
		t.Fatal(err)
	}
	if g := w.refreshBy(form).Want(t, 503, `"error":"temporarily_unavailable"`); g.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	if err := w.Sim.ClearFaults("freeagent"); err != nil {
		t.Fatal(err)
	}
	w.Advance(time.Hour)
	w.refreshBy(form).Want(t, 200, "access_token")
}

func TestStandInsAreTheirManagersBusiness(t *testing.T) {
	w := newWorld(t)
	conn := w.connect("freeagent", "alice")
	id := w.standIn(conn, `{"name":"x"}`)["id"].(string)
	path := "/v1/connections/" + conn + "/stand-ins"
	for key, status := range map[string]int{"": 401, "token": 403, "connect": 403, "foreign": 404, "stranger": 404} {
		w.Call(key, "POST", path, `{"name":"x"}`).Want(t, status, "")
		w.Call(key, "GET", path, "").Want(t, status, "")
		w.Call(key, "DELETE", path+"/"+id, "").Want(t, status, "")
	}
	for _, name := range []string{"", strings.Repeat("x", 65), `a\nb`} {
		w.Call("manage", "POST", path, `{"name":"`+name+`"}`).Want(t, 400, "name must be")
	}
	for range 49 {
		w.standIn(conn, `{"name":"x"}`)
	}
	w.Call("manage", "POST", path, `{"name":"x"}`).Want(t, 400, "50 stand-ins at most")
}

// Guesses are limited by their source, and who has a stand-in is served all the same.
func TestGuessesAtStandInsAreLimited(t *testing.T) {
	w := newWorld(t)
	form := refreshForm(w.standIn(w.connect("freeagent", "alice"), `{"name":"x"}`)["stand_in"])
	for range 60 {
		w.refreshBy(refreshForm("evgst_guess")).Want(t, 400, "")
	}
	if g := w.refreshBy(refreshForm("evgst_guess")).Want(t, 429, "temporarily_unavailable"); g.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	w.refreshBy(form).Want(t, 200, "")
}

// Many programs that know golang.org/x/oauth2 and nothing of Evergrant refresh at once:
// the provider sees one refresh, and they all have the one token.
func TestXOAuth2ByManyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.Serve(w.HTTP(w.Start(func(c *broker.Config) { c.Pause = nil }))) // a refresh takes real time here
	made := w.standIn(w.connect("freeagent", "alice"), `{"name":"x/oauth2"}`)
	w.Advance(8 * 24 * time.Hour) // what is stored has expired
	before := w.Sim.Requests("freeagent")["refresh_token"]
	const programs = 100
	tokens := make([]*oauth2.Token, programs)
	errs := make([]error, programs)
	var group sync.WaitGroup
	for n := range programs {
		group.Go(func() {
			c := oauth2.Config{ClientID: "any", ClientSecret: "thing", Endpoint: oauth2.Endpoint{TokenURL: made["token_endpoint"].(string)}}
			tokens[n], errs[n] = c.TokenSource(context.WithoutCancel(t.Context()), &oauth2.Token{RefreshToken: made["stand_in"].(string)}).Token()
		})
	}
	group.Wait()
	for n, got := range tokens {
		if errs[n] != nil {
			t.Fatal(errs[n])
		}
		if got.AccessToken != tokens[0].AccessToken || got.RefreshToken != made["stand_in"] || got.Expiry.IsZero() {
			t.Errorf("program %d has another token", n)
		}
	}
	if sent := w.Sim.Requests("freeagent")["refresh_token"] - before; sent != 1 {
		t.Errorf("%d refreshes at the provider, want 1", sent)
	}
}
