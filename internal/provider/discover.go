package provider

import (
	"context"
	"fmt"
	"net/http"
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
	// IssParameter: callbacks carry iss (RFC 9207 section 3).
	IssParameter bool
}

// Discover reads a discovery document. It demands no issuer, but every endpoint in
// it must be one that an entry could have: a document is not trusted with sending
// secrets over plain http.
func (c *Client) Discover(ctx context.Context, url string) (Metadata, error) {
	r, err := c.request(ctx, http.MethodGet, url, http.Header{}, nil)
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
	methods, _ := doc.top.get("code_challenge_methods_supported").([]any)
	for _, v := range methods {
		m.CodeChallengeMethodsSupported = append(m.CodeChallengeMethodsSupported, scalar(v))
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
