// Package client is Evergrant's API for Go backends: a fresh access token in one line.
//
//	evergrant, err := client.New("https://auth.example.com", os.Getenv("EVERGRANT_API_KEY"), client.Options{})
//	…
//	http := evergrant.HTTPClient(ctx, connectionID)
//	resp, err := http.Get("https://api.provider.example/me")
//
// [Client.Token], [Client.TokenSource] and [Client.HTTPClient] hand out what Evergrant keeps
// fresh. A token is cached until its use_until; however many goroutines ask for it at once, one
// request is made. An answer of the provider that refuses the token is reported to Evergrant by
// compare-and-refresh, which refreshes once for all who report the same token, and the request is
// sent again where its body can be.
//
// The other methods are the API's routes for backends: connect sessions, confirmation, imports,
// lists, disconnect.
//
// Access tokens come as [Secret], which cannot print. What goes wrong comes as an [APIError], or as
// one of the types around it where the caller has to do something: [NeedsReauthError] and
// [MissingScopeError] (send the user through [Client.Reconnect]), [DisconnectedError],
// [RestartConnectError], [RateLimitedError] and others. Calls that may be repeated are, while a
// refresh is under way, the provider is away or the server restarts; see Options.RetryFor.
//
// The client needs nothing beyond the standard library and golang.org/x/oauth2. Signing with AWS
// credentials is in package client/sigv4.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// Options are what New needs besides address and key. The zero Options are good.
type Options struct {
	// HTTPClient makes the requests to Evergrant. Its CheckRedirect is not used: the API
	// never redirects, and to follow one would carry the key elsewhere. Nil: a client with a
	// time limit of 100 seconds a request, which is more than the slowest answer takes.
	HTTPClient *http.Client
	// Transport sends the requests of HTTPClient(ctx, id) to the provider. Nil:
	// http.DefaultTransport.
	Transport http.RoundTripper
	// RetryFor is how long a call goes on repeating what may be repeated, counted from its
	// beginning; a deadline of its context that is sooner counts instead. An error whose
	// Retry-After would be later is returned at once. Zero: 30 seconds; negative: not at all.
	RetryFor time.Duration
	// Sign signs each request instead of an API key, as client/sigv4 does, and sends it to the
	// routes under /iam/v1. body is what the request will send. Nil: the key is used.
	Sign func(ctx context.Context, r *http.Request, body []byte) error
	// InsecureHTTP admits a plain http address that is not on this machine: whoever sees the
	// traffic sees the key and every token.
	InsecureHTTP bool

	// For tests; nil: the real clock.
	now   func() time.Time
	pause func(context.Context, time.Duration) error
}

// Bounds of one request.
const (
	requestTime     = 100 * time.Second
	maxAnswer       = 8 << 20 // bytes
	defaultRetryFor = 30 * time.Second
)

// Client speaks to one Evergrant. It may be used by many goroutines at once; make one and share
// it, since it holds the cache of tokens.
type Client struct {
	options Options // with nothing left at zero that has another meaning
	base    string
	key     secret.Text

	mu    sync.Mutex
	cells map[cellKey]*cell // guarded by mu, and so is what is in a cell
}

// New returns a client of the Evergrant at baseURL, such as https://auth.example.com. key is an
// API key (evg_…), or "" with Options.Sign.
func New(baseURL, key string, options Options) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("evergrant: the address has to be an origin such as https://auth.example.com")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && (options.InsecureHTTP || isLoopback(u.Hostname()))) {
		return nil, errors.New("evergrant: the address has to be https, or http on this machine: the key goes along with each request")
	}
	if (key == "") == (options.Sign == nil) {
		return nil, errors.New("evergrant: an API key or Options.Sign is needed, and not both")
	}
	base := strings.TrimSuffix(u.String(), "/")
	if options.Sign != nil {
		base += "/iam"
	}
	options.HTTPClient = withoutRedirects(options.HTTPClient)
	if options.Transport == nil {
		options.Transport = http.DefaultTransport
	}
	if options.RetryFor == 0 {
		options.RetryFor = defaultRetryFor
	}
	if options.now == nil {
		options.now = time.Now
	}
	if options.pause == nil {
		options.pause = pause
	}
	return &Client{options: options, base: base, key: secret.New(key), cells: map[cellKey]*cell{}}, nil
}

