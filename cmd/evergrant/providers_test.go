package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config/yamlfile"
)

// What discover prints is a configuration.
func TestDiscoverProposesAConfiguration(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("GET /tenant/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"authorization_endpoint":"`+server.URL+`/a","token_endpoint":"`+server.URL+`/t","code_challenge_methods_supported":["S256"]}`)
	})
	var out, errs bytes.Buffer
	p := &process{ctx: t.Context(), stdout: &out, stderr: &errs}
	if err := (&discoverCommand{URL: server.URL + "/tenant", Name: "acme"}).Run(p); err != nil {
		t.Fatal(err)
	}
	c, err := yamlfile.Parse(append([]byte("public_url: https://auth.example.com\n"), out.Bytes()...))
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if e := c.Integrations[0].Entry; e.TokenEndpoint != server.URL+"/t" || e.PKCE != "S256" {
		t.Errorf("%+v", e)
	}
	if told := errs.String(); !strings.Contains(told, "refresh: ") || !strings.Contains(told, "token_endpoint_auth_method: ") {
		t.Errorf("not told: %s", told)
	}
}

// A server on the Internet cannot have us read what is on this machine.
func TestDiscoverStaysOutside(t *testing.T) {
	for _, address := range []string{"https://169.254.169.254/", "https://10.0.0.1/"} {
		p := &process{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}
		if err := (&discoverCommand{URL: address}).Run(p); err == nil || !strings.Contains(err.Error(), "address") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
