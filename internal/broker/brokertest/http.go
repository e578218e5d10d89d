package brokertest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/provider"
)

// ARNHeader stands for the gateway's word about its caller: HTTP takes an ARN from it.
const ARNHeader = "Test-Arn"

// keys are the API keys of every World: one of each scope, "all" with all of them, and
// "stranger", whose owners begin with "x-".
func keys() []config.APIKey {
	all := []string{"connect", "token", "manage", "admin"}
	out := []config.APIKey{
		{Name: "all", Rights: config.Rights{Allow: all, Integrations: []string{"*"}, Owners: []string{"*"}}},
		{Name: "stranger", Rights: config.Rights{Allow: all[:3], Integrations: []string{"*"}, Owners: []string{"x-*"}}},
	}
	for _, scope := range all {
		out = append(out, config.APIKey{Name: scope, Rights: config.Rights{Allow: []string{scope}, Integrations: []string{"*"}, Owners: []string{"*"}}})
	}
	return out
}

// Key is the text of the API key of that name: all, connect, token, manage, admin,
// stranger, or one of the Options.
func (w *World) Key(name string) string {
	w.T.Helper()
	key, ok := w.apiKeys[name]
	if !ok {
		w.T.Fatalf("there is no key %q", name)
	}
	return key
}

// HTTP is what the API over a process is made of.
func (w *World) HTTP(p *Process) httpapi.Config {
	return httpapi.Config{
		Broker: p.Broker, Keys: p.Settings, Log: slog.New(slog.NewJSONHandler(w.Log, nil)), Now: p.now, Version: "v1.2.3",
		Catalog: config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs},
		IAMCaller: func(r *http.Request) (string, bool) {
			arn := r.Header.Get(ARNHeader)
			return arn, arn != ""
		},
		Admin: httpapi.Commands(p.Broker),
	}
}

// Serve has Origin answer by the API that c describes, from now on.
func (w *World) Serve(c httpapi.Config) {
	h := httpapi.New(c)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.front = h
}

func (w *World) serveFront(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	h := w.front
	w.mu.Unlock()
	h.ServeHTTP(rw, r)
}

// Browser is a browser, or a backend: it follows no redirect by itself, and ends the test
// where it gets no answer.
type Browser struct {
	Client *http.Client
	t      testing.TB
}