// Format writes the address alone, under every verb of fmt and in slog.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "evergrant client of "+c.base) }

// MarshalText is the same, and so covers JSON.
func (c *Client) MarshalText() ([]byte, error) { return []byte("evergrant client of " + c.base), nil }

// withoutRedirects is the given client, or one of our own, that follows no redirect.
func withoutRedirects(given *http.Client) *http.Client {
	own := http.Client{Timeout: requestTime}
	if given != nil {
		own = *given
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// repeated runs once until it does not fail, fails for good, or RetryFor or the context is over.
// Then the last error is returned.
func (c *Client) repeated(ctx context.Context, once func() error) error {
	end := c.options.now().Add(c.options.RetryFor)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	var before error // why it is done again
	for try := 0; ; try++ {
		err := once()
		if err != nil && before != nil && ctx.Err() != nil {
			return fmt.Errorf("%w; then: %w", before, err)
		}
		wait, again := retryAfter(err, try)
		if !again || ctx.Err() != nil || !c.options.now().Add(wait).Before(end) {
			return err
		}
		if stopped := c.options.pause(ctx, wait); stopped != nil {
			return fmt.Errorf("%w; then: %w", err, stopped)
		}
		before = err
	}
}

// The ladder of waits where the answer names none: 0.25 s, doubled each time, 4 s at most. A
// server that restarts is back within a second or two.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 4 * time.Second
)

// retryAfter says whether the call may succeed if it is repeated, and when.
func retryAfter(err error, try int) (time.Duration, bool) {
	wait := min(firstWait<<min(try, 10), maxWait)
	if e, ok := errors.AsType[*UnreachableError](err); ok {
		return wait, !e.final
	}
	e, ok := errors.AsType[*APIError](err)
	switch {
	case !ok:
		return 0, false
	case e.Code == CodeRefreshInProgress, e.Code == CodeProviderUnavailable, e.Code == "" && e.Status >= 502 && e.Status <= 504:
		// 502 to 504 without a problem come from a proxy or gateway before Evergrant.
		if e.RetryAfter > 0 {
			wait = e.RetryAfter
		}
		return wait, true
	}
	return 0, false
}

// call makes one request of the API and decodes its answer into out, unless out is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("evergrant: %w", err)
		}
	}
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("evergrant: %w", err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("User-Agent", "evergrant-client-go")
	if c.options.Sign == nil {
		r.Header.Set("Authorization", "Bearer "+c.key.Reveal())
	} else if err := c.options.Sign(ctx, r, body); err != nil {
		return fmt.Errorf("evergrant: sign: %w", err)
	}
	resp, err := c.options.HTTPClient.Do(r)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		return problemOf(resp, answer)
	}
	if out == nil {
		return nil
	}
	if json.Unmarshal(answer, out) != nil {
		return &APIError{Status: resp.StatusCode, Detail: "the answer is not Evergrant's: is the address right?"}
	}
	return nil
}

// problemOf reads an answer that is not a success.
func problemOf(resp *http.Response, answer []byte) error {
	var p wire.Problem
	if json.Unmarshal(answer, &p) != nil || p.Code == "" {
		p = wire.Problem{Detail: "the answer is not Evergrant's: is the address right, and is a proxy in between?"}
	}
	e := &APIError{
		Code: p.Code, Status: resp.StatusCode, Detail: p.Detail, RequestID: p.RequestID, Reason: p.Reason,
		ConnectionID: p.ConnectionID, AuthorizeURL: p.AuthorizeURL, MissingScope: strings.Fields(p.MissingScope),
	}
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e.typed()
}

// unreachable tells what came of the connection, without the URL.
func unreachable(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return &UnreachableError{Err: err, final: ctx.Err() != nil}
}
