package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/wire"
)

// serve sends a request past net/http's server, for spellings that its client
// would mend.
func serve(t *testing.T, h http.Handler, method, target string, change func(*http.Request)) brokertest.Answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	if change != nil {
		change(r)
	}
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	g := brokertest.Answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.String()}
	checkHeaders(t, g.Status, g.Header)
	agreed.check(t, exchanged{method, target, r.Header, sent, g.Status, g.Header, rec.Body.Bytes()})
	return g
}

// authorized sets the Authorization header.
func authorized(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

var _ = mutant("T63", "internal/httpapi/face.go", `if !plainPath(r.URL.EscapedPath()) {`, `if false && !plainPath(r.URL.EscapedPath()) {`)

func TestThreat_T63_a_path_has_one_spelling(t *testing.T) {
	w := newWorld(t)
	h := httpapi.New(w.cfg)
	for _, path := range []string{
		"/", "/v1", "/v1/", "/v2/connections", "/v1/connections/", "/V1/connections", "/favicon.ico", "//v1/connections",
		"/v1//connections", "/v1/./connections", "/v1/x/../connections", "/v1/connections/%2e%2e", "/v1%2Fconnections",
		"/v1/connections/a%2Fb", "/v1/connections/conn_a%00", "/v1/connections/conn_ä", "/authorize/", "/authorize/a/b",
		"/authorize/free%61gent", "/callback/freeagent/", "/v1/connections;x=1", "/v1/admin", "/v1/admin/x",
	} {
		serve(t, h, "GET", path, nil).Want(t, 404, `"type":"/problems/not_found"`)
	}
	for _, path := range []string{"/authorize/FreeAgent", "/authorize/nothing", "/callback/nothing?state=x&code=y"} {
		g := serve(t, h, "GET", path, nil)
		if g.Status < 400 || g.Header.Get("Location") != "" || !strings.Contains(g.Body, "<h1>") {
			t.Errorf("%s: %d %s", path, g.Status, g.Body)
		}
	}
}

func TestMethods(t *testing.T) {
	w := newWorld(t)
	h := httpapi.New(w.cfg)
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", "/v1/connections/conn_a", "DELETE, GET, HEAD, PATCH"},
		{"GET", "/v1/connections/conn_a/refresh", "POST"},
		{"POST", "/authorize/freeagent", "GET, HEAD"},
		{"POST", "/callback/freeagent", "GET"},
		{"HEAD", "/callback/freeagent", "GET"},
		{"TRACE", "/healthz", "GET, HEAD"},
		{"OPTIONS", "/healthz", "GET, HEAD"},
	} {
		g := serve(t, h, c.method, c.path, nil)
		if g.Want(t, 405, "method_not_allowed"); g.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, g.Header.Get("Allow"))
		}
	}
	serve(t, h, "POST", "/v1/connections/conn_a", func(r *http.Request) { r.Header.Set("X-Http-Method-Override", "DELETE") }).Want(t, 405, "")
	if g := w.Call("all", "HEAD", "/v1/integrations", ""); g.Status != 200 || g.Body != "" || g.Header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %q", g.Status, g.Body)
	}
}

var (
	_ = mutant("T38", "internal/httpapi/face.go", `if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {`, `if r.Method == "" {`)
	_ = mutant("T38", "internal/httpapi/face.go", `header.Set("Referrer-Policy", "no-referrer")`, `header.Set("Referrer-Policy", "no-referrer")
	header.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))`)
)

// No answer has a CORS header: newWorld looks at those of all tests here.
func TestThreat_T38_a_preflight_is_refused(t *testing.T) {
	w := newWorld(t)
	h := httpapi.New(w.cfg)
	for _, path := range []string{"/v1/connections", "/authorize/freeagent", "/callback/freeagent", "/healthz", "/nothing"} {
		serve(t, h, "OPTIONS", path, func(r *http.Request) {
			r.Header.Set("Origin", "https://evil.example")
			r.Header.Set("Access-Control-Request-Method", "GET")
		}).Want(t, 403, `"code":"forbidden"`)
	}
}

