package provider_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

func entryOf(t *testing.T, doc string) provider.Entry {
	t.Helper()
	var e provider.Entry
	d := json.NewDecoder(strings.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestValidateNamesEveryMistakeByItsField(t *testing.T) {
	e := entryOf(t, `{
		"authorization_endpoint": "http://provider.example/a",
		"token_endpoint": "https://{shop}.example/t",
		"revocation_endpoint": "https://a:b@provider.example/",
		"userinfo_endpoint": "https://",
		"refresh_endpoint": "https://provider.example/#x",
		"discovery_url": "ftp://127.0.0.1/",
		"variables": {"a": "(", "b": "[a-z]+", "c": "^x$"},
		"default_variables": {"c": "y", "d": "z"},
		"token_endpoint_auth_method": "tls_client_auth",
		"token_endpoint_auth_method_by_grant": {"password": "none"},
		"token_endpoint_auth_method_by_client": {"native": "none"},
		"pkce": "plain",
		"scope_separator": ", ",
		"authorization_params": {"state": "x"},
		"token_params": {"client_secret": "x"},
		"refresh_params": {"refresh_token": "x"},
		"token_headers": {"idempotency-key": "x", "X-Line": "a\nb"},
		"token_request_format": "xml",
		"expires_in_unit": "h",
		"dead_refresh_errors": ["a@b"], "dead_code_errors": ["@400"], "retry_errors": ["a~b~c"],
		"code_reuse_status": 500,
		"access_token_ttl_s": -1, "authorization_code_ttl_s": 700000000, "minimum_token_age_s": -5,
		"refresh": {"rotation": "maybe", "previous_token": "grace_s", "reuse": "x", "idle_lifetime_s": -1, "concurrent_limit": -1},
		"revocation": {"accepts": ["id_token"], "client_authentication": "x"},
		"api": {"base_urls": ["http://provider.example"], "extra_headers": {"Host": "x"}},
		"identity": {"method": "PUT", "body": "x", "id_field": "user.key.id", "never_keep": ["user.key"]},
		"keep": [{"from": "x", "field": "", "pattern": "("}, {"from": "token", "field": "access_token", "pattern": ".*"}, {"from": "token", "field": "b", "as": "access_token", "pattern": "x"}],
		"redirect_uri_rules": ["loose"],
		"evidence": {"pkce": {"source": "x", "kind": "guess"}}
	}`)
	err := e.Validate()
	if err == nil {
		t.Fatal("no mistake found")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, field := range []string{
		"authorization_endpoint", "token_endpoint", "revocation_endpoint", "userinfo_endpoint", "refresh_endpoint", "discovery_url",
		"variables.a", "variables.b", "default_variables.c", "default_variables.d",
		"token_endpoint_auth_method", "token_endpoint_auth_method_by_grant.password", "token_endpoint_auth_method_by_client.native",
		"pkce", "scope_separator", "authorization_params.state", "token_params.client_secret", "refresh_params.refresh_token",
		"token_headers.idempotency-key", "token_headers.X-Line", "token_request_format", "expires_in_unit",
		"dead_refresh_errors[0]", "dead_code_errors[0]", "retry_errors[0]", "code_reuse_status",
		"access_token_ttl_s", "authorization_code_ttl_s", "minimum_token_age_s",
		"refresh.rotation", "refresh.grace_s", "refresh.reuse", "refresh.idle_lifetime_s", "refresh.concurrent_limit",
		"revocation.accepts[0]", "revocation.client_authentication", "api.base_urls[0]", "api.extra_headers.Host",
		"identity.method", "identity.body", "identity.id_field",
		"keep[0].from", "keep[0].field", "keep[0].pattern", "keep[1].field", "keep[2].as",
		"redirect_uri_rules[0]", "evidence.pkce.kind",
	} {
		found := 0
		for _, l := range lines {
			if strings.HasPrefix(l, field+": ") {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is named %d times", field, found)
		}
	}
	if strings.Contains(err.Error(), "a:b") {
		t.Error("the mistakes repeat user info")
	}
}

func TestValidateNeedsTheEssentials(t *testing.T) {
	for doc, want := range map[string]string{
		`{}`: "token_endpoint: is missing\nauthorization_endpoint: is missing\ntoken_endpoint_auth_method: is missing; it is one of client_secret_basic, client_secret_basic_raw, client_secret_post, private_key_jwt, none, never guessed",
		`{"discovery_url":"https://a.example/.well-known/x","token_endpoint_auth_method":"none"}`:                                                                "",
		`{"token_endpoint":"https://a.example/t","token_endpoint_auth_method":"none","grant_types_supported":["client_credentials"]}`:                            "",
		`{"token_endpoint":"http://127.0.0.1:8081/t","authorization_endpoint":"http://[::1]/a","token_endpoint_auth_method":"none"}`:                             "",
		`{"token_endpoint":"http://localhost/t","authorization_endpoint":"http://127.0.0.1.example/a","token_endpoint_auth_method":"none"}`:                      "authorization_endpoint: must be https (http is admitted on loopback only)",
		`{"token_endpoint":"https://{s}.a.example/t","authorization_endpoint":"https://a.example/","variables":{"s":"^s$"},"token_endpoint_auth_method":"none"}`: "",
	} {
		got := ""
		if err := entryOf(t, doc).Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", doc, got, want)
		}
	}
}

func TestPublicClientNeedsPKCE(t *testing.T) {
	for id, want := range map[string]bool{"fflogs": true, "whenfresh": true, "askfred": false, "redbooth": false} {
		if err := lookup(t, id).ValidateClient(true); (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	secretNeverSent := provider.Entry{TokenEndpointAuthMethod: "none"}
	if err := secretNeverSent.ValidateClient(false); err == nil {
		t.Error("a secret that would never be sent was accepted")
	}
}

func TestAuthMethodIsExplicit(t *testing.T) {
	for _, c := range []struct {
		id     string
		grant  provider.Grant
		public bool
		want   string
	}{
		{"askfred", provider.GrantRefreshToken, false, "client_secret_post"},
		{"freeagent", provider.GrantAuthorizationCode, false, "client_secret_basic"},
		{"whenfresh", provider.GrantRefreshToken, false, "none"},
		{"whenfresh", provider.GrantClientCredentials, false, "client_secret_basic_raw"},
		{"fflogs", provider.GrantAuthorizationCode, true, "none"},
		{"fflogs", provider.GrantAuthorizationCode, false, "client_secret_basic_raw"},
	} {
		if got := lookup(t, c.id).AuthMethod(c.grant, c.public); got != c.want {
			t.Errorf("%s, %s, public %v: %s", c.id, c.grant, c.public, got)
		}
	}
}

func TestTriReadsThreeValues(t *testing.T) {
	e := entryOf(t, `{"refresh":{"supported":true,"old_access_token_dies_on_refresh":"unknown","allowed_before_expiry":false}}`)
	if e.Refresh.Supported != provider.Yes || e.Refresh.OldAccessTokenDiesOnRefresh != provider.Unknown || e.Refresh.AllowedBeforeExpiry != provider.No {
		t.Errorf("%+v", e.Refresh)
	}
	var tri provider.Tri
	for _, bad := range []string{`"yes"`, `1`, `{}`, `[]`} {
		if json.Unmarshal([]byte(bad), &tri) == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
