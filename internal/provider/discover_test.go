package provider_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

func TestDiscoveryURLs(t *testing.T) {
	for address, want := range map[string][]string{
		"id.example": {
			"https://id.example/.well-known/oauth-authorization-server", "https://id.example/.well-known/openid-configuration",
		},
		"https://id.example/tenant/": {
			"https://id.example/.well-known/oauth-authorization-server/tenant", "https://id.example/tenant/.well-known/openid-configuration",
			"https://id.example/tenant/.well-known/oauth-authorization-server",
		},
		"https://id.example/x/.well-known/smart-configuration": {"https://id.example/x/.well-known/smart-configuration"},
	} {
		if got, err := provider.DiscoveryURLs(address); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
	for _, bad := range []string{"http://id.example", "ftp://id.example", "https://a:b@id.example", "https://", "https://id.example/#x"} {
		if got, err := provider.DiscoveryURLs(bad); err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
}

func TestProposeSaysWhatADocumentDoesNotTell(t *testing.T) {
	whole := provider.Metadata{
		Issuer: "https://id.example", AuthorizationEndpoint: "https://id.example/a", TokenEndpoint: "https://id.example/t", RevocationEndpoint: "https://id.example/r",
		CodeChallengeMethodsSupported: []string{"plain", "S256"}, AuthMethodsSupported: []string{"tls_client_auth", "client_secret_post"},
		GrantTypesSupported: []string{"implicit", "authorization_code", "refresh_token"}, ScopesSupported: []string{"openid", "offline_access"}, IssParameter: true,
	}
	e, open := whole.Propose()
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if e.PKCE != "S256" || e.TokenEndpointAuthMethod != "client_secret_post" || len(e.GrantTypesSupported) != 2 || e.OfflineScope != "offline_access" || !e.IssParameter {
		t.Errorf("%+v", e)
	}
	if len(open) != 1 || !strings.HasPrefix(open[0], "refresh: ") {
		t.Errorf("open %q", open)
	}
	if p := e.Profile(provider.GrantRefreshToken); p.LostAnswer != provider.Wait || p.Rotation != provider.RotationUnknown {
		t.Errorf("a document made the profile %+v", p)
	}
	// What WhenFresh publishes.
	e, open = provider.Metadata{AuthorizationEndpoint: "https://id.example/a", TokenEndpoint: "https://id.example/t"}.Propose()
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if e.TokenEndpointAuthMethod != "client_secret_basic" || e.PKCE != "unknown" || e.IssParameter || len(open) != 3 {
		t.Errorf("%+v, open %q", e, open)
	}
	e, _ = provider.Metadata{TokenEndpoint: "https://id.example/t", AuthMethodsSupported: []string{"tls_client_auth"}}.Propose()
	if e.TokenEndpointAuthMethod != "unknown" {
		t.Errorf("authentication %q", e.TokenEndpointAuthMethod)
	}
}

func TestToldSaysUnknown(t *testing.T) {
	told, err := provider.Entry{ID: "acme", Refresh: provider.Refresh{Rotation: "none"}}.Told()
	if err != nil {
		t.Fatal(err)
	}
	refresh, _ := told["refresh"].(map[string]any)
	if told["id"] != "acme" || told["token_endpoint_auth_method"] != "unknown" || told["access_token_ttl_s"] != "unknown" || told["dead_refresh_errors"] != "unknown" ||
		refresh["rotation"] != "none" || refresh["reuse"] != "unknown" || refresh["grace_s"] != "unknown" || refresh["old_access_token_dies_on_refresh"] != "unknown" {
		t.Errorf("%v", told)
	}
}

func TestSafetyEvidence(t *testing.T) {
	e := provider.Entry{
		Refresh: provider.Refresh{Supported: provider.Yes, Rotation: "always", PreviousToken: "dies_at_once", Reuse: "unknown", OldAccessTokenDiesOnRefresh: provider.Yes},
		Evidence: map[string]provider.Evidence{
			"refresh": {Kind: "recalled"}, "refresh.rotation": {Kind: "documented"}, "refresh.old_access_token_dies_on_refresh": {Kind: "code"},
		},
	}
	if got := e.SafetyEvidence(); got["documented"] != 1 || got["code"] != 1 || got["recalled"] != 1 || got["unknown"] != 1 || len(got) != 4 {
		t.Errorf("%v", got)
	}
	e.Refresh.Rotation, e.Refresh.PreviousToken = "none", "stays" // nothing is ever spent
	if got := e.SafetyEvidence(); got["unknown"] != 0 {
		t.Errorf("%v", got)
	}
	e.Refresh.Supported = provider.No
	if got := e.SafetyEvidence(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// What is recalled of a whole is recalled of its parts.
func TestHearsayOfAWhole(t *testing.T) {
	e := provider.Entry{
		Refresh:  provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "rejected"},
		Evidence: map[string]provider.Evidence{"refresh": {Kind: "recalled"}},
	}
	if p := e.Profile(provider.GrantRefreshToken); p.LostAnswer != provider.Wait || p.ProofSafe || p.Rotation != provider.RotationUnknown {
		t.Errorf("%+v", p)
	}
	e.Evidence["refresh.reuse"] = provider.Evidence{Kind: "documented"}
	if p := e.Profile(provider.GrantRefreshToken); p.LostAnswer != provider.Wait || !p.ProofSafe {
		t.Errorf("%+v", p)
	}
}
