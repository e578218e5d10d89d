package providers

import (
	"encoding/json"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

// TestAnotherProviderIsNoticed changes one fact in the simulator's copy of each entry: the
// suite must fail. Each change has a stage of its own, since what an earlier one left
// behind, such as an open circuit, would fail it too.
func TestAnotherProviderIsNoticed(t *testing.T) {
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range changes(e) {
			t.Run(id+"/"+name, func(t *testing.T) {
				st := newStage(t)
				a, err := st.play(id, changed(t, id, change))
				st.Must(err)
				if err := a.rehearse(); err == nil {
					t.Error("it goes unnoticed")
				}
			})
		}
	}
}

// changed is an entry with a change that is meant: its evidence goes.
func changed(t *testing.T, id string, change func(map[string]any)) []byte {
	facts, err := provider.Source(id)
	if err != nil {
		t.Fatal(err)
	}
	var copied map[string]any
	if err := json.Unmarshal(facts, &copied); err != nil {
		t.Fatal(err)
	}
	change(copied)
	delete(copied, "evidence")
	if facts, err = json.Marshal(copied); err != nil {
		t.Fatal(err)
	}
	return facts
}

// changes are those that concern an entry: one without refresh tokens has neither a
// rotation nor names for a dead one.
func changes(e provider.Entry) map[string]func(map[string]any) {
	list := map[string]func(map[string]any){"client authentication": anotherAuth(e)}
	a := act{entry: e}
	if !a.refreshes() {
		return list
	}
	list["rotation"] = func(m map[string]any) {
		r, _ := m["refresh"].(map[string]any)
		if r == nil {
			r = map[string]any{}
			m["refresh"] = r
		}
		if e.Profile(provider.GrantAuthorizationCode).Rotation == provider.RotationNone {
			r["rotation"] = "always"
		} else {
			r["rotation"] = "none"
		}
	}
	limits(e, list)
	if len(e.RetryStatus) == 0 {
		list["name of a dead grant"] = func(m map[string]any) { m["dead_refresh_errors"] = []string{"quite_another_error"} }
	}
	return list
}

// anotherAuth has the simulator demand a secret elsewhere than it is sent.
func anotherAuth(e provider.Entry) func(map[string]any) {
	return func(m map[string]any) {
		other := "client_secret_post"
		if e.AuthMethod(provider.GrantAuthorizationCode, false) == other {
			other = "client_secret_basic"
		}
		m["token_endpoint_auth_method"] = other
		for _, name := range []string{"token_endpoint_auth_method_by_grant", "token_endpoint_auth_method_by_client", "public_client_id"} {
			delete(m, name)
		}
	}
}

// limits adds changes of the numbers that an entry gives.
func limits(e provider.Entry, list map[string]func(map[string]any)) {
	p := e.Profile(provider.GrantAuthorizationCode)
	in := func(field string, n int64) func(map[string]any) {
		return func(m map[string]any) { m["refresh"].(map[string]any)[field] = n }
	}
	lives := e.Refresh.Credential == ""
	if p.AbsoluteLifetime > 0 && lives {
		list["absolute lifetime, shorter"] = in("absolute_lifetime_s", p.AbsoluteLifetime-dayS)
		list["absolute lifetime, longer"] = in("absolute_lifetime_s", p.AbsoluteLifetime+dayS)
	}
	if p.IdleLifetime > 0 && lives {
		list["idle lifetime, shorter"] = in("idle_lifetime_s", p.IdleLifetime/2)
		if p.AbsoluteLifetime == 0 || p.IdleLifetime < p.AbsoluteLifetime {
			list["idle lifetime, longer"] = in("idle_lifetime_s", p.IdleLifetime+dayS)
		}
	}
	if n := e.Refresh.ConcurrentLimit; n > 0 {
		list["limit, higher"] = in("concurrent_limit", n+1)
		if n > 1 {
			list["limit, lower"] = in("concurrent_limit", n-1)
		}
	}
	if age := e.MinimumTokenAge; age > 0 {
		list["minimum age"] = func(m map[string]any) { m["minimum_token_age_s"] = age * 2 }
	}
}
