package provider_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/google/go-cmp/cmp"
)

// answering replies with this status and body to every request.
func answering(status int, body string) func(net.Conn, int) bool {
	return reply(fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: /elsewhere\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body))
}

func TestIdentityReadsTheNamedFieldsOnly(t *testing.T) {
	rest := provider.Identity{IDField: "user.id", NameField: "user.names[0]"}
	for name, c := range map[string]struct {
		identity provider.Identity
		body     string
		want     provider.Account
	}{
		"number":   {rest, `{"user":{"id":42,"names":["Ann\u202e"],"api_token":"CANARY"}}`, provider.Account{ID: "42", Name: "Ann "}},
		"string":   {rest, `{"user":{"id":"u-1","names":[]}}`, provider.Account{ID: "u-1"}},
		"echo":     {rest, `{"user":{"id":"u-1","names":["CANARY-at"]}}`, provider.Account{ID: "u-1", Name: "[redacted]"}},
		"no id":    {rest, `{"user":{"names":["Ann"]}}`, provider.Account{}},
		"no path":  {rest, `{"user":[]}`, provider.Account{}},
		"null":     {rest, `{"user":{"id":null}}`, provider.Account{}},
		"too long": {rest, `{"user":{"id":"` + strings.Repeat("x", 257) + `"}}`, provider.Account{}},
		"controls": {rest, `{"user":{"id":"a\nb"}}`, provider.Account{}},
		"garbage":  {rest, `{"user":{"id":"a"}} x`, provider.Account{}},
		"list":     {rest, `[{"user":{"id":"a"}}]`, provider.Account{}},
	} {
		w := newWire(t, answering(200, c.body))
		c.identity.Endpoint = w.URL + "/me"
		client := &provider.Client{AllowLoopback: true}
		got, err := client.Identity(t.Context(), provider.Entry{Identity: c.identity}, secret.New("CANARY-at"), "Bearer")
		if got != c.want || (err == nil) != (c.want != provider.Account{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", name, err)
		}
		if r := w.requests()[0]; r.Method != "GET" || r.Header.Get("Authorization") != "Bearer CANARY-at" || r.Header.Get("User-Agent") == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestIdentityAsksAsTheProviderWants(t *testing.T) {
	w := newWire(t, answering(200, `{"data":{"userData":{"currentUser":{"id":7,"name":"Bea"}}},"sub":"s-1"}`))
	c := &provider.Client{AllowLoopback: true}
	e := lookup(t, "fflogs")
	e.Identity.Endpoint = w.URL + "/api/v2/user"
	a, err := c.Identity(t.Context(), e, secret.New("at"), "Bearer")
	if err != nil || a != (provider.Account{ID: "7", Name: "Bea"}) {
		t.Errorf("%+v, %v", a, err)
	}
	custom := provider.Entry{
		UserinfoEndpoint: w.URL + "/userinfo",
		API: provider.API{
			AuthHeaderScheme: "none", AuthHeaderName: "X-Token", ExtraHeaders: map[string]string{"X-Version": "3"},
		},
	}
	if a, err := c.Identity(t.Context(), custom, secret.New("at"), ""); err != nil || a.ID != "s-1" {
		t.Errorf("userinfo: %+v, %v", a, err)
	}
	all := w.requests()
	if r := all[0]; r.Method != "POST" || r.Body != `{"query":"{ userData { currentUser { id name } } }"}` || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", r)
	}
	if r := all[1]; r.Header.Get("X-Token") != "at" || r.Header.Get("X-Version") != "3" || r.Header.Get("Authorization") != "" {
		t.Errorf("%+v", r)
	}
}

func TestIdentityFailures(t *testing.T) {
	c := &provider.Client{AllowLoopback: true}
	for _, id := range []string{"askfred", "whenfresh"} {
		if _, err := c.Identity(t.Context(), lookup(t, id), secret.New("at"), "Bearer"); !errors.Is(err, provider.ErrNoIdentity) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, status := range []int{302, 401, 500} {
		w := newWire(t, answering(status, `{"id":"1"}`))
		e := provider.Entry{Identity: provider.Identity{Endpoint: w.URL + "/me?key=CANARY", IDField: "id"}}
		_, err := c.Identity(t.Context(), e, secret.New("at"), "Bearer")
		if err == nil || strings.Contains(err.Error(), "CANARY") || len(w.requests()) != 1 {
			t.Errorf("%d: %v, %d requests", status, err, len(w.requests()))
		}
	}
}

func TestRevoke(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   provider.RevokeResult
	}{
		"done":             {200, "", provider.RevokeDone},
		"done with a body": {200, "{}", provider.RevokeDone},
		"no content":       {204, "", provider.RevokeDone},
		"already gone":     {400, `{"error":"invalid_token"}`, provider.RevokeDone},
		"not this kind":    {400, `{"error":"unsupported_token_type"}`, provider.RevokeUnsupported},
		"wrong client":     {401, `{"error":"invalid_client"}`, provider.RevokeRefused},
		"bare refusal":     {400, "", provider.RevokeRefused},
		"error in a 200":   {200, `{"ok":false,"error":"invalid_auth"}`, provider.RevokeRefused},
		"later in a 200":   {200, `{"ok":false,"error":"ratelimited"}`, provider.RevokeRetry},
		"firewall":         {403, "<html>", provider.RevokeRetry},
		"too many":         {429, "", provider.RevokeRetry},
		"broken":           {502, "", provider.RevokeRetry},
		"broken for now":   {400, `{"error":"server_error"}`, provider.RevokeRetry},
		"redirect":         {307, "", provider.RevokeRefused},
	} {
		w := newWire(t, answering(c.status, c.body))
		client := &provider.Client{AllowLoopback: true}
		e := provider.Entry{RevocationEndpoint: w.URL + "/revoke", TokenEndpointAuthMethod: "client_secret_basic"}
		cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("key")}
		if got := client.Revoke(t.Context(), e, cred, secret.New("tok"), "refresh_token"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		all := w.requests()
		if len(all) != 1 || all[0].Body != "token=tok&token_type_hint=refresh_token" || all[0].Header.Get("Authorization") != "Basic aWQ6a2V5" {
			t.Errorf("%s: %+v", name, all)
		}
	}
}

func TestRevokeSpeaksTheEntrysDialect(t *testing.T) {
	w := newWire(t, answering(200, "{}"))
	c := &provider.Client{AllowLoopback: true}
	e := lookup(t, "askfred")
	e.RevocationEndpoint = w.URL + "/oauth/revoke"
	cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("key")}
	if got := c.Revoke(t.Context(), e, cred, secret.New("tok"), "access_token"); got != provider.RevokeDone {
		t.Errorf("askfred: %s", got)
	}
	if r := w.requests()[0]; r.Body != "client_id=id&client_secret=key&token=tok" || r.Header.Get("Authorization") != "" {
		t.Errorf("%+v", r)
	}
	for _, id := range []string{"freeagent", "redbooth", "whenfresh", "fflogs"} {
		if got := c.Revoke(t.Context(), lookup(t, id), cred, secret.New("tok"), "refresh_token"); got != provider.RevokeUnsupported {
			t.Errorf("%s: %s", id, got)
		}
	}
	e.Revocation.Accepts = []string{"refresh_token"}
	if got := c.Revoke(t.Context(), e, cred, secret.New("tok"), "access_token"); got != provider.RevokeUnsupported {
		t.Errorf("kind not accepted: %s", got)
	}
	if got := c.Revoke(t.Context(), e, cred, secret.Text{}, "refresh_token"); got != provider.RevokeRefused {
		t.Errorf("no token: %s", got)
	}
	e.RevocationEndpoint = "http://" + unusedAddress(t)
	if got := c.Revoke(t.Context(), e, cred, secret.New("tok"), "refresh_token"); got != provider.RevokeRetry {
		t.Errorf("nobody there: %s", got)
	}
}

func TestDiscoverIsLenientButNotCareless(t *testing.T) {
	c := &provider.Client{AllowLoopback: true}
	bare := newWire(t, answering(200, `{"authorization_endpoint" : "https://id.api.example/oauth2/authorize", "token_endpoint" : "https://id.api.example/oauth2/token"}`))
	m, err := c.Discover(t.Context(), bare.URL+"/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(provider.Metadata{AuthorizationEndpoint: "https://id.api.example/oauth2/authorize", TokenEndpoint: "https://id.api.example/oauth2/token"}, m); diff != "" {
		t.Error(diff)
	}
	e := provider.Entry{TokenEndpoint: "https://own.example/token"}.WithMetadata(m)
	if e.TokenEndpoint != "https://own.example/token" || e.AuthorizationEndpoint != m.AuthorizationEndpoint {
		t.Errorf("%+v", e)
	}
	for name, play := range map[string]func(net.Conn, int) bool{
		"plain http":     answering(200, `{"token_endpoint":"http://id.api.example/token"}`),
		"other scheme":   answering(200, `{"jwks_uri":"file:///etc/passwd"}`),
		"user info":      answering(200, `{"revocation_endpoint":"https://a:b@id.api.example/"}`),
		"not found":      answering(404, `{}`),
		"redirect":       answering(302, ``),
		"not JSON":       answering(200, `<html>`),
		"nothing at all": func(net.Conn, int) bool { return false },
		"cut": func(c net.Conn, _ int) bool {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
			return false
		},
	} {
		w := newWire(t, play)
		if m, err := c.Discover(t.Context(), w.URL+"/?key=CANARY"); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	strict := &provider.Client{}
	if _, err := strict.Discover(t.Context(), bare.URL); err == nil {
		t.Error("plain http on loopback without leave")
	}
}
