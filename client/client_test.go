package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/client"
)

// roundTrip is an http.RoundTripper that is a func.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for n := 0; n < len(header); n += 2 {
		h.Set(header[n], header[n+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

const secretToken = "at-SECRET"

func tokenJSON(useUntil string) string {
	return `{"access_token":"` + secretToken + `","token_type":"Bearer","token_id":"1","expires_at":` + useUntil + `,"use_until":` + useUntil +
		`,"generation":1,"scope":"a b","fields":{"realm":"field-SECRET"},"api":null}`
}

func newClient(t *testing.T, options client.Options) *client.Client {
	t.Helper()
	c, err := client.New("https://auth.example.com", "evg_SECRET", options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Thousand callers wait for one request, however long it takes.
func TestAThousandWaitForOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			time.Sleep(time.Second) // of the bubble's clock
			return respond(r, 200, tokenJSON("null")), nil
		})}})
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				token, err := c.Token(t.Context(), "conn_1", client.TokenOptions{})
				if err != nil || token.AccessToken.Reveal() != secretToken {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// The request goes on for the others if the first caller gives up, and ends with the last.
func TestARequestBelongsToAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(10 * time.Second):
				ended <- nil
				return respond(r, 200, tokenJSON("null")), nil
			case <-r.Context().Done():
				ended <- r.Context().Err()
				return nil, r.Context().Err()
			}
		})}})
		ask := func(patience time.Duration) <-chan error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			result := make(chan error, 1)
			go func() {
				defer cancel()
				_, err := c.Token(ctx, "conn_1", client.TokenOptions{})
				result <- err
			}()
			synctest.Wait()
			return result
		}
		first, second := ask(time.Second), ask(time.Minute)
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first caller got %v", err)
		}
		if err := errors.Join(<-second, <-ended); err != nil {
			t.Errorf("the second caller got %v", err)
		}
		c = newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			ended <- r.Context().Err()
			return nil, r.Context().Err()
		})}})
		one, two := ask(time.Second), ask(2*time.Second)
		<-one
		select {
		case <-ended:
			t.Error("the request ended while somebody waited")
		default:
		}
		<-two
		if err := <-ended; err == nil {
			t.Error("the request went on for nobody")
		}
	})
}

// A call waits no longer than its context, and says what it waited for.
func TestACallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return respond(r, 409, `{"code":"refresh_in_progress","status":409,"detail":"d"}`, "Retry-After", "1"), nil
		})}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err := c.Token(ctx, "conn_1", client.TokenOptions{})
		if _, ok := errors.AsType[*client.RefreshInProgressError](err); !ok {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestNothingPrintsASecret(t *testing.T) {
	c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/confirm") {
			return nil, errors.New("reset")
		}
		return respond(r, 200, tokenJSON("null")), nil
	})}, RetryFor: -1})
	token, err := c.Token(t.Context(), "conn_1", client.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, failed := c.Confirm(t.Context(), "cs_SECRET", client.NewSecret("confirm-SECRET"), "alice")
	if failed == nil {
		t.Fatal("no error")
	}
	imported := client.Import{RefreshToken: client.NewSecret("rt-SECRET")}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "client", c, "error", failed, "import", imported)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "token", token, "error", failed, "import", imported, "secret", token.AccessToken)
	for _, v := range []any{token, &token, c, failed, imported, token.Fields, struct{ hidden client.Secret }{token.AccessToken}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&log, verb, v)
		}
	}
	b, err := json.Marshal([]any{token, imported, c})
	if err != nil {
		t.Fatal(err)
	}
	if all := log.String() + string(b); strings.Contains(all, "SECRET") || strings.Contains(all, fmt.Sprintf("%x", "SECRET")) {
		t.Errorf("a secret is printed:\n%s", all)
	}
	if token.AccessToken.Reveal() != secretToken || token.Fields["realm"].Reveal() != "field-SECRET" {
		t.Error("the secrets are not there")
	}
}

