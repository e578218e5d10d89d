package page_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/provider/page"
)

// Nothing that is not known is told as if it were, and nothing recalled as documented.
func TestAPageSaysWhatItRestsOn(t *testing.T) {
	e := provider.Entry{
		ID: "acme", Name: "Acme", TokenEndpointAuthMethod: "unknown",
		Refresh: provider.Refresh{Supported: provider.Yes, Rotation: "always", PreviousToken: "dies_at_once", OldAccessTokenDiesOnRefresh: provider.No},
		Evidence: map[string]provider.Evidence{
			"refresh.rotation": {Source: "docs", Kind: "documented"}, "refresh.previous_token": {Source: "memory", Kind: "recalled"},
		},
	}
	text := page.Markdown(e)
	for _, want := range []string{
		"| a refresh brings a new refresh token | yes (documented) |", "| the one before | dies at once (from memory, so the worst is assumed) |",
		"| a spent one, sent again | not known, so the worst is assumed |", "| the old access token at a refresh | lives on |",
		"Evergrant waits until", "Nobody has compared", "not known: look it up", "No revocation is known", "extends: acme",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if table := page.Table([]provider.Entry{e}); !strings.Contains(table, "| [Acme](acme.md) | `acme` | ? | rotates | dies at once | wait | no | no |") {
		t.Error(table)
	}
	e.UserinfoEndpoint, e.Identity = "https://acme.example/userinfo", provider.Identity{Endpoint: "https://acme.example/userinfo", IDField: "sub"}
	if !strings.Contains(page.Markdown(e), "\n    scopes: [openid] ") || strings.Contains(text, "scopes: [openid]") {
		t.Errorf("openid is to be asked for where the account is told by a UserInfo endpoint, and only there:\n%s", page.Markdown(e))
	}
	e.Refresh = provider.Refresh{Supported: provider.No}
	if text := page.Markdown(e); strings.Contains(text, "lost answer") || !strings.Contains(text, "ends with its access token") {
		t.Error(text)
	}
}

// A rehearsal is told as the simulator plays it: what is recalled, or unknown, at its worst.
func TestARehearsalIsToldAsItIsPlayed(t *testing.T) {
	recalled := map[string]provider.Evidence{"refresh": {Kind: "recalled"}}
	for want, e := range map[string]provider.Entry{
		"There are no refresh tokens":                                          {Refresh: provider.Refresh{Supported: provider.No, Rotation: "none"}},
		"A refresh leaves the refresh token as it is. Nothing can be revoked.": {Refresh: provider.Refresh{Rotation: "none", PreviousToken: "stays"}},
		"Each refresh brings a new refresh token; the old one works for another 1 minute. Tokens can be revoked.": {
			RevocationEndpoint: "https://acme.example/revoke", Refresh: provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 60},
		},
		"Every other refresh brings a new refresh token; the old one ends when":   {Refresh: provider.Refresh{Rotation: "sometimes", PreviousToken: "dies_on_first_use_of_new"}},
		"is not known, so here it does; what becomes of the old one is not known": {Refresh: provider.Refresh{Rotation: "none", PreviousToken: "stays"}, Evidence: recalled},
		"; the old one works on":     {Refresh: provider.Refresh{Rotation: "always", PreviousToken: "stays"}},
		"; the old one ends at once": {Refresh: provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once"}},
	} {
		if text := page.Rehearsal(e); !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for s, want := range map[int64]string{
		60: "1 minute", 90: "90 seconds", 570: "570 seconds", 3600: "1 hour", 86400: "24 hours", 604800: "7 days", 604799: "7.0 days", 31536000: "1 year", 157680000: "5 years",
	} {
		if got := page.Span(s); got != want {
			t.Errorf("%d s: %s, want %s", s, got, want)
		}
	}
}
