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
}
