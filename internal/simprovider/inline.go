package simprovider

import (
	"fmt"
	"strings"
)

// Inline is what a configuration writes under provider to reach the simulator of an
// entry of that id: its endpoints, samples for variables that have no default, and the
// client authentication that is simulated where the entry does not know it. The rest is
// the catalogue's. It is nil for a provider that was not added.
func (s *Server) Inline(id string) map[string]any {
	sv, ok := s.service(id)
	if !ok || sv.d.facts == nil {
		return nil
	}
	f, base := sv.d.facts, sv.base
	out := map[string]any{"extends": id, "id": id}
	for name, path := range sv.d.endpoints {
		head, rest, nested := strings.Cut(name, ".")
		switch {
		case head == "api":
		case f.discovered && (name == "token_endpoint" || name == "authorization_endpoint"):
			// They are to be found by discovery, as they are at the service.
		case nested:
			out[head] = map[string]any{rest: base + path}
		default:
			out[name] = base + path
		}
	}
	if len(f.API.BaseURLs) > 0 {
		var urls []string
		for _, address := range f.API.BaseURLs {
			urls = append(urls, local(base, address))
		}
		out["api"] = map[string]any{"base_urls": urls}
	}
	if f.Auth == "" || f.Auth == "unknown" {
		out["token_endpoint_auth_method"] = f.authMethod("")
	}
	if vars := f.samples(); len(vars) > 0 {
		out["default_variables"] = vars
	}
	return out
}

// samples are values of the variables that have none.
func (f *facts) samples() map[string]string {
	out := map[string]string{}
	for name, pattern := range f.Variables {
		if f.Defaults[name] == "" {
			out[name], _ = Sample(pattern) // readFacts has looked at the pattern
		}
	}
	return out
}

// checkPatterns says which pattern of the entry cannot be read.
func (f *facts) checkPatterns() error {
	for name, pattern := range f.Variables {
		if _, err := Sample(pattern); err != nil {
			return fmt.Errorf("entry: variable %s: %w", name, err)
		}
	}
	for _, k := range f.Keep {
		if _, err := Sample(k.Pattern); err != nil {
			return fmt.Errorf("entry: keep %s: %w", k.Field, err)
		}
	}
	return nil
}
