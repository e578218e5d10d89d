package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// moment is where in a request to the provider the server is killed.
type moment int

const (
	never      moment = iota
	beforeActs        // the provider has the request and has done nothing
	acted             // it has acted, and its answer is not on the way
	answered          // its answer is on the way, and may be stored or not
	held              // it has not acted, and does once it is released
)

// interrupted is a provider that tells when a request at a path is at a moment, and
// but for the last moment goes no further.
type interrupted struct {
	next    http.Handler
	release chan struct{} // closed by the test

	mu     sync.Mutex
	path   string        // end of the path; guarded by mu
	at     moment        // guarded by mu
	struck chan struct{} // gets one for each request; guarded by mu
}

func (p *interrupted) arm(path string, at moment, room int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.path, p.at, p.struck = path, at, make(chan struct{}, room)
	return p.struck
}

func (p *interrupted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	at, struck := p.at, p.struck
	if !strings.HasSuffix(r.URL.Path, p.path) {
		at = never
	}
	p.mu.Unlock()
	// net/http sees that a caller is gone only once the body is read.
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	switch at {
	case never:
		p.next.ServeHTTP(w, r)
	case beforeActs:
		struck <- struct{}{}
		<-r.Context().Done()
	case acted:
		p.next.ServeHTTP(httptest.NewRecorder(), r)
		struck <- struct{}{}
		<-r.Context().Done()
	case answered:
		p.next.ServeHTTP(w, r)
		_ = http.NewResponseController(w).Flush() // whoever it was for may be dead
		struck <- struct{}{}
	case held:
		struck <- struct{}{}
		<-p.release
		p.next.ServeHTTP(w, r)
	}
}

// deployment is serve as a process of its own, with the folder and address that it
// keeps over its restarts.
type deployment struct {
	t       *testing.T
	api     *api
	address string
	folder  string
	env     []string // of the server, beside the test's own
	process *exec.Cmd
}

// start starts the server and waits until it is ready.
func (d *deployment) start() {
	d.t.Helper()
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	d.process = exec.Command(self, "serve", "--config", filepath.Join(d.folder, "evergrant.yaml"), "--data", filepath.Join(d.folder, "data"), "--listen", d.address)
	d.process.Env = append(append(os.Environ(), runServe+"=1"), d.env...)
	out, err := d.process.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	if _, _, err := awaitReady(out); err != nil {
		d.kill()
		d.t.Fatal(err)
	}
}

// kill ends the server without a word, as a loss of power does to a process.
func (d *deployment) kill() {
	_ = d.process.Process.Kill() // it may have ended
	_ = d.process.Wait()         // it was killed
}

func (d *deployment) call(method, path string, in, out any) error {
	return d.api.call(d.t.Context(), method, path, in, out)
}

// connect connects an owner at the simulated AskFRED.
func (d *deployment) connect(who *person, owner string) wire.Connection {
	d.t.Helper()
	var session wire.NewSession
	var conn wire.Connection
	request := wire.SessionRequest{Integration: "askfred", Owner: owner, ReturnTo: demoReturn}
	if err := d.call(http.MethodPost, "/v1/connect-sessions", request, &session); err != nil {
		d.t.Fatal(err)
	}
	back, err := who.consent(d.t.Context(), session.AuthorizeURL, demoReturn)
	if err != nil {
		d.t.Fatal(err)
	}
	confirm := wire.ConfirmRequest{Confirm: back.Query().Get("evergrant_confirm"), Owner: owner}
	if err := d.call(http.MethodPost, "/v1/connect-sessions/"+session.ID+"/confirm", confirm, &conn); err != nil {
		d.t.Fatal(err)
	}
	return conn
}

// TestKill9 kills the server while connections are being refreshed: before the
// provider acts, after it has acted, and while its answer is being stored. What was
// handed out before goes on working, and every connection is refreshed again once its
// lease is over. The provider forgives, as Doorkeeper does, until the lost token is
// used; at one that does not, nothing on our side could bring the answer back.
func TestKill9(t *testing.T) {
	t.Parallel()
	provider, sims := startInterrupted(t)
	d := newDeployment(t, sims)
	d.start()
	t.Cleanup(func() { d.kill() })
	who, err := newPerson("alice")
	if err != nil {
		t.Fatal(err)
	}
	const each = 4 // connections in a round; the kill comes when that many and fewer are struck
	var all []wire.Connection
	for round, at := range []moment{beforeActs, acted, answered, answered, answered} {
		var conns []wire.Connection
		for n := range each {
			conns = append(conns, d.connect(who, fmt.Sprintf("owner-%d-%d", round, n)))
		}
		all = append(all, conns...)
		struck := provider.arm("/oauth/token", at, each)
		var refreshing sync.WaitGroup
		for _, c := range conns {
			refreshing.Go(func() { _ = d.refresh(c) }) // the connection breaks when the server dies
		}
		for range max(1, each-round) {
			<-struck
		}
		d.kill()
		refreshing.Wait()
		provider.arm("", never, 0)
		d.start()
		for _, c := range conns {
			d.works(sims, c)
		}
	}
	// Those that were struck have a lease of a worker that is gone.
	for _, c := range all {
		d.await(func() error { return d.refresh(c) })
		d.works(sims, c)
	}
	d.endInterrupted(provider, all[0])
}

