package provider_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/provider"
)

// A fixed entry is one that Resolve leaves as it is: looked at over the whole catalogue, with
// values for whatever name an entry uses.
func TestFixedEntriesResolveToThemselves(t *testing.T) {
	fixed := 0
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		if !e.Fixed() {
			continue
		}
		fixed++
		got, err := e.Resolve(map[string]string{"client_id": "another", "subdomain": "acme", "tenant": "t", "domain": "x.example.com", "api_host": "https://x.example.com"})
		if err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("%s is said to be fixed:\n%s", id, diff)
		}
	}
	if fixed < 20 || fixed == len(provider.IDs()) {
		t.Errorf("%d entries of %d are fixed", fixed, len(provider.IDs()))
	}
}

// Each place of a variable makes an entry open.
func TestAVariableAnywhereOpensAnEntry(t *testing.T) {
	params := map[string]string{"resource": "https://{client_id}/"}
	for name, change := range map[string]func(e *provider.Entry){
		"token endpoint":   func(e *provider.Entry) { e.TokenEndpoint = "https://{client_id}.example.com/" },
		"identity":         func(e *provider.Entry) { e.Identity.Endpoint = "https://{client_id}.example.com/" },
		"revocation":       func(e *provider.Entry) { e.RevocationRequest.URL = "https://{client_id}.example.com/" },
		"token parameters": func(e *provider.Entry) { e.TokenParams = params },
		"revocation body":  func(e *provider.Entry) { e.RevocationRequest.Body = params },
		"base URL":         func(e *provider.Entry) { e.API.BaseURLs = []string{"https://{client_id}.example.com/"} },
		"redirect URI":     func(e *provider.Entry) { e.RedirectURIValue = "{client_id}" },
		"a declared name":  func(e *provider.Entry) { e.Variables = map[string]string{"tenant": "[a-z]+"} },
	} {
		e := provider.Entry{TokenEndpoint: "https://example.com/token"}
		if !e.Fixed() {
			t.Fatal("an entry without variables is not fixed")
		}
		if change(&e); e.Fixed() {
			t.Errorf("%s: an entry with a variable is fixed", name)
		}
	}
}
