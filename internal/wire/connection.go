package wire

import "time"

// ClientCredentials is the GrantType of an import that needs no user.
const ClientCredentials = "client_credentials"

// ImportRequest is the body of POST /v1/connections. Integration, Owner and either
// RefreshToken or GrantType are required, or AccessToken alone where the provider has no
// refresh tokens.
type ImportRequest struct {
	Integration  string `json:"integration"`
	Owner        string `json:"owner"`                   // at most 256 bytes
	GrantType    string `json:"grant_type,omitempty"`    // "" or ClientCredentials
	RefreshToken string `json:"refresh_token,omitempty"` // secret
	AccessToken  string `json:"access_token,omitempty"`  // secret
	// Client names the client that got the tokens; absent: the current one.
	Client    string     `json:"client,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // of AccessToken
	Scope     string     `json:"scope,omitempty"`
	// ExternalID is unique in its integration: the same one again returns the
	// connection that it made.
	ExternalID string `json:"external_id,omitempty"`
	// Hold stores the tokens and does not refresh them before the activation.
	Hold bool `json:"hold,omitempty"`
	// Variables are as in a SessionRequest.
	Variables map[string]string `json:"variables,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
}

// MoveOutRequest is the body of POST /v1/admin/move-out.
type MoveOutRequest struct {
	Integration string `json:"integration"`
	// Recipient is the public half of a transfer key, evgmovepub_…
	Recipient string `json:"recipient"`
	Cursor    string `json:"cursor,omitempty"` // next of the page before
}

// Moved is one connection that left a deployment.
type Moved struct {
	ID     string `json:"id"`
	Sealed []byte `json:"sealed"` // base64; opens with the private half, for this id
}

// MoveInRequest is the body of POST /v1/admin/move-in.
type MoveInRequest struct {
	Connection string `json:"connection"` // secret: what was sealed, opened
}

// TagsRequest is the body of PATCH /v1/connections/{id}: the tags that replace those
// there are. At most 10; a name has 40 characters at most, a value 200.
type TagsRequest struct {
	Tags map[string]string `json:"tags"`
}

// Connection is a connection as its callers see it. It never holds a token.
type Connection struct {
	ID          string            `json:"id"`
	Integration string            `json:"integration"`
	Provider    string            `json:"provider"`
	Client      string            `json:"client"` // name of the client that its tokens belong to
	Owner       string            `json:"owner"`
	ExternalID  string            `json:"external_id"` // that of its import, "" where there is none
	Account     *Account          `json:"account"`     // null where the provider does not tell it
	Tags        map[string]string `json:"tags"`
	Fields      map[string]string `json:"fields"` // what the provider told besides; the secret ones come with the token alone
	// Status is connecting, held, active, needs_reauth or disconnected.
	Status         string     `json:"status"`
	Reason         *string    `json:"reason"` // of needs_reauth and disconnected
	Generation     int64      `json:"generation"`
	RequestedScope string     `json:"requested_scope"`
	GrantedScope   string     `json:"granted_scope"`
	MissingScope   string     `json:"missing_scope"` // requested and not granted
	RedirectURI    string     `json:"redirect_uri"`  // to be registered at the provider; "" where no browser comes back
	ExpiresAt      *time.Time `json:"expires_at"`    // of the access token; null: unknown
	NextRefreshAt  *time.Time `json:"next_refresh_at"`
	// ReconnectBy is when the refresh token ends, whatever Evergrant does: the user
	// should consent again before. Null where the provider tells no end.
	ReconnectBy *time.Time `json:"reconnect_by"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
	Receipt     *Receipt   `json:"receipt"` // of a disconnected one, else null
	Journal     []Entry    `json:"journal"` // at most 16, the newest last
	// TookTokens is told by an import alone that found a held connection: it holds the
	// tokens of this import now, and they are others than it held before.
	TookTokens bool `json:"took_tokens,omitempty"`
}

// Account is whose account at the provider is connected.
type Account struct {
	ID   string  `json:"id"`
	Name *string `json:"name"`
}

// Entry is one outcome in a connection's journal.
type Entry struct {
	At         time.Time `json:"at"`
	Outcome    string    `json:"outcome"`
	Generation int64     `json:"generation"`
	TookMS     int64     `json:"took_ms"` // how long the provider took
}

// Receipt says how a connection ended.
type Receipt struct {
	DisconnectedAt time.Time `json:"disconnected_at"`
	Revoked        string    `json:"revoked"`   // at_provider, unsupported, pending or none
	Proof          string    `json:"proof"`     // refresh_refused or none
	InFlight       bool      `json:"in_flight"` // a refresh was under way
}
