package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/client"
)

// vectorFile is clients/vectors.json, which docs/clients.md explains.
type vectorFile struct {
	Now     time.Time         `json:"now"`
	Key     string            `json:"key"`
	Stub    map[string]any    `json:"stub"`
	Answers map[string]answer `json:"answers"`
	Vectors []vector          `json:"vectors"`
}

type vector struct {
	Name      string  `json:"name"`
	Live      bool    `json:"live"`
	Key       string  `json:"key"`
	RetryForS float64 `json:"retry_for_s"`
	Steps     []step  `json:"steps"`
}

type step struct {
	Only   string  `json:"only"` // stub or live
	ClockS float64 `json:"clock_s"`
	World  string  `json:"world"`

	Call     string         `json:"call"`
	Callers  int            `json:"callers"`
	Want     any            `json:"want"`
	Error    map[string]any `json:"error"`
	Requests []request      `json:"requests"`
	WaitsS   []float64      `json:"waits_s"`

	raw map[string]any // the whole step
}

func (s *step) UnmarshalJSON(b []byte) error {
	type plain step
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	return json.Unmarshal(b, &s.raw)
}

// request is an expected one, with what the stub answers.
type request struct {
	Only    string            `json:"only"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   map[string]any    `json:"query"`
	Headers map[string]string `json:"headers"`
	Bearer  string            `json:"bearer"`
	Body    any               `json:"body"`
	Text    string            `json:"text"`
	Times   any               `json:"times"` // 1, a number, or [least, most]
	Answer  any               `json:"answer"`

	seen int
}

type answer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"`
	Text    string            `json:"text"`
	Drop    bool              `json:"drop"`
}

// received is a request as the stub or the world saw it.
type received struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"` // as it was escaped
	Query   map[string]string `json:"query"`
	Headers map[string]string `json:"headers"` // by canonical name
	Text    string            `json:"text"`
}

func (r *request) times() (least, most int) {
	switch n := r.Times.(type) {
	case float64:
		return int(n), int(n)
	case []any:
		return int(n[0].(float64)), int(n[1].(float64))
	}
	return 1, 1
}

// bindings are what the variables stand for.
type bindings map[string]any

// unify holds got to want: variables are bound at first sight, of an object only the members
// that want has are looked at.
func (b bindings) unify(want, got any) bool {
	switch want := want.(type) {
	case string:
		if !strings.HasPrefix(want, "$") {
			return want == got
		}
		bound, ok := b[want]
		if !ok {
			b[want] = got
			return true
		}
		return cmp.Equal(bound, got)
	case map[string]any:
		object, ok := got.(map[string]any)
		for name, w := range want {
			ok = ok && b.unify(w, object[name])
		}
		return ok
	case []any:
		list, ok := got.([]any)
		ok = ok && len(list) == len(want)
		for n := range want {
			ok = ok && b.unify(want[n], list[n])
		}
		return ok
	}
	return cmp.Equal(want, got)
}

// fill replaces variables by what they stand for.
func (b bindings) fill(v any) any {
	switch v := v.(type) {
	case string:
		if bound, ok := b[v]; ok {
			return bound
		}
		for name, bound := range b {
			if text, ok := bound.(string); ok && strings.Contains(v, name+"/") || ok && strings.HasSuffix(v, name) {
				v = strings.ReplaceAll(v, name, text)
			}
		}
		return v
	case map[string]any:
		filled := map[string]any{}
		for name, m := range v {
			filled[name] = b.fill(m)
		}
		return filled
	case []any:
		filled := []any{}
		for _, m := range v {
			filled = append(filled, b.fill(m))
		}
		return filled
	}
	return v
}

// matches reports whether got is the request, and binds what it binds.
func (r *request) matches(b bindings, got received) bool {
	_, most := r.times()
	if r.seen == most || r.Method != got.Method || b.fill(r.Path) != got.Path {
		return false
	}
	try := bindings{}
	for k, v := range b {
		try[k] = v
	}
	query := map[string]any{}
	for k, v := range got.Query {
		query[k] = v
	}
	bearer, _ := strings.CutPrefix(got.Headers["Authorization"], "Bearer ")
	ok := len(query) == len(r.Query) && (len(r.Query) == 0 || try.unify(r.Query, query)) && (r.Bearer == "" || try.unify(r.Bearer, bearer))
	for name, value := range r.Headers {
		ok = ok && got.Headers[http.CanonicalHeaderKey(name)] == value
	}
	if r.Body != nil {
		var body any
		ok = ok && json.Unmarshal([]byte(got.Text), &body) == nil && sameMembers(r.Body, body) && try.unify(r.Body, body)
	} else {
		ok = ok && r.Text == got.Text
	}
	if ok {
		r.seen++
		for k, v := range try {
			b[k] = v
		}
	}
	return ok
}

