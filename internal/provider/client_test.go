package provider_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func refreshRequest() provider.Request {
	return provider.Request{Grant: provider.GrantRefreshToken, RefreshToken: secret.New("old-rt")}
}

func confidential() provider.Credentials {
	return provider.Credentials{ClientID: "id:1", ClientSecret: secret.New("s/+%:é")}
}

func entryAt(endpoint, method string) provider.Entry {
	return provider.Entry{TokenEndpoint: endpoint, TokenEndpointAuthMethod: method}
}

const goodAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n" + `{"access_token":"at"}`

var (
	_ = mutant("T48", "internal/provider/clientauth.go", `case methodBasic:`, `case methodBasic:
		p.Set("client_secret", key)`)
	_ = mutant("T48", "internal/provider/client.go", `a := classify(e, req, c.send(r), c.now(), known...)`, `a := classify(e, req, c.send(r), c.now(), known...)
	if a.Error == "invalid_client" {
		e.TokenEndpointAuthMethod = methodPost
		if r, err = c.tokenRequest(ctx, e, cred, req); err == nil {
			a = classify(e, req, c.send(r), c.now(), known...)
		}
	}`)
)

func TestThreat_T48_a_client_authenticates_in_one_way(t *testing.T) {
	t.Run("in one place only", tokenAuthenticatesInOnePlaceOnly)
	t.Run("whatever is refused", func(t *testing.T) {
		for _, method := range []string{"client_secret_basic", "client_secret_basic_raw", "client_secret_post", "none"} {
			w := newWire(t, answering(401, `{"error":"invalid_client"}`))
			c := &provider.Client{AllowLoopback: true}
			a := c.Token(t.Context(), entryAt(w.URL, method), confidential(), refreshRequest())
			if n := len(w.requests()); n != 1 || a.Verdict != provider.VerdictConfigError {
				t.Errorf("%s: %d requests, %s", method, n, a.Verdict)
			}
		}
	})
}

func tokenAuthenticatesInOnePlaceOnly(t *testing.T) {
	for method, want := range map[string]struct{ authorization, id, secret string }{
		"client_secret_basic":     {"Basic aWQlM0ExOnMlMkYlMkIlMjUlM0ElQzMlQTk=", "", ""},
		"client_secret_basic_raw": {"Basic aWQ6MTpzLyslOsOp", "", ""},
		"client_secret_post":      {"", "id:1", "s/+%:é"},
		"none":                    {"", "id:1", ""},
	} {
		w := newWire(t, reply(goodAnswer))
		e := entryAt(w.URL+"/token?v=1", method)
		e.TokenHeaders = map[string]string{"Accept": "text/html", "X-Version": "2"}
		e.TokenParams = map[string]string{"audience": "api", "grant_type": "overridden"}
		e.RefreshParams = map[string]string{"scope": "offline"}
		c := &provider.Client{AllowLoopback: true, UserAgent: "evergrant/1.2"}
		a := c.Token(t.Context(), e, confidential(), refreshRequest())
		if a.Verdict != provider.VerdictOK {
			t.Fatalf("%s: %+v", method, a)
		}
		all := w.requests()
		if len(all) != 1 {
			t.Fatalf("%s: %d requests", method, len(all))
		}
		r := all[0]
		if r.Header.Get("Authorization") != want.authorization || r.Form.Get("client_id") != want.id || r.Form.Get("client_secret") != want.secret {
			t.Errorf("%s: %v %v", method, r.Header["Authorization"], r.Form)
		}
		if r.Method != "POST" || r.Path != "/token" || r.Query != "v=1" || r.Proto != "HTTP/1.1" {
			t.Errorf("%s: %s %s?%s %s", method, r.Method, r.Path, r.Query, r.Proto)
		}
		if r.Form.Get("grant_type") != "refresh_token" || r.Form.Get("refresh_token") != "old-rt" || r.Form.Get("audience") != "api" || r.Form.Get("scope") != "offline" {
			t.Errorf("%s: form %v", method, r.Form)
		}
		for name, v := range map[string]string{
			"Accept": "application/json", "User-Agent": "evergrant/1.2", "X-Version": "2",
			"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "", "Idempotency-Key": "", "X-Idempotency-Key": "",
		} {
			if r.Header.Get(name) != v {
				t.Errorf("%s: %s is %q, want %q", method, name, r.Header.Get(name), v)
			}
		}
	}
}

