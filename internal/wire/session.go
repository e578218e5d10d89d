package wire

import "time"

// SessionRequest is the body of POST /v1/connect-sessions. Integration and Owner are
// required.
type SessionRequest struct {
	Integration string `json:"integration"`
	Owner       string `json:"owner"` // at most 256 bytes
	// ReturnTo is where the browser goes at the end; absent: a page of Evergrant's own.
	ReturnTo string `json:"return_to,omitempty"`
	// Scopes to ask for; absent: those of the integration.
	Scopes []string `json:"scopes,omitempty"`
	// ConnectionID makes it a reconnect of that connection.
	ConnectionID string `json:"connection_id,omitempty"`
	LoginHint    string `json:"login_hint,omitempty"`
	// Variables of the provider's URLs, where each connection has its own, such as a shop.
	Variables          map[string]string `json:"variables,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
	AllowAccountChange bool              `json:"allow_account_change,omitempty"`
	ExpiresInS         int64             `json:"expires_in_s,omitempty"` // 60 to 86400; absent: 900
}

// NewSession answers it, 201. ID is told this once.
type NewSession struct {
	ID           string    `json:"id"`
	AuthorizeURL string    `json:"authorize_url"` // for the user's browser
	ExpiresAt    time.Time `json:"expires_at"`
}

// Session is how far a connect session has come.
type Session struct {
	// Status is open, authorizing, awaiting_confirm, exchanging, connected, failed
	// or expired.
	Status       string  `json:"status"`
	ConnectionID *string `json:"connection_id"`
	Error        *string `json:"error"` // problem code of a failed one
}

// ConfirmRequest is the body of POST /v1/connect-sessions/{id}/confirm. Both members
// are required.
type ConfirmRequest struct {
	Confirm string `json:"confirm"` // secret: evergrant_confirm of the return address
	Owner   string `json:"owner"`   // who is in front of the browser
}
