// Package standin_test has OAuth clients of others refresh by stand-ins: golang.org/x/oauth2
// is tried beside the API's own tests, those of other languages here.
package standin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/httpapi"
)

// clientsVariable names the folder that make reference-oauth-clients fills.
const clientsVariable = "EVERGRANT_OAUTH_CLIENTS"

// programs are the commands of the clients, by library.
func programs(t *testing.T) map[string][]string {
	t.Helper()
	folder := os.Getenv(clientsVariable)
	if folder == "" {
		t.Skipf("%s is not set: make reference-oauth-clients fetches them", clientsVariable)
	}
	return map[string][]string{
		"simple-oauth2":     {"node", filepath.Join(folder, "simple-oauth2.mjs")},
		"openid-client":     {"node", filepath.Join(folder, "openid-client.mjs")},
		"requests-oauthlib": {filepath.Join(folder, "python", "bin", "python"), filepath.Join(folder, "requests_oauthlib_refresh.py")},
	}
}

// told is what a client is configured with.
type told struct {
	Endpoint     string `json:"endpoint"`
	RefreshToken string `json:"refreshToken"`
	ID           string `json:"id"`
	Secret       string `json:"secret"`
}

// answer is what a client made of it.
type answer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// client is one running program.
type client struct {
	name string
	in   io.WriteCloser
	out  *bufio.Scanner
}

// start runs a program until it is ready.
func start(t *testing.T, name string, command []string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it ended by itself, or by cancel
	})
	c := &client{name: name, in: in, out: bufio.NewScanner(out)}
	if !c.out.Scan() || c.out.Text() != "ready" {
		t.Fatalf("%s did not start", name)
	}
	return c
}

// refresh tells the client what with, and returns what came of it.
func (c *client) refresh(t *testing.T, with told) answer {
	t.Helper()
	c.tell(t, with)
	return c.answer(t)
}

func (c *client) tell(t *testing.T, with told) {
	t.Helper()
	line, err := json.Marshal(with)
	if err == nil {
		_, err = fmt.Fprintf(c.in, "%s\n", line)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *client) answer(t *testing.T) answer {
	t.Helper()
	var a answer
	if !c.out.Scan() {
		t.Fatalf("%s ended without an answer", c.name)
	}
	if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
		t.Fatalf("%s: %v: %s", c.name, err, c.out.Text())
	}
	return a
}

// deployment is a world whose API is served by two processes in turn, as by functions
// that scale out: they share nothing but the store.
func deployment(t *testing.T) (w *brokertest.World, conn string, made func(body string) told) {
	t.Helper()
	w = brokertest.New(t, brokertest.Options{Profile: "family"})
	var faces []http.Handler
	for range 2 {
		faces = append(faces, httpapi.New(w.HTTP(w.Start(func(c *broker.Config) { c.Pause = nil })))) // refreshes take real time here
	}
	var turn atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		faces[turn.Add(1)%2].ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	conn = w.ConnectHTTP(brokertest.Integration, "ada", "")
	return w, conn, func(body string) told {
		m := w.Call("manage", http.MethodPost, "/v1/connections/"+conn+"/stand-ins", body).Want(t, 201, "").JSON(t)
		with := told{Endpoint: server.URL + "/oauth/token", RefreshToken: m["stand_in"].(string), ID: "any", Secret: "thing"}
		if id, ok := m["client_id"].(string); ok {
			with.ID, with.Secret = id, m["client_secret"].(string)
		}
		return with
	}
}

// Fifteen programs in two languages, with three libraries, find their token expired at the
// same moment: the provider sees one refresh, and they all get the one token.
func TestManyProcessesOneRefresh(t *testing.T) {
	commands := programs(t)
	w, _, made := deployment(t)
	with := made(`{"name":"many"}`)
	var clients []*client
	for name, command := range commands {
		for range 5 {
			clients = append(clients, start(t, name, command))
		}
	}
	w.Advance(2 * brokertest.Life * time.Second)
	before := w.Sent("refresh_token")
	for _, c := range clients {
		c.tell(t, with)
	}
	access := ""
	for _, c := range clients {
		a := c.answer(t)
		if access == "" {
			access = a.AccessToken
		}
		if a.Error != "" || a.AccessToken == "" || a.AccessToken != access || a.RefreshToken != with.RefreshToken || a.ExpiresIn < 1 {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	if sent := w.Sent("refresh_token") - before; sent != 1 {
		t.Errorf("%d refreshes at the provider, want 1", sent)
	}
}

// Each library understands the refusals, and shows its client where that is demanded.
func TestLibrariesUnderstand(t *testing.T) {
	for name, command := range programs(t) {
		t.Run(name, func(t *testing.T) {
			w, conn, made := deployment(t)
			refresh := func(with told) answer { return start(t, name, command).refresh(t, with) }
			own := made(`{"name":"own client","with_client":true}`)
			if a := refresh(own); a.AccessToken == "" {
				t.Errorf("with its own client: %+v", a)
			}
			other := own
			other.Secret = "wrong"
			if a := refresh(other); a.Error != "invalid_client" { // in the body or the header, as the library has it
				t.Errorf("with another client: %+v", a)
			}
			w.UserEnds("alice")
			w.Call("all", http.MethodPost, "/v1/connections/"+conn+"/refresh", `{"if_generation":1}`).Want(t, 409, "needs_reauth")
			if a := refresh(own); a.Error != "invalid_grant" || a.Description == "" {
				t.Errorf("the user has to consent again: %+v", a)
			}
		})
	}
}