func TestAddressesAndKeys(t *testing.T) {
	sign := func(context.Context, *http.Request, []byte) error { return nil }
	for _, c := range []struct {
		base, key string
		options   client.Options
		good      bool
	}{
		{"https://auth.example.com", "evg_1", client.Options{}, true},
		{"https://auth.example.com/stage/", "evg_1", client.Options{}, true},
		{"http://127.0.0.1:8080", "evg_1", client.Options{}, true},
		{"http://localhost:8080", "evg_1", client.Options{}, true},
		{"https://auth.example.com", "", client.Options{Sign: sign}, true},
		{"http://evergrant:8080", "evg_1", client.Options{InsecureHTTP: true}, true},
		{"http://evergrant:8080", "evg_1", client.Options{}, false},
		{"ftp://127.0.0.1", "evg_1", client.Options{InsecureHTTP: true}, false},
		{"auth.example.com", "evg_1", client.Options{}, false},
		{"https://user:pass@auth.example.com", "evg_1", client.Options{}, false},
		{"https://auth.example.com?x=1", "evg_1", client.Options{}, false},
		{"https://auth.example.com", "", client.Options{}, false},
		{"https://auth.example.com", "evg_1", client.Options{Sign: sign}, false},
	} {
		if _, err := client.New(c.base, c.key, c.options); (err == nil) != c.good {
			t.Errorf("%s, %q: %v", c.base, c.key, err)
		}
	}
}

// A redirect of the provider to another origin does not take the token along; one within its
// origin does.
func TestARedirectElsewhereHasNoToken(t *testing.T) {
	seen := map[string]string{}
	c := newClient(t, client.Options{
		HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return respond(r, 200, tokenJSON("null")), nil })},
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			seen[r.URL.String()] = r.Header.Get("Authorization")
			next := map[string]string{"https://api.example.com/a": "https://api.example.com/b", "https://api.example.com/b": "https://elsewhere.example.com/"}[r.URL.String()]
			if next == "" {
				return respond(r, 200, "done"), nil
			}
			return respond(r, 302, "", "Location", next), nil
		}),
	})
	resp, err := c.HTTPClient(t.Context(), "conn_1").Get("https://api.example.com/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for address, want := range map[string]string{"https://api.example.com/a": "Bearer " + secretToken, "https://api.example.com/b": "Bearer " + secretToken, "https://elsewhere.example.com/": ""} {
		if got, ok := seen[address]; !ok || got != want {
			t.Errorf("%s got %q, want %q", address, got, want)
		}
	}
}

// The cache does not grow with every connection that there ever was.
func TestTheCacheIsBounded(t *testing.T) {
	c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return respond(r, 200, tokenJSON("null")), nil })}})
	for n := range client.MaxCells + 100 {
		if _, err := c.Token(t.Context(), fmt.Sprintf("conn_%d", n), client.TokenOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := client.Cells(c); n > client.MaxCells {
		t.Errorf("%d tokens are cached", n)
	}
}

// The token source serves golang.org/x/oauth2: its Expiry is when to ask again.
func TestTokenSource(t *testing.T) {
	c := newClient(t, client.Options{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return respond(r, 200, tokenJSON(`"2126-01-01T00:00:00Z"`)), nil
	})}})
	token, err := c.TokenSource(t.Context(), "conn_1").Token()
	if err != nil {
		t.Fatal(err)
	}
	if token.AccessToken != secretToken || token.Type() != "Bearer" || !token.Expiry.Equal(time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC)) || !token.Valid() {
		t.Errorf("token of type %s until %s", token.Type(), token.Expiry)
	}
	failing := newClient(t, client.Options{RetryFor: -1, HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return respond(r, 409, `{"code":"needs_reauth","reason":"revoked","connection_id":"conn_1"}`), nil
	})}})
	_, err = failing.TokenSource(t.Context(), "conn_1").Token()
	if e, ok := errors.AsType[*client.NeedsReauthError](err); !ok || e.Reason != "revoked" || e.ConnectionID != "conn_1" {
		t.Errorf("error %v", err)
	}
}

// Each call closes what it was given to send.
func TestABodyIsClosedWhereNothingIsSent(t *testing.T) {
	c := newClient(t, client.Options{RetryFor: -1, HTTPClient: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") })}})
	body := &closing{Reader: strings.NewReader("x")}
	r := httptest.NewRequest(http.MethodPost, "https://api.example.com/", nil)
	r.RequestURI, r.Body = "", body
	resp, err := c.HTTPClient(t.Context(), "conn_1").Do(r)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("no error")
	}
	if !body.closed {
		t.Error("the body is still open")
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }
