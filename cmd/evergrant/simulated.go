package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// simulated is one integration of dev and demo: a registration at a simulated
// provider that makes connections by one grant.
type simulated struct {
	name     string // of the integration
	provider string // id in the catalogue and of the simulator
	title    string
	about    string
	grant    provider.Grant // by which connections begin; refresh_token: imported
	public   bool           // a client without a secret
	// Of a provider of the catalogue that is rehearsed; see rehearsed.
	scopes  []string          // asked for
	minAge  int64             // seconds before a refresh is accepted; 0: as the entry says
	headers map[string]string // that its API demands besides the token
}

// simulatedIntegrations are every dialect with each of its grants.
func simulatedIntegrations() []simulated {
	return []simulated{
		{"askfred", "askfred", "AskFRED", "Doorkeeper: credentials in the body; each refresh rotates and ends the old pair at once; tokens can be revoked.", provider.GrantAuthorizationCode, false, nil, 0, nil},
		{"freeagent", "freeagent", "FreeAgent", "Basic credentials and a User-Agent; the user is asked once; what becomes of an old refresh token is not documented.", provider.GrantAuthorizationCode, false, nil, 0, nil},
		{"whenfresh", "whenfresh", "WhenFresh", "No consent page: the user copies a refresh token from the account page, and it stays the same.", provider.GrantRefreshToken, true, nil, 0, nil},
		{"whenfresh-machine", "whenfresh", "WhenFresh (machine)", "Client credentials by Basic: no user, no refresh token, a new token each hour.", provider.GrantClientCredentials, false, nil, 0, nil},
		{"redbooth", "redbooth", "Redbooth", "Doorkeeper: each refresh kills the access token handed out before. Nothing can be revoked.", provider.GrantAuthorizationCode, false, nil, 0, nil},
		{"fflogs", "fflogs", "FF Logs", "GraphQL; a code by Basic; a dead refresh token is called invalid_request.", provider.GrantAuthorizationCode, false, nil, 0, nil},
		{"fflogs-pkce", "fflogs", "FF Logs (public client)", "No secret: PKCE proves that the code is ours.", provider.GrantAuthorizationCode, true, nil, 0, nil},
		{"fflogs-client", "fflogs", "FF Logs (public API)", "Client credentials for the data that belongs to no user.", provider.GrantClientCredentials, false, nil, 0, nil},
	}
}

// client is the integration's registration. Its secret is a constant, since the
// simulators guard nothing, and must be: another one after a restart would look like
// an operator's change of the configuration.
func (s simulated) client(origin string) simprovider.Client {
	c := simprovider.Client{ID: "dev-" + s.name}
	if !s.public {
		c.Secret = "dev-secret-of-" + s.name
	}
	if s.grant == provider.GrantAuthorizationCode {
		c.RedirectURIs = []string{(&config.Integration{Name: s.name}).RedirectURI(origin)}
	}
	return c
}

// register makes the clients known to the simulators.
func register(sims *simprovider.Server, all []simulated, origin string) error {
	for _, s := range all {
		if s.grant == provider.GrantRefreshToken {
			continue // everybody uses the provider's own public client
		}
		if err := sims.Register(s.provider, s.client(origin)); err != nil {
			return err
		}
	}
	return nil
}

// simulatedSettings is a configuration over the simulators: the catalogue's entries,
// with their endpoints alone exchanged, so that what is tried is what they say.
func simulatedSettings(sims *simprovider.Server, all []simulated, origin, keyHash string, returnTo []string) (*config.Config, error) {
	integrations := map[string]any{}
	for _, s := range all {
		i := map[string]any{"provider": s.entry(sims)}
		if s.grant == provider.GrantAuthorizationCode {
			i["return_to"] = returnTo
			i["scopes"] = append([]string{}, s.scopes...)
		}
		if s.grant != provider.GrantRefreshToken {
			c := s.client(origin)
			i["client_id"] = c.ID
			if c.Secret != "" {
				i["client_secret"] = c.Secret
			}
		}
		integrations[s.name] = i
	}
	file, err := json.Marshal(map[string]any{
		"public_url": origin, "deployment": "simulated", "integrations": integrations,
		"api_keys": []any{map[string]any{
			"name": "app", "hash": keyHash, "allow": []string{config.ScopeConnect, config.ScopeToken, config.ScopeManage, config.ScopeAdmin},
			"integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	if err != nil {
		return nil, err
	}
	settings, err := yamlfile.Parse(file) // JSON is YAML
	if err != nil {
		return nil, fmt.Errorf("configuration of the simulated providers: %w", err)
	}
	return settings, nil
}

// entry is the inline provider: the catalogue's, with the simulator's endpoints.
func (s simulated) entry(sims *simprovider.Server) map[string]any {
	if e := sims.Inline(s.provider); e != nil {
		if s.minAge > 0 {
			e["minimum_token_age_s"] = s.minAge
		}
		return e
	}
	endpoints := sims.Endpoints(s.provider)
	e := map[string]any{"id": s.provider, "extends": s.provider, "grant_types_supported": s.grants()}
	api := map[string]any{}
	for name, address := range endpoints {
		switch {
		case slices.Contains([]string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "discovery_url"}, name):
			e[name] = address
		case name == "identity.endpoint":
			e["identity"] = map[string]any{"endpoint": address}
		case name == "api.base_url":
			api["base_urls"] = []string{address}
		case strings.HasPrefix(name, "api.base_url_by_grant."):
			byGrant, _ := api["base_url_by_grant"].(map[string]string)
			if byGrant == nil {
				byGrant = map[string]string{}
				api["base_url_by_grant"] = byGrant
			}
			byGrant[strings.TrimPrefix(name, "api.base_url_by_grant.")] = address
		}
	}
	if e["discovery_url"] != nil {
		// The endpoints are to be found by discovery, as they are at the service.
		e["authorization_endpoint"], e["token_endpoint"] = "", ""
	}
	e["api"] = api
	return e
}

func (s simulated) grants() []provider.Grant {
	if s.grant == provider.GrantAuthorizationCode {
		return []provider.Grant{s.grant, provider.GrantRefreshToken}
	}
	return []provider.Grant{s.grant}
}
