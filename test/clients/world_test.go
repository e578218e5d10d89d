package clients_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
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

// returnTo is where browsers come back to. Nobody listens there.
const returnTo = "http://127.0.0.1:9/back"

// user is whose account all connections are of.
const user = "alice"

// world is a built evergrant that serves, simulated providers, and before both a proxy that
// records. Clients of any language reach it by its control address.
type world struct {
	t       *testing.T
	binary  string
	folder  string
	address string // of serve
	key     string
	sims    *simprovider.Server
	front   *httptest.Server // before serve; under /api/ it is a provider's API
	control *httptest.Server

	mu       sync.Mutex
	serve    *exec.Cmd       // guarded by mu
	starting sync.WaitGroup  // starts that were put off
	recorded []received      // guarded by mu
	refused  map[string]bool // access tokens that the API refuses; guarded by mu
	owners   int             // made so far; one script is played at a time
}

// received is a request as it came, in the form that the vectors are held to.
type received struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"` // as it was escaped
	Query   map[string]string `json:"query"`
	Headers map[string]string `json:"headers"`
	Text    string            `json:"text"`
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, folder: t.TempDir(), refused: map[string]bool{}}
	w.binary = filepath.Join(w.folder, "evergrant")
	if said, err := exec.Command("go", "build", "-o", w.binary, "../../cmd/evergrant").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	var sims http.Handler
	simServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { sims.ServeHTTP(rw, r) }))
	t.Cleanup(simServer.Close)
	w.sims = simprovider.New(simprovider.Config{BaseURL: simServer.URL, TokenTTL: time.Hour, FreeAgentModern: true})
	sims = w.sims
	w.address = freeAddress(t)
	w.configure()
	w.start()
	t.Cleanup(w.kill)
	w.front = httptest.NewServer(http.HandlerFunc(w.serveFront))
	t.Cleanup(w.front.Close)
	w.control = httptest.NewServer(http.HandlerFunc(w.serveControl))
	t.Cleanup(w.control.Close)
	return w
}

