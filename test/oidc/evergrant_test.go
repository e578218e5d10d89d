package oidc_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/wire"
)

// owner is whose connections the tests make, unless they say otherwise.
const owner = "tenant-1"

// returnTo is where the application wants its users back. No test goes there.
const returnTo = "https://app.example.com/settings/connected"

// stage is what all tests share.
type stage struct {
	binary   string  // evergrant
	rotating *server // each refresh token serves once; one sent again ends its grant
	brief    *server // likewise, with access tokens of briefLife
	constant *server // the refresh token stays
}

// briefLife is how long the access tokens of stage.brief live, s.
const briefLife = 20

func newStage(t *testing.T) *stage {
	t.Helper()
	if os.Getenv(referenceVariable) == "" {
		t.Skip(referenceVariable + " does not name the folder of oidc-provider; run make reference-oidc, then make test")
	}
	s := &stage{binary: filepath.Join(t.TempDir(), "evergrant")}
	build := exec.Command("go", "build", "-o", s.binary, "../../cmd/evergrant")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	s.rotating = startServer(t, 3600, true)
	s.brief = startServer(t, briefLife, true)
	s.constant = startServer(t, 3600, false)
	return s
}

// trial is one `evergrant serve` with one integration at a server, and the fault proxy
// between the two.
type trial struct {
	server *server
	proxy  *faultProxy
	client client
	url    string // of Evergrant

	http        http.Client // a connection for each request: restarts end them
	stage       *stage
	folder      string // of the configuration and the data
	key         string // the application's API key
	integration map[string]any
	process     *process
}

// option changes the integration before Evergrant starts.
type option func(integration, provider map[string]any)

func cookieMode(integration, _ map[string]any) { integration["binding"] = "cookie" }

func (s *stage) trial(t *testing.T, at *server, c client, options ...option) *trial {
	t.Helper()
	r := &trial{server: at, client: c, stage: s, folder: t.TempDir(), key: "evg_" + rand.Text(), proxy: startProxy(t, at)}
	r.url = "http://" + freeAddress(t)
	r.http.Transport = &http.Transport{DisableKeepAlives: true}
	provider := r.provider(at == s.constant)
	r.integration = map[string]any{
		"provider": provider, "client_id": c.ID, "scopes": []string{"openid", "read"}, "min_interval_s": 0,
		"return_to": []string{"https://app.example.com/settings/*"},
	}
	if c.Secret != "" {
		r.integration["client_secret"] = c.Secret
	}
	for _, change := range options {
		change(r.integration, provider)
	}
	t.Cleanup(func() { r.keptSecret(t) })
	r.start(t)
	return r
}

// provider describes the server as an operator would who has read its documentation.
func (r *trial) provider(constant bool) map[string]any {
	refresh := map[string]any{
		"supported": true, "rotation": "always", "previous_token": "dies_at_once", "reuse": "revokes_family",
		"old_access_token_dies_on_refresh": false,
	}
	if constant {
		refresh = map[string]any{"supported": true, "rotation": "none", "old_access_token_dies_on_refresh": false}
	}
	issuer := r.server.issuer
	return map[string]any{
		"issuer": issuer, "authorization_response_iss_parameter_supported": true,
		"authorization_endpoint": issuer + "/auth", "token_endpoint": r.proxy.endpoint,
		"revocation_endpoint": issuer + "/token/revocation", "token_endpoint_auth_method": r.client.Method,
		"grant_types_supported": []string{"authorization_code", "refresh_token", "client_credentials"},
		"pkce":                  "S256", "refresh": refresh,
		"identity": map[string]any{"endpoint": issuer + "/me", "id_field": "sub"},
	}
}

