package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Client speaks to providers. The zero Client works. It may be used concurrently;
// its fields are set before first use.
//
// Every call is one request. It has no timeout of its own: the context sets it,
// over connecting, TLS, headers and body together.
type Client struct {
	// Transport carries requests. Nil: NewTransport with AllowLoopback. Another
	// one must not follow redirects or repeat a request.
	Transport http.RoundTripper
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// UserAgent is sent with every request; "": "evergrant". Some providers
	// refuse requests without one.
	UserAgent string
	// AllowLoopback admits loopback addresses and plain http on them, for the
	// simulators and for tests.
	AllowLoopback bool

	once     sync.Once
	fallback http.RoundTripper // made by once, where Transport is nil
}

// Token sends one token request, once, and says what came of it. It returns no
// error: what went wrong is in the Answer, and so is the refresh token to keep.
// Where nothing could be sent, because the entry or the request does not add up,
// that is VerdictConfigError. Where an entry has a second exchange, a code takes two
// requests.
func (c *Client) Token(ctx context.Context, e Entry, cred Credentials, req Request) Answer {
	e, err := e.Resolve(req.Variables)
	var r *http.Request
	if err == nil {
		r, err = c.tokenRequest(ctx, e, cred, req)
	}
	if err != nil {
		return notSent(req, err)
	}
	known := append(cred.spellings(), req.Code, req.CodeVerifier, req.RefreshToken)
	a := classify(e, req, c.send(r), c.now(), known...)
	if req.Grant == GrantAuthorizationCode && a.Verdict == VerdictOK && e.SecondExchange.Endpoint != "" {
		return c.exchangeAgain(ctx, e, cred, req, a)
	}
	return a
}

func notSent(req Request, err error) Answer {
	a := Answer{Verdict: VerdictConfigError, RetryAfter: NoRetryAfter, Detail: err.Error()}
	if req.Grant == GrantRefreshToken {
		a.RefreshToken = req.RefreshToken
	}
	return a
}

// exchangeAgain turns the token of a code exchange into the one to keep. If that
// fails the consent has failed: the first token ends before anybody could use it.
func (c *Client) exchangeAgain(ctx context.Context, e Entry, cred Credentials, req Request, first Answer) Answer {
	known := map[string]string{
		hintAccess: first.AccessToken.Reveal(), "client_id": cred.ClientID, "client_secret": cred.ClientSecret.Reveal(),
	}
	p := url.Values{}
	for name, v := range e.SecondExchange.Params {
		p.Set(name, fill(v, known))
	}
	r, err := c.call(ctx, e.SecondExchange.Method, e.SecondExchange.Endpoint, http.Header{}, p, "form")
	if err != nil {
		return notSent(req, err)
	}
	a := classify(e, req, c.send(r), c.now(), append(cred.spellings(), first.AccessToken)...)
	if a.Verdict == VerdictOK {
		a.Fields, a.SecretFields = first.Fields, first.SecretFields
		a.Scope, a.ScopeKnown = first.Scope, first.ScopeKnown
	}
	return a
}

// tokenRequest makes the request of an entry that was resolved.
func (c *Client) tokenRequest(ctx context.Context, e Entry, cred Credentials, req Request) (*http.Request, error) {
	if err := e.Whole(); err != nil {
		return nil, err
	}
	p, err := e.tokenParams(cred, req)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	for name, v := range fillAll(e.TokenHeaders, map[string]string{"client_id": cred.ClientID}) {
		h.Set(name, v)
	}
	if err := c.authenticate(e, e.AuthMethod(req.Grant, cred.ClientSecret.IsZero()), cred, p, h); err != nil {
		return nil, err
	}
	if req.Grant == GrantRefreshToken {
		return c.call(ctx, e.RefreshMethod, e.refreshEndpoint(), h, p, e.TokenRequestFormat)
	}
	return c.post(ctx, e.TokenEndpoint, h, p, e.TokenRequestFormat)
}

func (e Entry) refreshEndpoint() string {
	if e.RefreshEndpoint != "" {
		return e.RefreshEndpoint
	}
	return e.TokenEndpoint
}

// tokenParams are the parameters of RFC 6749 sections 4.1.3, 4.4.2 and 6, over the
// entry's extras.
func (e Entry) tokenParams(cred Credentials, req Request) (url.Values, error) {
	p := url.Values{}
	for name, v := range fillAll(e.TokenParams, map[string]string{"client_id": cred.ClientID}) {
		p.Set(name, v)
	}
	p.Set("grant_type", string(req.Grant))
	scope := ""
	switch req.Grant {
	case GrantAuthorizationCode:
		if req.Code.IsZero() {
			return nil, errors.New("the code is missing")
		}
		p.Set("code", req.Code.Reveal())
		if req.RedirectURI != "" {
			p.Set("redirect_uri", e.redirectURI(req.RedirectURI))
		}
		if e.SendsPKCE() && !req.CodeVerifier.IsZero() {
			p.Set("code_verifier", req.CodeVerifier.Reveal())
		}
	case GrantRefreshToken:
		if err := e.refreshParams(p, cred, req); err != nil {
			return nil, err
		}
		scope = e.joinScope(req.Scope)
	case GrantClientCredentials:
		scope = e.joinScope(req.Scope)
	default:
		return nil, errors.New("the grant type is not one that can be spoken")
	}
	if scope != "" {
		p.Set("scope", scope)
	}
	return p, nil
}

