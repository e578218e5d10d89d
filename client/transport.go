package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// HTTPClient returns a client for the provider's API that sends the connection's access token
// with each request. Where the provider refuses the token, by a 401 or in the way that its
// catalogue entry tells, the token is reported to Evergrant and the request sent once more with
// the new one, if its body can be sent again: it has none, or GetBody (which http.NewRequest sets
// for bytes and strings). Else the refusal is returned, and the next request gets the new token.
//
// A redirect to another origin is followed without the token. ctx bounds how long tokens are
// waited for; each request's own context does too.
func (c *Client) HTTPClient(ctx context.Context, connectionID string) *http.Client {
	return &http.Client{Transport: &transport{ctx: ctx, c: c, key: keyOf(connectionID, TokenOptions{}), base: c.options.Transport}}
}

// transport keeps the context of its maker, as oauth2.NewClient's does.
type transport struct {
	ctx  context.Context
	c    *Client
	key  cellKey
	base http.RoundTripper
}

// RoundTrip sends r with a token, at most twice.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if redirectedAway(r) {
		return t.base.RoundTrip(r)
	}
	token, err := t.token(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp, err := t.base.RoundTrip(withToken(r, r.Body, token))
	if err != nil {
		return nil, err
	}
	refused, err := token.api.Refused(resp)
	if err != nil || !refused || !t.c.refuse(t.key, token) {
		return resp, err
	}
	body, ok, err := again(r)
	if err != nil || !ok {
		return resp, err
	}
	return t.replay(r, body, resp)
}

// replay sends r again with the token that replaced the refused one.
func (t *transport) replay(r *http.Request, body io.ReadCloser, resp *http.Response) (*http.Response, error) {
	discard(resp)
	token, err := t.token(r)
	if err != nil {
		if body != nil {
			_ = body.Close() // it was never read
		}
		return nil, err
	}
	resp, err = t.base.RoundTrip(withToken(r, body, token))
	if err != nil {
		return nil, err
	}
	refused, err := token.api.Refused(resp)
	if refused {
		t.c.hush(t.key)
	}
	return resp, err
}

// token waits for a token as long as both the request and the client's maker want it.
func (t *transport) token(r *http.Request) (Token, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })
	defer stop()
	return t.c.token(ctx, t.key)
}

// withToken is a copy of r with the token: a RoundTripper may not change its request.
func withToken(r *http.Request, body io.ReadCloser, token Token) *http.Request {
	own := r.Clone(r.Context())
	own.Body = body
	name, value := header(token)
	own.Header.Set(name, value)
	return own
}

// header is the header that carries the token.
func header(token Token) (name, value string) {
	name, scheme := "Authorization", token.TokenType
	if scheme == "" || strings.EqualFold(scheme, "bearer") {
		scheme = "Bearer" // some servers take only this spelling (RFC 6750 section 2.1)
	}
	if token.api != nil {
		name, scheme = token.api.HeaderName, token.api.HeaderScheme
	}
	return name, strings.TrimPrefix(scheme+" "+token.AccessToken.Reveal(), " ")
}

// again is the body to send r with once more, and whether that can be done.
func again(r *http.Request) (io.ReadCloser, bool, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r.Body, true, nil
	}
	if r.GetBody == nil {
		return nil, false, nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, false, fmt.Errorf("evergrant: the body for a second try: %w", err)
	}
	return body, true, nil
}

// redirectedAway reports whether r follows a redirect to another origin, which may be anybody's.
func redirectedAway(r *http.Request) bool {
	first := r
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	return first.URL.Scheme != r.URL.Scheme || first.URL.Host != r.URL.Host
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // RoundTrip has to, also where it sends nothing
	}
}

// discard reads the rest of a short answer, so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // or its connection is not used again
	_ = resp.Body.Close()
}
