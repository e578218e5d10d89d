package provider

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"

	"github.com/evergrant/evergrant/internal/secret"
)

// The client authentication methods. basic and basic_raw differ for a secret that
// holds + / % : or &; some servers take only the one spelling, some only the other.
const (
	methodBasic    = "client_secret_basic"
	methodBasicRaw = "client_secret_basic_raw"
	methodPost     = "client_secret_post"
	methodNone     = "none"
	methodJWT      = "private_key_jwt" // RFC 7523 section 2.2
	methodUnknown  = "unknown"
)

// authMethods are the methods that can be spoken.
func authMethods() []string {
	return []string{methodBasic, methodBasicRaw, methodPost, methodJWT, methodNone}
}

// The kinds of client in token_endpoint_auth_method_by_client.
const (
	clientConfidential = "confidential"
	clientPublic       = "public_pkce"
)

// AuthMethod returns how a client authenticates for a grant: client_secret_basic,
// client_secret_basic_raw, client_secret_post, private_key_jwt or none. A public client has nothing
// to authenticate with.
func (e Entry) AuthMethod(g Grant, public bool) string {
	if public {
		return methodNone
	}
	if m := e.TokenEndpointAuthMethodByGrant[g]; m != "" {
		return m
	}
	if m := e.TokenEndpointAuthMethodByClient[clientConfidential]; m != "" {
		return m
	}
	return e.TokenEndpointAuthMethod
}

// authenticate puts the client into a request, in one way and no other: a second
// try would send a one-use token twice.
func (c *Client) authenticate(e Entry, method string, cred Credentials, p url.Values, h http.Header) error {
	id, key := cred.ClientID, cred.ClientSecret.Reveal()
	switch method {
	case methodNone:
		if e.PublicClientID != "" {
			id = e.PublicClientID
		}
		p.Set(e.clientIDParam(), id)
	case methodPost:
		p.Set(e.clientIDParam(), id)
		p.Set("client_secret", key)
	case methodBasic:
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(key))))
	case methodBasicRaw:
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+key)))
	case methodJWT:
		assertion, err := clientAssertion(cred, e.assertionAudience(), c.now())
		if err != nil {
			return err
		}
		p.Set(e.clientIDParam(), id)
		p.Set("client_assertion_type", assertionType)
		p.Set("client_assertion", assertion)
	default:
		return errors.New("token_endpoint_auth_method is not one that can be spoken")
	}
	if id == "" {
		return errors.New("the client id is missing")
	}
	return nil
}

// spellings returns the secret and the encoded credentials, which a provider may echo too.
func (cred Credentials) spellings() []secret.Text {
	id, key := cred.ClientID, cred.ClientSecret.Reveal()
	if key == "" {
		return nil
	}
	return []secret.Text{
		cred.ClientSecret,
		secret.New(base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id) + ":" + url.QueryEscape(key)))),
		secret.New(base64.StdEncoding.EncodeToString([]byte(id + ":" + key))),
	}
}
