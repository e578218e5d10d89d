package threats_test

import (
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
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
