package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/google/go-cmp/cmp"
)

// vectorFile is a set of token-endpoint answers and what they mean. Further files
// of this form are named by EVERGRANT_VECTORS, separated by colons.
type vectorFile struct {
	Format  string   `json:"format"`
	NowUnix int64    `json:"now_unix"`
	Vectors []vector `json:"vectors"`
}

type vector struct {
	ID, About, Kind, Provider string
	Grant                     provider.Grant
	Request                   struct {
		RefreshTokenSent string `json:"refresh_token_sent"`
		ScopeSent        string `json:"scope_sent"`
	}
	Hints   hints           `json:"provider_hints"`
	HTTP    *vectorAnswer   `json:"http"`
	Network string          `json:"network"`
	Expect  json.RawMessage `json:"expect"`
}

// hints are what an entry says about reading answers.
type hints struct {
	ExpiresInUnit     string   `json:"expires_in_unit"`
	ScopeSeparator    string   `json:"scope_separator"`
	TokenPath         string   `json:"token_path"`
	DefaultExpiresIn  int64    `json:"default_expires_in"`
	AcceptTokenTypes  []string `json:"accept_token_types"`
	DeadRefreshErrors []string `json:"dead_refresh_errors"`
	DeadCodeErrors    []string `json:"dead_code_errors"`
	RetryErrors       []string `json:"retry_errors"`
	CodeReuseStatus   int      `json:"code_reuse_status"`
}

func (h hints) entry() provider.Entry {
	return provider.Entry{
		TokenEndpointAuthMethod: "none",
		ExpiresInUnit:           h.ExpiresInUnit,
		ScopeSeparator:          h.ScopeSeparator,
		TokenPath:               h.TokenPath,
		AccessTokenTTL:          h.DefaultExpiresIn,
		AcceptTokenTypes:        h.AcceptTokenTypes,
		DeadRefreshErrors:       h.DeadRefreshErrors,
		DeadCodeErrors:          h.DeadCodeErrors,
		RetryErrors:             h.RetryErrors,
		CodeReuseStatus:         h.CodeReuseStatus,
	}
}

type vectorAnswer struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"`
	BodyB64   []byte            `json:"body_b64"`
	BodyParts parts             `json:"body_parts"`
}

func (a *vectorAnswer) body() []byte {
	switch {
	case a.BodyB64 != nil:
		return a.BodyB64
	case a.BodyParts != nil:
		return []byte(a.BodyParts.join())
	}
	return []byte(a.Body)
}

func (a *vectorAnswer) header() http.Header {
	h := http.Header{}
	for name, v := range a.Headers {
		h.Add(name, v)
	}
	return h
}

// parts is a long text: [["text", count], …], each text repeated, all joined.
type parts [][2]any

func (p parts) join() string {
	var b strings.Builder
	for _, part := range p {
		b.WriteString(strings.Repeat(part[0].(string), int(part[1].(float64))))
	}
	return b.String()
}

// expectation is an Answer as the vectors write it.
type expectation struct {
	Verdict           provider.Verdict `json:"verdict"`
	AccessToken       *string          `json:"access_token"`
	AccessTokenParts  parts            `json:"access_token_parts"`
	RefreshToken      *string          `json:"refresh_token"`
	RefreshTokenParts parts            `json:"refresh_token_parts"`
	ExpiresIn         *int64           `json:"expires_in_s"`
	TokenType         *string          `json:"token_type"`
	Scope             []string         `json:"scope"`
	RetryAfter        *int64           `json:"retry_after_s"`
	Error             *string          `json:"error"`
	ResponseLost      bool             `json:"response_lost"`
}

func (v vector) want(t *testing.T) expectation {
	t.Helper()
	var want expectation
	d := json.NewDecoder(strings.NewReader(string(v.Expect)))
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if want.AccessTokenParts != nil {
		want.AccessToken, want.AccessTokenParts = ptr(want.AccessTokenParts.join()), nil
	}
	if want.RefreshTokenParts != nil {
		want.RefreshToken, want.RefreshTokenParts = ptr(want.RefreshTokenParts.join()), nil
	}
	if want.Scope != nil {
		want.Scope = []string{strings.Join(want.Scope, " ")}
	}
	return want
}

