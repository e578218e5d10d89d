package broker

import (
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wording"
)

// Caller is who asks: an API key or an IAM identity, with what it may do. Whether it
// has the operation's scope is checked at the entrance; integrations and owners are
// checked here, where they are known.
type Caller struct {
	Name string
	config.Rights
}

// Code is a problem code of the API. The set is closed; it is the last part of a
// problem's type URI.
type Code string

// The problem codes.
const (
	InvalidRequest       Code = "invalid_request"
	Unauthorized         Code = "unauthorized"
	Forbidden            Code = "forbidden"
	NotFound             Code = "not_found"
	RefreshInProgress    Code = "refresh_in_progress"
	HeldConnection       Code = "held"
	RestartConnect       Code = "restart_connect"
	AccountMismatch      Code = "account_mismatch"
	NoRefreshToken       Code = "no_refresh_token"
	MissingScope         Code = "missing_scope"
	NeedsReauth          Code = "needs_reauth"
	Disconnected         Code = "disconnected"
	TokenRefused         Code = "token_refused"
	RateLimited          Code = "rate_limited"
	Internal             Code = "internal"
	ProviderUnavailable  Code = "provider_unavailable"
	IntegrationSuspended Code = "integration_suspended"
)

// Error is a use case's refusal. Detail is for the caller to read: it says what to
// do, and holds no secret and no text of a provider beyond its error code.
type Error struct {
	Code       Code
	Detail     string
	RetryAfter int64 // s, 0 for none
	Reason     string
	// AuthorizeURL is where the user starts again, where there is such a link.
	AuthorizeURL string
	// ConnectionID is the connection concerned, where the caller may know it.
	ConnectionID string
	// Missing are the scopes that a token lacks.
	Missing []string
	// Page is what a browser shows of it, and Provider the name on it; "" for what the
	// code says by itself.
	Page     wording.Page
	Provider string
	// Err is the cause, for the log alone.
	Err error
}

// Error implements error. It is for logs; the API shows Code and Detail.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Detail
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SessionRequest asks for a connect session.
type SessionRequest struct {
	Origin             string // public origin: config's public_url, else the gateway's
	Integration        string
	Owner              string
	ReturnTo           string   // "" for Evergrant's own plain page
	Scopes             []string // nil: the integration's
	ConnectionID       string   // reconnect it
	LoginHint          string
	Variables          map[string]string // of the provider's URLs, for this connection
	Tags               map[string]string
	AllowAccountChange bool
	ExpiresIn          int64 // s, 60…86400; 0: 900
}

// NewSession is a connect session just made.
type NewSession struct {
	ID           string // cs_…; the only time that it is told
	AuthorizeURL string // to be opened in the user's browser
	ExpiresAt    int64  // unix s
}

// SessionView is how far a connect session has come.
type SessionView struct {
	Status       string // open, authorizing, awaiting_confirm, exchanging, connected, failed, expired
	ConnectionID string
	Error        Code
}

// AuthorizeRequest is a browser that opens a connect link.
type AuthorizeRequest struct {
	Origin      string
	Integration string
	Session     string // cs_…; "" for public connect
	ReturnTo    string // public connect only
	Head        bool   // a HEAD request: nothing is created
	Cookies     []Cookie
}

// CallbackRequest is a browser that comes back from the provider. Values are decoded
// query parameters; a repeated one has been refused before.
type CallbackRequest struct {
	Origin      string
	Integration string
	Params      map[string]string
	Cookies     []Cookie
}

// Cookie is one name and value that a browser sent, or is to keep.
type Cookie struct {
	Name  string
	Value string // "" deletes it
}

// Browser is the answer to a browser: a redirect, or one of our own pages.
type Browser struct {
	Status   int    // 302, 303, or the page's status
	Location string // of a redirect
	Page     Page   // where Location is ""
	Cookies  []Cookie
	Secure   bool // cookies are __Host- cookies of https
}

