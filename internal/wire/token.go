package wire

import "time"

// RefreshRequest is the body of POST /v1/connections/{id}/refresh: what the caller
// holds and the provider has refused. Where something else is stored already,
// nothing is sent and that is returned.
type RefreshRequest struct {
	IfGeneration int64  `json:"if_generation"` // required, 1 or more
	IfTokenID    string `json:"if_token_id,omitempty"`
}

// Token is an access token handed out: the one answer that holds one.
type Token struct {
	AccessToken string `json:"access_token"` // secret
	TokenType   string `json:"token_type"`
	TokenID     string `json:"token_id"` // changes when the token does, and never else
	// ExpiresAt is null where the provider does not tell it.
	ExpiresAt *time.Time `json:"expires_at"`
	// UseUntil is when to ask again: at ExpiresAt or sooner. Null with ExpiresAt;
	// a 401 of the provider, reported by a RefreshRequest, is the signal then.
	UseUntil   *time.Time        `json:"use_until"`
	Generation int64             `json:"generation"`
	Scope      string            `json:"scope"`
	Fields     map[string]string `json:"fields"` // what the provider told besides, the secret ones too
	// API is where and how the provider's API takes the token. Null: nothing is known, so
	// it goes as Authorization: Bearer, and 401 refuses it.
	API *TokenAPI `json:"api"`
}

// TokenAPI says how the provider's API takes a token and refuses one.
type TokenAPI struct {
	// BaseURLs are where the API is, for this connection; empty: not known. A {name}
	// that is left is for the caller to fill in.
	BaseURLs     []string `json:"base_urls"`
	HeaderName   string   `json:"header_name"`   // such as Authorization
	HeaderScheme string   `json:"header_scheme"` // what stands before the token, such as Bearer; may be ""
	// RejectedWhen: an answer that fits one of these says that the token is dead.
	RejectedWhen []Rejection `json:"rejected_when"`
}

// Rejection describes an answer of the provider's API. All that is given must fit.
type Rejection struct {
	Status int `json:"status"`
	// HeaderMatch maps a header's name to a pattern (RE2) that must occur in it.
	HeaderMatch map[string]string `json:"header_match,omitempty"`
	JSONField   string            `json:"json_field,omitempty"` // dotted path, a[0].b for lists
	Equals      string            `json:"equals,omitempty"`     // JSONField as text, exactly; absent: anything
}
