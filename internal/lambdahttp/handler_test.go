package lambdahttp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/google/go-cmp/cmp"
)

const domain = "q7x2k9m4ab.execute-api.eu-central-1.amazonaws.com"

func golden(t *testing.T, name string) events.APIGatewayV2HTTPRequest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// seen is the request that the handler got for the event e.
func seen(t *testing.T, e events.APIGatewayV2HTTPRequest) (*http.Request, string) {
	t.Helper()
	var got *http.Request
	var body []byte
	a := invoke(t, e, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	if got == nil {
		t.Fatalf("the handler was not called; answer %d %s", a.StatusCode, a.Body)
	}
	return got, string(body)
}

func invoke(t *testing.T, e events.APIGatewayV2HTTPRequest, h http.HandlerFunc) events.APIGatewayV2HTTPResponse {
	t.Helper()
	a, err := lambdahttp.Handler(h, slog.New(slog.DiscardHandler))(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCallbackKeepsRepeatedParametersLongCodeAndFourCookies(t *testing.T) {
	r, _ := seen(t, golden(t, "callback"))
	q := r.URL.Query()
	if got := q["code"]; len(got) != 2 || len(got[0]) != 6144 || got[1] != "second" {
		t.Errorf("code = %.20q…, want one of 6144 characters and %q", got, "second")
	}
	if diff := cmp.Diff([]string{"a b c"}, q["scope"]); diff != "" {
		t.Errorf("scope (-want +got):\n%s", diff)
	}
	var values []string
	for _, c := range r.Cookies() {
		values = append(values, c.Value)
	}
	if diff := cmp.Diff([]string{"one", "two", "three", "four"}, values); diff != "" {
		t.Errorf("cookies (-want +got):\n%s", diff)
	}
	if r.RemoteAddr != "203.0.113.57:0" || r.Method != http.MethodGet || r.URL.Path != "/callback/askfred" {
		t.Errorf("got %s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
	}
}

func TestBodies(t *testing.T) {
	r, body := seen(t, golden(t, "post-json"))
	if !json.Valid([]byte(body)) || !strings.Contains(body, "tenant-7 é") || r.ContentLength != int64(len(body)) {
		t.Errorf("JSON body %q, content length %d", body, r.ContentLength)
	}
	r, body = seen(t, golden(t, "base64-body"))
	if want := "decision=allow&note=\xff\x00\xfe"; body != want || r.ContentLength != int64(len(want)) {
		t.Errorf("decoded body %q, content length %d; want %q", body, r.ContentLength, want)
	}
}

func TestContextComesFromTheEventAndNeverFromAHeader(t *testing.T) {
	e := golden(t, "post-json") // its headers try to forge host and identity
	e.Headers["host"], e.Headers["cookie"] = "evil.example", "__Host-evg-0a1b2c3d=forged"
	r, _ := seen(t, e)
	ctx := r.Context()
	if got := lambdahttp.Origin(ctx); got != "https://"+domain || r.Host != domain || r.Header.Get("Host") != "" {
		t.Errorf("origin %q, host %q", got, r.Host)
	}
	if got := lambdahttp.RequestID(ctx); got != "Xk3PbjZ0FiAEMdQ=" {
		t.Errorf("request id %q", got)
	}
	if c, ok := lambdahttp.IAMCaller(ctx); ok {
		t.Errorf("caller %+v without an authorizer", c)
	}
	if len(r.Cookies()) != 0 {
		t.Errorf("a cookie header was read: %v", r.Cookies())
	}
	if got := lambdahttp.Origin(t.Context()); got != "" {
		t.Errorf("origin %q outside of an event", got)
	}

	r, _ = seen(t, golden(t, "iam"))
	got, ok := lambdahttp.IAMCaller(r.Context())
	want := lambdahttp.Caller{UserARN: "arn:aws:sts::123456789012:assumed-role/backend/worker-1", AccountID: "123456789012"}
	if !ok || got != want {
		t.Errorf("caller %+v, %v; want %+v", got, ok, want)
	}
}

func TestPaths(t *testing.T) {
	type path struct{ Path, Escaped, Query string }
	event := func(stage, raw string) events.APIGatewayV2HTTPRequest {
		e := golden(t, "stage")
		e.RequestContext.Stage, e.RawPath = stage, raw
		return e
	}
	for name, c := range map[string]struct {
		e    events.APIGatewayV2HTTPRequest
		want path
	}{
		"stage":                {golden(t, "stage"), path{"/healthz", "/healthz", ""}},
		"stage alone":          {event("prod", "/prod"), path{"/", "/", ""}},
		"stage as a prefix":    {event("prod", "/production/x"), path{"/production/x", "/production/x", ""}},
		"stage twice":          {event("prod", "/prod/prod/x"), path{"/prod/x", "/prod/x", ""}},
		"default stage":        {event("$default", "/$default/x"), path{"/$default/x", "/$default/x", ""}},
		"decoded by gateway":   {golden(t, "path-decoded"), path{"/v1/connections/a/b?admin=1#c d%zz/é", "/v1/connections/a/b%3Fadmin=1%23c%20d%25zz/%C3%A9", "min_ttl_s=60"}},
		"still escaped":        {golden(t, "path-escaped"), path{"/v1/connections/a/b?admin=1/token", "/v1/connections/a%2Fb%3Fadmin=1/token", "need=read%2Bwrite&need=%26"}},
		"two slashes in front": {event("$default", "//evil.example/x"), path{"//evil.example/x", "//evil.example/x", ""}},
		"percent at the end":   {event("$default", "/a%"), path{"/a%", "/a%25", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := seen(t, c.e)
			got := path{r.URL.Path, r.URL.EscapedPath(), r.URL.RawQuery}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if r.URL.Host != "" {
				t.Errorf("the path gave a host, %q", r.URL.Host)
			}
		})
	}
}

func TestUnreadableRequestsAreAnsweredWithoutTheHandler(t *testing.T) {
	change := func(f func(*events.APIGatewayV2HTTPRequest)) events.APIGatewayV2HTTPRequest {
		e := golden(t, "base64-body")
		f(&e)
		return e
	}
	large := base64.StdEncoding.EncodeToString(make([]byte, 6<<20+1))
	for name, c := range map[string]struct {
		e      events.APIGatewayV2HTTPRequest
		status int
		code   string
	}{
		"bad base64":       {change(func(e *events.APIGatewayV2HTTPRequest) { e.Body = "%%%" }), 400, "invalid_request"},
		"no method":        {change(func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "" }), 400, "invalid_request"},
		"method of two":    {change(func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "GET /x" }), 400, "invalid_request"},
		"no path":          {change(func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "" }), 400, "invalid_request"},
		"absolute path":    {change(func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "https://evil.example/" }), 400, "invalid_request"},
		"control in query": {change(func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "code=CANARY\x01" }), 400, "invalid_request"},
		"large body":       {change(func(e *events.APIGatewayV2HTTPRequest) { e.Body = large }), 413, "payload_too_large"},
		"larger body":      {change(func(e *events.APIGatewayV2HTTPRequest) { e.Body = large + large }), 413, "payload_too_large"},
		"large plain body": {change(func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = large[:6<<20+1], false }), 413, "payload_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := invoke(t, c.e, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
			wantProblem(t, a, c.status, c.code)
		})
	}
	e := golden(t, "stage")
	e.Version = "1.0"
	if _, err := lambdahttp.Handler(http.NotFoundHandler(), slog.New(slog.DiscardHandler))(t.Context(), e); err == nil {
		t.Error("an event of another format gave no error")
	}
}

