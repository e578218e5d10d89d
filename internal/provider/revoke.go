package provider

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/evergrant/evergrant/internal/secret"
)

// Hints of RFC 7009 section 2.1.
const (
	hintAccess  = "access_token"
	hintRefresh = "refresh_token"
)

// RevokeResult is what came of a revocation.
type RevokeResult string

// The results of Revoke.
const (
	// RevokeDone: the provider says that the token is not valid any more. Some
	// say so of tokens that they did not revoke: only a refresh proves it.
	RevokeDone RevokeResult = "done"
	// RevokeUnsupported: there is no revocation endpoint, or not for such tokens.
	RevokeUnsupported RevokeResult = "unsupported"
	// RevokeRetry: ask again later. Asking twice does no harm.
	RevokeRetry RevokeResult = "retry"
	// RevokeRefused: the request was not accepted, and will not be.
	RevokeRefused RevokeResult = "refused"
)

// Revoke asks the provider to revoke a token, in one request: by RFC 7009, or by the
// entry's own request. hint is access_token or refresh_token. An entry with variables
// is resolved first, see Entry.Resolve.
func (c *Client) Revoke(ctx context.Context, e Entry, cred Credentials, tok secret.Text, hint string) RevokeResult {
	e, err := e.Resolve(nil)
	if err != nil || tok.IsZero() {
		return RevokeRefused
	}
	if e.RevocationRequest.URL != "" {
		return c.revokeByTemplate(ctx, e, cred, tok, hint)
	}
	accepts, params := e.Revocation.Accepts, e.Revocation.Parameters
	if e.RevocationEndpoint == "" || (len(accepts) > 0 && !slices.Contains(accepts, hint)) {
		return RevokeUnsupported
	}
	p, h := url.Values{"token": {tok.Reveal()}}, http.Header{}
	if len(params) == 0 || slices.Contains(params, "token_type_hint") {
		p.Set("token_type_hint", hint)
	}
	method := e.AuthMethod(GrantRefreshToken, cred.ClientSecret.IsZero())
	if m := e.Revocation.ClientAuthentication; m != "" && !cred.ClientSecret.IsZero() {
		method = m
	}
	if c.authenticate(e, method, cred, p, h) != nil {
		return RevokeRefused
	}
	r, err := c.post(ctx, e.RevocationEndpoint, h, p, "form")
	if err != nil {
		return RevokeRefused
	}
	return e.revoked(c.send(r))
}

// revokeByTemplate sends the entry's RevocationRequest. One that takes no token ends
// the grant, whichever token stands for it.
func (c *Client) revokeByTemplate(ctx context.Context, e Entry, cred Credentials, tok secret.Text, hint string) RevokeResult {
	t := e.RevocationRequest
	if t.Token != "none" && t.Token != hint {
		return RevokeUnsupported
	}
	known := map[string]string{hint: tok.Reveal(), "client_id": cred.ClientID, "client_secret": cred.ClientSecret.Reveal()}
	p, h := url.Values{}, http.Header{}
	for name, v := range t.Body {
		p.Set(name, fill(v, known))
	}
	for name, v := range t.Headers {
		h.Set(name, fill(v, known))
	}
	if err := c.proveRevocation(e, cred, tok, p, h); err != nil {
		return RevokeRefused
	}
	for name, v := range known {
		known[name] = url.PathEscape(v)
	}
	r, err := c.templated(ctx, t, fill(t.URL, known), h, p)
	if err != nil {
		return RevokeRefused
	}
	return e.revoked(c.send(r))
}

// proveRevocation is RevocationRequest.Auth.
func (c *Client) proveRevocation(e Entry, cred Credentials, tok secret.Text, p url.Values, h http.Header) error {
	switch auth := e.RevocationRequest.Auth; auth {
	case "bearer":
		h.Set("Authorization", "Bearer "+tok.Reveal())
	case "secret_as_bearer":
		h.Set("Authorization", "Bearer "+cred.ClientSecret.Reveal())
	case methodNone:
		// Whoever holds the token may end it; no client is named.
	case "", "client":
		return c.authenticate(e, e.AuthMethod(GrantRefreshToken, cred.ClientSecret.IsZero()), cred, p, h)
	default:
		return c.authenticate(e, auth, cred, p, h)
	}
	return nil
}

// templated makes the request: what is to be sent stands in the body, or with GET in
// the query.
func (c *Client) templated(ctx context.Context, t RevocationRequest, endpoint string, h http.Header, p url.Values) (*http.Request, error) {
	if t.Method == http.MethodGet {
		return c.call(ctx, t.Method, endpoint, h, p, t.Format)
	}
	r, err := c.post(ctx, endpoint, h, p, t.Format)
	if err == nil && t.Method != "" {
		r.Method = t.Method
	}
	return r, err
}

// revoked reads the answer to a revocation. RFC 7009 section 2.2: a token that is
// unknown is a 200; those who send invalid_token (Google) mean the same.
func (e Entry) revoked(o Outcome) RevokeResult {
	if o.Failure == FailureAddress || o.Status/100 == 3 {
		return RevokeRefused
	}
	if o.Failure != "" {
		return RevokeRetry
	}
	cl := &classification{entry: e, status: o.Status}
	cl.read(readBody(o.Header, o.Body, o.Short))
	code := cl.code()
	verdict, _ := cl.judge(code)
	switch {
	case code == "invalid_token", e.RevocationRequest.URL != "" && (code == "token_revoked" || o.Status == http.StatusNotFound):
		return RevokeDone // it is not valid, and that was wanted
	case code == "unsupported_token_type":
		return RevokeUnsupported
	case code != "" && verdict == VerdictRetry:
		return RevokeRetry
	case o.Status/100 == 2 && !cl.errorPresent():
		return RevokeDone
	case o.Status >= 500, code == "" && o.Status == http.StatusForbidden,
		slices.Contains([]int{http.StatusRequestTimeout, http.StatusConflict, http.StatusLocked, http.StatusTooEarly, http.StatusTooManyRequests}, o.Status):
		return RevokeRetry
	}
	return RevokeRefused
}