// sameMembers refuses a request with members that are not expected.
func sameMembers(want, got any) bool {
	w, isObject := want.(map[string]any)
	g, both := got.(map[string]any)
	return isObject == both && len(w) == len(g)
}

// script is the requests of one step, with what came.
type script struct {
	mu       sync.Mutex
	bound    bindings  // guarded by mu
	requests []request // guarded by mu
	strange  []string  // guarded by mu
}

func (s *script) take(got received) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.requests {
		if s.requests[n].matches(s.bound, got) {
			return s.requests[n].Answer
		}
	}
	s.strange = append(s.strange, got.Method+" "+got.Path+" "+got.Text)
	return nil
}

// end checks that what was to come came, and nothing else.
func (s *script) end(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if least, most := r.times(); r.seen < least || r.seen > most {
			t.Errorf("%s %s came %d times, want %d to %d", r.Method, r.Path, r.seen, least, most)
		}
	}
	for _, line := range s.strange {
		t.Errorf("not expected: %s", line)
	}
}

// place is where a vector is played: before the stub, or before a running server.
type place struct {
	base, api, key string
	script         *script
	now            func() time.Time
	pause          func(context.Context, time.Duration) error
	// world does a step of the world and binds what it tells.
	world func(t *testing.T, s step)
	// seen hands the requests of a step to the script, where the place records them.
	seen func(t *testing.T)
	// waited checks how long the client waited in a step.
	waited func(t *testing.T, s step)
	mode   string
}

func readVectors(t *testing.T) vectorFile {
	t.Helper()
	b, err := os.ReadFile("../clients/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var f vectorFile
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if len(f.Vectors) < 30 {
		t.Fatalf("there are %d vectors only", len(f.Vectors))
	}
	return f
}

// TestVectors plays each vector before a stub that answers as it is scripted.
func TestVectors(t *testing.T) {
	f := readVectors(t)
	for _, v := range f.Vectors {
		t.Run(v.Name, func(t *testing.T) { play(t, v, stub(t, f, v)) })
	}
}

// stub is Evergrant and the provider's API as the vector has them, on a clock of its own.
func stub(t *testing.T, f vectorFile, v vector) *place {
	s := &script{bound: bindings{}}
	for name, value := range f.Stub {
		s.bound[name] = value
	}
	p := &place{key: f.Key, script: s, mode: "stub", world: func(*testing.T, step) {}, seen: func(*testing.T) {}}
	if v.Key != "" {
		p.key = v.Key
	}
	var mu sync.Mutex
	at, waits := f.Now, []float64{}
	p.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	p.pause = func(_ context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		at, waits = at.Add(d), append(waits, d.Seconds())
		return nil
	}
	p.waited = func(t *testing.T, s step) {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Duration(s.ClockS * float64(time.Second)))
		if !slices.Equal(waits, s.WaitsS) {
			t.Errorf("waited %v, want %v", waits, s.WaitsS)
		}
		waits = []float64{}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := receive(t, r)
		if !strings.HasPrefix(got.Path, "/api/") && got.Headers["Authorization"] != "Bearer "+p.key {
			t.Errorf("%s %s came with %q", got.Method, got.Path, got.Headers["Authorization"])
		}
		f.answer(t, s.take(got)).write(t, w)
	}))
	t.Cleanup(server.Close)
	p.base, p.api = server.URL, server.URL
	return p
}

func receive(t *testing.T, r *http.Request) received {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	got := received{r.Method, r.URL.EscapedPath(), map[string]string{}, map[string]string{}, string(body)}
	for name := range r.URL.Query() {
		got.Query[name] = r.URL.Query().Get(name)
	}
	for name := range r.Header {
		got.Headers[name] = r.Header.Get(name)
	}
	return got
}

// answer finds the answer that a request names or holds.
func (f vectorFile) answer(t *testing.T, v any) answer {
	switch v := v.(type) {
	case string:
		if a, ok := f.Answers[v]; ok {
			return a
		}
		t.Errorf("there is no answer %s", v)
	case map[string]any:
		var a answer
		b, err := json.Marshal(v)
		if err = errors.Join(err, json.Unmarshal(b, &a)); err != nil {
			t.Error(err)
		}
		return a
	}
	return answer{Status: http.StatusTeapot, Text: "not in the script"}
}

