package provider_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

func TestVariablesCannotLeadElsewhere(t *testing.T) {
	shop := provider.Entry{TokenEndpoint: "https://{v}.shop.example/admin/token", Variables: map[string]string{"v": "^.*$"}}
	host := provider.Entry{TokenEndpoint: "https://{v}/token", Variables: map[string]string{"v": `[a-z0-9.:-]+`}}
	path := provider.Entry{TokenEndpoint: "https://api.example/{v}/token?x=1", Variables: map[string]string{"v": "^.*$"}}
	strict := provider.Entry{TokenEndpoint: "https://{v}.shop.example/", Variables: map[string]string{"v": "^[a-z]+$"}}
	for _, c := range []struct {
		entry provider.Entry
		value string
		want  string // "": refused
	}{
		{shop, "acme", "https://acme.shop.example/admin/token"},
		{shop, "evil.example/x", ""},
		{shop, "evil.example?x", ""},
		{shop, "evil.example#", ""},
		{shop, "evil.example\\", ""},
		{shop, "a@evil.example:443/", ""},
		{shop, "evil.example:8443", ""},
		{shop, "a b", ""},
		{shop, "a\n", ""},
		{shop, "..", ""},
		{host, "tenant.example", "https://tenant.example/token"},
		{host, "tenant.example:443", "https://tenant.example:443/token"},
		{host, "tenant.example:22", ""},
		{host, "127.0.0.1:8081", "https://127.0.0.1:8081/token"},
		{host, "a/b", ""},
		{path, "v2", "https://api.example/v2/token?x=1"},
		{path, "v2/x", "https://api.example/v2/x/token?x=1"},
		{path, "../x", ""},
		{path, "/evil.example", "https://api.example//evil.example/token?x=1"},
		{path, "x?y=", ""},
		{path, "%2e%2e", ""},
		{strict, "acme\n", ""},
		{strict, "Acme", ""},
		{strict, "", ""},
	} {
		e, err := c.entry.Resolve(map[string]string{"v": c.value})
		if c.want == "" && err == nil || c.want != "" && (err != nil || e.TokenEndpoint != c.want) {
			t.Errorf("%q: %q, %v; want %q", c.value, e.TokenEndpoint, err, c.want)
		}
		if err != nil && c.value != "" && strings.Contains(err.Error(), c.value) {
			t.Errorf("the error repeats the value: %v", err)
		}
	}
	withDefault := provider.Entry{
		TokenEndpoint: "https://{h}/t", Variables: map[string]string{"h": "^[a-z.]+$"}, DefaultVariables: map[string]string{"h": "git.example"},
	}
	if e, err := withDefault.Resolve(nil); err != nil || e.TokenEndpoint != "https://git.example/t" {
		t.Errorf("default: %q, %v", e.TokenEndpoint, err)
	}
	if withDefault.TokenEndpoint != "https://{h}/t" {
		t.Error("Resolve changed its receiver")
	}
}

func TestAuthorizeURL(t *testing.T) {
	e := provider.Entry{
		AuthorizationEndpoint: "https://{dc}.example/auth?keep=1",
		Variables:             map[string]string{"dc": "^[a-z]+$"},
		AuthorizationParams:   map[string]string{"access_type": "offline", "prompt": "consent"},
		OfflineScope:          "offline_access",
		PKCE:                  "S256",
	}
	r := provider.AuthorizeRequest{
		ClientID: "id", RedirectURI: "https://app.example/cb?x=1&y=2", State: "st", CodeChallenge: "ch",
		Scopes: []string{"read all", "write+"}, LoginHint: "a@b.example", Nonce: "n",
		Variables: map[string]string{"dc": "eu"}, Extra: map[string]string{"prompt": "none"},
	}
	got, err := e.AuthorizeURL(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := "https://eu.example/auth?access_type=offline&client_id=id&code_challenge=ch&code_challenge_method=S256&keep=1&login_hint=a%40b.example&nonce=n&prompt=none&redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Fx%3D1%26y%3D2&response_type=code&scope=read%20all%20write%2B%20offline_access&state=st"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	u, err := url.Parse(got)
	if err != nil || u.Query().Get("scope") != "read all write+ offline_access" {
		t.Errorf("scope %q, %v", u.Query().Get("scope"), err)
	}

	e.PKCE, e.ScopeSeparator, e.ClientIDParam = "unsupported", ",", "client_key"
	r.Extra = nil
	got, _ = e.AuthorizeURL(r)
	q, _ := url.Parse(got)
	if q.Query().Has("code_challenge") || q.Query().Get("scope") != "read all,write+,offline_access" || q.Query().Get("client_key") != "id" {
		t.Errorf("got %s", got)
	}

	e.PKCE = "required"
	for name, change := range map[string]func(*provider.AuthorizeRequest){
		"no state":         func(r *provider.AuthorizeRequest) { r.State = "" },
		"no client":        func(r *provider.AuthorizeRequest) { r.ClientID = "" },
		"no redirect URI":  func(r *provider.AuthorizeRequest) { r.RedirectURI = "" },
		"no challenge":     func(r *provider.AuthorizeRequest) { r.CodeChallenge = "" },
		"foreign state":    func(r *provider.AuthorizeRequest) { r.Extra = map[string]string{"state": "x"} },
		"foreign redirect": func(r *provider.AuthorizeRequest) { r.Extra = map[string]string{"redirect_uri": "x"} },
		"bad variable":     func(r *provider.AuthorizeRequest) { r.Variables = map[string]string{"dc": "eu.evil"} },
	} {
		bad := r
		change(&bad)
		if got, err := e.AuthorizeURL(bad); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestPKCE(t *testing.T) {
	// The sample of RFC 7636 appendix B.
	if got := provider.Challenge(secret.New("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")); got != "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" {
		t.Errorf("challenge %s", got)
	}
	a, b := provider.NewVerifier(), provider.NewVerifier()
	if a.Len() != 43 || a.Equal(b) || strings.Trim(a.Reveal(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Errorf("verifiers of %d and %d characters", a.Len(), b.Len())
	}
}