// endInterrupted kills the server between a connection's tombstone and its revocation.
func (d *deployment) endInterrupted(provider *interrupted, c wire.Connection) {
	d.t.Helper()
	struck := provider.arm("/oauth/revoke", beforeActs, 4)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.call(http.MethodDelete, "/v1/connections/"+c.ID, nil, nil) // broken by the kill
	}()
	<-struck
	d.kill()
	<-ended
	provider.arm("", never, 0)
	d.start()
	var problem apiError
	if err := d.call(http.MethodGet, "/v1/connections/"+c.ID+"/token", nil, nil); !errors.As(err, &problem) || problem.Status != http.StatusGone {
		d.t.Errorf("a token after the tombstone: %v", err)
	}
	var receipt wire.Receipt
	if err := d.call(http.MethodDelete, "/v1/connections/"+c.ID, nil, &receipt); err != nil {
		d.t.Fatal(err)
	}
	if receipt.Revoked != "at_provider" || receipt.Proof != "refresh_refused" {
		d.t.Errorf("receipt %+v", receipt)
	}
}

// refresh refreshes what is stored now, whichever generation that is.
func (d *deployment) refresh(c wire.Connection) error {
	var now wire.Connection
	if err := d.call(http.MethodGet, "/v1/connections/"+c.ID, nil, &now); err != nil {
		return err
	}
	return d.call(http.MethodPost, "/v1/connections/"+c.ID+"/refresh", wire.RefreshRequest{IfGeneration: now.Generation}, nil)
}

// works checks that the token of a connection is good at the provider, without using
// it there: its first use would end the one before.
func (d *deployment) works(sims *simprovider.Server, c wire.Connection) {
	d.t.Helper()
	var token wire.Token
	if err := d.call(http.MethodGet, "/v1/connections/"+c.ID+"/token", nil, &token); err != nil {
		d.t.Fatalf("token of %s: %v", c.Owner, err)
	}
	if info, ok := sims.Lookup("askfred", token.AccessToken); !ok || !info.Live {
		d.t.Errorf("the token of %s is dead at the provider", c.Owner)
	}
}

// await tries until there is no error. A lease is 35 s; twice that is too long.
func (d *deployment) await(try func() error) {
	d.t.Helper()
	retry, deadline := time.NewTicker(500*time.Millisecond), time.After(70*time.Second)
	defer retry.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-retry.C:
		case <-deadline:
			d.t.Fatal(err)
		}
	}
}

func startInterrupted(t *testing.T) (*interrupted, *simprovider.Server) {
	t.Helper()
	p := &interrupted{release: make(chan struct{})}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	sims := simprovider.New(simprovider.Config{BaseURL: srv.URL, TokenTTL: time.Hour})
	p.next = sims
	err := sims.SetPolicy("askfred", simprovider.Policy{Rotates: true, Previous: simprovider.DiesOnFirstUse})
	if err != nil {
		t.Fatal(err)
	}
	return p, sims
}

func newDeployment(t *testing.T, sims *simprovider.Server) *deployment {
	t.Helper()
	d := placeDeployment(t)
	endpoints := sims.Endpoints("askfred")
	client := simprovider.Client{ID: "a", Secret: "s", RedirectURIs: []string{"http://" + d.address + "/callback/askfred"}}
	if err := sims.Register("askfred", client); err != nil {
		t.Fatal(err)
	}
	d.configure("askfred", map[string]any{
		"client_id": client.ID, "client_secret": client.Secret, "return_to": []string{demoReturn},
		"provider": map[string]any{
			"authorization_endpoint": endpoints["authorization_endpoint"], "token_endpoint": endpoints["token_endpoint"],
			"revocation_endpoint": endpoints["revocation_endpoint"], "token_endpoint_auth_method": "client_secret_post", "pkce": "unsupported",
			"refresh": map[string]any{
				"supported": true, "rotation": "always", "previous_token": "dies_on_first_use_of_new", "reuse": "rejected", "old_access_token_dies_on_refresh": true,
			},
		},
	})
	return d
}

// placeDeployment is a deployment with a folder and an address, and without a
// configuration.
func placeDeployment(t *testing.T) *deployment {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{t: t, address: l.Addr().String(), folder: t.TempDir()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// configure writes a configuration of one integration, and a key for all that there is.
func (d *deployment) configure(integration string, settings map[string]any) {
	d.t.Helper()
	d.configureAll(map[string]map[string]any{integration: settings})
}

func (d *deployment) configureAll(integrations map[string]map[string]any) {
	d.t.Helper()
	key, hash := config.NewAPIKey()
	d.api = newAPI("http://"+d.address, key)
	file, err := json.Marshal(map[string]any{
		"integrations": integrations,
		"api_keys": []any{map[string]any{
			"name": "app", "hash": hash, "allow": []string{"connect", "token", "manage", "admin"}, "integrations": []string{"*"}, "owners": []string{"*"},
			"imports_per_minute": 1_000_000,
		}},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.folder, "evergrant.yaml"), file, 0o600); err != nil {
		d.t.Fatal(err)
	}
}