func (a answer) write(t *testing.T, w http.ResponseWriter) {
	if a.Drop {
		panic(http.ErrAbortHandler) // net/http's way to close without an answer
	}
	text := []byte(a.Text)
	if a.Body != nil {
		w.Header().Set("Content-Type", "application/json")
		var err error
		if text, err = json.Marshal(a.Body); err != nil {
			t.Error(err)
		}
	}
	for name, value := range a.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(text) // a client that is gone is seen by what it misses
}

// play plays a vector at a place.
func play(t *testing.T, v vector, p *place) {
	options := client.Options{RetryFor: time.Duration(v.RetryForS * float64(time.Second))}
	c, err := client.New(p.base, p.key, options.OnClock(p.now, p.pause))
	if err != nil {
		t.Fatal(err)
	}
	for n, s := range v.Steps {
		if s.Only != "" && s.Only != p.mode {
			continue
		}
		if s.World != "" {
			p.world(t, s)
		}
		if s.Call == "" {
			p.waited(t, s)
			continue
		}
		p.script.mu.Lock()
		p.script.requests = slices.DeleteFunc(slices.Clone(s.Requests), func(r request) bool { return r.Only != "" && r.Only != p.mode })
		p.script.strange = nil
		args, ok := p.script.bound.fill(s.raw).(map[string]any)
		p.script.mu.Unlock()
		if !ok {
			t.Fatalf("step %d is no object", n)
		}
		callAll(t, c, p, s, args)
		p.seen(t)
		p.script.end(t)
		p.waited(t, s)
		if t.Failed() {
			t.Fatalf("in step %d: %s", n, s.Call)
		}
	}
}

// callAll makes the call of a step, by as many callers as it says.
func callAll(t *testing.T, c *client.Client, p *place, s step, args map[string]any) {
	var all sync.WaitGroup
	for range max(1, s.Callers) {
		all.Go(func() {
			got, err := call(t, c, p, s.Call, args)
			p.script.mu.Lock()
			defer p.script.mu.Unlock()
			switch {
			case s.Error != nil:
				if e := errorOf(err); !p.script.bound.unify(s.Error, e) {
					t.Errorf("error %v (%v), want %v", e, err, s.Error)
				}
			case err != nil:
				t.Error(err)
			case !p.script.bound.unify(s.Want, got):
				t.Errorf("got %v, want %v", got, s.Want)
			}
		})
	}
	all.Wait()
}

// errorOf is an error as the vectors have it.
func errorOf(err error) any {
	if err == nil {
		return nil
	}
	m := map[string]any{"type": "none of the client's"}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		m["type"] = reflect.TypeOf(e).Elem().Name()
	}
	if e, ok := errors.AsType[*client.APIError](err); ok {
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			if typ := reflect.TypeOf(inner); strings.HasSuffix(typ.String(), "Error") && strings.HasPrefix(typ.String(), "*client.") {
				m["type"] = typ.Elem().Name()
				break
			}
		}
		m["code"], m["status"], m["reason"], m["connection_id"] = e.Code, float64(e.Status), e.Reason, e.ConnectionID
		m["authorize_url"], m["retry_after_s"] = e.AuthorizeURL, e.RetryAfter.Seconds()
		missing := []any{}
		for _, s := range e.MissingScope {
			missing = append(missing, s)
		}
		m["missing_scope"] = missing
	}
	return m
}

// call makes one call and returns its result as JSON has it.
func call(t *testing.T, c *client.Client, p *place, name string, args map[string]any) (any, error) {
	ctx := t.Context()
	text := func(name string) string { s, _ := args[name].(string); return s }
	var result any
	var err error
	switch id := text("connection"); name {
	case "token":
		o := client.TokenOptions{}
		into(t, args["need"], &o.Need)
		if s, ok := args["min_ttl_s"].(float64); ok {
			o.MinTTL = time.Duration(s) * time.Second
		}
		var token client.Token
		token, err = c.Token(ctx, id, o)
		result = map[string]any{"access_token": token.AccessToken.Reveal(), "token_id": token.ID, "generation": token.Generation, "base_urls": token.BaseURLs}
	case "fetch":
		result, err = fetch(t, c, p, args)
	case "create_session", "reconnect":
		var in client.SessionRequest
		into(t, args["request"], &in)
		if name == "reconnect" {
			result, err = c.Reconnect(ctx, id, in)
		} else {
			result, err = c.CreateSession(ctx, in)
		}
	case "session":
		result, err = c.Session(ctx, text("id"))
	case "confirm":
		result, err = c.Confirm(ctx, text("id"), client.NewSecret(text("confirm")), text("owner"))
	case "connection":
		result, err = c.Connection(ctx, id)
	case "connections":
		result, err = list(t, c, args["filter"])
	case "set_tags":
		tags := map[string]string{}
		into(t, args["tags"], &tags)
		result, err = c.SetTags(ctx, id, tags)
	case "activate":
		result, err = c.Activate(ctx, id)
	case "import":
		result, err = importTokens(t, c, args["request"])
	case "disconnect":
		result, err = c.Disconnect(ctx, id)
	default:
		t.Fatalf("there is no call %s", name)
	}
	var plain any
	into(t, result, &plain)
	return plain, err
}