// refreshParams are those of RFC 6749 section 6. An entry that names the token's place
// itself, by {refresh_token}, has it there and nowhere else.
func (e Entry) refreshParams(p url.Values, cred Credentials, req Request) error {
	if req.RefreshToken.IsZero() {
		return errors.New("the refresh token is missing")
	}
	placed := false
	for name, v := range e.RefreshParams {
		placed = placed || strings.Contains(v, "{"+hintRefresh+"}")
		p.Set(name, fill(v, map[string]string{hintRefresh: req.RefreshToken.Reveal(), "client_id": cred.ClientID}))
	}
	if !placed {
		p.Set("refresh_token", req.RefreshToken.Reveal())
	}
	if e.RefreshSendsRedirectURI {
		if req.RedirectURI == "" {
			return errors.New("the redirect URI, which this provider wants with a refresh, is not known here: set public_url")
		}
		p.Set("redirect_uri", e.redirectURI(req.RedirectURI))
	}
	return nil
}

// call is post, or a GET with the parameters in its query: never in an error, since
// errors hold no URL.
func (c *Client) call(ctx context.Context, method, endpoint string, h http.Header, p url.Values, format string) (*http.Request, error) {
	if method != http.MethodGet {
		return c.post(ctx, endpoint, h, p, format)
	}
	r, err := c.request(ctx, http.MethodGet, endpoint, h, nil)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	for name := range p {
		q.Set(name, p.Get(name))
	}
	r.URL.RawQuery = q.Encode()
	return r, nil
}

// post makes a request whose body can be read once: with GetBody, or with an
// idempotency key, net/http would repeat a POST on a connection that broke.
func (c *Client) post(ctx context.Context, endpoint string, h http.Header, p url.Values, format string) (*http.Request, error) {
	body, kind := []byte(p.Encode()), "application/x-www-form-urlencoded"
	if format == "json" {
		flat := map[string]string{}
		for name := range p {
			flat[name] = p.Get(name)
		}
		b, err := json.Marshal(flat)
		if err != nil {
			return nil, errors.New("the token request cannot be encoded")
		}
		body, kind = b, "application/json"
	}
	h.Set("Content-Type", kind)
	return c.request(ctx, http.MethodPost, endpoint, h, body)
}

// request makes a request to an endpoint that may be spoken to.
func (c *Client) request(ctx context.Context, method, endpoint string, h http.Header, body []byte) (*http.Request, error) {
	if endpoint == "" {
		return nil, errors.New("the provider entry has no such endpoint")
	}
	if err := whole(endpoint); err != nil {
		return nil, err
	}
	if err := checkURL(endpoint); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, endpoint, nil)
	if err != nil {
		return nil, errors.New("the endpoint is not a URL")
	}
	if r.URL.Scheme != "https" && !c.AllowLoopback {
		return nil, errors.New("plain http is not allowed here")
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	r.Header = h
	h.Set("Accept", "application/json")
	h.Set("User-Agent", "evergrant")
	if c.UserAgent != "" {
		h.Set("User-Agent", c.UserAgent)
	}
	return r, nil
}

// send carries a request out by RoundTrip, which neither follows redirects nor
// keeps cookies, and reads the answer. The body of a redirect is left alone.
func (c *Client) send(r *http.Request) Outcome {
	ctx := r.Context()
	if ctx.Err() != nil {
		return Outcome{Failure: FailureResetBefore} // nothing was sent, and nothing will be
	}
	t := &trace{}
	resp, err := c.transport().RoundTrip(r.WithContext(t.follow(ctx)))
	if err != nil {
		return Outcome{Failure: t.failure(ctx, err)}
	}
	defer resp.Body.Close()
	o := Outcome{Status: resp.StatusCode, Header: resp.Header}
	if o.Status/100 == 3 {
		return o
	}
	o.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxWire+1))
	switch {
	case err == nil:
		o.Short = len(o.Body) > maxWire
	case errors.Is(err, io.ErrUnexpectedEOF):
		o.Short = true
	case ctx.Err() != nil:
		return Outcome{Failure: FailureTimeout}
	default:
		return Outcome{Failure: FailureResetAfter}
	}
	return o
}

func (c *Client) transport() http.RoundTripper {
	if c.Transport != nil {
		return c.Transport
	}
	c.once.Do(func() { c.fallback = NewTransport(TransportOptions{AllowLoopback: c.AllowLoopback}) })
	return c.fallback
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}
