package threats_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

var _ = mutant("T01", "internal/broker/complete.go", `if st.Integration != i.Name || !b.sameBrowser(st, r.Cookies, secure) {`, `if st.Integration != i.Name {`)

func TestThreat_T01_a_callback_in_another_browser_is_refused_and_spent(t *testing.T) {
	for _, integration := range []string{"redbooth", "askfred"} {
		t.Run(integration, func(t *testing.T) {
			w := newWorld(t)
			session, link := w.Session(integration, "mallory")
			attacker, victim := w.Browser(), w.Browser()
			callback := w.ToCallback(attacker, link, "alice")
			_, other := w.Session(integration, "victim")
			w.ToCallback(victim, other, "bob") // the victim has a cookie, of another flow
			victim.Open(callback).Want(t, http.StatusConflict, "")
			attacker.Open(callback).Want(t, http.StatusConflict, "")
			if n := w.Sim.Requests(integration)["authorization_code"]; n != 0 {
				t.Errorf("%d codes were exchanged", n)
			}
			if s := w.Call("all", "GET", "/v1/connect-sessions/"+session, "").JSON(t); s["connection_id"] != nil {
				t.Errorf("the session is %v", s["status"])
			}
			w.CheckSecrets()
		})
	}
}

var _ = mutant("T09", "internal/connection/session.go", `res, err := s.Authorizations.Delete(ctx, hash, item.Eq("kind", "state"), item.Gt("expires_at", now))`, `found, err := s.Authorizations.Get(ctx, hash)
	res := item.Result{Applied: found != nil, Item: found}`)

func TestThreat_T09_a_state_works_once(t *testing.T) {
	for _, integration := range []string{"redbooth", "askfred"} {
		t.Run(integration, func(t *testing.T) {
			w := newWorld(t)
			_, link := w.Session(integration, "tenant")
			b := w.Browser()
			callback := w.ToCallback(b, link, "alice")
			address, err := url.Parse(callback)
			w.Must(err)
			cookies := b.Client.Jar.Cookies(address) // held on to, whatever the answers say
			again := func() int {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, callback, nil)
				w.Must(err)
				for _, c := range cookies {
					r.AddCookie(c)
				}
				return w.Browser().Do(r).Status
			}
			statuses := make([]int, 8)
			var group sync.WaitGroup
			for n := range statuses {
				group.Go(func() { statuses[n] = again() })
			}
			group.Wait()
			slices.Sort(statuses)
			if statuses[0] != http.StatusSeeOther || statuses[1] != http.StatusConflict || statuses[7] != http.StatusConflict {
				t.Errorf("at once: %v", statuses)
			}
			if s := again(); s != http.StatusConflict {
				t.Errorf("later: %d", s)
			}
			if n := w.Sim.Requests(integration)["authorization_code"]; n > 1 {
				t.Errorf("%d codes were sent", n)
			}
			w.CheckSecrets()
		})
	}
}

var _ = mutant("T06", "internal/broker/complete.go", `subtle.ConstantTimeCompare([]byte(connection.Hash(c.Value)), []byte(st.Cookie)) == 1 {`, `subtle.ConstantTimeCompare([]byte(st.Cookie), []byte(st.Cookie)) == 1 {`)

func TestThreat_T06_an_opening_made_elsewhere_does_not_end_in_this_browser(t *testing.T) {
	for _, integration := range []string{"redbooth", "askfred"} {
		t.Run(integration, func(t *testing.T) {
			w := newWorld(t)
			session, link := w.Session(integration, "mallory")
			attacker, victim := w.Browser(), w.Browser()
			page := attacker.Open(link).Location(t)
			own := victim.Open(link).Location(t)
			for _, name := range []string{"state", "code_challenge"} {
				if v := page.Query().Get(name); v == "" || v == own.Query().Get(name) {
					t.Errorf("two openings have the %s %q", name, v)
				}
			}
			// The victim consents on the page that the attacker opened, and even has a cookie
			// of the right name.
			callback := victim.Decide(page.String(), "allow", "bob")
			name, _ := cookieOf(t, attacker, callback)
			_, value := cookieOf(t, victim, callback)
			victim.Client.Jar.SetCookies(callback, []*http.Cookie{{Name: name, Value: value}})
			victim.Open(callback.String()).Want(t, http.StatusConflict, "restart_connect")
			attacker.Open(callback.String()).Want(t, http.StatusConflict, "restart_connect")
			wantNothing(t, w, integration, session)
		})
	}
}