var _ = mutant("T39", "internal/httpapi/auth.go", `shown := x.r.Header.Values("Authorization")`, `shown := x.r.Header.Values("Authorization")
	for _, c := range x.r.Cookies() {
		shown = append(shown, c.Value)
	}`)

// What a page of others can have a browser send brings nobody in: cookies do not count,
// not even one with a key in it, and a form is no body of the API.
func TestThreat_T39_cookies_count_for_nothing_on_the_API(t *testing.T) {
	w := newWorld(t)
	h := httpapi.New(w.cfg)
	id := w.connect("freeagent", "alice")
	from := func(r *http.Request) {
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Cookie", "Authorization=Bearer "+w.Key("all"))
	}
	for path, method := range map[string]string{
		"/v1/connections/" + id: "DELETE", "/v1/connections/" + id + "/token": "GET", "/v1/connect-sessions": "POST",
		"/v1/connections/" + id + "/refresh": "POST", "/v1/integrations": "GET",
	} {
		serve(t, h, method, path, from).Want(t, 401, `"code":"unauthorized"`)
	}
	serve(t, h, "POST", "/v1/connect-sessions", func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+w.Key("all"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}).Want(t, 415, "")
	w.Call("all", "GET", "/v1/connections/"+id, "").Want(t, 200, `"active"`)
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	m := w.Call("", "GET", "/healthz", "").Want(t, 200, "").JSON(t)
	if m["status"] != "ok" || m["version"] != "v1.2.3" || m["store"] != "ok" {
		t.Errorf("health is %v", m)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h := httpapi.New(w.cfg)
	g := serve(t, h, "GET", "/healthz", func(r *http.Request) { *r = *r.WithContext(ended) })
	g.Want(t, 200, `"status":"degraded","version":"v1.2.3","store":"unreachable"`)
}

func TestPanicIsAnAnswer(t *testing.T) {
	w := newWorld(t)
	w.cfg.Admin = map[string]func(context.Context) (any, error){
		"export":     func(context.Context) (any, error) { panic("CANARY-token") },
		"rotate-key": func(context.Context) (any, error) { return nil, errors.New("the cause") },
		"restore":    func(context.Context) (any, error) { return func() {}, nil },
	}
	h := httpapi.New(w.cfg)
	for path, method := range map[string]string{"/v1/admin/export": "GET", "/v1/admin/rotate-key": "POST", "/v1/admin/restore": "POST"} {
		g := serve(t, h, method, path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+w.Key("all")) })
		g.Want(t, 500, `"code":"internal"`)
		if strings.Contains(g.Body, "CANARY") || strings.Contains(g.Body, "goroutine") || strings.Contains(g.Body, "the cause") {
			t.Errorf("the answer tells of our inside: %s", g.Body)
		}
	}
	log := w.Log.String()
	if strings.Contains(log, "CANARY") || !strings.Contains(log, "panic: string at") || !strings.Contains(log, "the cause") {
		t.Errorf("log: %s", log)
	}
}

func TestAdminCommands(t *testing.T) {
	w := newWorld(t)
	w.Call("all", "POST", "/v1/admin/chunk-replay", "").Want(t, 404, "not_found")
	w.cfg.Admin = map[string]func(context.Context) (any, error){
		"chunk-replay": func(context.Context) (any, error) {
			return map[string]any{"replayed": 3, "pending": 0, "more": false}, nil
		},
		"webhook-replay": func(context.Context) (any, error) {
			return map[string]any{"replayed": 1, "pending": 0, "more": false}, nil
		},
		"webhook-dead-letters": func(context.Context) (any, error) {
			return wire.List[wire.DeadLetter]{Items: []wire.DeadLetter{{
				ID: "evt_1", Type: "connection.created", Endpoint: "https://app.example.com", Tries: 10, Error: "status 500", At: time.Unix(1_700_000_000, 0).UTC(),
			}}}, nil
		},
	}
	h := httpapi.New(w.cfg)
	asAdmin := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+w.Key("admin")) }
	serve(t, h, "POST", "/v1/admin/chunk-replay", asAdmin).Want(t, 200, `"replayed":3`)
	serve(t, h, "GET", "/v1/admin/chunk-replay", asAdmin).Want(t, 405, "")
	serve(t, h, "POST", "/v1/admin/webhook-replay", asAdmin).Want(t, 200, `"replayed":1`)
	serve(t, h, "GET", "/v1/admin/webhook-dead-letters", asAdmin).Want(t, 200, `"endpoint":"https://app.example.com"`)
	serve(t, h, "POST", "/v1/admin/reseal", asAdmin).Want(t, 200, `"next":null`)
	serve(t, h, "POST", "/v1/admin/reseal?cursor=forged", asAdmin).Want(t, 400, "cursor")
}

func TestEachFunctionServesItsOwn(t *testing.T) {
	w := newWorld(t)
	routes := map[string]string{"authorize": "/authorize/nothing", "callback": "/callback/nothing", "api": "/healthz"}
	for name, h := range map[string]http.Handler{
		"authorize": httpapi.NewAuthorize(w.cfg), "callback": httpapi.NewCallback(w.cfg), "api": httpapi.NewAPI(w.cfg),
	} {
		for of, path := range routes {
			g := serve(t, h, "GET", path, nil)
			unknown := g.Status == 404 && strings.Contains(g.Body, "There is nothing at this path")
			if unknown != (name != of) {
				t.Errorf("%s answers %s with %d", name, path, g.Status)
			}
		}
	}
}

// The log has one line a request, and it holds nothing that a caller wrote.
func TestLogHoldsTemplates(t *testing.T) {
	w := newWorld(t)
	w.Call("connect", "GET", "/v1/connect-sessions/cs_CANARY", "")
	w.Call("all", "GET", "/v1/connections?owner=CANARY", "")
	w.Call("all", "GET", "/v1/CANARY", "")
	w.Call("all", "CANARY", "/healthz", "")
	w.Call("all", "POST", "/v1/connections", `{"CANARY":1}`)
	w.Browser().Open(w.Origin + "/callback/freeagent?code=CANARY&state=CANARY&error=CANARY")
	w.request("GET", "/healthz", http.Header{"X-Request-Id": {"CANARY"}, "User-Agent": {"CANARY"}})
	log := w.Log.String()
	if strings.Contains(log, "CANARY") {
		t.Errorf("log: %s", log)
	}
	for _, want := range []string{
		`"path":"/v1/connect-sessions/{id}","status":404`, `"caller":"connect"`, `"path":"unknown","status":404`, `"method":"other"`,
		`"path":"/callback/{integration}","status":409`, `"code":"invalid_request"`, `"duration_ms":`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if n := strings.Count(log, `"msg":"request"`); n != 7 {
		t.Errorf("%d lines for 7 requests", n)
	}
}

func TestRequestIDOfTheEntrance(t *testing.T) {
	w := newWorld(t)
	w.cfg.RequestID = func(*http.Request) string { return "gateway-id" }
	g := serve(t, httpapi.New(w.cfg), "GET", "/nothing", nil).Want(t, 404, `"request_id":"gateway-id"`)
	if g.Header.Get("X-Request-Id") != "gateway-id" {
		t.Error("the header has another id")
	}
}

// A body sent without an end, as far as 64 KiB are past, is refused without reading on.
func TestEndlessBody(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.Origin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST /v1/connections HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + w.Key("all") + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := "8000\r\n" + strings.Repeat(" ", 0x8000) + "\r\n"
	if _, err := conn.Write([]byte(head + chunk + chunk + chunk)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}
