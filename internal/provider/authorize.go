package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AuthorizeRequest is what a browser is sent to the provider with (RFC 6749
// section 4.1.1).
type AuthorizeRequest struct {
	ClientID, RedirectURI, State string // all required
	// CodeChallenge is made by Challenge; it is sent where Entry.SendsPKCE.
	CodeChallenge string
	Scopes        []string
	LoginHint     string // "": none
	Nonce         string // OpenID Connect; "": none
	// Variables are what is known of the connection, Extra further parameters; they
	// may not set what this package sets.
	Variables map[string]string
	Extra     map[string]string
}

// AuthorizeURL returns where to send the browser.
func (e Entry) AuthorizeURL(r AuthorizeRequest) (string, error) {
	if r.ClientID == "" || r.RedirectURI == "" || r.State == "" {
		return "", errors.New("an authorization request needs a client id, a redirect URI and a state")
	}
	if e.PKCE == "required" && r.CodeChallenge == "" {
		return "", errors.New("this provider requires PKCE")
	}
	e, err := e.Resolve(r.Variables)
	if err != nil {
		return "", err
	}
	known := map[string]string{"client_id": r.ClientID}
	params := fillAll(e.AuthorizationParams, known)
	if err := whole(append(slices.Collect(maps.Values(params)), e.AuthorizationEndpoint, e.RedirectURIValue)...); err != nil {
		return "", err
	}
	u, err := url.Parse(e.AuthorizationEndpoint)
	if err != nil || u.Host == "" {
		return "", errors.New("authorization_endpoint is not a URL")
	}
	q := u.Query()
	for name, v := range params {
		q.Set(name, v)
	}
	for name, v := range r.Extra {
		if slices.Contains(reservedParams(), name) {
			return "", fmt.Errorf("the authorization parameter %s is not for a caller to set", name)
		}
		q.Set(name, v)
	}
	for name, v := range e.authorizeParams(r) {
		if v != "" {
			q.Set(name, v)
		}
	}
	// Not every server reads "+" as a blank in a query.
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String(), nil
}

func (e Entry) authorizeParams(r AuthorizeRequest) map[string]string {
	p := map[string]string{
		"response_type":   "code",
		e.clientIDParam(): r.ClientID,
		"redirect_uri":    e.redirectURI(r.RedirectURI),
		"state":           r.State,
		e.scopeParam():    e.joinScope(e.withOffline(r.Scopes)),
		"login_hint":      r.LoginHint,
		"nonce":           r.Nonce,
	}
	if r.CodeChallenge != "" && e.SendsPKCE() {
		p["code_challenge"], p["code_challenge_method"] = r.CodeChallenge, "S256"
	}
	return p
}

// withOffline adds the scope without which no refresh token comes.
func (e Entry) withOffline(scopes []string) []string {
	if e.OfflineScope == "" || slices.Contains(scopes, e.OfflineScope) {
		return scopes
	}
	return append(slices.Clone(scopes), e.OfflineScope)
}

func (e Entry) joinScope(scopes []string) string {
	if e.ScopeSeparator == "" {
		return strings.Join(scopes, " ")
	}
	return strings.Join(scopes, e.ScopeSeparator)
}

// redirectURI is what is sent as redirect_uri.
func (e Entry) redirectURI(ours string) string {
	if e.RedirectURIValue != "" {
		return e.RedirectURIValue
	}
	return ours
}

func (e Entry) scopeParam() string {
	if e.ScopeParam != "" {
		return e.ScopeParam
	}
	return "scope"
}

func (e Entry) clientIDParam() string {
	if e.ClientIDParam != "" {
		return e.ClientIDParam
	}
	return "client_id"
}

// CodeParamName is the name under which the callback carries the code.
func (e Entry) CodeParamName() string {
	if e.CodeParam != "" {
		return e.CodeParam
	}
	return "code"
}
