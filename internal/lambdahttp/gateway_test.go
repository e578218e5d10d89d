package lambdahttp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/google/go-cmp/cmp"
)

// routes answer with what they saw, in the ways that an HTTP API answers.
func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/{id}/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "id": r.PathValue("id"), "path": r.URL.Path, "escaped": r.URL.EscapedPath(), "uri": r.RequestURI,
			"query": r.URL.Query(), "cookies": r.CookiesNamed("a"), "type": r.Header.Values("Content-Type"),
			"accept": strings.Join(r.Header.Values("Accept"), ","), "length": r.ContentLength, "body": body,
		})
	})
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "__Host-evg-0a1b2c3d", Value: "v", Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.SetCookie(w, &http.Cookie{Name: "gone", MaxAge: -1})
		http.Redirect(w, r, "https://provider.example/authorize?state=x&scope=a%20b", http.StatusFound)
	})
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!doctype html><p>é") })
	mux.HandleFunc("GET /untyped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = w.Write([]byte{1, 2, 0xff})
	})
	mux.HandleFunc("GET /bytes", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte{0xff, 0xd8, 0xff}, 3000))
	})
	mux.HandleFunc("GET /unchanged", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusNotModified)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	})
	mux.HandleFunc("GET /lines", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Vary"] = []string{"Cookie", "Accept"}
		w.Header().Set("X-Split", "a\r\nX-New: b")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "too late")
	})
	return mux
}

// shown is what a client can tell of an answer. Date and what concerns the
// connection is not the handler's.
type shown struct {
	Status int
	Header map[string]string
	Cookie []string
	Body   string
}

func show(t *testing.T, r *http.Response) shown {
	t.Helper()
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	s := shown{r.StatusCode, map[string]string{}, r.Header["Set-Cookie"], string(body)}
	for name, values := range r.Header {
		switch name {
		case "Set-Cookie", "Date", "Content-Length", "Connection":
		default:
			s.Header[name] = strings.Join(values, ", ")
		}
	}
	return s
}

// TestSameAnswersByServerAndFunction sends each request to net/http's server and
// through the adapter.
func TestSameAnswersByServerAndFunction(t *testing.T) {
	server := httptest.NewServer(routes())
	defer server.Close()
	asIs := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	handler := lambdahttp.Transport(lambdahttp.Handler(routes(), slog.New(slog.DiscardHandler)))
	byServer, byFunction := &http.Client{CheckRedirect: asIs}, &http.Client{CheckRedirect: asIs, Transport: handler}

	long := strings.Repeat("c0de", 1536)
	cookies := http.Header{"Cookie": {"a=1; a=2", "a=3; b=" + strings.Repeat("x", 200)}}
	for _, c := range []struct {
		method, target, body string
		header               http.Header
	}{
		{"GET", "/v1/conn_1/echo", "", nil},
		{"GET", "/v1/conn_1/echo?code=" + long + "&code=2&x=%2B+%26&y&=z&%zz=1;2", "", cookies},
		{"GET", "/v1/a%2Fb/echo", "", nil},
		{"GET", "/v1/a%2fb%3Fc%23d%25/echo", "", nil},
		{"GET", "/v1/%2e%2e/echo", "", nil},
		{"GET", "/v1/../v1//x/echo", "", nil},
		{"GET", "/v1/%C3%A9'(),;=@:!$&*+/echo", "", nil},
		{"GET", "//page", "", nil},
		{"POST", "/v1/x/echo", `{"owner":"é"}`, http.Header{"Content-Type": {"application/json; charset=utf-8"}}},
		{"POST", "/v1/x/echo", "a=b&c=\xff\x00", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
		{"PATCH", "/v1/x/echo", "untyped", nil},
		{"DELETE", "/v1/x/echo", "", http.Header{"Accept": {"text/plain", "application/json"}}},
		{"HEAD", "/page", "", nil},
		{"OPTIONS", "/page", "", nil},
		{"POST", "/page", "x", nil},
		{"GET", "/page", "", nil},
		{"GET", "/redirect", "", nil},
		{"GET", "/untyped", "", nil},
		{"GET", "/bytes", "", nil},
		{"GET", "/unchanged", "", nil},
		{"GET", "/lines", "", nil},
		{"GET", "/nowhere", "", nil},
	} {
		t.Run(c.method+" "+c.target[:min(len(c.target), 40)], func(t *testing.T) {
			var got []shown
			for _, client := range []*http.Client{byServer, byFunction} {
				r, err := http.NewRequestWithContext(t.Context(), c.method, server.URL+c.target, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				for name, values := range c.header {
					r.Header[name] = values
				}
				a, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, show(t, a))
			}
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Errorf("(-server +function):\n%s", diff)
			}
		})
	}
}