// cookieOf is the one cookie that a browser would send to an address.
func cookieOf(t *testing.T, b *brokertest.Browser, address *url.URL) (name, value string) {
	t.Helper()
	cookies := b.Client.Jar.Cookies(address)
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0].Name, cookies[0].Value
}

// wantNothing fails where a code was exchanged, or a session came to a connection.
func wantNothing(t *testing.T, w *brokertest.World, integration string, sessions ...string) {
	t.Helper()
	if n := w.Sim.Requests(integration)["authorization_code"]; n != 0 {
		t.Errorf("%d codes were exchanged", n)
	}
	for _, id := range sessions {
		if s := w.Call("all", "GET", "/v1/connect-sessions/"+id, "").Want(t, http.StatusOK, "").JSON(t); s["connection_id"] != nil {
			t.Errorf("the session is %v", s)
		}
	}
	w.CheckSecrets()
}

var (
	_ = mutant("T07", "internal/broker/begin.go", `return cookiePrefix + stateHash[:8]`, `return cookiePrefixDev + stateHash[:8]`)
	_ = mutant("T07", "internal/httpapi/browser.go", `HttpOnly: true, `, ``)
	_ = mutant("T07", "internal/httpapi/browser.go", `Secure: secure, `, ``)
)

func TestThreat_T07_a_cookie_of_a_sibling_domain_counts_for_nothing(t *testing.T) {
	w := newWorld(t)
	underHTTPS(t, w)
	_, link := w.Session("redbooth", "tenant")
	b := w.Browser()
	set := b.Open(link).Want(t, http.StatusFound, "").Header.Values("Set-Cookie")
	if len(set) != 1 {
		t.Fatalf("cookies: %q", set)
	}
	pair, attributes, _ := strings.Cut(set[0], "; ")
	name, value, _ := strings.Cut(pair, "=")
	if ok, _ := regexp.MatchString(`^__Host-evg-[0-9a-f]{8}$`, name); !ok || len(value) < 22 {
		t.Errorf("the cookie is %s with %d characters", name, len(value))
	}
	if attributes != "Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("attributes: %s", attributes)
	}
	// A sibling domain can set the name without the prefix, and the value may have leaked.
	callback, tossed := w.ToCallback(b, link, "alice"), w.Browser()
	address, err := url.Parse(callback)
	w.Must(err)
	for _, c := range b.Client.Jar.Cookies(address) {
		c.Name = strings.Replace(c.Name, "__Host-evg-", "evg-dev-", 1)
		tossed.Client.Jar.SetCookies(address, []*http.Cookie{c})
	}
	tossed.Open(callback).Want(t, http.StatusConflict, "restart_connect")
	// With the cookie itself it works.
	b.Open(w.ToCallback(b, link, "alice")).Want(t, http.StatusSeeOther, "")
}

// public is where underHTTPS puts a world.
const public = "https://auth.example.com"

// underHTTPS gives the world a public address under https, as behind a proxy that ends TLS.
func underHTTPS(t *testing.T, w *brokertest.World) {
	t.Helper()
	w.Settings.PublicURL = public
	for n := range w.Settings.Integrations {
		w.Must(brokertest.Simulate(w.Sim, &w.Settings.Integrations[n], public))
	}
	w.Transport = proxied{w}
	w.Restart()
}

// proxied carries requests to the public address to the world's.
type proxied struct{ w *brokertest.World }

func (p proxied) RoundTrip(r *http.Request) (*http.Response, error) {
	if rest, ours := strings.CutPrefix(r.URL.String(), public); ours {
		inner, err := url.Parse(p.w.Origin + rest)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.URL = inner
	}
	return http.DefaultTransport.RoundTrip(r)
}

