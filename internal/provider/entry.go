package provider

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
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
	// VerifiedAt is the day, YYYY-MM-DD, on which somebody last compared the entry
	// with its sources. Absent: nobody did, and all is from memory.
	VerifiedAt string `json:"verified_at,omitempty"`

	Issuer                string `json:"issuer,omitempty"`
	DiscoveryURL          string `json:"discovery_url,omitempty"` // RFC 8414 or OpenID Connect Discovery; may lack an issuer
	AuthorizationEndpoint string `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string `json:"token_endpoint,omitempty"`
	RevocationEndpoint    string `json:"revocation_endpoint,omitempty"` // RFC 7009
	UserinfoEndpoint      string `json:"userinfo_endpoint,omitempty"`   // OpenID Connect Core 5.3
	JWKSURI               string `json:"jwks_uri,omitempty"`            // the keys of ID tokens; they are used where the issuer is known too
	RefreshEndpoint       string `json:"refresh_endpoint,omitempty"`    // only where refreshing has a URL of its own
	RefreshMethod         string `json:"refresh_method,omitempty"`      // POST (default), or GET with all parameters in the query
	// SecondExchange turns the token of a code exchange into the one to keep.
	SecondExchange SecondExchange `json:"second_exchange,omitzero"`
	// RevocationRequest is a revocation that is not RFC 7009.
	RevocationRequest RevocationRequest `json:"revocation_request,omitzero"`

	// Variables maps each {variable} to the pattern (RE2) that its value must
	// match whole. A value comes from what is known of the connection (what Keep took
	// from the callback or the answer, ConnectionVariables), else from the
	// configuration, else from DefaultVariables.
	Variables        map[string]string `json:"variables,omitempty"`
	DefaultVariables map[string]string `json:"default_variables,omitempty"`
	// ConnectionVariables are the variables that may be given for each connection, since
	// their patterns lead to hosts of the provider alone. Who gives one may be a user:
	// the others are for the configuration.
	ConnectionVariables []string `json:"connection_variables,omitempty"`
	// Environments are other installations of the provider, such as its sandbox: by
	// name, what differs there. How refresh tokens behave and the evidence are the
	// same in all; where they are not, that is another entry.
	Environments map[string]Entry `json:"environments,omitempty"`

	// TokenEndpointAuthMethod is explicit, never found out by trying:
	// client_secret_basic (form-encoded, then base64: RFC 6749 section 2.3.1),
	// client_secret_basic_raw (base64 of id:secret as they are),
	// client_secret_post, private_key_jwt (RFC 7523 section 2.2), none, or unknown:
	// then a configuration has to tell.
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
	ScopeParam     string `json:"scope_param,omitempty"`     // another name for scope in the authorization request
	// RedirectURIValue is sent in place of the redirect URI, where a provider has a
	// name for it; it may hold {variables}.
	RedirectURIValue string `json:"redirect_uri_value,omitempty"`
	// TokenEndpointAuthMethodsSupported is what else the provider takes (RFC 8414).
	TokenEndpointAuthMethodsSupported []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	// ClientAssertionAudience is aud of a private_key_jwt; the token endpoint where absent.
	ClientAssertionAudience string `json:"client_assertion_audience,omitempty"`

	GrantTypesSupported    []string `json:"grant_types_supported,omitempty"`
	ResponseTypesSupported []string `json:"response_types_supported,omitempty"`
	PKCE                   string   `json:"pkce,omitempty"` // S256 (accepted), required, unsupported, unknown
	// ScopeSeparator is one character; a blank where absent.
	ScopeSeparator string `json:"scope_separator,omitempty"`
	OfflineScope   string `json:"offline_scope,omitempty"` // without it no refresh token comes
	// CallbackScope: the granted scope stands in the callback, as scope.
	CallbackScope bool `json:"callback_scope,omitempty"`
	// IssParameter: the callback carries iss (RFC 9207).
	IssParameter bool `json:"authorization_response_iss_parameter_supported,omitempty"`

	// Fixed extras to send: with the authorization request, with every token
	// request, with a refresh, and as headers of token requests. Values may hold
	// {variables}; RefreshParams also {refresh_token}.
	AuthorizationParams map[string]string `json:"authorization_params,omitempty"`
	TokenParams         map[string]string `json:"token_params,omitempty"`
	RefreshParams       map[string]string `json:"refresh_params,omitempty"`
	// RefreshSendsRedirectURI: a refresh repeats redirect_uri.
	RefreshSendsRedirectURI bool              `json:"refresh_sends_redirect_uri,omitempty"`
	TokenHeaders            map[string]string `json:"token_headers,omitempty"`
	TokenRequestFormat      string            `json:"token_request_format,omitempty"` // form (default) or json

	// How answers of the token endpoint are read.
	TokenPath        string   `json:"token_path,omitempty"`         // dotted path of the object that holds the tokens
	AcceptTokenTypes []string `json:"accept_token_types,omitempty"` // further token types that are used as Bearer
	ExpiresInUnit    string   `json:"expires_in_unit,omitempty"`    // s (default), ms, unix
	// The lists hold "code[@status][~text]": the code, where given the HTTP
	// status, and a text of the description must agree.
	DeadRefreshErrors []string `json:"dead_refresh_errors,omitempty"` // a refresh: the grant is gone
	DeadCodeErrors    []string `json:"dead_code_errors,omitempty"`    // a code exchange: start again
	RetryErrors       []string `json:"retry_errors,omitempty"`        // any grant: later
	// RetryStatus are 4xx statuses that, without a code, mean: later. Any grant.
	RetryStatus []int `json:"retry_status,omitempty"`
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
	Sunset     Sunset              `json:"sunset,omitzero"`
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
	// Credential is what a refresh sends: refresh_token (where absent) or
	// access_token, which then is renewed itself.
	Credential string `json:"credential,omitempty"`
}

// SecondExchange is a request that turns the access token of a code exchange into
// one that lives longer. Params may hold {access_token}, {client_id} and
// {client_secret}.
type SecondExchange struct {
	Endpoint string            `json:"endpoint,omitempty"`
	Method   string            `json:"method,omitempty"` // POST (default, a form) or GET (in the query)
	Params   map[string]string `json:"params,omitempty"`
}

// RevocationRequest is one request that ends a token or a grant, as a template.
// URL, Headers and Body may hold {access_token}, {refresh_token}, {client_id},
// {client_secret} and variables. A 2xx, or a 4xx that says that the token is not
// known, means that it is done.
type RevocationRequest struct {
	Method string `json:"method,omitempty"` // POST (default), DELETE or GET
	URL    string `json:"url,omitempty"`
	// Auth is how the request proves itself: client (as at the token endpoint, and
	// where absent), one of the client's methods by name, bearer (the token itself),
	// secret_as_bearer, or none.
	Auth string `json:"auth,omitempty"`
	// Token is which token is sent: access_token, refresh_token, or none where the
	// grant is named otherwise.
	Token   string            `json:"token,omitempty"`
	Format  string            `json:"format,omitempty"` // of the body: form (default) or json
	Headers map[string]string `json:"headers,omitempty"`
	Body    map[string]string `json:"body,omitempty"`
}

// Sunset is what the provider has announced to end.
type Sunset struct {
	What      string `json:"what,omitempty"`
	Date      string `json:"date,omitempty"`      // YYYY-MM-DD, or YYYY-MM; absent: not told
	Successor string `json:"successor,omitempty"` // what to change to
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
	// RejectedWhen: an answer of the API that fits one of these says that the access
	// token is dead. Status 401 where absent.
	RejectedWhen []Rejection `json:"rejected_when,omitempty"`
}

// NoScheme is the AuthHeaderScheme of an API that takes the token bare.
const NoScheme = "none"

// Rejections are RejectedWhen, or 401 where the entry does not say.
func (a API) Rejections() []Rejection {
	if len(a.RejectedWhen) == 0 {
		return []Rejection{{Status: http.StatusUnauthorized}}
	}
	return a.RejectedWhen
}

// Rejection describes an answer of the provider's API. All that is given must fit.
type Rejection struct {
	Status int `json:"status"`
	// HeaderMatch maps a header's name to a pattern (RE2) that must occur in it.
	HeaderMatch map[string]string `json:"header_match,omitempty"`
	JSONField   string            `json:"json_field,omitempty"` // dotted path, a[0].b for lists
	// Equals is the value of JSONField as text, exactly; absent: it is there at all.
	Equals string `json:"equals,omitempty"`
}

// Identity is where the provider says whose account it is. Only the two named
// fields are read.
type Identity struct {
	Endpoint  string   `json:"endpoint,omitempty"`   // may hold {access_token}
	Method    string   `json:"method,omitempty"`     // GET (default) or POST
	Body      string   `json:"body,omitempty"`       // JSON to post, such as a GraphQL query
	Kept      string   `json:"kept,omitempty"`       // the account's id is this kept field; nothing is asked
	IDField   string   `json:"id_field,omitempty"`   // dotted path, a[0].b for lists
	NameField string   `json:"name_field,omitempty"` // dotted path
	NeverKeep []string `json:"never_keep,omitempty"` // dotted paths of what is secret or private there
}

// Keep is one thing that a provider tells besides tokens and that is kept with
// the connection.
type Keep struct {
	From    string `json:"from"`             // callback (a query parameter), token (the answer) or identity
	Field   string `json:"field"`            // its name; in an answer a dotted path
	As      string `json:"as,omitempty"`     // the name under which it is kept; Field where absent
	Pattern string `json:"pattern"`          // RE2, must match the whole value; of a group named value, only that is kept
	Secret  bool   `json:"secret,omitempty"` // handed out with the token only
}

// Evidence says where a fact comes from.
type Evidence struct {
	Source string   `json:"source"`
	Kind   string   `json:"kind"`             // documented, code, inferred, recalled
	Phrase []string `json:"phrase,omitempty"` // the words that say it
}

// Offers reports whether the provider knows a grant. One that names none offers what its
// endpoints show, and no client credentials.
func (e Entry) Offers(g Grant) bool {
	if len(e.GrantTypesSupported) == 0 {
		return g != GrantClientCredentials && (g != GrantAuthorizationCode || e.AuthorizationEndpoint != "" || e.DiscoveryURL != "")
	}
	return slices.Contains(e.GrantTypesSupported, string(g))
}

// WithoutSources returns the entry with as much of its evidence as decisions rest on: what is
// only recalled is not relied on. The rest is for people, and most of an entry's size.
func (e Entry) WithoutSources() Entry {
	var kept map[string]Evidence
	for field, evidence := range e.Evidence {
		if evidence.Kind == recalled {
			if kept == nil {
				kept = map[string]Evidence{}
			}
			kept[field] = Evidence{Kind: recalled}
		}
	}
	e.Evidence = kept
	return e
}

// recalled is the kind of evidence that is somebody's memory alone.
const recalled = "recalled"

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
