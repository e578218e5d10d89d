package providers

import (
	"encoding/json"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

// TestAnotherProviderIsNoticed changes one fact in the simulator's copy of each entry: the
// suite must fail.
func TestAnotherProviderIsNoticed(t *testing.T) {
	for _, id := range provider.IDs() {
		t.Run(id, func(t *testing.T) {
			st := newStage(t)
			e, err := provider.Lookup(id)
			st.Must(err)
			for name, change := range changes(e) {
				facts, err := provider.Source(id)
				st.Must(err)
				var copied map[string]any
				st.Must(json.Unmarshal(facts, &copied))
				change(copied)
				delete(copied, "evidence") // what is changed is meant
				facts, err = json.Marshal(copied)
				st.Must(err)
				a, err := st.play(id, facts)
				st.Must(err)
				if err := a.rehearse(); err == nil {
					t.Errorf("another %s goes unnoticed", name)
				}
			}
		})
	}
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