var (
	_ = mutant("T08", "internal/broker/begin.go", `return cookiePrefixDev + stateHash[:8]`, `return cookiePrefixDev + "00000000"`)
	_ = mutant("T08", "internal/broker/begin.go", `maxCookies     = 4`, `maxCookies     = 400`)
)

func TestThreat_T08_flows_in_one_browser_leave_each_other_alone(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		w := newWorld(t)
		b := w.Browser()
		var callbacks []string
		for _, integration := range []string{"redbooth", "freeagent"} {
			_, link := w.Session(integration, "tenant")
			callbacks = append(callbacks, w.ToCallback(b, link, "alice"))
		}
		for _, n := range order {
			b.Open(callbacks[n]).Want(t, http.StatusSeeOther, "")
		}
	}
	w := newWorld(t)
	b, first := w.Browser(), ""
	origin, err := url.Parse(w.Origin)
	w.Must(err)
	_, link := w.Session("redbooth", "tenant")
	for n := range 9 {
		callback := w.ToCallback(b, link, "alice")
		if n == 0 {
			first = callback
		}
		if kept := len(b.Client.Jar.Cookies(origin)); kept != min(n+1, 4) {
			t.Errorf("after %d openings the browser keeps %d cookies", n+1, kept)
		}
		if n == 8 {
			b.Open(callback).Want(t, http.StatusSeeOther, "")
		}
	}
	b.Open(first).Want(t, http.StatusConflict, "restart_connect") // the oldest one went
}

var _ = mutant("T10", "internal/connection/session.go", `item.Eq("kind", "state"), item.Gt("expires_at", now))`, `item.Eq("kind", "state"))`)

func TestThreat_T10_an_old_state_is_refused_though_its_row_is_there(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		w := brokertest.New(t, brokertest.Options{Integrations: integrations, Store: store})
		body := `{"integration":"redbooth","owner":"tenant","return_to":"` + brokertest.ReturnTo + `","expires_in_s":3600}`
		made := w.Call("all", "POST", "/v1/connect-sessions", body).Want(t, http.StatusCreated, "").JSON(t)
		session, link := made["id"].(string), made["authorize_url"].(string)
		b := w.Browser()
		late, good := w.ToCallback(b, link, "alice"), w.ToCallback(b, link, "alice")
		w.Advance(15*time.Minute - time.Second)
		b.Open(good).Want(t, http.StatusSeeOther, "")
		w.Advance(time.Second)
		address, err := url.Parse(late)
		w.Must(err)
		if w.Items()[connection.Hash(address.Query().Get("state"))] == nil {
			t.Fatal("the row was deleted: the test shows nothing")
		}
		b.Open(late).Want(t, http.StatusConflict, "restart_connect")
		wantNothing(t, w, "redbooth", session)
	})
}

var (
	_ = mutant("T26", "internal/broker/begin.go", `	if r.Head {
`, `	if r.Head && r.Session == "" {
`)
	_ = mutant("T26", "internal/broker/begin.go", `case sess.Integration != i.Name, sess.Expired(now):`, `case sess.Integration != i.Name, sess.Expired(now), sess.State != connection.SessionOpen:`)
)

func TestThreat_T26_who_only_looks_at_a_link_uses_nothing_up(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("redbooth", "tenant")
	before := len(w.Items())
	scanner := w.Browser()
	r := w.Request("", http.MethodHead, strings.TrimPrefix(link, w.Origin), "")
	g := scanner.Do(r).Want(t, http.StatusOK, "")
	if g.Header.Get("Set-Cookie") != "" || g.Header.Get("Location") != "" || len(w.Items()) != before {
		t.Error("HEAD makes something")
	}
	for range 3 {
		scanner.Open(link).Want(t, http.StatusFound, "")
	}
	b := w.Browser()
	callback := w.ToCallback(b, link, "alice")
	head := w.Request("", http.MethodHead, strings.TrimPrefix(callback, w.Origin), "")
	if g := b.Do(head); g.Status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of the callback: %d", g.Status)
	}
	confirm := b.Open(callback).Want(t, http.StatusSeeOther, "").Location(t).Query().Get("evergrant_confirm")
	w.Browser().Open(link).Want(t, http.StatusFound, "") // while it awaits its confirmation
	w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusOK, "")
}
