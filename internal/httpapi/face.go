package httpapi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/panicked"
)

// face is an http.Handler over some of the routes.
type face struct {
	Config
	mux      *http.ServeMux
	unknown  resource // answers for every path that is none
	look     look     // of the pages
	failures limiter  // of API callers
	openings limiter  // of public connects, by source and integration
	public   limiter  // of public connects, by integration
}

func newFace(cfg Config) *face {
	f := &face{
		Config: cfg, mux: http.NewServeMux(), look: newLook(cfg.Keys.Pages),
		failures: limiter{max: maxFailures}, openings: limiter{max: maxOpenings}, public: limiter{max: maxPublic},
	}
	f.unknown = resource{face: f, path: "unknown", render: problem, methods: map[string]operation{}}
	f.mux.Handle("/", f.unknown)
	return f
}

// handle adds the operations of one path, by method. Errors of theirs become what
// render makes of them.
func (f *face) handle(path string, render func(*exchange, *broker.Error) answer, methods map[string]operation) {
	f.mux.Handle(path, resource{face: f, path: path, render: render, methods: methods})
}

// ServeHTTP admits only paths spelled in the one way that our routes have, so that
// neither an escape nor a dot segment means one thing to a proxy and another here
// (nor does the mux get to redirect). No name or id of ours needs an escape.
func (f *face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !plainPath(r.URL.EscapedPath()) {
		f.unknown.ServeHTTP(w, r)
		return
	}
	f.mux.ServeHTTP(w, r)
}

func plainPath(path string) bool {
	for _, c := range []byte(path) {
		if c != '/' && !idCharacter(c) {
			return false
		}
	}
	for n, segment := range strings.Split(path, "/") {
		if (segment == "") != (n == 0) || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// idCharacter: what names, ids and our routes are made of.
func idCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// operation answers one request. An error that is no *broker.Error is an internal
// one: the caller learns its request id, the log the rest.
type operation func(*exchange) (answer, error)

// answer is a whole answer, before anything of it is sent.
type answer struct {
	status  int
	kind    string // media type; "" without a body
	body    []byte
	header  map[string]string // besides those of every answer
	cookies []*http.Cookie
}

// exchange is one request with what was found out about it.
type exchange struct {
	*face
	r      *http.Request
	id     string        // request id
	caller broker.Caller // of an API operation with a scope
	query  map[string]string
	scope  string // that the operation demands of it
	// For the log alone.
	code        broker.Code
	cause       error
	previousKey bool   // the caller showed a key that has been replaced
	target      string // what the operation made or changed, where the path does not tell
}

// resource is one path. It is the outermost frame of each request.
type resource struct {
	*face
	path    string // template
	render  func(*exchange, *broker.Error) answer
	methods map[string]operation
}

func (s resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := s.Now()
	x := &exchange{face: s.face, r: r, id: s.requestID(r)}
	a := s.answer(x)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Request-Id", x.id)
	for name, value := range a.header {
		header.Set(name, value)
	}
	if a.kind != "" {
		header.Set("Content-Type", a.kind)
	}
	for _, c := range a.cookies {
		http.SetCookie(w, c)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a caller who has gone away is no event
	s.log(x, a.status, s.Now().Sub(began))
	s.audit(x, a.status)
}

// requestID never comes from a header of the request: it would let a caller write
// into our logs.
func (f *face) requestID(r *http.Request) string {
	if f.RequestID != nil {
		if id := f.RequestID(r); id != "" {
			return id
		}
	}
	return rand.Text()
}

// answer runs the operation. Whatever goes wrong in it, a panic too, ends as an
// answer.
func (s resource) answer(x *exchange) (a answer) {
	defer func() {
		if v := recover(); v != nil {
			a = s.failed(x, fmt.Errorf("panic: %s at %s", panicked.Kind(v), panicked.Place()))
		}
	}()
	run, err := s.choose(x.r)
	if err == nil {
		a, err = run(x)
	}
	if err != nil {
		return s.failed(x, err)
	}
	return a
}

// choose finds the operation of the method. A preflight is refused by itself, so that
// whoever tries to call the API from a page is told why that cannot work.
func (s resource) choose(r *http.Request) (operation, error) {
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		return nil, &broker.Error{Code: broker.Forbidden, Detail: "Pages of other origins may not call Evergrant. Call it from your application's backend."}
	}
	if len(s.methods) == 0 {
		return nil, &broker.Error{Code: broker.NotFound, Detail: "There is nothing at this path. GET /v1/openapi.json lists what there is."}
	}
	run, ok := s.methods[r.Method]
	if !ok {
		return nil, &broker.Error{Code: methodNotAllowed, Detail: "This path takes " + s.allowed() + "."}
	}
	return run, nil
}

func (s resource) allowed() string {
	return strings.Join(slices.Sorted(maps.Keys(s.methods)), ", ")
}

func (s resource) failed(x *exchange, err error) answer {
	e, known := errors.AsType[*broker.Error](err)
	if !known {
		e = &broker.Error{Code: broker.Internal, Detail: "Something went wrong on our side. The request id finds it in the log.", Err: err}
	}
	x.code, x.cause = e.Code, e.Err
	x.failedOn(e)
	render := s.render
	if e.Code == methodNotAllowed || e.Code == broker.Forbidden && x.r.Method == http.MethodOptions {
		render = problem // no browser shows these to a person
	}
	a := render(x, e)
	if e.Code == methodNotAllowed {
		a.header["Allow"] = s.allowed() // RFC 9110 section 15.5.6
	}
	return a
}

// log writes the one line of a request. A connection's id is no secret; a connect
// session's is, since it opens the link, and the rest of a path is the caller's text.
func (s resource) log(x *exchange, status int, took time.Duration) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("method", method(x.r)), slog.String("path", s.path), slog.Int("status", status),
		slog.Int64("duration_ms", took.Milliseconds()), slog.String("request_id", x.id),
	}
	if x.caller.Name != "" {
		attrs = append(attrs, slog.String("caller", x.caller.Name))
	}
	if x.previousKey {
		attrs = append(attrs, slog.Bool("previous_key", true))
	}
	if id := x.r.PathValue("id"); strings.HasPrefix(id, "conn_") && len(id) <= 64 {
		attrs = append(attrs, slog.String("connection", id))
	}
	if x.code != "" {
		attrs = append(attrs, slog.String("code", string(x.code)))
	}
	if x.cause != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", x.cause.Error()))
	}
	if x.code == broker.Internal {
		level = slog.LevelError
	}
	s.Log.LogAttrs(x.r.Context(), level, "request", attrs...)
}

// method is the request's method if it is one that we know. Others are made up by
// the caller.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
