package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/provider/page"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// rehearsed are integrations with providers of the catalogue, each named by its id and
// simulated as its entry says. Of one that is simulated by hand they are what
// simulatedIntegrations has of it. ttl is the life of access tokens, s.
func rehearsed(sims *simprovider.Server, ids []string, ttl int64) ([]simulated, error) {
	var all []simulated
	for n, id := range ids {
		if slices.Contains(ids[:n], id) {
			return nil, usagef("--providers: %s is named twice", id)
		}
		if slices.Contains(simprovider.Providers(), id) {
			all = append(all, byHand(id)...)
			continue
		}
		s, err := rehearse(sims, id, ttl)
		if errors.Is(err, provider.ErrUnknownProvider) {
			return nil, usagef("--providers: the catalogue has no %q; evergrant providers lists what it has", id)
		}
		if err != nil {
			return nil, fmt.Errorf("--providers: %s: %w", id, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func byHand(id string) []simulated {
	return slices.DeleteFunc(simulatedIntegrations(), func(s simulated) bool { return s.provider != id })
}

// rehearse simulates an entry. Where it refuses to refresh a young token, the age is
// brought down to a quarter of what tokens live here, else nobody would see a refresh.
func rehearse(sims *simprovider.Server, id string, ttl int64) (simulated, error) {
	e, err := provider.Lookup(id)
	if err != nil {
		return simulated{}, err
	}
	text, err := provider.Source(id)
	if err != nil {
		return simulated{}, err
	}
	s := simulated{
		name: id, provider: id, title: e.Name, about: page.Rehearsal(e), grant: provider.GrantAuthorizationCode,
		public: e.AuthMethod(provider.GrantAuthorizationCode, false) == "none",
		scopes: []string{"read", "write"}, headers: e.API.ExtraHeaders,
	}
	if e.ConnectionEntry != "" {
		s.grant, s.public = provider.GrantRefreshToken, true
	}
	if s.minAge = min(e.MinimumTokenAge, ttl/4); s.minAge > 0 {
		if text, err = withMember(text, "minimum_token_age_s", s.minAge); err != nil {
			return simulated{}, err
		}
	}
	return s, sims.Add(id, text)
}

// withMember puts a value into a JSON object.
func withMember(object []byte, name string, value any) ([]byte, error) {
	var members map[string]any
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	members[name] = value
	return json.Marshal(members)
}

// providersOf are the providers of integrations, each once.
func providersOf(all []simulated) []string {
	var ids []string
	for _, s := range all {
		if !slices.Contains(ids, s.provider) {
			ids = append(ids, s.provider)
		}
	}
	return ids
}
