package wire

import "time"

// StandInRequest is the body of POST /v1/connections/{id}/stand-ins.
type StandInRequest struct {
	Name string `json:"name"` // what will use it, at most 64 bytes
	// WithClient makes a client id and secret that have to be shown with the stand-in.
	WithClient bool `json:"with_client,omitempty"`
}

// NewStandIn answers it, 201. The stand-in and the client secret are told this once.
type NewStandIn struct {
	ID            string    `json:"id"` // names it, and opens nothing
	Name          string    `json:"name"`
	Token         string    `json:"stand_in"` // secret: the refresh token for the other software
	TokenEndpoint string    `json:"token_endpoint"`
	ClientID      *string   `json:"client_id"`     // null: any will do
	ClientSecret  *string   `json:"client_secret"` // secret; null: any will do
	CreatedAt     time.Time `json:"created_at"`
}

// StandIn is a stand-in as it is listed.
type StandIn struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	WithClient bool      `json:"with_client"`
	CreatedBy  string    `json:"created_by"` // name of the API key
	CreatedAt  time.Time `json:"created_at"`
}

// OAuthToken is the answer of POST /oauth/token, in the words of RFC 6749 section 5.1.
type OAuthToken struct {
	AccessToken  string `json:"access_token"` // secret
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in,omitempty"` // seconds until UseUntil of Token; absent: unknown
	RefreshToken string `json:"refresh_token"`        // the stand-in that was sent, never the provider's
	Scope        string `json:"scope,omitempty"`
}

// OAuthError is an error of POST /oauth/token, in the words of RFC 6749 section 5.2.
type OAuthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}