func TestTokenSendsACodeWithItsVerifier(t *testing.T) {
	w := newWire(t, reply(goodAnswer))
	c := &provider.Client{AllowLoopback: true}
	req := provider.Request{
		Grant: provider.GrantAuthorizationCode, Code: secret.New("c0de"), CodeVerifier: secret.New("verifier"),
		RedirectURI: "https://app.example/cb", Scope: []string{"a"},
	}
	e := entryAt(w.URL, "none")
	e.TokenRequestFormat = "json"
	if a := c.Token(t.Context(), e, provider.Credentials{ClientID: "id"}, req); a.Verdict != provider.VerdictOK || a.Scope != "a" {
		t.Fatalf("%+v", a)
	}
	e.TokenRequestFormat, e.PKCE, e.ClientIDParam = "form", "unsupported", "client_key"
	c.Token(t.Context(), e, provider.Credentials{ClientID: "id"}, req)
	all := w.requests()
	if want := `{"client_id":"id","code":"c0de","code_verifier":"verifier","grant_type":"authorization_code","redirect_uri":"https://app.example/cb"}`; all[0].Body != want {
		t.Errorf("json body %s", all[0].Body)
	}
	if want := "client_key=id&code=c0de&grant_type=authorization_code&redirect_uri=https%3A%2F%2Fapp.example%2Fcb"; all[1].Body != want {
		t.Errorf("form body %s", all[1].Body)
	}
}

// A sending is what comes back to a token request, and what it comes to.
type sending struct {
	raw     string
	verdict provider.Verdict
	lost    bool
}

// sentOnce: each of these answers comes to one request, and to the same refresh token.
func sentOnce(t *testing.T, tests map[string]sending) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, reply(test.raw))
			c := &provider.Client{AllowLoopback: true}
			req := refreshRequest()
			a := c.Token(t.Context(), entryAt(w.URL, "client_secret_post"), confidential(), req)
			if a.Verdict != test.verdict || a.ResponseLost != test.lost || a.RetryAfter != provider.NoRetryAfter {
				t.Errorf("%+v", a)
			}
			if a.RefreshToken != req.RefreshToken || a.RefreshTokenArrived {
				t.Error("the refresh token is not the one that was sent")
			}
			if n := len(w.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

var _ = mutant("T42", "internal/provider/client.go", `resp, err := c.transport().RoundTrip(r.WithContext(t.follow(ctx)))`, `resp, err := (&http.Client{Transport: c.transport()}).Do(r.WithContext(t.follow(ctx)))`)

func TestThreat_T42_no_redirect_is_followed(t *testing.T) {
	elsewhere := newWire(t, reply(goodAnswer))
	tests := map[string]sending{}
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		tests[fmt.Sprintf("redirect %d", status)] = sending{
			fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s/token\r\nRetry-After: 5\r\nContent-Length: 25\r\n\r\n{\"error\":\"invalid_grant\"}", status, elsewhere.URL),
			provider.VerdictConfigError, false,
		}
	}
	sentOnce(t, tests)
	if n := len(elsewhere.requests()); n != 0 {
		t.Errorf("%d redirects followed", n)
	}
}

var (
	_ = mutant("T44", "internal/provider/body.go", `return wire, len(wire) <= maxBody`, `return wire, true`)
	_ = mutant("T44", "internal/provider/body.go", `raw, err := io.ReadAll(io.LimitReader(z, maxBody+1))
	return raw, err == nil && len(raw) <= maxBody`, `raw, err := io.ReadAll(z)
	return raw, err == nil`)
	_ = mutant("T44", "internal/provider/transport.go", `MaxResponseHeaderBytes: maxHeader,`, ``)
)

func TestThreat_T44_an_answer_is_bounded(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(bytes.Repeat([]byte("0"), 8<<20))
	_ = z.Close()
	t.Run("gzip", gzipIsBoundedAfterDecompression)
	t.Run("slow", tokenDeadlineAfterSendingIsALostAnswer)
	padded := func(size int) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", size+21, `{"access_token":"at"}`, strings.Repeat(" ", size))
	}
	sentOnce(t, map[string]sending{
		"padded past 1 MiB":   {padded(1 << 20), provider.VerdictMalformed, true},
		"padded past 2 MiB":   {padded(2 << 20), provider.VerdictMalformed, true},
		"2 MiB body":          {"HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n" + strings.Repeat("x", 2<<20), provider.VerdictMalformed, true},
		"3 MiB without end":   {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + strings.Repeat("x", 3<<20), provider.VerdictMalformed, true},
		"gzip bomb":           {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", bomb.Len(), &bomb), provider.VerdictMalformed, true},
		"half a body":         {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + `{"access_token":"at"}`, provider.VerdictMalformed, true},
		"half a chunked body": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n" + `{"access_token":"at"}` + "\r\n", provider.VerdictMalformed, true},
		"bad chunks":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", provider.VerdictRetry, true},
		"reset":               {"", provider.VerdictRetry, true},
		"no HTTP":             {"220 smtp ready\r\n\r\n", provider.VerdictRetry, true},
		"endless headers":     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", provider.VerdictRetry, true},
		"half a header":       {"HTTP/1.1 200 OK\r\nContent-Le", provider.VerdictRetry, true},
	})
}

