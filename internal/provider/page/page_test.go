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
	e.Refresh = provider.Refresh{Supported: provider.No}
	if text := page.Markdown(e); strings.Contains(text, "lost answer") || !strings.Contains(text, "ends with its access token") {
		t.Error(text)
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