func wantProblem(t *testing.T, a events.APIGatewayV2HTTPResponse, status int, code string) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
		t.Fatalf("answer %q: %v", a.Body, err)
	}
	delete(got, "title")
	delete(got, "detail")
	want := map[string]any{"type": "/problems/" + code, "status": float64(status), "code": code, "request_id": "Xk3PbjZ0FiAEMdQ="}
	if diff := cmp.Diff(want, got); diff != "" || a.StatusCode != status {
		t.Errorf("status %d, problem (-want +got):\n%s", a.StatusCode, diff)
	}
	if a.Headers["content-type"] != "application/problem+json" || a.Headers["cache-control"] != "no-store" || strings.Contains(a.Body, "CANARY") {
		t.Errorf("headers %v, body %s", a.Headers, a.Body)
	}
}

func TestPanicIsAnsweredAndLoggedWithoutItsText(t *testing.T) {
	for name, c := range map[string]struct {
		panics func()
		logged string
	}{
		"error":   {func() { panic(errors.New("CANARY-secret")) }, `"panic":"*errors.errorString"`},
		"string":  {func() { panic("CANARY-secret") }, `"panic":"string"`},
		"runtime": {func() { var u *url.URL; _ = u.Path }, `nil pointer`},
		"abort":   {func() { panic(http.ErrAbortHandler) }, ``},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			h := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Set-Cookie", "half=CANARY-cookie")
				_, _ = io.WriteString(w, "half an answer, CANARY-body")
				c.panics()
			}
			a, err := lambdahttp.Handler(http.HandlerFunc(h), slog.New(slog.NewJSONHandler(&log, nil)))(t.Context(), golden(t, "callback"))
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, a, 500, "internal")
			if len(a.Cookies) != 0 {
				t.Errorf("cookies %v", a.Cookies)
			}
			if strings.Contains(log.String(), "CANARY") || !strings.Contains(log.String(), c.logged) {
				t.Errorf("log %s, want %s", log.String(), c.logged)
			}
			if c.logged == "" != (log.Len() == 0) {
				t.Errorf("log %q", log.String())
			}
			if c.logged != "" && !strings.Contains(log.String(), "TestPanicIsAnswered") {
				t.Errorf("log without the place: %s", log.String())
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	type answer = events.APIGatewayV2HTTPResponse
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want answer
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, answer{StatusCode: 200, Headers: map[string]string{}}},
		"cookies apart, lines joined": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2"}
			w.Header()["Vary"] = []string{"Cookie", "Accept"}
			w.Header().Set("Content-Length", "99")
			w.WriteHeader(http.StatusNoContent)
			w.Header().Set("X-Late", "1")
		}, answer{StatusCode: 204, Headers: map[string]string{"vary": "Cookie, Accept"}, Cookies: []string{"a=1; Path=/", "b=2"}}},
		"no header by line ends": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/x\r\nSet-Cookie: a=1")
			w.WriteHeader(http.StatusSeeOther)
		}, answer{StatusCode: 303, Headers: map[string]string{"location": "/x  Set-Cookie: a=1"}}},
		"text stays text": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{\"é\":\"\u2028\"}")
		}, answer{StatusCode: 200, Headers: map[string]string{"content-type": "application/json"}, Body: "{\"é\":\"\u2028\"}"}},
		"bytes become base64": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write([]byte{0xff, 0})
		}, answer{StatusCode: 200, Headers: map[string]string{"content-type": "application/octet-stream"}, Body: "/wA=", IsBase64Encoded: true}},
		"first status counts": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusGone)
			w.WriteHeader(http.StatusOK)
		}, answer{StatusCode: 410, Headers: map[string]string{}}},
		"status out of range": {func(w http.ResponseWriter, _ *http.Request) {
			defer func() { _ = recover() }()
			w.WriteHeader(99)
		}, answer{StatusCode: 200, Headers: map[string]string{}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, invoke(t, golden(t, "stage"), c.h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeadlineOfTheInvocationReachesTheHandler(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := func(_ http.ResponseWriter, r *http.Request) {
		if r.Context().Err() == nil {
			t.Error("the request's context outlives the invocation's")
		}
	}
	if _, err := lambdahttp.Handler(http.HandlerFunc(h), slog.New(slog.DiscardHandler))(ctx, golden(t, "stage")); err != nil {
		t.Fatal(err)
	}
}
