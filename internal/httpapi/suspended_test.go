package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

// Nobody is sent to a provider that refuses the application: neither by a new session
// nor by a link that was made before. Once the provider takes it again, both work.
func TestASuspendedIntegrationSendsNobodyAway(t *testing.T) {
	w := newWorld(t)
	w.connect("freeagent", "alice")
	session, link := w.Session("freeagent", "bob")
	_, unused := w.Session("freeagent", "bob")
	confirm := w.Return(w.Browser(), link, "").Get("evergrant_confirm")
	w.Must(w.Sim.AddFault("freeagent", simprovider.Fault{On: "token", Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`, Count: -1}))
	w.Confirm("all", session, confirm, "bob").Want(t, 503, "integration_suspended")

	refused := w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"freeagent","owner":"bob"}`).Want(t, 503, "integration_suspended")
	if refused.Header.Get("Retry-After") == "" {
		t.Error("no word of when to ask again")
	}
	page := w.Browser().Open(unused).Want(t, 503, "cannot be connected now")
	if page.Header.Get("Location") != "" || page.Header.Get("Set-Cookie") != "" {
		t.Error("the browser is sent on, or keeps a cookie")
	}
	w.Session("redbooth", "bob") // another integration is another matter

	w.Must(w.Sim.ClearFaults("freeagent"))
	w.Advance(2 * time.Minute)
	_, err := w.Home.Tick(t.Context(), w.Minute()) // its probe closes the circuit
	w.Must(err)
	w.Browser().Open(unused).Want(t, 302, "")
	w.Session("freeagent", "bob")
}

// Where there is no connection yet, a connect is the probe.
func TestASuspendedIntegrationHealsByAConnect(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("freeagent", "alice")
	confirm := w.Return(w.Browser(), link, "").Get("evergrant_confirm")
	w.Must(w.Sim.AddFault("freeagent", simprovider.Fault{On: "token", Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`}))
	w.Confirm("all", session, confirm, "alice").Want(t, 503, "integration_suspended")
	w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"freeagent","owner":"alice"}`).Want(t, 503, "integration_suspended")
	w.Advance(2 * time.Minute)
	_, err := w.Home.Tick(t.Context(), w.Minute()) // finds nothing to probe with
	w.Must(err)
	w.connect("freeagent", "alice")
	w.Call("all", "GET", "/v1/integrations", "").Want(t, 200, `"name":"freeagent"`)
	w.Session("freeagent", "bob")
}

// A provider that is away when the code is to be exchanged: the code is spent, and every
// answer says so alike, the repeated call and the session too.
func TestACodeThatTheProviderHadNoTimeFor(t *testing.T) {
	w := newWorld(t)
	for name, fault := range map[string]simprovider.Fault{
		"busy": {On: "token", Kind: "status", Status: 503}, "lost": {On: "token", Kind: "lost_answer"}, "many": {On: "token", Kind: "status", Status: 429},
	} {
		session, link := w.Session("freeagent", "alice")
		confirm := w.Return(w.Browser(), link, "").Get("evergrant_confirm")
		if err := w.Sim.AddFault("freeagent", fault); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for range 2 {
			m := w.Confirm("all", session, confirm, "alice").Want(t, 409, `"code":"restart_connect"`).JSON(t)
			if m["authorize_url"] != link {
				t.Errorf("%s: no way to start again: %v", name, m)
			}
		}
		w.Call("all", "GET", "/v1/connect-sessions/"+session, "").Want(t, 200, `"error":"restart_connect"`)
		if confirm = w.Return(w.Browser(), link, "").Get("evergrant_confirm"); confirm == "" {
			t.Fatalf("%s: the link cannot be opened again", name)
		}
		w.Confirm("all", session, confirm, "alice").Want(t, 200, "")
	}
}

// A repeated parameter is refused before anything is looked at: nobody can say which of
// two states was meant, and the real answer still works.
func TestAPollutedCallbackSpendsNothing(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("freeagent", "alice")
	b := w.Browser()
	callback := w.ToCallback(b, link, "")
	for _, more := range []string{"&state=x", "&code=x", "&error=access_denied&error=x", "&x=1&x=2", "&st%61te=x"} {
		page := b.Open(callback+more).Want(t, 400, "occurs twice")
		if page.Header.Get("Location") != "" {
			t.Errorf("%s: the browser is sent on", more)
		}
	}
	home := b.Open(callback + "&unknown=1").Location(t)
	w.Confirm("all", session, home.Query().Get("evergrant_confirm"), "alice").Want(t, 200, "")
}