// freeAddress is one on which nobody listens, and which stays the same over restarts.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// configure writes evergrant.yaml, in which the catalogue's entries lead to the simulators.
func (w *world) configure() {
	w.t.Helper()
	key, hash := config.NewAPIKey()
	w.key = key.Reveal()
	integrations := map[string]any{}
	for _, name := range []string{"askfred", "freeagent", "whenfresh"} {
		entry := map[string]any{"id": name, "extends": name}
		at := w.sims.Endpoints(name)
		for _, endpoint := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "discovery_url"} {
			if at[endpoint] != "" {
				entry[endpoint] = at[endpoint]
			}
		}
		if at["discovery_url"] != "" {
			entry["authorization_endpoint"], entry["token_endpoint"] = "", "" // found there
		}
		if at["identity.endpoint"] != "" {
			entry["identity"] = map[string]any{"endpoint": at["identity.endpoint"]}
		}
		// No schedule: one that comes due in the middle of a script would be in its requests.
		integration := map[string]any{"provider": entry, "refresh": "on_demand"}
		if name == "whenfresh" {
			entry["grant_types_supported"] = []string{"refresh_token"}
		} else {
			c := simprovider.Client{ID: "app", Secret: "simulated", RedirectURIs: []string{"http://" + w.address + "/callback/" + name}}
			if err := w.sims.Register(name, c); err != nil {
				w.t.Fatal(err)
			}
			integration["client_id"], integration["client_secret"], integration["return_to"] = c.ID, c.Secret, []string{returnTo}
		}
		integrations[name] = integration
	}
	file, err := json.Marshal(map[string]any{
		"integrations": integrations,
		"api_keys": []any{map[string]any{
			"name": "app", "hash": hash, "allow": []string{"connect", "token", "manage", "admin", "metrics"}, "integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.folder, "evergrant.yaml"), file, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start starts the server and returns once it is ready.
func (w *world) start() {
	cmd := exec.Command(w.binary, "serve", "--config", filepath.Join(w.folder, "evergrant.yaml"), "--data", filepath.Join(w.folder, "data"), "--listen", w.address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Error(err)
		return
	}
	log, err := os.OpenFile(filepath.Join(w.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		w.t.Error(err)
		return
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready: ") {
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve = cmd
	if !strings.HasPrefix(lines.Text(), "ready: ") {
		said, err := os.ReadFile(log.Name())
		w.t.Errorf("serve did not start: %s %v", said, err)
	}
}

// kill ends the server as kill -9 does, and waits for one that is to start yet.
func (w *world) kill() {
	w.starting.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serve == nil {
		return
	}
	_ = w.serve.Process.Kill() // it may have ended
	_ = w.serve.Wait()         // it was killed
	w.serve = nil
}

// serveFront records the request. Under /api/ it is a provider's API; else it hands the request
// on to serve, and breaks the connection where serve does not answer.
func (w *world) serveFront(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	got := received{Method: r.Method, Path: r.URL.EscapedPath(), Query: map[string]string{}, Headers: map[string]string{}, Text: string(body)}
	for name := range r.URL.Query() {
		got.Query[name] = r.URL.Query().Get(name)
	}
	for name := range r.Header {
		got.Headers[name] = r.Header.Get(name)
	}
	w.mu.Lock()
	w.recorded = append(w.recorded, got)
	w.mu.Unlock()
	if strings.HasPrefix(got.Path, "/api/") {
		w.serveAPI(rw, r)
		return
	}
	own, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+w.address+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	own.Header = r.Header.Clone()
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(own)
	if err != nil {
		w.t.Logf("serve does not answer %s %s: %v", r.Method, r.URL.Path, err)
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		rw.Header()[name] = values
	}
	if resp.StatusCode >= 500 || resp.Header.Get("Retry-After") != "" {
		w.t.Logf("%s %s is answered %d, to be repeated after %q", r.Method, r.URL.Path, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	rw.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(rw, resp.Body) // a client that is gone is seen by what it misses
}

// serveAPI takes the tokens that AskFRED takes, but for those that the test had refused.
func (w *world) serveAPI(rw http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	info, known := w.sims.Lookup("askfred", token)
	w.mu.Lock()
	good := known && info.Live && !info.Refresh && !w.refused[token]
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	if !good {
		rw.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = fmt.Fprintf(rw, `{"ok":%t}`, good)
}

// serveControl is what the clients' tests ask for.
func (w *world) serveControl(rw http.ResponseWriter, r *http.Request) {
	var in map[string]any
	err := json.NewDecoder(r.Body).Decode(&in)
	var out any
	switch {
	case err != nil:
	case r.URL.Path == "/begin":
		w.take()
		out = map[string]any{"base_url": w.front.URL, "api_url": w.front.URL, "key": w.key}
	case r.URL.Path == "/requests":
		out = w.take()
	case r.URL.Path == "/world":
		out, err = w.do(in)
	default:
		err = errors.New("no such path")
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	if err := json.NewEncoder(rw).Encode(out); err != nil {
		w.t.Error(err)
	}
}

// take returns what was recorded since the last time.
func (w *world) take() []received {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.recorded
	w.recorded = []received{}
	return list
}

// do does a step of the world, and returns what variables stand for from now on.
func (w *world) do(in map[string]any) (map[string]any, error) {
	text := func(name string) string { s, _ := in[name].(string); return s }
	bound := map[string]any{}
	switch in["world"] {
	case "connect":
		// An owner of its own each time, so that lists hold what this script made.
		w.owners++
		owner := fmt.Sprintf("%s-%d", text("owner"), w.owners)
		if before, ok := in["same_owner"].(string); ok {
			owner = before
		}
		id, err := w.connect(text("integration"), owner)
		bound[text("bind")], bound["$owner"] = id, owner
		return bound, err
	case "consent":
		back, err := w.consent(text("link"))
		bound[text("bind")] = back.Get("evergrant_confirm")
		return bound, err
	case "refresh_token":
		bound[text("bind")] = w.sims.IssueRefreshToken(text("integration"), user)
	case "refuse":
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused[text("token")] = true
	case "revoke_user":
		w.sims.RevokeUser("askfred", user)
	case "restart":
		w.kill()
		w.start()
	case "kill":
		w.kill()
		after, ok := in["start_after_s"].(float64)
		if !ok {
			return nil, errors.New("start_after_s is missing")
		}
		w.starting.Go(func() {
			<-time.After(time.Duration(after * float64(time.Second)))
			w.start()
		})
	default:
		return nil, fmt.Errorf("the world has no %v", in["world"])
	}
	return bound, nil
}

// connect connects an owner, without passing the proxy.
func (w *world) connect(integration, owner string) (string, error) {
	var session wire.NewSession
	if err := w.call("/v1/connect-sessions", wire.SessionRequest{Integration: integration, Owner: owner, ReturnTo: returnTo}, &session); err != nil {
		return "", err
	}
	back, err := w.consent(session.AuthorizeURL)
	if err != nil {
		return "", err
	}
	var conn wire.Connection
	err = w.call("/v1/connect-sessions/"+session.ID+"/confirm", wire.ConfirmRequest{Confirm: back.Get("evergrant_confirm"), Owner: owner}, &conn)
	return conn.ID, err
}

func (w *world) call(path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+w.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+w.key)
	r.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %d %s %w", path, resp.StatusCode, text, err)
	}
	return json.Unmarshal(text, out)
}

// consent takes a browser through a link and the provider's form, and returns the parameters
// with which it comes back.
func (w *world) consent(link string) (url.Values, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	at := link
	for range 5 {
		u, err := url.Parse(at)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(at, returnTo) {
			return u.Query(), nil
		}
		form := u.Query()
		form.Set("decision", "allow")
		form.Set("user", user)
		u.RawQuery = ""
		visit := func() (*http.Response, error) { return browser.Get(at) }
		if strings.HasPrefix(u.Path, "/sim/") {
			visit = func() (*http.Response, error) { return browser.PostForm(u.String(), form) }
		}
		resp, err := visit()
		if err != nil {
			return nil, err
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		if at = resp.Header.Get("Location"); at == "" {
			return nil, fmt.Errorf("%s answered %d and leads nowhere", u.Path, resp.StatusCode)
		}
	}
	return nil, errors.New("the browser goes round in circles")
}
