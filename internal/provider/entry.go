package provider

import (
	"encoding/json"
	"errors"
)

// Entry is what is known of one provider. Its JSON is the form of the catalogue
// and of an inline provider in a configuration; names follow RFC 8414 where it
// has them. A field that is absent is unknown, never "no".
//
// URLs are https (http on loopback) and may hold {variable}.
type Entry struct {
	ID   string `json:"id,omitempty"`   // the catalogue's id, or the integration's name for an inline one
	Name string `json:"name,omitempty"` // for people
	Docs string `json:"docs,omitempty"` // the vendor's page on OAuth

	Issuer                string `json:"issuer,omitempty"`
	DiscoveryURL          string `json:"discovery_url,omitempty"` // RFC 8414 or OpenID Connect Discovery; may lack an issuer
	AuthorizationEndpoint string `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string `json:"token_endpoint,omitempty"`
	RevocationEndpoint    string `json:"revocation_endpoint,omitempty"` // RFC 7009
	UserinfoEndpoint      string `json:"userinfo_endpoint,omitempty"`   // OpenID Connect Core 5.3
	JWKSURI               string `json:"jwks_uri,omitempty"`            // the keys of ID tokens; they are used where the issuer is known too
	RefreshEndpoint       string `json:"refresh_endpoint,omitempty"`    // only where refreshing has a URL of its own
	RevocationCall        string `json:"revocation_call,omitempty"`     // a revocation that is not RFC 7009, in words

	// Variables maps each {variable} to the pattern (RE2) that its value must
	// match whole.
	Variables        map[string]string `json:"variables,omitempty"`
	DefaultVariables map[string]string `json:"default_variables,omitempty"`

	// TokenEndpointAuthMethod is explicit, never found out by trying:
	// client_secret_basic (form-encoded, then base64: RFC 6749 section 2.3.1),
	// client_secret_basic_raw (base64 of id:secret as they are),
	// client_secret_post or none.
	TokenEndpointAuthMethod string `json:"token_endpoint_auth_method,omitempty"`
	// TokenEndpointAuthMethodByGrant goes before TokenEndpointAuthMethodByClient
	// (keys confidential, public_pkce), and that before TokenEndpointAuthMethod.
	TokenEndpointAuthMethodByGrant  map[Grant]string  `json:"token_endpoint_auth_method_by_grant,omitempty"`
	TokenEndpointAuthMethodByClient map[string]string `json:"token_endpoint_auth_method_by_client,omitempty"`
	// PublicClientID is the fixed client id that the provider has all of its
	// public clients use.
	PublicClientID string `json:"public_client_id,omitempty"`
	ClientIDParam  string `json:"client_id_param,omitempty"` // another name for client_id
	CodeParam      string `json:"code_param,omitempty"`      // another name for code in the callback

	GrantTypesSupported    []string `json:"grant_types_supported,omitempty"`
	ResponseTypesSupported []string `json:"response_types_supported,omitempty"`
	PKCE                   string   `json:"pkce,omitempty"` // S256 (accepted), required, unsupported, unknown
	// ScopeSeparator is one character; a blank where absent.
	ScopeSeparator string `json:"scope_separator,omitempty"`
	OfflineScope   string `json:"offline_scope,omitempty"` // without it no refresh token comes
	// IssParameter: the callback carries iss (RFC 9207).
	IssParameter bool `json:"authorization_response_iss_parameter_supported,omitempty"`

	// Fixed extras to send: with the authorization request, with every token
	// request, with a refresh, and as headers of token requests.
	AuthorizationParams map[string]string `json:"authorization_params,omitempty"`
	TokenParams         map[string]string `json:"token_params,omitempty"`
	RefreshParams       map[string]string `json:"refresh_params,omitempty"`
	TokenHeaders        map[string]string `json:"token_headers,omitempty"`
	TokenRequestFormat  string            `json:"token_request_format,omitempty"` // form (default) or json

	// How answers of the token endpoint are read.
	TokenPath        string   `json:"token_path,omitempty"`         // dotted path of the object that holds the tokens
	AcceptTokenTypes []string `json:"accept_token_types,omitempty"` // further token types that are used as Bearer
	ExpiresInUnit    string   `json:"expires_in_unit,omitempty"`    // s (default), ms, unix
	// The lists hold "code[@status][~text]": the code, where given the HTTP
	// status, and a text of the description must agree.
	DeadRefreshErrors []string `json:"dead_refresh_errors,omitempty"` // a refresh: the grant is gone
	DeadCodeErrors    []string `json:"dead_code_errors,omitempty"`    // a code exchange: start again
	RetryErrors       []string `json:"retry_errors,omitempty"`        // any grant: later
	// CodeReuseStatus is the 4xx status whose answer without a code means, on a
	// code exchange, that the code is spent.
	CodeReuseStatus int      `json:"code_reuse_status,omitempty"`
	ResponseQuirks  []string `json:"response_quirks,omitempty"` // labels for people

	// AccessTokenTTL is assumed where an answer tells no life. Seconds.
	AccessTokenTTL       int64 `json:"access_token_ttl_s,omitempty"`
	AuthorizationCodeTTL int64 `json:"authorization_code_ttl_s,omitempty"` // seconds
	MinimumTokenAge      int64 `json:"minimum_token_age_s,omitempty"`      // seconds before a refresh is accepted

	Refresh    Refresh    `json:"refresh,omitzero"`
	Revocation Revocation `json:"revocation,omitzero"`
	API        API        `json:"api,omitzero"`
	Identity   Identity   `json:"identity,omitzero"`
	Keep       []Keep     `json:"keep,omitempty"`

	// RedirectURIRules: exact, same_host_and_path, https_only, loopback_allowed,
	// port_wildcard, no_query_string.
	RedirectURIRules []string `json:"redirect_uri_rules,omitempty"`
	Registration     string   `json:"registration,omitempty"`     // how a client is registered, a label
	ConnectionEntry  string   `json:"connection_entry,omitempty"` // pasted_refresh_token: a connection starts by import
	ScopeRequired    Tri      `json:"scope_required,omitzero"`

	RateLimits map[string]any      `json:"rate_limits,omitempty"`
	Sandbox    map[string]string   `json:"sandbox,omitempty"`
	Sunset     map[string]string   `json:"sunset,omitempty"`      // what, date, successor
	LaterFacts map[string]any      `json:"later_facts,omitempty"` // newer than what stands above
	Notes      []string            `json:"notes,omitempty"`
	Evidence   map[string]Evidence `json:"evidence,omitempty"` // by dotted JSON name
}

// Refresh is how a provider's refresh tokens behave. Empty and "unknown" say the
// same.
type Refresh struct {
	Supported Tri `json:"supported,omitzero"`
	// Rotation: does an answer carry a new refresh token? none, always,
	// sometimes, unknown.
	Rotation string `json:"rotation,omitempty"`
	// PreviousToken is what becomes of the old one: dies_at_once,
	// dies_on_first_use_of_new (of the new access token), grace_s, stays, unknown.
	PreviousToken string `json:"previous_token,omitempty"`
	GraceS        int64  `json:"grace_s,omitempty"` // seconds the old one may still be sent
	// Reuse is the answer to a spent token: rejected, revokes_family,
	// same_answer, unknown.
	Reuse                       string `json:"reuse,omitempty"`
	AbsoluteLifetimeS           int64  `json:"absolute_lifetime_s,omitempty"` // seconds from the consent, not moved by use
	IdleLifetimeS               int64  `json:"idle_lifetime_s,omitempty"`     // seconds from issue or last use of the newest
	OldAccessTokenDiesOnRefresh Tri    `json:"old_access_token_dies_on_refresh,omitzero"`
	AllowedBeforeExpiry         Tri    `json:"allowed_before_expiry,omitzero"`
	ConcurrentLimit             int64  `json:"concurrent_limit,omitempty"` // live refresh tokens of one user and app
	Condition                   string `json:"condition,omitempty"`        // when this holds, where a setting decides
}

// Revocation is how RFC 7009 is spoken here, where it differs from the rest.
type Revocation struct {
	Parameters           []string `json:"parameters,omitempty"`            // all that is documented; token_type_hint is sent if it is among them, or none are given
	Accepts              []string `json:"accepts,omitempty"`               // access_token, refresh_token; both where absent
	ClientAuthentication string   `json:"client_authentication,omitempty"` // an auth method; as for a refresh where absent
	PerToken             Tri      `json:"per_token,omitzero"`              // proven to end the given token alone, not the grant
}

// API is how the provider's API wants to be called.
type API struct {
	BaseURLs          []string          `json:"base_urls,omitempty"`
	BaseURLByGrant    map[Grant]string  `json:"base_url_by_grant,omitempty"`
	AuthHeaderScheme  string            `json:"auth_header_scheme,omitempty"` // Bearer where absent
	AuthHeaderName    string            `json:"auth_header_name,omitempty"`   // Authorization where absent
	UserAgentRequired bool              `json:"user_agent_required,omitempty"`
	ExtraHeaders      map[string]string `json:"extra_headers,omitempty"`
	Style             string            `json:"style,omitempty"` // rest where absent, graphql
}

// Identity is where the provider says whose account it is. Only the two named
// fields are read.
type Identity struct {
	Endpoint  string   `json:"endpoint,omitempty"`
	Method    string   `json:"method,omitempty"`     // GET (default) or POST
	Body      string   `json:"body,omitempty"`       // JSON to post, such as a GraphQL query
	IDField   string   `json:"id_field,omitempty"`   // dotted path, a[0].b for lists
	NameField string   `json:"name_field,omitempty"` // dotted path
	NeverKeep []string `json:"never_keep,omitempty"` // dotted paths of what is secret or private there
}

// Keep is one thing that a provider tells besides tokens and that is kept with
// the connection.
type Keep struct {
	From    string `json:"from"`             // callback (a query parameter) or token (the answer)
	Field   string `json:"field"`            // its name; in an answer a dotted path
	As      string `json:"as,omitempty"`     // the name under which it is kept; Field where absent
	Pattern string `json:"pattern"`          // RE2, must match the whole value
	Secret  bool   `json:"secret,omitempty"` // handed out with the token only
}

// Evidence says where a fact comes from.
type Evidence struct {
	Source string   `json:"source"`
	Kind   string   `json:"kind"`             // documented, code, inferred, recalled
	Phrase []string `json:"phrase,omitempty"` // the words that say it
}

// Tri is a fact that may be unknown. In JSON: true, false or "unknown".
type Tri int8

// The values of Tri; the zero value is Unknown.
const (
	Unknown Tri = 0
	Yes     Tri = 1
	No      Tri = -1
)

// MarshalJSON implements json.Marshaler.
func (t Tri) MarshalJSON() ([]byte, error) {
	switch t {
	case Yes:
		return []byte("true"), nil
	case No:
		return []byte("false"), nil
	default:
		return []byte(`"unknown"`), nil
	}
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tri) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v {
	case true:
		*t = Yes
	case false:
		*t = No
	case "unknown", nil:
		*t = Unknown
	default:
		return errors.New(`must be true, false or "unknown"`)
	}
	return nil
}