// into brings v into another form by way of JSON.
func into(t *testing.T, v, to any) {
	b, err := json.Marshal(v)
	if err = errors.Join(err, json.Unmarshal(b, to)); err != nil {
		t.Error(err)
	}
}

func fetch(t *testing.T, c *client.Client, p *place, args map[string]any) (any, error) {
	var body io.Reader
	if text, ok := args["text"].(string); ok {
		body = strings.NewReader(text)
		if args["stream"] == true {
			body = io.MultiReader(body) // net/http cannot tell how to read it again
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), args["method"].(string), p.api+args["path"].(string), body)
	if err != nil {
		return nil, err
	}
	resp, err := c.HTTPClient(t.Context(), args["connection"].(string)).Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var answer any
	if json.Unmarshal(b, &answer) != nil {
		answer = string(b)
	}
	return map[string]any{"status": resp.StatusCode, "body": answer}, nil
}

func list(t *testing.T, c *client.Client, filter any) (any, error) {
	var in struct {
		Owner, Integration, Status string
		PageSize                   int `json:"page_size"`
	}
	into(t, filter, &in)
	all := []client.Connection{}
	for conn, err := range c.Connections(t.Context(), client.Filter{Owner: in.Owner, Integration: in.Integration, Status: in.Status, PageSize: in.PageSize}) {
		if err != nil {
			return nil, err
		}
		all = append(all, conn)
	}
	return all, nil
}

func importTokens(t *testing.T, c *client.Client, request any) (any, error) {
	var in struct {
		Integration, Owner string
		RefreshToken       string `json:"refresh_token"`
		ExternalID         string `json:"external_id"`
		Hold               bool
	}
	into(t, request, &in)
	return c.Import(t.Context(), client.Import{
		Integration: in.Integration, Owner: in.Owner, RefreshToken: client.NewSecret(in.RefreshToken), ExternalID: in.ExternalID, Hold: in.Hold,
	})
}

// worldVariable names, for the clients' tests, the control address of a running Evergrant with
// simulated providers, as test/clients has it.
const worldVariable = "EVERGRANT_CLIENT_WORLD"

// TestLiveVectors plays the vectors that a real server can play.
func TestLiveVectors(t *testing.T) {
	control := os.Getenv(worldVariable)
	if control == "" {
		t.Skip(worldVariable + " is not set: test/clients sets it")
	}
	f := readVectors(t)
	for _, v := range f.Vectors {
		if v.Live {
			t.Run(v.Name, func(t *testing.T) { play(t, v, live(t, control, v)) })
		}
	}
}

// live is a running server behind a proxy that records.
func live(t *testing.T, control string, v vector) *place {
	p := &place{mode: "live", now: time.Now, script: &script{bound: bindings{}}, waited: func(*testing.T, step) {}}
	p.pause = func(ctx context.Context, d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var begun struct {
		Base string `json:"base_url"`
		API  string `json:"api_url"`
		Key  string `json:"key"`
	}
	ask(t, control+"/begin", map[string]any{"name": v.Name}, &begun)
	p.base, p.api, p.key = begun.Base, begun.API, begun.Key
	if v.Key != "" {
		p.key = v.Key
	}
	p.world = func(t *testing.T, s step) {
		ask(t, control+"/world", p.script.bound.fill(s.raw), &p.script.bound)
	}
	p.seen = func(t *testing.T) {
		var list []received
		ask(t, control+"/requests", map[string]any{}, &list)
		for _, r := range list {
			p.script.take(r)
		}
	}
	return p
}

// ask posts to the world's control. What it answers is added to out, if that is a map.
func ask(t *testing.T, address string, in, out any) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(u.String(), "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", u.Path, resp.StatusCode, text, err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
}