// A server that drops a kept connection just when it is used again is what makes
// net/http repeat requests. NewTransport keeps none, so this one is net/http's.
func TestTokenIsNotRepeatedOnAReusedConnection(t *testing.T) {
	w := newWire(t, func(c net.Conn, n int) bool {
		if n == 1 {
			_, _ = io.WriteString(c, goodAnswer)
		}
		return n == 1
	})
	kept := &http.Transport{}
	defer kept.CloseIdleConnections()
	c := &provider.Client{AllowLoopback: true, Transport: kept}
	e := entryAt(w.URL, "none")
	cred := provider.Credentials{ClientID: "id"}
	if a := c.Token(t.Context(), e, cred, refreshRequest()); a.Verdict != provider.VerdictOK {
		t.Fatalf("first: %+v", a)
	}
	if a := c.Token(t.Context(), e, cred, refreshRequest()); a.Verdict != provider.VerdictRetry || !a.ResponseLost {
		t.Errorf("second: %+v", a)
	}
	if n, conns := len(w.requests()), w.connections(); n != 2 || conns != 1 {
		t.Errorf("%d requests on %d connections; the second one was repeated or not sent on the kept one", n, conns)
	}
}

func TestTokenHasAConnectionOfItsOwn(t *testing.T) {
	w := newWire(t, func(c net.Conn, _ int) bool {
		_, _ = io.WriteString(c, goodAnswer)
		return true
	})
	c := &provider.Client{AllowLoopback: true}
	for range 3 {
		if a := c.Token(t.Context(), entryAt(w.URL, "none"), provider.Credentials{ClientID: "id"}, refreshRequest()); a.Verdict != provider.VerdictOK {
			t.Errorf("%+v", a)
		}
	}
	if n, conns := len(w.requests()), w.connections(); n != 3 || conns != 3 {
		t.Errorf("%d requests on %d connections", n, conns)
	}
}

