package oidc_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// faultProxy stands before a server's token endpoint, and does to one request what a
// test asks for. It knows each token that went through it, which nothing else outside
// Evergrant does.
type faultProxy struct {
	endpoint string // the token endpoint, by way of the proxy
	target   string // the token endpoint itself

	mu       sync.Mutex
	faults   []fault      // of the next requests; guarded by mu
	requests []url.Values // in the order of their coming; guarded by mu
	answers  []tokens     // in the order of the server's giving, lost ones too; guarded by mu
}

// tokens are what an answer of the token endpoint brought.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// fault is what happens to one request. The zero fault is none.
type fault struct {
	status int   // answered in the server's stead, which does not see the request
	drop   bool  // the server acts, and its answer is lost
	hold   *gate // the server acts, and its answer has to wait
}

// gate holds an answer back.
type gate struct {
	arrived chan struct{} // closed when the answer stands before it
	open    chan struct{} // to be closed
}

func newGate() *gate { return &gate{arrived: make(chan struct{}), open: make(chan struct{})} }

func startProxy(t *testing.T, s *server) *faultProxy {
	t.Helper()
	p := &faultProxy{target: s.issuer + "/token"}
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	p.endpoint = front.URL + "/token"
	return p
}

// next says what becomes of the next token request that has no fault before it.
func (p *faultProxy) next(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}

// ServeHTTP implements http.Handler.
func (p *faultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := p.note(body)
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	answer, got := p.forward(r, body)
	p.learn(got)
	if f.hold != nil {
		close(f.hold.arrived)
		select {
		case <-f.hold.open:
		case <-r.Context().Done(): // whoever asked has gone
		}
	}
	if f.drop {
		panic(http.ErrAbortHandler) // net/http closes the connection without an answer
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(got)
}

// note keeps the request and takes the fault that is meant for it.
func (p *faultProxy) note(body []byte) fault {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, form)
	if len(p.faults) == 0 {
		return fault{}
	}
	f := p.faults[0]
	p.faults = p.faults[1:]
	return f
}

// forward sends the request on. It does so even if whoever asked goes away meanwhile.
func (p *faultProxy) forward(r *http.Request, body []byte) (*http.Response, []byte) {
	on, err := http.NewRequest(r.Method, p.target, bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	on.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(on)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return answer, got
}

func (p *faultProxy) learn(body []byte) {
	var brought tokens
	if json.Unmarshal(body, &brought) != nil || brought.Access == "" {
		return // an error
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, brought)
}

// sent are the token requests so far.
func (p *faultProxy) sent() []url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// refreshed are the refresh tokens that were sent so far.
func (p *faultProxy) refreshed() []string {
	var spent []string
	for _, form := range p.sent() {
		if form.Get("grant_type") == "refresh_token" {
			spent = append(spent, form.Get("refresh_token"))
		}
	}
	return spent
}

// given are the tokens that the server gave so far.
func (p *faultProxy) given() []tokens {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.answers)
}

// last are the tokens that the server gave last.
func (p *faultProxy) last(t *testing.T) tokens {
	t.Helper()
	given := p.given()
	if len(given) == 0 {
		t.Fatal("no tokens went through the proxy")
	}
	return given[len(given)-1]
}

// spentOnce checks that no refresh token was sent twice: at a server that rotates, the
// second time ends the grant.
func (p *faultProxy) spentOnce(t *testing.T) {
	t.Helper()
	spent := p.refreshed()
	slices.Sort(spent)
	if once := slices.Compact(slices.Clone(spent)); len(once) != len(spent) {
		t.Errorf("%d refresh requests carried %d different refresh tokens", len(spent), len(once))
	}
}

// secrets are all texts that went through the proxy and must not be seen elsewhere.
func (p *faultProxy) secrets() []string {
	var all []string
	for _, form := range p.sent() {
		for _, name := range []string{"code", "code_verifier", "refresh_token", "client_secret"} {
			all = append(all, form.Get(name))
		}
	}
	for _, given := range p.given() {
		all = append(all, given.Access, given.Refresh, given.ID)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