// Page is a plain page of our own: what happened, and what to do.
type Page struct {
	Says     wording.Page
	Provider string // its name for people
	// Quote is text of the provider, shown as its words and never as ours; "" for none.
	Quote       string
	RedirectURI string // shown where the operator must register it
	Code        Code   // "" for success
	// Confirm is the confirm token, shown where there is no application to carry it
	// back to; empty otherwise.
	Confirm secret.Text
	Life    int64 // of Confirm, s
	// Detail is what support may want to know, in English; "" for nothing.
	Detail string
}

// ImportRequest brings in a connection whose tokens were got elsewhere, or makes one
// by client credentials.
type ImportRequest struct {
	Integration       string
	Owner             string
	Client            string // name of the client that got the tokens; "" the current one
	ClientCredentials bool
	RefreshToken      secret.Text
	AccessToken       secret.Text
	ExpiresAt         int64 // of AccessToken, unix s, 0 unknown
	Scope             string
	ExternalID        string
	Hold              bool
	Variables         map[string]string // as in SessionRequest
	Tags              map[string]string
}

// ImportResult is what became of an import.
type ImportResult struct {
	View
	// Pending: the connection is stored, its first refresh goes on by schedule.
	Pending bool
	// Existed: the external id was imported before.
	Existed bool
	// TookTokens: the connection was held, and the tokens of this import are others than
	// it had, in whose place they stand now.
	TookTokens bool
}

// ListRequest asks for connections. Owner or Integration is needed.
type ListRequest struct {
	Owner       string
	Integration string
	Status      connection.Status
	Tags        map[string]string // all must match
	Limit       int               // 1…100; 0: 20
	Cursor      string
}

// ListPage is one page of connections.
type ListPage struct {
	Items []View
	Next  string // "" after the last
}

// View is a connection as its callers see it; tokens are never shown.
type View struct {
	connection.Record
	ShownStatus   connection.Status // computed: client_changed reads as needs_reauth
	ShownReason   string
	MissingScope  []string
	NextRefreshAt int64 // unix s, 0 for never
	ReconnectBy   int64 // unix s: the refresh token ends then, whatever we do; 0 unknown
	RedirectURI   string
}

// TokenView is an access token handed out.
type TokenView struct {
	AccessToken secret.Text
	TokenType   string
	TokenID     string
	ExpiresAt   int64 // unix s, 0 unknown
	UseUntil    int64 // unix s, 0 unknown: ask again from then on
	Generation  int64
	Scope       string
	Fields      map[string]string // secret ones among them
	API         provider.API      // of the provider's entry
}

// Receipt says how a connection ended.
type Receipt struct {
	ID             string
	DisconnectedAt int64
	Revoked        string // at_provider, unsupported, pending, none
	Proof          string // refresh_refused, none
	InFlight       bool
}

// IntegrationView is one integration with the state of its clients.
type IntegrationView struct {
	Name        string
	Provider    string
	DisplayName string
	Grants      []string
	Scopes      []string
	Binding     string
	Connect     string
	Refresh     string
	RedirectURI string
	Status      string // ok, suspended
	Clients     []ClientView
}

// ClientView is one client of an integration. Its secret is never shown.
type ClientView struct {
	Name      string
	State     string // current, draining
	Circuit   string // closed, open
	Since     int64  // unix s
	Reason    string
	NextProbe int64 // unix s
	// SecretSince, unix s, is when this client id and secret were first seen; 0 unknown.
	SecretSince int64
}

// ReviveRequest takes back the verdicts of an incident.
type ReviveRequest struct {
	Integration string
	Since       int64 // unix s: verdicts from then on
}

// ReviveReport is what became of them.
type ReviveReport struct {
	Recovered int // refreshed: they live
	Refused   int // asked again, and refused again
	Reopened  int // active again; the schedule refreshes them over the next minutes
	// More: the time was over; the same request goes on.
	More bool
	// Stopped says why nothing more was reopened; "" where it went to the end.
	Stopped string
}

// Stats are the counters of a span of time.
type Stats struct {
	Hours []HourStats
}

// HourStats are the counters of one hour and integration.
type HourStats struct {
	Hour        int64 // unix s of its beginning
	Integration string
	Outcomes    map[string]int64
	Lateness    map[string]int64 // percentiles in s: p50, p90, p99, max
}
