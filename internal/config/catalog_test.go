package config_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

func text(key, value string) config.Field {
	return config.Field{Key: key, Value: &config.Node{Kind: config.KindText, Text: value}}
}

func mapping(key string, fields ...config.Field) config.Field {
	return config.Field{Key: key, Value: &config.Node{Kind: config.KindObject, Fields: fields}}
}

// However large the catalogue is, a configuration reads the entries that it names, each
// once for each integration, and the compiled form holds no others.
func TestOnlyConfiguredProvidersAreRead(t *testing.T) {
	read := map[string]int{}
	catalog := config.Catalog{IDs: provider.IDs, Lookup: func(id string) (provider.Entry, error) {
		read[id]++
		return provider.Lookup(id)
	}}
	root := mapping("", text("public_url", "https://auth.example.com"), mapping("integrations",
		mapping("xero-like", text("provider", "zoho"), text("client_id", "a"), text("client_secret", "${env:A}")),
		mapping("docusign", text("client_id", "a"), text("client_secret", "${env:A}"), text("environment", "demo")),
	))
	c, err := config.Read(root.Value, catalog, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(read)); !slices.Equal(got, []string{"docusign", "zoho"}) || read["zoho"] != 1 || read["docusign"] != 1 {
		t.Errorf("read %v", read)
	}
	if e := c.Integrations[0].Entry; e.TokenEndpoint != "https://account-d.docusign.com/oauth/token" || e.Environments != nil {
		t.Errorf("environment: %s", e.TokenEndpoint)
	}
	compiled, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(compiled)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Integrations) != 2 || again.Integrations[0].Entry.TokenEndpoint != c.Integrations[0].Entry.TokenEndpoint {
		t.Errorf("compiled: %s", compiled)
	}
}

func TestAnEnvironmentMustBeOneOfTheProvider(t *testing.T) {
	root := mapping("", text("public_url", "https://auth.example.com"), mapping("integrations",
		mapping("docusign", text("client_id", "a"), text("client_secret", "${env:A}"), text("environment", "moon"))))
	_, err := config.Read(root.Value, config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs}, nil)
	if err == nil {
		t.Fatal("taken")
	}
}

func BenchmarkReadOfOneProvider(b *testing.B) {
	root := mapping("", text("public_url", "https://auth.example.com"), mapping("integrations",
		mapping("zoho", text("client_id", "a"), text("client_secret", "${env:A}"))))
	c, err := config.Read(root.Value, config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs}, nil)
	if err != nil {
		b.Fatal(err)
	}
	compiled, err := c.Compile()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(compiled)))
	for b.Loop() {
		if _, err := config.Parse(compiled); err != nil {
			b.Fatal(err)
		}
	}
}
