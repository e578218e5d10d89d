package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
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
// that is VerdictConfigError.
func (c *Client) Token(ctx context.Context, e Entry, cred Credentials, req Request) Answer {
	r, err := c.tokenRequest(ctx, e, cred, req)
	if err != nil {
		a := Answer{Verdict: VerdictConfigError, RetryAfter: NoRetryAfter, Detail: err.Error()}
		if req.Grant == GrantRefreshToken {
			a.RefreshToken = req.RefreshToken
		}
		return a
	}
	known := append(cred.spellings(), req.Code, req.CodeVerifier, req.RefreshToken)
	return classify(e, req, c.send(r), c.now(), known...)
}

func (c *Client) tokenRequest(ctx context.Context, e Entry, cred Credentials, req Request) (*http.Request, error) {
	e, err := e.Resolve(req.Variables)
	if err != nil {
		return nil, err
	}
	p, err := e.tokenParams(req)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	for name, v := range e.TokenHeaders {
		h.Set(name, v)
	}
	if err := e.authenticate(e.AuthMethod(req.Grant, cred.ClientSecret.IsZero()), cred, p, h); err != nil {
		return nil, err
	}
	endpoint := e.TokenEndpoint
	if req.Grant == GrantRefreshToken && e.RefreshEndpoint != "" {
		endpoint = e.RefreshEndpoint
	}
	return c.post(ctx, endpoint, h, p, e.TokenRequestFormat)
}

// tokenParams are the parameters of RFC 6749 sections 4.1.3, 4.4.2 and 6, over the
// entry's extras.
func (e Entry) tokenParams(req Request) (url.Values, error) {
	p := url.Values{}
	for name, v := range e.TokenParams {
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
			p.Set("redirect_uri", req.RedirectURI)
		}
		if e.SendsPKCE() && !req.CodeVerifier.IsZero() {
			p.Set("code_verifier", req.CodeVerifier.Reveal())
		}
	case GrantRefreshToken:
		if req.RefreshToken.IsZero() {
			return nil, errors.New("the refresh token is missing")
		}
		for name, v := range e.RefreshParams {
			p.Set(name, v)
		}
		p.Set("refresh_token", req.RefreshToken.Reveal())
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