// got writes an Answer as the vectors do.
func got(a provider.Answer) expectation {
	e := expectation{Verdict: a.Verdict, ResponseLost: a.ResponseLost}
	if !a.AccessToken.IsZero() {
		e.AccessToken = ptr(a.AccessToken.Reveal())
	}
	if !a.RefreshToken.IsZero() {
		e.RefreshToken = ptr(a.RefreshToken.Reveal())
	}
	if a.ExpiresIn != 0 {
		e.ExpiresIn = &a.ExpiresIn
	}
	if a.TokenType != "" {
		e.TokenType = &a.TokenType
	}
	if a.ScopeKnown {
		e.Scope = []string{a.Scope}
	}
	if a.RetryAfter != provider.NoRetryAfter {
		e.RetryAfter = &a.RetryAfter
	}
	if a.Error != "" {
		e.Error = &a.Error
	}
	return e
}

func ptr[T any](v T) *T { return &v }

func (v vector) request() provider.Request {
	r := provider.Request{Grant: v.Grant, RefreshToken: secret.New(v.Request.RefreshTokenSent)}
	if v.Request.ScopeSent != "" {
		r.Scope = []string{v.Request.ScopeSent}
	}
	if v.Grant == provider.GrantAuthorizationCode {
		r.Code = secret.New("code-sent")
	}
	return r
}

func (v vector) outcome() provider.Outcome {
	if v.HTTP == nil {
		return provider.Outcome{Failure: provider.Failure(v.Network)}
	}
	return provider.Outcome{Status: v.HTTP.Status, Header: v.HTTP.header(), Body: v.HTTP.body()}
}

// loadVectors returns all files: the project's own, and what the environment names.
func loadVectors(t testing.TB) []vectorFile {
	t.Helper()
	paths := []string{filepath.Join("testdata", "token_responses.json")}
	for p := range strings.SplitSeq(os.Getenv("EVERGRANT_VECTORS"), ":") {
		if p != "" {
			paths = append(paths, p)
		}
	}
	var files []vectorFile
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var f vectorFile
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if f.Format != "evergrant-token-responses/1" || len(f.Vectors) == 0 {
			t.Fatalf("%s: format %q with %d vectors", p, f.Format, len(f.Vectors))
		}
		files = append(files, f)
	}
	return files
}

func TestVector(t *testing.T) {
	for _, f := range loadVectors(t) {
		now := time.Unix(f.NowUnix, 0)
		for _, v := range f.Vectors {
			t.Run(v.ID, func(t *testing.T) {
				want := v.want(t)
				a := provider.Classify(v.Hints.entry(), v.request(), v.outcome(), now)
				if diff := cmp.Diff(want, got(a)); diff != "" {
					t.Errorf("%s\nClassify, -want +got:\n%s", v.About, diff)
				}
				if v.HTTP == nil {
					return
				}
				e := v.Hints.entry()
				c := &provider.Client{AllowLoopback: true, Now: func() time.Time { return now }}
				e.TokenEndpoint = serveOnce(t, v.HTTP.raw())
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				a = c.Token(ctx, e, provider.Credentials{ClientID: "client"}, v.request())
				if diff := cmp.Diff(want, got(a)); diff != "" {
					t.Errorf("%s\nToken, -want +got:\n%s", v.About, diff)
				}
			})
		}
	}
}

// raw writes the answer as a server would that closes the connection after it.
func (a *vectorAnswer) raw() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d Vector\r\nConnection: close\r\n", a.Status)
	length := fmt.Sprint(len(a.body()))
	for name, v := range a.Headers {
		if strings.EqualFold(name, "Content-Length") {
			length = v
			continue
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, v)
	}
	if a.Status != http.StatusNoContent {
		fmt.Fprintf(&b, "Content-Length: %s\r\n", length)
	}
	return append([]byte(b.String()+"\r\n"), a.body()...)
}

// serveOnce answers one request on loopback with these bytes and returns the URL.
func serveOnce(t *testing.T, raw []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- answerOnce(l, raw) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/token"
}

func answerOnce(l net.Listener, raw []byte) error {
	c, err := l.Accept()
	if errors.Is(err, net.ErrClosed) {
		return errors.New("no request came")
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := readRequest(c); err != nil {
		return err
	}
	// A client that leaves a redirect's or an oversized body unread may be gone.
	_, _ = c.Write(raw)
	return nil
}