func TestEventForCarriesNoIdentityAndTheWholeRequest(t *testing.T) {
	r := httptest.NewRequest("POST", "https://broker.example/iam/v1/x?a=1&a=2", strings.NewReader("body"))
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	r.Header.Add("Cookie", "a=1; b=2")
	e, err := lambdahttp.EventFor(r)
	if err != nil {
		t.Fatal(err)
	}
	if e.RequestContext.Authorizer != nil || e.RequestContext.RequestID == "" {
		t.Errorf("request context %+v", e.RequestContext)
	}
	e.RequestContext = events.APIGatewayV2HTTPRequestContext{DomainName: e.RequestContext.DomainName}
	want := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: "$default", RawPath: "/iam/v1/x", RawQueryString: "a=1&a=2", Cookies: []string{"a=1", "b=2"},
		Headers: map[string]string{"content-type": "text/plain; charset=utf-8", "content-length": "4"}, Body: "body",
		RequestContext: events.APIGatewayV2HTTPRequestContext{DomainName: "broker.example"},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzEvent: whatever JSON comes as an event, the handler ends in an answer that
// the gateway can read, or in the error for another format.
func FuzzEvent(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden events", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	h := lambdahttp.Handler(routes(), slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e events.APIGatewayV2HTTPRequest
		if json.Unmarshal(b, &e) != nil {
			return
		}
		a, err := h(t.Context(), e)
		if err != nil {
			if e.Version == "2.0" {
				t.Fatal(err)
			}
			return
		}
		if a.StatusCode < 200 || a.StatusCode == http.StatusInternalServerError {
			t.Errorf("status %d for %s", a.StatusCode, b)
		}
	})
}

// FuzzSameRequest: of any request that net/http can read, the handler sees the
// same through an event.
func FuzzSameRequest(f *testing.F) {
	f.Add("GET", "/v1/a%2Fb/%C3%A9?x=1&x=%zz&;", "a=1; b=\"2\"", "text/plain", []byte{})
	f.Add("POST", "//x/%25?code=%00", "", "application/json", []byte("{\"a\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, method, target, cookie, contentType string, body []byte) {
		var wire bytes.Buffer
		wire.WriteString(method + " " + target + " HTTP/1.1\r\nHost: broker.example\r\nCookie: " + cookie + "\r\nContent-Type: " + contentType + "\r\n\r\n")
		want, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil || wire.Len() > 0 || !strings.HasPrefix(want.RequestURI, "/") || strings.Contains(want.RequestURI, "#") {
			return // not readable, or in a form that the gateway never passes on
		}
		want.Body = io.NopCloser(bytes.NewReader(body))
		e, err := lambdahttp.EventFor(want)
		if err != nil {
			t.Fatal(err)
		}
		got, gotBody := seen(t, e)
		type facts struct{ Method, Path, Escaped, Query, Cookies, Type, Host, Body string }
		of := func(r *http.Request, body string) facts {
			names := ""
			for _, c := range r.Cookies() {
				names += c.Name + "=" + c.Value + ";"
			}
			return facts{r.Method, r.URL.Path, r.URL.EscapedPath(), r.URL.RawQuery, names, r.Header.Get("Content-Type"), r.Host, body}
		}
		if diff := cmp.Diff(of(want, string(body)), of(got, gotBody)); diff != "" {
			t.Errorf("(-net/http +event):\n%s", diff)
		}
	})
}
