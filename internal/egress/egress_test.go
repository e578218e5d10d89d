package egress_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/egress"
	"github.com/evergrant/evergrant/internal/provider"
)

// file has an integration for each name, whose endpoints are at the base, with what else
// the integration says.
func file(t *testing.T, integrations map[string][2]string) *config.Config {
	t.Helper()
	var b strings.Builder
	b.WriteString("public_url: https://auth.example.com\nintegrations:\n")
	for name, i := range integrations {
		fmt.Fprintf(&b, `  %s: {client_id: x, client_secret: "${env:S}", %s provider: {authorization_endpoint: "%s/a", token_endpoint: "%s/t", token_endpoint_auth_method: client_secret_post, pkce: S256}}`+"\n",
			name, i[1], i[0], i[0])
	}
	c, err := yamlfile.Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reach(t *testing.T, c *provider.Client, address string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Transport.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close() // nothing is read of it
	}
	return err
}

// Only hosts that the file names on loopback, or allows on a private network, are
// dialled there.
func TestTheOwnNetworkIsOpenByHost(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	local := egress.New(file(t, map[string][2]string{"acme": {srv.URL, ""}}), time.Now, "test")
	remote := egress.New(file(t, map[string][2]string{"acme": {"https://acme.example", ""}}), time.Now, "test")
	if err := reach(t, local, srv.URL); err != nil || !local.AllowLoopback {
		t.Errorf("what the file names is not reached: %v", err)
	}
	if err := reach(t, remote, srv.URL); err == nil || remote.AllowLoopback {
		t.Error("loopback is reached, though no provider is there")
	}
	// A private network that is open for one host is not open for another one, and opens
	// neither loopback nor the cloud's own addresses.
	private := egress.New(file(t, map[string][2]string{"inside": {"https://10.1.2.3", "allow_private: true,"}, "acme": {"https://acme.example", ""}}), time.Now, "test")
	for _, address := range []string{"https://10.1.2.4", srv.URL, "http://localhost" + port, "https://169.254.169.254", "https://[fd00:ec2::254]", "https://100.100.100.200"} {
		if err := reach(t, private, address); err == nil || !strings.Contains(err.Error(), "not one that a provider may have") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A discovery document leads an integration to the Internet, or to where its own
// configuration is, and to no host that was opened for another one.
func TestDiscoveryDoesNotLeadIntoTheOwnNetwork(t *testing.T) {
	c := file(t, map[string][2]string{
		"acme": {"https://acme.example", ""}, "inside": {"https://id.corp.example", "allow_private: true,"}, "local": {"http://127.0.0.1:9", ""},
	})
	for _, x := range []struct {
		integration, endpoint string
		want                  bool
	}{
		{"acme", "https://token.acme.example/t", true},
		{"acme", "https://id.corp.example/t", false},
		{"acme", "https://ID.corp.EXAMPLE/t", false},
		{"acme", "http://127.0.0.1:9/t", false},
		{"acme", "http://localhost:1/t", false},
		{"acme", "http://[::1]/t", false},
		{"inside", "https://id.corp.example/t", true},
		{"inside", "http://127.0.0.1:9/t", false},
		{"local", "http://localhost:9/t", true},
		{"local", "https://id.corp.example/t", false},
	} {
		i, _ := c.Integration(x.integration)
		e := i.Entry
		e.RevocationEndpoint = x.endpoint
		if got := c.MayReach(i, e); got != x.want {
			t.Errorf("%s to %s: %v", x.integration, x.endpoint, got)
		}
	}
}

// Every endpoint that requests go to is judged, whatever it is for.
func TestEveryEndpointIsJudged(t *testing.T) {
	c := file(t, map[string][2]string{"acme": {"https://acme.example", ""}})
	i, _ := c.Integration("acme")
	const inside = "https://127.0.0.1/x"
	for name, set := range map[string]func(*provider.Entry){
		"discovery": func(e *provider.Entry) { e.DiscoveryURL = inside }, "token": func(e *provider.Entry) { e.TokenEndpoint = inside },
		"refresh": func(e *provider.Entry) { e.RefreshEndpoint = inside }, "revocation": func(e *provider.Entry) { e.RevocationEndpoint = inside },
		"userinfo": func(e *provider.Entry) { e.UserinfoEndpoint = inside }, "keys": func(e *provider.Entry) { e.JWKSURI = inside },
		"identity": func(e *provider.Entry) { e.Identity.Endpoint = inside }, "second exchange": func(e *provider.Entry) { e.SecondExchange.Endpoint = inside },
		"revocation request": func(e *provider.Entry) { e.RevocationRequest.URL = inside },
	} {
		e := i.Entry
		set(&e)
		if c.MayReach(i, e) {
			t.Errorf("%s is not judged", name)
		}
	}
}