func tokenDeadlineAfterSendingIsALostAnswer(t *testing.T) {
	for name, partial := range map[string]string{
		"no answer":  "",
		"headers":    "HTTP/1.1 200 OK\r\nContent-Le",
		"slow body":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":",
		"slow error": "HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\n{\"error\":\"invalid_grant\"",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWire(t, func(c net.Conn, _ int) bool {
			_, _ = io.WriteString(c, partial)
			cancel() // the time is up now
			return true
		})
		c := &provider.Client{AllowLoopback: true}
		a := c.Token(ctx, entryAt(w.URL, "none"), provider.Credentials{ClientID: "id"}, refreshRequest())
		if a.Verdict != provider.VerdictRetry || !a.ResponseLost || a.Detail != "no answer: timeout" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

var (
	_ = mutant("T43", "internal/provider/transport.go", `t.TLSClientConfig.MinVersion = max(t.TLSClientConfig.MinVersion, tls.VersionTLS12)`, `t.TLSClientConfig.MinVersion = tls.VersionTLS10`)
	_ = mutant("T43", "internal/provider/transport.go", `&tls.Config{ClientSessionCache:`, `&tls.Config{InsecureSkipVerify: true, ClientSessionCache:`)
	_ = mutant("T43", "internal/provider/transport.go", `DisableCompression:     true,`, `DisableCompression: true, Proxy: http.ProxyFromEnvironment,`)
	_ = mutant("T43", "internal/provider/client.go", `if r.URL.Scheme != "https" && !c.AllowLoopback {`, `if r.URL.Scheme == "" {`)
)

func TestThreat_T43_nothing_is_sent_where_TLS_does_not_hold(t *testing.T) {
	t.Run("bad certificates and versions", tokenThatNeverLeftIsNotLost)
	t.Run("without a proxy", transportSpeaksHTTP1WithoutProxy)
	t.Run("another host", func(t *testing.T) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
		s.Config.ErrorLog = discardLog()
		s.StartTLS()
		defer s.Close()
		trusting := s.Client().Transport.(*http.Transport).TLSClientConfig
		c := &provider.Client{Transport: provider.NewTransport(provider.TransportOptions{AllowLoopback: true, TLS: trusting, Resolver: resolver([]netip.Addr{netip.MustParseAddr("127.0.0.1")})})}
		_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
		a := c.Token(t.Context(), entryAt("https://provider.test:"+port+"/token", "none"), provider.Credentials{ClientID: "id"}, refreshRequest())
		if a.Detail != "no answer: tls" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("plain http", tokenThatCannotBeSentIsAConfigError)
}

func tokenThatNeverLeftIsNotLost(t *testing.T) {
	w := newWire(t, reply(goodAnswer))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tlsServer := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request came over a connection that is not trusted")
	}))
	tlsServer.Config.ErrorLog = discardLog()
	tlsServer.StartTLS()
	defer tlsServer.Close()
	old := httptest.NewUnstartedServer(tlsServer.Config.Handler)
	old.Config.ErrorLog = discardLog()
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	loopback := &provider.Client{AllowLoopback: true}
	trusting := tlsServer.Client().Transport.(*http.Transport).TLSClientConfig
	for name, c := range map[string]struct {
		client *provider.Client
		ctx    context.Context
		url    string
		detail string
	}{
		"no time left":   {loopback, cancelled, w.URL, "no answer: reset_before"},
		"refused":        {loopback, t.Context(), "http://" + unusedAddress(t), "no answer: reset_before"},
		"unknown issuer": {loopback, t.Context(), tlsServer.URL, "no answer: tls"},
		"TLS 1.1":        {&provider.Client{Transport: provider.NewTransport(provider.TransportOptions{AllowLoopback: true, TLS: trusting})}, t.Context(), old.URL, "no answer: tls"},
		"no such host":   {&provider.Client{Transport: provider.NewTransport(provider.TransportOptions{Resolver: resolver(nil)})}, t.Context(), "https://provider.example/", "no answer: dns"},
	} {
		a := c.client.Token(c.ctx, entryAt(c.url, "none"), provider.Credentials{ClientID: "id"}, refreshRequest())
		if a.Verdict != provider.VerdictRetry || a.ResponseLost || a.Detail != c.detail {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if n := len(w.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// unusedAddress returns an address where nobody listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A transport that reports nothing about its progress may have sent everything.
func TestTokenOverAForeignTransportAssumesTheWorst(t *testing.T) {
	c := &provider.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF })}
	a := c.Token(t.Context(), entryAt("https://provider.example/", "none"), provider.Credentials{ClientID: "id"}, refreshRequest())
	if a.Verdict != provider.VerdictRetry || !a.ResponseLost {
		t.Errorf("%+v", a)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func tokenThatCannotBeSentIsAConfigError(t *testing.T) {
	never := &provider.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		t.Errorf("sent to %s", r.URL.Host)
		return nil, io.EOF
	})}
	id := provider.Credentials{ClientID: "id"}
	host := provider.Entry{
		TokenEndpoint: "https://{host}/token", TokenEndpointAuthMethod: "none",
		Variables: map[string]string{"host": "^[a-z.]+$"},
	}
	private := entryAt("https://provider.example/", "private_key_jwt")
	for name, c := range map[string]struct {
		entry provider.Entry
		cred  provider.Credentials
		req   provider.Request
	}{
		"no endpoint":         {entryAt("", "none"), id, refreshRequest()},
		"plain http":          {entryAt("http://provider.example/", "none"), id, refreshRequest()},
		"http on loopback":    {entryAt("http://127.0.0.1/", "none"), id, refreshRequest()},
		"user info":           {entryAt("https://a:b@provider.example/", "none"), id, refreshRequest()},
		"no private key":      {private, confidential(), refreshRequest()},
		"unknown auth method": {entryAt("https://provider.example/", "unknown"), confidential(), refreshRequest()},
		"no client id":        {entryAt("https://provider.example/", "none"), provider.Credentials{}, refreshRequest()},
		"no refresh token":    {entryAt("https://provider.example/", "none"), id, provider.Request{Grant: provider.GrantRefreshToken}},
		"no code":             {entryAt("https://provider.example/", "none"), id, provider.Request{Grant: provider.GrantAuthorizationCode}},
		"unknown grant":       {entryAt("https://provider.example/", "none"), id, provider.Request{Grant: "password"}},
		"variable missing":    {host, id, refreshRequest()},
	} {
		a := never.Token(t.Context(), c.entry, c.cred, c.req)
		if a.Verdict != provider.VerdictConfigError || a.ResponseLost || a.Detail == "" || a.RefreshToken != c.req.RefreshToken {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

var _ = mutant("T29", "internal/provider/client.go", `append(cred.spellings(), req.Code, req.CodeVerifier, req.RefreshToken)`, `append(cred.spellings()[:0], req.Code, req.CodeVerifier, req.RefreshToken)`)

func TestThreat_T29_what_a_provider_echoes_is_cut_out(t *testing.T) {
	w := newWire(t, func(c net.Conn, n int) bool {
		body := `{"error":"invalid_client","error_description":"secret CANARY-secret header aWQ6Q0FOQVJZLXNlY3JldA== token old-rt"}`
		fmt.Fprintf(c, "HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return false
	})
	c := &provider.Client{AllowLoopback: true}
	cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("CANARY-secret")}
	a := c.Token(t.Context(), entryAt(w.URL, "client_secret_basic_raw"), cred, refreshRequest())
	if want := "secret [redacted] header [redacted] token [redacted]"; a.Detail != want {
		t.Errorf("detail %q, want %q", a.Detail, want)
	}
}

func TestWhenFreshIsRefreshedWithItsPublicClient(t *testing.T) {
	w := newWire(t, reply(goodAnswer))
	e, err := provider.Lookup("whenfresh")
	if err != nil {
		t.Fatal(err)
	}
	e.TokenEndpoint = w.URL
	c := &provider.Client{AllowLoopback: true}
	machine := provider.Credentials{ClientID: "abc", ClientSecret: secret.New("123")}
	c.Token(t.Context(), e, machine, refreshRequest())
	c.Token(t.Context(), e, machine, provider.Request{Grant: provider.GrantClientCredentials})
	all := w.requests()
	if want := "client_id=r5e6j0k1oevsfgmb9secod9qd&grant_type=refresh_token&refresh_token=old-rt"; all[0].Body != want || all[0].Header.Get("Authorization") != "" {
		t.Errorf("refresh: %s, %v", all[0].Body, all[0].Header)
	}
	if all[1].Body != "grant_type=client_credentials" || all[1].Header.Get("Authorization") != "Basic YWJjOjEyMw==" {
		t.Errorf("client credentials: %s, %v", all[1].Body, all[1].Header)
	}
}

var (
	_ = mutant("T28", "internal/provider/template.go", `return errors.New("is not a URL") // the error would repeat it, query and all`, `return err`)
	_ = mutant("T28", "internal/provider/client.go", `return Outcome{Failure: t.failure(ctx, err)}`, `return Outcome{Failure: Failure(r.URL.String())}`)
)

// Where a URL holds a secret, since a provider wants a refresh by GET or a token in a
// path, no error repeats it.
func TestThreat_T28_no_error_holds_a_URL(t *testing.T) {
	cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("CANARY-secret")}
	req := provider.Request{Grant: provider.GrantRefreshToken, RefreshToken: secret.New("CANARY-rt")}
	c := &provider.Client{AllowLoopback: true}
	nobody := "http://" + unusedAddress(t)
	for name, endpoint := range map[string]string{
		"nobody there": nobody + "/token?key=CANARY-key", "no URL": "https://provider .example/token?key=CANARY-key",
		"escape": "https://provider.example/%zz?key=CANARY-key", "another scheme": "ftp://provider.example/?key=CANARY-key",
	} {
		for _, method := range []string{"GET", "POST"} {
			e := entryAt(endpoint, "client_secret_post")
			e.RefreshMethod = method
			a := c.Token(t.Context(), e, cred, req)
			if a.Verdict == provider.VerdictOK || a.Detail == "" || strings.Contains(a.Detail+a.Error, "CANARY") {
				t.Errorf("%s by %s: %s: %q %q", name, method, a.Verdict, a.Detail, a.Error)
			}
			account := provider.Entry{Identity: provider.Identity{Endpoint: endpoint, IDField: "id"}}
			if _, err := c.Identity(t.Context(), account, secret.New("CANARY-at"), "Bearer"); err == nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s: identity: %v", name, err)
			}
			if _, err := c.Discover(t.Context(), endpoint); err == nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s: discovery: %v", name, err)
			}
		}
	}
}