// NewBrowser is a browser with an empty jar. transport nil: the network.
func NewBrowser(t testing.TB, transport http.RoundTripper) *Browser {
	jar, _ := cookiejar.New(nil) // never fails
	return &Browser{t: t, Client: &http.Client{
		Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Browser is another person's browser.
func (w *World) Browser() *Browser { return NewBrowser(w.T, w.Transport) }

// Do sends a request.
func (b *Browser) Do(r *http.Request) Answer {
	b.t.Helper()
	res, err := b.Client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return Answer{res.StatusCode, res.Header, string(body)}
}

// Open opens an address.
func (b *Browser) Open(address string) Answer {
	b.t.Helper()
	return b.Do(newRequest(b.t, http.MethodGet, address, ""))
}

// Follow opens an address and whatever that leads to, up to an answer that is no redirect
// or an address that does not begin with within.
func (b *Browser) Follow(address, within string) (last string, a Answer) {
	b.t.Helper()
	for range 10 {
		a = b.Open(address)
		to := a.Header.Get("Location")
		if to == "" {
			return address, a
		}
		address = a.Location(b.t).String()
		if !strings.HasPrefix(address, within) {
			return address, a
		}
	}
	b.t.Fatalf("%d redirects", 10)
	return "", Answer{}
}

// Decide answers the consent page of a simulated provider by allow or deny, as a user, ""
// for the page's own choice. It returns where the provider sends the browser.
func (b *Browser) Decide(page, decision, user string) *url.URL {
	b.t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		b.t.Fatal(err)
	}
	form := u.Query()
	form.Set("decision", decision)
	if user != "" {
		form.Set("user", user)
	}
	u.RawQuery = ""
	r := newRequest(b.t, http.MethodPost, u.String(), form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.Do(r).Location(b.t)
}

func newRequest(t testing.TB, method, address, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Answer is an answer, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Want ends the test unless the answer has the status and, unless it is "", the text:
// the code of an error, for example.
func (a Answer) Want(t testing.TB, status int, text string) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if text != "" && !strings.Contains(a.Body, text) {
		t.Fatalf("answer does not say %s: %s", text, a.Body)
	}
	return a
}

// Location is where the answer sends a browser, which must be somewhere.
func (a Answer) Location(t testing.TB) *url.URL {
	t.Helper()
	to, err := url.Parse(a.Header.Get("Location"))
	if err != nil || to.Host == "" {
		t.Fatalf("no redirect but %d: %s", a.Status, a.Body)
	}
	return to
}

// JSON reads the answer's body, which must be an object.
func (a Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(a.Body), &m); err != nil {
		t.Fatalf("answer %d is no JSON object: %v: %s", a.Status, err, a.Body)
	}
	return m
}

// Request is a request to the API with the key of a name, "" for none. body is JSON, ""
// for none.
func (w *World) Request(key, method, path, body string) *http.Request {
	w.T.Helper()
	r := newRequest(w.T, method, w.Origin+path, body)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+w.Key(key))
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// Call is one call of the API by a backend; see Request.
func (w *World) Call(key, method, path, body string) Answer {
	w.T.Helper()
	return w.Browser().Do(w.Request(key, method, path, body))
}

// Session makes a connect session by the key "all" that comes back to ReturnTo, and
// returns its id and link.
func (w *World) Session(integration, owner string) (id, link string) {
	w.T.Helper()
	body := `{"integration":"` + integration + `","owner":"` + owner + `","return_to":"` + ReturnTo + `"}`
	m := w.Call("all", http.MethodPost, "/v1/connect-sessions", body).Want(w.T, http.StatusCreated, "").JSON(w.T)
	id, link = m["id"].(string), m["authorize_url"].(string)
	w.Secret(id)
	return id, link
}

// Return takes a browser through a link and the provider, where the user consents, and
// returns the parameters with which it comes back to the application.
func (w *World) Return(b *Browser, link, user string) url.Values {
	w.T.Helper()
	home := b.Open(w.ToCallback(b, link, user)).Location(w.T)
	if !strings.HasPrefix(home.String(), ReturnTo) {
		w.T.Fatalf("the browser ends at %s", home.Host)
	}
	if confirm := home.Query().Get("evergrant_confirm"); confirm != "" {
		w.Secret(confirm)
	}
	return home.Query()
}

// ToCallback is the first half of Return: it ends with the address of our callback, code
// and state in it, which was not opened yet.
func (w *World) ToCallback(b *Browser, link, user string) string {
	w.T.Helper()
	page := b.Open(link)
	for _, c := range (&http.Response{Header: page.Header}).Cookies() {
		w.Secret(c.Value)
	}
	back := b.Decide(page.Location(w.T).String(), "allow", user)
	for _, name := range []string{"code", "state"} {
		if v := back.Query().Get(name); v != "" {
			w.Secret(v)
		}
	}
	return back.String()
}

// Confirm sends a confirm token to its session by the key of a name.
func (w *World) Confirm(key, session, confirm, owner string) Answer {
	w.T.Helper()
	return w.Call(key, http.MethodPost, "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+confirm+`","owner":"`+owner+`"}`)
}

// ConnectHTTP takes a user through a whole connect flow and returns the connection's id:
// by a confirm token where one comes back, else as the session says.
func (w *World) ConnectHTTP(integration, owner, user string) string {
	w.T.Helper()
	session, link := w.Session(integration, owner)
	if confirm := w.Return(w.Browser(), link, user).Get("evergrant_confirm"); confirm != "" {
		return w.Confirm("all", session, confirm, owner).Want(w.T, http.StatusOK, "").JSON(w.T)["id"].(string)
	}
	m := w.Call("all", http.MethodGet, "/v1/connect-sessions/"+session, "").Want(w.T, http.StatusOK, "").JSON(w.T)
	id, ok := m["connection_id"].(string)
	if !ok {
		w.T.Fatalf("the session is %v", m["status"])
	}
	return id
}
