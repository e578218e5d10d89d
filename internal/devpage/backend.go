package devpage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// backend is what an application's backend needs of Evergrant: its API and a key.
type backend struct {
	handler http.Handler
	origin  string
	key     secret.Text
	client  *http.Client // to the providers
	now     func() time.Time

	mu    sync.Mutex
	count int               // of all calls noted; guarded by mu
	calls map[string][]call // the last ones by person, oldest first; guarded by mu
}

// keptCalls is how many calls the page can show for a person.
const keptCalls = 40

// call is one request of the backend, as the page lists it.
type call struct {
	N      int       `json:"n"` // counts up, over all persons
	At     time.Time `json:"at"`
	To     string    `json:"to"` // evergrant, or the provider's title
	Method string    `json:"method"`
	Path   string    `json:"path"`   // of a provider: without the query
	Status int       `json:"status"` // 0: no answer
	TookMS int64     `json:"took_ms"`
	Why    string    `json:"why"` // one phrase; calls without one are not listed
}

// refused is a problem that Evergrant answered.
type refused struct{ wire.Problem }

// Error implements error.
func (e *refused) Error() string { return e.Code + ": " + e.Detail }

// refusal is a problem of the application's own.
func refusal(code, detail string, args ...any) error {
	return &refused{wire.Problem{Code: code, Title: "The application refuses", Detail: fmt.Sprintf(detail, args...)}}
}

func problemOf(err error) wire.Problem {
	if e, ok := errors.AsType[*refused](err); ok {
		return e.Problem
	}
	return wire.Problem{Code: "internal", Title: "Something failed", Detail: "Something failed in the page's backend."}
}

// api sends one request to Evergrant, with in as its JSON body unless it is nil, and
// decodes the answer into out unless that is nil. It returns the answer's status.
// A problem is returned as *refused.
func (b *backend) api(ctx context.Context, who person, why, method, path string, in, out any) (int, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return 0, fmt.Errorf("%s %s: %w", method, shown(path), err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, b.origin+path, &body)
	if err != nil {
		return 0, fmt.Errorf("request to Evergrant: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+b.key.Reveal())
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	began := b.now()
	w := &answer{header: http.Header{}, status: http.StatusOK}
	b.handler.ServeHTTP(w, r)
	b.note(who, call{At: began, To: "evergrant", Method: method, Path: shown(path), Status: w.status, Why: why})
	if w.status >= 400 {
		e := &refused{}
		if err := json.Unmarshal(w.body.Bytes(), &e.Problem); err != nil || e.Code == "" {
			return w.status, fmt.Errorf("%s %s: status %d", method, shown(path), w.status)
		}
		return w.status, e
	}
	if out != nil {
		if err := json.Unmarshal(w.body.Bytes(), out); err != nil {
			return w.status, fmt.Errorf("%s %s: %w", method, shown(path), err)
		}
	}
	return w.status, nil
}

var anySessionID = regexp.MustCompile(`cs_[A-Za-z0-9_-]+`)

// shown is path without what must not be seen: a connect session's id opens its link.
func shown(path string) string { return anySessionID.ReplaceAllString(path, "cs_…") }

// note lists a call that has ended just now.
func (b *backend) note(who person, c call) {
	if c.Why == "" {
		return
	}
	c.TookMS = b.now().Sub(c.At).Milliseconds()
	c.At = c.At.UTC().Truncate(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	c.N = b.count
	list := append(b.calls[who.ID], c)
	b.calls[who.ID] = list[max(0, len(list)-keptCalls):]
}

// callsOf are the calls made for a person, oldest first.
func (b *backend) callsOf(who person) []call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]call{}, b.calls[who.ID]...)
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// token asks for the access token of a connection.
func (b *backend) token(ctx context.Context, who person, id string) (handedOut, error) {
	var t wire.Token
	_, err := b.api(ctx, who, "asks for a fresh access token", http.MethodGet, "/v1/connections/"+id+"/token", nil, &t)
	return take(t), err
}

// renew tells Evergrant that what the backend holds was refused, and gets what is to be
// used now.
func (b *backend) renew(ctx context.Context, who person, why, id string, had wire.RefreshRequest) (handedOut, error) {
	var t wire.Token
	_, err := b.api(ctx, who, why, http.MethodPost, "/v1/connections/"+id+"/refresh", had, &t)
	return take(t), err
}

// handedOut is a token answer whose secret cannot print.
type handedOut struct {
	access secret.Text
	wire.Token
}

func take(t wire.Token) handedOut {
	h := handedOut{access: secret.New(t.AccessToken), Token: t}
	h.AccessToken = ""
	return h
}

// pasted is the refresh token that the person copied from the provider's account page,
// empty without one.
func pasted(i Integration, who person) string {
	if i.Paste == nil {
		return ""
	}
	return i.Paste(who.account).Reveal()
}

// maxShown is how much of a provider's answer the page is given, in bytes.
const maxShown = 64 << 10

// apiAnswer is what a provider's API said.
type apiAnswer struct {
	Status  int
	Kind    string
	Body    string
	Refused bool // the token, by the provider's way to say so
}

// provider sends the integration's example request with an access token: the one place
// that the token goes to.
func (b *backend) provider(ctx context.Context, who person, i Integration, t handedOut, why string) (apiAnswer, error) {
	method, address, body := i.Call()
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return apiAnswer{}, fmt.Errorf("request to %s: %w", i.Provider, err)
	}
	for name, value := range i.Headers {
		r.Header.Set(name, value)
	}
	setToken(r.Header, t)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "evergrant-dev-page") // FreeAgent refuses requests without one
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	noted := call{At: b.now(), To: i.Title, Method: method, Path: r.URL.Path, Why: why}
	res, err := b.client.Do(r)
	if err != nil {
		b.note(who, noted)
		return apiAnswer{}, refusal("no_answer", "%s did not answer.", i.Title)
	}
	defer func() { _ = res.Body.Close() }() // only read from
	refused, judged := t.API.Refused(res)
	data, err := io.ReadAll(io.LimitReader(res.Body, maxShown))
	noted.Status = res.StatusCode
	b.note(who, noted)
	if err != nil || judged != nil {
		return apiAnswer{}, refusal("no_answer", "%s broke off in its answer.", i.Title)
	}
	return apiAnswer{res.StatusCode, res.Header.Get("Content-Type"), strings.ToValidUTF8(string(data), "\ufffd"), refused}, nil
}

// setToken puts the token where the provider's API wants it.
func setToken(h http.Header, t handedOut) {
	name, scheme := "Authorization", "Bearer"
	if t.API != nil {
		name, scheme = t.API.HeaderName, t.API.HeaderScheme
	}
	h.Set(name, strings.TrimPrefix(scheme+" "+t.access.Reveal(), " "))
}

// connections are all of a person's, also those that ended.
func (b *backend) connections(ctx context.Context, who person) ([]wire.Connection, error) {
	all, cursor := []wire.Connection{}, ""
	for range 5 { // 500 of one person: enough to look at
		var list wire.List[wire.Connection]
		if _, err := b.api(ctx, who, "", http.MethodGet, "/v1/connections?limit=100&owner="+who.ID+cursor, nil, &list); err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if list.Next == nil {
			break
		}
		cursor = "&cursor=" + *list.Next
	}
	slices.SortStableFunc(all, func(a, b wire.Connection) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all, nil
}
