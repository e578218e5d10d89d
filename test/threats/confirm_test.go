package threats_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
)

var (
	_ = mutant("T02", "internal/broker/complete.go", `case !c.MayOwner(owner), sess.Owner != "" && sess.Owner != owner:`, `case !c.MayOwner(owner):`)
	_ = mutant("T02", "internal/broker/complete.go", `if i.Binding == config.BindingCookie {`, `if i.Binding != "" {`)
)

func TestThreat_T02_a_forwarded_link_connects_nothing_to_who_sent_it(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("redbooth", "mallory")
	victim := w.Browser()
	home := w.Return(victim, link, "bob")
	if n := w.Sim.Requests("redbooth")["authorization_code"]; n != 0 {
		t.Fatalf("%d codes were exchanged before anybody confirmed", n)
	}
	// The application knows who is in front of it: the victim. That word spends the token.
	w.Confirm("all", session, home.Get("evergrant_confirm"), "victim").Want(t, http.StatusForbidden, "forbidden")
	// Mallory never saw the token; were it shown to Mallory, it would be too late.
	w.Confirm("all", session, home.Get("evergrant_confirm"), "mallory").Want(t, http.StatusConflict, "restart_connect")
	if n := w.Sim.Requests("redbooth")["authorization_code"]; n != 0 {
		t.Errorf("%d codes were exchanged", n)
	}
	if s := w.Call("all", "GET", "/v1/connect-sessions/"+session, "").JSON(t); s["connection_id"] != nil {
		t.Errorf("the session is %v", s)
	}
	// Who made the link can use it still.
	home = w.Return(w.Browser(), link, "alice")
	w.Confirm("all", session, home.Get("evergrant_confirm"), "mallory").Want(t, http.StatusOK, `"owner":"mallory"`)
	w.CheckSecrets()
}

var (
	_ = mutant("T03", "internal/config/warnings.go", `if i.Binding == BindingCookie {`, `if i.Binding == "" {`)
	_ = mutant("T03", "internal/config/read.go", `Binding: BindingConfirm, Connect`, `Binding: BindingCookie, Connect`)
)

