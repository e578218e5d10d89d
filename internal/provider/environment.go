package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// In returns the entry as it is in one of its environments; "" is the main one.
func (e Entry) In(environment string) (Entry, error) {
	if environment == "" {
		return e, nil
	}
	differs, ok := e.Environments[environment]
	if !ok {
		return Entry{}, fmt.Errorf("has no environment %q%s", environment, e.environmentHint())
	}
	// Through JSON, since that leaves out what an environment does not say. Both
	// ways, so that no map is shared with the receiver.
	base, err := json.Marshal(e)
	if err != nil {
		return Entry{}, err
	}
	over, err := json.Marshal(differs)
	if err != nil {
		return Entry{}, err
	}
	out := Entry{}
	if err := errors.Join(json.Unmarshal(base, &out), json.Unmarshal(over, &out)); err != nil {
		return Entry{}, err
	}
	out.Environments = nil
	return out, nil
}

func (e Entry) environmentHint() string {
	if len(e.Environments) == 0 {
		return "; it has none"
	}
	return "; it has " + strings.Join(slices.Sorted(maps.Keys(e.Environments)), ", ")
}

// checkEnvironments: what an environment may not change is how refresh tokens
// behave, since a decision rests on it and its evidence, and what is said of the
// entry as a whole.
func (e Entry) checkEnvironments(m *mistakes) {
	for _, name := range slices.Sorted(maps.Keys(e.Environments)) {
		field, differs := "environments."+name, e.Environments[name]
		if !idPattern().MatchString(name) {
			m.add(field, "is not a name of small letters, digits, - and _")
		}
		if differs.Refresh != (Refresh{}) || differs.Evidence != nil || differs.Environments != nil || differs.ID != "" ||
			differs.VerifiedAt != "" || differs.Sunset != (Sunset{}) || differs.LaterFacts != nil {
			m.add(field, "may not set id, verified_at, refresh, environments, sunset, later_facts or evidence; that is another entry")
			continue
		}
		there, err := e.In(name)
		if err != nil {
			m.add(field, "%v", err)
			continue
		}
		e.checkHosts(m, field, there)
		there.Evidence = nil
		for _, err := range unjoin(there.Validate()) {
			if text := err.Error(); !slices.ContainsFunc(*m, func(known error) bool { return known.Error() == text }) {
				m.add(field, "%s", text)
			}
		}
	}
}

// checkHosts: tokens of an environment with a token endpoint of its own are of no use
// at the main one's API, and a request that carries one there shows it to the wrong host.
func (e Entry) checkHosts(m *mistakes, field string, there Entry) {
	if there.TokenEndpoint == e.TokenEndpoint {
		return
	}
	check := func(name, main, here string) {
		if main != "" && main == here && !strings.Contains(main, "{") {
			m.add(field+"."+name, "is missing: tokens of this environment's own token endpoint would go to %s", main)
		}
	}
	check("api.base_urls", strings.Join(e.API.BaseURLs, " "), strings.Join(there.API.BaseURLs, " "))
	check("identity.endpoint", e.Identity.Endpoint, there.Identity.Endpoint)
}

// unjoin takes a joined error apart.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}