// freeAddress is one on which nobody listens. Its port is below those that the system
// gives to outgoing connections, so that it is still free after a restart.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(15000+mathrand.IntN(15000)))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start writes the configuration and runs Evergrant until the test ends.
func (r *trial) start(t *testing.T) {
	t.Helper()
	sum := sha256.Sum256([]byte(r.key))
	settings, err := json.Marshal(map[string]any{
		"public_url": r.url, "integrations": map[string]any{integrationName: r.integration},
		"api_keys": []any{map[string]any{
			"name": "backend", "hash": "sha256:" + hex.EncodeToString(sum[:]), "allow": []string{"connect", "token", "manage"},
			"integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.folder, "evergrant.yaml") // YAML takes JSON
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(r.stage.binary, "serve",
		"--config", file, "--data", filepath.Join(r.folder, "data"), "--listen", strings.TrimPrefix(r.url, "http://"))
	command.Dir = r.folder
	r.process, _ = start(t, "evergrant serve", command, "ready: "+r.url)
}

// restart ends Evergrant as an operator does, and starts it with what the integration
// holds by now.
func (r *trial) restart(t *testing.T) {
	t.Helper()
	r.process.stop(t)
	r.keptSecret(t)
	r.start(t)
}

// keptSecret checks that the process, which has ended, left no token, code, secret or
// key where anybody could read it: in its output, or in its data folder.
func (r *trial) keptSecret(t *testing.T) {
	t.Helper()
	if r.process == nil {
		return
	}
	left := map[string]string{"output": r.process.output()}
	files, err := filepath.Glob(filepath.Join(r.folder, "data", "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("the data folder cannot be read, or is empty: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		left[filepath.Base(file)] = string(b)
	}
	for _, text := range append(r.proxy.secrets(), r.key, r.client.Secret) {
		for where, wrote := range left {
			if text != "" && strings.Contains(wrote, text) {
				t.Errorf("evergrant serve wrote a secret into its %s", where)
			}
		}
	}
}

// request is one call of the application's backend. It reads a good answer into into,
// if that is not nil, and returns any other one. It may be used by many goroutines.
func (r *trial) request(method, path string, body, into any) (*wire.Problem, error) {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(b)
	}
	request, err := http.NewRequest(method, r.url+path, send)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+r.key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := r.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	decode := json.NewDecoder(answer.Body)
	if answer.StatusCode/100 == 2 {
		if into == nil {
			return nil, nil
		}
		return nil, decode.Decode(into)
	}
	problem := &wire.Problem{}
	if kind := answer.Header.Get("Content-Type"); kind != wire.ProblemType {
		return nil, fmt.Errorf("%s %s answered %d with %s", method, path, answer.StatusCode, kind)
	}
	return problem, decode.Decode(problem)
}

// try makes a request whose answer may be a problem.
func try[T any](t *testing.T, r *trial, method, path string, body any) (T, *wire.Problem) {
	t.Helper()
	var answer T
	problem, err := r.request(method, path, body, &answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer, problem
}

// must makes a request whose answer is no problem.
func must[T any](t *testing.T, r *trial, method, path string, body any) T {
	t.Helper()
	answer, problem := try[T](t, r, method, path, body)
	if problem != nil {
		t.Fatalf("%s %s: %s: %s", method, path, problem.Code, problem.Detail)
	}
	return answer
}

// refused checks that a problem has this code.
func refused(t *testing.T, problem *wire.Problem, code string) {
	t.Helper()
	if problem == nil {
		t.Fatalf("the request was accepted, want the problem %s", code)
	}
	if problem.Code != code {
		t.Fatalf("the problem is %s (%s), want %s", problem.Code, problem.Detail, code)
	}
}

func (r *trial) token(t *testing.T, id string) wire.Token {
	t.Helper()
	return must[wire.Token](t, r, http.MethodGet, "/v1/connections/"+id+"/token", nil)
}

// tokenRefused is a token read that ends in a problem, which it returns.
func (r *trial) tokenRefused(t *testing.T, id string) *wire.Problem {
	t.Helper()
	_, problem := try[wire.Token](t, r, http.MethodGet, "/v1/connections/"+id+"/token", nil)
	return problem
}

// refresh tells that the provider refused the token of a generation.
func (r *trial) refresh(t *testing.T, id string, generation int64) (wire.Token, *wire.Problem) {
	t.Helper()
	return try[wire.Token](t, r, http.MethodPost, "/v1/connections/"+id+"/refresh", wire.RefreshRequest{IfGeneration: generation})
}

func (r *trial) connection(t *testing.T, id string) wire.Connection {
	t.Helper()
	return must[wire.Connection](t, r, http.MethodGet, "/v1/connections/"+id, nil)
}

// isActive checks that a connection is active in this generation.
func (r *trial) isActive(t *testing.T, id string, generation int64) {
	t.Helper()
	if c := r.connection(t, id); c.Status != "active" || c.Generation != generation {
		t.Fatalf("the connection is %s in generation %d, want active in %d", c.Status, c.Generation, generation)
	}
}

// works checks that the server's API takes the token that Evergrant hands out, as that
// of the account, and returns it.
func (r *trial) works(t *testing.T, id, account string) wire.Token {
	t.Helper()
	token := r.token(t, id)
	if status, sub := r.server.userinfo(t, token.AccessToken); status != http.StatusOK || sub != account {
		t.Fatalf("the server's API answered %d to the token, for the account %q, want 200 for %q", status, sub, account)
	}
	return token
}

// session makes a connect session. The zero request is one for owner.
func (r *trial) session(t *testing.T, request wire.SessionRequest) wire.NewSession {
	t.Helper()
	request.Integration, request.ReturnTo = integrationName, returnTo
	if request.Owner == "" {
		request.Owner = owner
	}
	return must[wire.NewSession](t, r, http.MethodPost, "/v1/connect-sessions", request)
}

// confirm is the backend's word on what the browser brought back.
func (r *trial) confirm(t *testing.T, session wire.NewSession, token string) (wire.Connection, *wire.Problem) {
	t.Helper()
	return try[wire.Connection](t, r, http.MethodPost, "/v1/connect-sessions/"+session.ID+"/confirm", wire.ConfirmRequest{Confirm: token, Owner: owner})
}

// consent takes a person through the browser's part, and the backend through its own.
func (r *trial) consent(t *testing.T, request wire.SessionRequest) (wire.Connection, *wire.Problem) {
	t.Helper()
	session := r.session(t, request)
	back := newBrowser(t).follow(t, session.AuthorizeURL, returnTo).Query()
	if back.Get("evergrant_session") != session.ID {
		t.Errorf("the browser came back without its session")
	}
	if id := back.Get("evergrant_connection"); id != "" {
		return r.connection(t, id), nil
	}
	if back.Get("evergrant_confirm") == "" {
		t.Fatalf("the browser came back with the error %q", back.Get("evergrant_error"))
	}
	return r.confirm(t, session, back.Get("evergrant_confirm"))
}

// connect makes the connection of an account.
func (r *trial) connect(t *testing.T, account string) wire.Connection {
	t.Helper()
	c, problem := r.consent(t, wire.SessionRequest{LoginHint: account})
	if problem != nil {
		t.Fatalf("connect: %s: %s", problem.Code, problem.Detail)
	}
	if c.Status != "active" || c.Account == nil || c.Account.ID != account {
		t.Fatalf("the new connection is %s, with the account %v, want active with %s", c.Status, c.Account, account)
	}
	return c
}

// reconnect lets an account consent again for a connection.
func (r *trial) reconnect(t *testing.T, id, account string) (wire.Connection, *wire.Problem) {
	t.Helper()
	return r.consent(t, wire.SessionRequest{ConnectionID: id, LoginHint: account})
}