func TestThreat_T03_cookie_mode_is_asked_for_by_name_and_warned_of(t *testing.T) {
	const warning = "integration loose: binding: cookie does not stop a forwarded link."
	c, err := yamlfile.Parse([]byte(`
integrations:
  usual: {provider: redbooth, client_id: app, client_secret: "${env:SECRET}"}
  loose: {provider: redbooth, client_id: app, client_secret: "${env:SECRET}", binding: cookie}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range c.Integrations {
		if want := map[string]config.Binding{"usual": config.BindingConfirm, "loose": config.BindingCookie}[i.Name]; i.Binding != want {
			t.Errorf("%s has binding %q", i.Name, i.Binding)
		}
	}
	text := strings.Join(c.Warnings(), "\n")
	if !strings.Contains(text, warning) || strings.Count(text, "forwarded link") != 1 {
		t.Errorf("the operator is warned:\n%s", text)
	}
}

var (
	_ = mutant("T04", "internal/connection/session.go", `item.Eq("kind", "code"), item.Eq("session", session), item.Gt("expires_at", now))`, `item.Eq("kind", "code"), item.Gt("expires_at", now))`)
	_ = mutant("T04", "internal/connection/session.go", `item.Eq("kind", "code"), item.Eq("session", session), item.Gt("expires_at", now))`, `item.Eq("kind", "code"), item.Eq("session", session))`)
	_ = mutant("T04", "internal/broker/complete.go", `case sess.State == connection.SessionConnected && now < sess.Take.Until-takeTime+repeatTime:`, `case sess.State == connection.SessionConnected:`)
	_ = mutant("T04", "internal/broker/complete.go", `[]byte(hash)) == 1 && sess.Take.Owner == owner {`, `[]byte(hash)) >= 0 && sess.Take.Owner == owner {`)
	_ = mutant("T04", "internal/broker/complete.go", `min(e.AuthorizationCodeTTL, repeatTime)`, `e.AuthorizationCodeTTL`)
)

func TestThreat_T04_a_confirm_token_works_once_in_its_session_for_its_owner_in_time(t *testing.T) {
	exchanges := func(w *brokertest.World) int { return w.Sim.Requests("redbooth")["authorization_code"] }
	t.Run("twice", func(t *testing.T) {
		w := newWorld(t)
		session, link := w.Session("redbooth", "tenant")
		confirm := w.Return(w.Browser(), link, "alice").Get("evergrant_confirm")
		if len(confirm) < 22 {
			t.Errorf("the token has %d characters, too few for 128 bits", len(confirm))
		}
		id := w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusOK, "").JSON(t)["id"]
		w.Advance(9 * time.Minute)
		if again := w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusOK, "").JSON(t)["id"]; again != id {
			t.Errorf("the same call gives %v, then %v", id, again)
		}
		w.Confirm("all", session, confirm+"x", "tenant").Want(t, http.StatusConflict, "restart_connect")
		w.Confirm("all", session, confirm, "x-other").Want(t, http.StatusConflict, "restart_connect")
		w.Confirm("connect", session, confirm, "tenant").Want(t, http.StatusNotFound, "") // another key
		w.Advance(time.Minute)
		w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusConflict, "restart_connect")
		if n := exchanges(w); n != 1 {
			t.Errorf("%d exchanges", n)
		}
		w.CheckSecrets() // neither table holds the token itself
	})
	t.Run("in another session", func(t *testing.T) {
		w := newWorld(t)
		session, link := w.Session("redbooth", "tenant")
		other, otherLink := w.Session("redbooth", "tenant")
		confirm := w.Return(w.Browser(), link, "alice").Get("evergrant_confirm")
		w.Return(w.Browser(), otherLink, "bob")
		w.Confirm("all", other, confirm, "tenant").Want(t, http.StatusConflict, "restart_connect")
		w.Confirm("connect", session, confirm, "tenant").Want(t, http.StatusNotFound, "") // another key
		if n := exchanges(w); n != 0 {
			t.Errorf("%d exchanges", n)
		}
	})
	t.Run("late", func(t *testing.T) {
		for codes, life := range map[int64]time.Duration{0: time.Minute, 300: 5 * time.Minute, 3600: 10 * time.Minute} {
			w := newWorld(t)
			i, _ := w.Settings.Integration("redbooth")
			i.Entry.AuthorizationCodeTTL = codes
			w.Restart()
			_, link := w.Session("redbooth", "tenant")
			session, late := w.Session("redbooth", "tenant")
			w.Return(w.Browser(), link, "alice")
			confirm := w.Return(w.Browser(), late, "alice").Get("evergrant_confirm")
			w.Advance(life)
			w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusConflict, "restart_connect")
			if n := exchanges(w); n != 0 {
				t.Errorf("%d exchanges", n)
			}
		}
	})
}

var (
	_ = mutant("T05", "internal/httpapi/face.go", `	header.Set("Referrer-Policy", "no-referrer")
`, ``)
	_ = mutant("T05", "internal/broker/begin.go", `(!sess.Public && sess.Key != c.Name)`, `false`)
)

func TestThreat_T05_a_leaked_confirm_token_is_useless_without_the_key_of_its_session(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("redbooth", "tenant")
	browser := w.Browser()
	g := browser.Open(w.ToCallback(browser, link, "alice")).Want(t, http.StatusSeeOther, "")
	if p := g.Header.Get("Referrer-Policy"); p != "no-referrer" {
		t.Errorf("Referrer-Policy is %q", p)
	}
	confirm := g.Location(t).Query().Get("evergrant_confirm")
	w.Confirm("", session, confirm, "tenant").Want(t, http.StatusUnauthorized, "")
	w.Confirm("token", session, confirm, "tenant").Want(t, http.StatusForbidden, "")
	w.Confirm("connect", session, confirm, "tenant").Want(t, http.StatusNotFound, "")
	w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusOK, "")
}
