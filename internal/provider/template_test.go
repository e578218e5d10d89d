package provider_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

var (
	_ = mutant("T40", "internal/provider/template.go", ` || !strings.HasPrefix(u.Host, head) || !strings.HasSuffix(u.Host, tail) {`, ` || len(head)+len(tail) < 0 {`)
	_ = mutant("T40", "internal/provider/template.go", `if port := u.Port(); port != "" && port != "443" &&`, `if port := u.Port(); port == "x" &&`)
)

func TestThreat_T40_variables_cannot_lead_elsewhere(t *testing.T) {
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
	if e, err := strict.Resolve(nil); err != nil || e.Whole() == nil || !strings.Contains(e.Whole().Error(), "{v}") {
		t.Errorf("without a value: %q, %v, %v", e.TokenEndpoint, err, e.Whole())
	}
	if withDefault.TokenEndpoint != "https://{h}/t" {
		t.Error("Resolve changed its receiver")
	}
}

// Where an answer or a callback names a host, its pattern has been met once; the URL that
// is built from it must still lead there and nowhere else.
func TestKeptURLsCannotLeadElsewhere(t *testing.T) {
	e := provider.Entry{
		TokenEndpoint: "https://accounts.zone.{dc}/token",
		Variables:     map[string]string{"dc": `^(com|eu)$`}, DefaultVariables: map[string]string{"dc": "com"},
		Identity: provider.Identity{Endpoint: "{api_domain}/me"},
		API:      provider.API{BaseURLs: []string{"{api_domain}/v1", "https://{other}/"}},
		Keep: []provider.Keep{
			{From: "token", Field: "api_domain", Pattern: `^https://([a-z-]+\.)*zone\.example$`},
			{From: "callback", Field: "server", As: "dc", Pattern: `^https://accounts\.zone\.(?P<value>com|eu)$`},
		},
	}
	if err := e.Validate(); err == nil || strings.Contains(err.Error(), "api_domain") {
		t.Errorf("validation: %v", err) // only what a real entry would have besides is missing
	}
	fields, _, err := e.CallbackFields(url.Values{"server": {"https://accounts.zone.eu"}})
	if err != nil || fields != `{"dc":"eu"}` {
		t.Errorf("callback: %s, %v", fields, err)
	}
	for _, bad := range []string{"https://accounts.zone.evil", "https://accounts.zone.eu.evil.example", "https://accounts.zone.eu/", "http://accounts.zone.eu"} {
		if _, _, err := e.CallbackFields(url.Values{"server": {bad}}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	got, err := e.Resolve(map[string]string{"dc": "eu", "api_domain": "https://acme.zone.example", "unrelated": "../x"})
	if err != nil || got.TokenEndpoint != "https://accounts.zone.eu/token" || got.Identity.Endpoint != "https://acme.zone.example/me" ||
		got.API.BaseURLs[0] != "https://acme.zone.example/v1" || got.API.BaseURLs[1] != "https://{other}/" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, vars := range map[string]map[string]string{
		"another host":   {"api_domain": "https://evil.example"},
		"user info":      {"api_domain": "https://zone.example@evil.example"},
		"a path":         {"api_domain": "https://zone.example/.."},
		"another port":   {"api_domain": "https://zone.example:8443"},
		"no such centre": {"dc": "com.evil.example"},
	} {
		if got, err := e.Resolve(vars); err == nil {
			t.Errorf("%s: %s", name, got.Identity.Endpoint)
		}
	}
	// What was not told yet stays open, and leads nowhere.
	if first, err := e.Resolve(nil); err != nil || first.Identity.Endpoint != "{api_domain}/me" || first.Whole() != nil {
		t.Errorf("%q, %v", first.Identity.Endpoint, err)
	} else if second, err := first.Resolve(map[string]string{"api_domain": "https://zone.example"}); err != nil || second.Identity.Endpoint != "https://zone.example/me" {
		t.Errorf("%q, %v", second.Identity.Endpoint, err)
	}
	if e.API.BaseURLs[0] != "{api_domain}/v1" {
		t.Error("Resolve changed its receiver")
	}
}

func TestAVariableOfAConnectionIsOneThatTheEntryLeavesToIt(t *testing.T) {
	e := provider.Entry{
		TokenEndpoint: "https://{shop}.zone.example/{realm}", ConnectionVariables: []string{"shop"},
		Variables: map[string]string{"shop": "^[a-z]+$", "realm": "^[a-z]+$"},
	}
	if err := e.CheckOwnVariables(map[string]string{"shop": "acme"}); err != nil {
		t.Error(err)
	}
	if own := e.OwnVariables(map[string]string{"shop": "acme", "realm": "x", "team": "y"}); len(own) != 1 || own["shop"] != "acme" {
		t.Errorf("own %v", own)
	}
	for name, v := range map[string]string{"shop": "evil.example/", "realm": "x", "nothing": "x"} {
		err := e.CheckOwnVariables(map[string]string{name: v})
		if err == nil || strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuthorizeURLOfAProviderWithItsOwnNames(t *testing.T) {
	e := provider.Entry{
		AuthorizationEndpoint: "https://acme.example/auth", ScopeParam: "user_scope", RedirectURIValue: "{ru_name}", ScopeSeparator: ",",
		AuthorizationParams: map[string]string{"aud": "https://{base}", "app": "{client_id}"},
		Variables:           map[string]string{"ru_name": "^[A-Za-z-]+$", "base": "^[a-z.]+$"},
	}
	r := provider.AuthorizeRequest{ClientID: "id", RedirectURI: "https://app.example/cb", State: "st", Scopes: []string{"a", "b"}}
	if got, err := e.AuthorizeURL(r); err == nil || !strings.Contains(err.Error(), "has no value") {
		t.Errorf("%s, %v", got, err)
	}
	r.Variables = map[string]string{"ru_name": "Acme-RuName", "base": "fhir.example"}
	got, err := e.AuthorizeURL(r)
	if want := "https://acme.example/auth?app=id&aud=https%3A%2F%2Ffhir.example&client_id=id&redirect_uri=Acme-RuName&response_type=code&state=st&user_scope=a%2Cb"; err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
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
