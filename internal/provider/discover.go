package provider

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Metadata is what a provider publishes about itself (RFC 8414 section 2, OpenID
// Connect Discovery 1.0 section 3). Every field may be empty: WhenFresh names two
// endpoints and nothing else.
type Metadata struct {
	Issuer                        string
	AuthorizationEndpoint         string
	TokenEndpoint                 string
	RevocationEndpoint            string
	UserinfoEndpoint              string
	JWKSURI                       string
	CodeChallengeMethodsSupported []string
	AuthMethodsSupported          []string // at the token endpoint
	GrantTypesSupported           []string
	ScopesSupported               []string
	// IssParameter: callbacks carry iss (RFC 9207 section 3).
	IssParameter bool
}

// Discover reads a discovery document. It demands no issuer, but every endpoint in
// it must be one that an entry could have: a document is not trusted with sending
// secrets over plain http.
func (c *Client) Discover(ctx context.Context, address string) (Metadata, error) {
	r, err := c.request(ctx, http.MethodGet, address, http.Header{}, nil)
	if err != nil {
		return Metadata{}, fmt.Errorf("discovery: %w", err)
	}
	o := c.send(r)
	if o.Failure != "" {
		return Metadata{}, fmt.Errorf("discovery at %s: no answer: %s", r.URL.Host, o.Failure)
	}
	doc := readBody(o.Header, o.Body, o.Short)
	if o.Status != http.StatusOK || doc.top == nil || doc.garbage {
		return Metadata{}, fmt.Errorf("discovery at %s: HTTP status %d, no usable document", r.URL.Host, o.Status)
	}
	m := Metadata{Issuer: doc.top.text("issuer")}
	for name, field := range map[string]*string{
		"authorization_endpoint": &m.AuthorizationEndpoint,
		"token_endpoint":         &m.TokenEndpoint,
		"revocation_endpoint":    &m.RevocationEndpoint,
		"userinfo_endpoint":      &m.UserinfoEndpoint,
		"jwks_uri":               &m.JWKSURI,
	} {
		if *field = doc.top.text(name); *field == "" {
			continue
		}
		if _, err := c.request(ctx, http.MethodGet, *field, http.Header{}, nil); err != nil {
			return Metadata{}, fmt.Errorf("discovery at %s: %s: %w", r.URL.Host, name, err)
		}
	}
	m.IssParameter = doc.top.get("authorization_response_iss_parameter_supported") == true
	for name, list := range map[string]*[]string{
		"code_challenge_methods_supported":      &m.CodeChallengeMethodsSupported,
		"token_endpoint_auth_methods_supported": &m.AuthMethodsSupported,
		"grant_types_supported":                 &m.GrantTypesSupported,
		"scopes_supported":                      &m.ScopesSupported,
	} {
		values, _ := doc.top.get(name).([]any)
		for _, v := range values {
			if s := scalar(v); s != "" && len(s) <= maxCode && visible(s) {
				*list = append(*list, s)
			}
		}
	}
	return m, nil
}

// WithMetadata returns the entry with what it lacks taken from its discovery
// document. What the entry says itself stands.
func (e Entry) WithMetadata(m Metadata) Entry {
	for field, v := range map[*string]string{
		&e.Issuer:                m.Issuer,
		&e.AuthorizationEndpoint: m.AuthorizationEndpoint,
		&e.TokenEndpoint:         m.TokenEndpoint,
		&e.RevocationEndpoint:    m.RevocationEndpoint,
		&e.UserinfoEndpoint:      m.UserinfoEndpoint,
		&e.JWKSURI:               m.JWKSURI,
	} {
		if *field == "" {
			*field = v
		}
	}
	e.IssParameter = e.IssParameter || m.IssParameter && m.Issuer != ""
	return e
}

// DiscoveryURLs are where the document of a server may be: the address itself where it
// names a document, else the places of RFC 8414 section 3 and of OpenID Connect Discovery
// 1.0 section 4, which differ for an issuer with a path.
func DiscoveryURLs(address string) ([]string, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	if err := checkURL(address); err != nil {
		return nil, fmt.Errorf("the address %w", err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the address is not a URL")
	}
	if strings.Contains(u.Path, "/.well-known/") {
		return []string{u.String()}, nil
	}
	path := strings.TrimSuffix(u.Path, "/")
	var out []string
	for _, p := range []string{
		"/.well-known/oauth-authorization-server" + path, path + "/.well-known/openid-configuration", path + "/.well-known/oauth-authorization-server",
	} {
		if to := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: p}).String(); !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	return out, nil
}

// Propose makes an entry of a discovery document, and says what it does not tell. How
// refresh tokens behave no document says: all of that stays unknown.
func (m Metadata) Propose() (e Entry, open []string) {
	e = Entry{IssParameter: m.IssParameter && m.Issuer != ""}.WithMetadata(m)
	e.TokenEndpointAuthMethod, e.PKCE = methodUnknown, "unknown"
	if slices.Contains(m.CodeChallengeMethodsSupported, "S256") {
		e.PKCE = "S256"
	}
	for _, g := range m.GrantTypesSupported {
		if slices.Contains([]string{string(GrantAuthorizationCode), string(GrantRefreshToken), string(GrantClientCredentials)}, g) {
			e.GrantTypesSupported = append(e.GrantTypesSupported, g)
		}
	}
	if slices.Contains(m.ScopesSupported, "offline_access") {
		e.OfflineScope = "offline_access"
	}
	for _, method := range []string{methodBasic, methodPost, methodJWT, methodNone} {
		if slices.Contains(m.AuthMethodsSupported, method) {
			e.TokenEndpointAuthMethod = method
			break
		}
	}
	if len(m.AuthMethodsSupported) == 0 {
		e.TokenEndpointAuthMethod = methodBasic
		open = append(open, "token_endpoint_auth_method: the document names none, which by RFC 8414 means client_secret_basic; make sure of it, a wrong one may spend a code")
	} else if e.TokenEndpointAuthMethod == methodUnknown {
		open = append(open, "token_endpoint_auth_method: none of those that the document names can be spoken")
	}
	for field, v := range map[string]string{"token_endpoint": e.TokenEndpoint, "authorization_endpoint": e.AuthorizationEndpoint, "revocation_endpoint": e.RevocationEndpoint} {
		if v == "" {
			open = append(open, field+": is not in the document")
		}
	}
	open = append(open, "refresh: rotation, previous_token and reuse are not in any document; look them up, each makes Evergrant less careful")
	slices.Sort(open)
	return e, open
}
