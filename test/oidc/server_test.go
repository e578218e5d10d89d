package oidc_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// referenceVariable names the folder in which oidc-provider lies.
const referenceVariable = "EVERGRANT_OIDC_PROVIDER"

// client is an application as it is registered at the server (RFC 7591 section 2).
type client struct {
	ID           string   `json:"client_id"`
	Secret       string   `json:"client_secret,omitempty"`
	Method       string   `json:"token_endpoint_auth_method"`
	RedirectURIs []string `json:"redirect_uris"`
	GrantTypes   []string `json:"grant_types,omitempty"`
	// Type is native, of which the server takes any port of a loopback redirect URI
	// (RFC 8252 section 7.3): the same client then serves every test.
	Type string `json:"application_type"`
}

// integrationName is the name of the integration in every test's configuration.
const integrationName = "acme"

func newClient(id, method, secret string) client {
	return client{
		ID: id, Secret: secret, Method: method, Type: "native",
		RedirectURIs: []string{"http://127.0.0.1/callback/" + integrationName},
	}
}

// specialSecret holds what Basic has to encode (RFC 6749 section 2.3.1).
const specialSecret = "p+a/s%s:w&o=r d%2F"

func basicClient() client  { return newClient("basic", "client_secret_basic", specialSecret) }
func postClient() client   { return newClient("post", "client_secret_post", specialSecret) }
func publicClient() client { return newClient("public", "none", "") }

// machineClient may also have tokens for itself.
func machineClient() client {
	c := newClient("machine", "client_secret_basic", "a machine's secret")
	c.GrantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}
	return c
}

// server is a running oidc-provider; server.mjs tells what it does.
type server struct{ issuer string }

// startServer runs one for as long as the test. ttl is the life of its access tokens, s.
func startServer(t *testing.T, ttl int, rotate bool) *server {
	t.Helper()
	options, err := json.Marshal(map[string]any{
		"clients": []client{basicClient(), postClient(), publicClient(), machineClient()}, "access_token_ttl_s": ttl, "rotate": rotate,
	})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("node", "server.mjs", string(options))
	command.Env = append(os.Environ(), "NODE_ENV=production")
	if _, err := command.StdinPipe(); err != nil { // it ends when this closes, at the latest with us
		t.Fatal(err)
	}
	_, line := start(t, "oidc-provider", command, `{"issuer"`)
	var ready struct{ Issuer string }
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		t.Fatal(err)
	}
	return &server{issuer: ready.Issuer}
}

// userinfo calls the server's API with an access token, and returns the HTTP status
// and whose token it is.
func (s *server) userinfo(t *testing.T, accessToken string) (status int, sub string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.issuer+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+accessToken)
	var answer struct{ Sub string }
	return s.send(t, r, &answer), answer.Sub
}

// active asks the server whether a token of c is valid (RFC 7662).
func (s *server) active(t *testing.T, c client, token string) bool {
	t.Helper()
	var answer struct{ Active bool }
	if status := s.post(t, "/token/introspection", c, url.Values{"token": {token}}, &answer); status != http.StatusOK {
		t.Fatalf("introspection answered %d", status)
	}
	return answer.Active
}

// revoke ends the whole grant, as a person does who removes the application.
func (s *server) revoke(t *testing.T, c client, refreshToken string) {
	t.Helper()
	if status := s.post(t, "/token/revocation", c, url.Values{"token": {refreshToken}}, nil); status != http.StatusOK {
		t.Fatalf("revocation answered %d", status)
	}
}

// spend sends a refresh token as somebody else would who got hold of it.
func (s *server) spend(t *testing.T, c client, refreshToken string) (code string) {
	t.Helper()
	var answer struct{ Error string }
	s.post(t, "/token", c, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}, &answer)
	return answer.Error
}

func (s *server) post(t *testing.T, path string, c client, form url.Values, into any) (status int) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	return s.send(t, r, into)
}

func (s *server) send(t *testing.T, r *http.Request, into any) (status int) {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s answered %d with no JSON: %v", r.URL.Path, answer.StatusCode, err)
		}
	}
	return answer.StatusCode
}
