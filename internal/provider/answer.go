package provider

import "github.com/evergrant/evergrant/internal/secret"

// Grant is an OAuth grant type, as it stands in a token request (RFC 6749).
type Grant string

// The grants that a token request can carry.
const (
	GrantAuthorizationCode Grant = "authorization_code" // RFC 6749 section 4.1
	GrantRefreshToken      Grant = "refresh_token"      // RFC 6749 section 6
	GrantClientCredentials Grant = "client_credentials" // RFC 6749 section 4.4
)

// Credentials are a client's at its provider. Without ClientSecret the client is
// public.
type Credentials struct {
	ClientID string
	// ClientSecret is the secret, or with private_key_jwt the private key: PEM, PKCS #8
	// (or PKCS #1 and SEC 1), RSA of 2048 bits at least or P-256.
	ClientSecret secret.Text
	// KeyID names that key to the provider; "": it has one key only.
	KeyID string
}

// Request is one token request.
type Request struct {
	Grant Grant
	// Code, CodeVerifier and RedirectURI belong to GrantAuthorizationCode. The
	// verifier is sent if there is one (RFC 7636 section 4.5).
	Code, CodeVerifier secret.Text
	RedirectURI        string // of the consent; with a refresh only where the entry wants it
	// RefreshToken belongs to GrantRefreshToken: what Entry.Refresh.Credential says.
	RefreshToken secret.Text
	// Scope is what was asked for, and so what was granted where the answer does
	// not say (RFC 6749 section 5.1). It is sent with GrantClientCredentials and
	// GrantRefreshToken; with a code it went with the authorization request. A
	// refresh usually leaves it empty: the grant keeps its scope.
	Scope []string
	// Variables are what is known of the connection, for the {variables} of the entry.
	Variables map[string]string
}

// Verdict is what an answer means for the connection. The set is closed.
type Verdict string

// The verdicts.
const (
	// VerdictOK: the access token can be used.
	VerdictOK Verdict = "ok"
	// VerdictRetry: try later, with the same refresh token.
	VerdictRetry Verdict = "retry"
	// VerdictConfigError: the integration must be put right by its operator; it
	// says nothing about the connection.
	VerdictConfigError Verdict = "config_error"
	// VerdictNeedsReauth: the provider says that the grant is gone.
	VerdictNeedsReauth Verdict = "needs_reauth"
	// VerdictMalformed: an answer that cannot be used, though the provider may
	// have acted.
	VerdictMalformed Verdict = "malformed"
)

// NoRetryAfter is Answer.RetryAfter where the provider named no time.
const NoRetryAfter int64 = -1

// Answer is what came of a token request. It is comparable with ==.
//
// AccessToken, TokenType, ExpiresIn, Scope, IDToken, Fields, SecretFields and
// RefreshTokenExpiresIn are set with VerdictOK only.
type Answer struct {
	Verdict Verdict
	// ResponseLost: the provider may have acted without our learning all of it;
	// a refresh token that was sent may be spent.
	ResponseLost bool

	AccessToken secret.Text
	// RefreshToken is the token to keep after this answer, under every verdict:
	// the one that came, else the very Text that was sent.
	RefreshToken secret.Text
	// RefreshTokenArrived: a legal refresh token came in this answer, be it the
	// one that was sent.
	RefreshTokenArrived bool
	TokenType           string // "Bearer"
	ExpiresIn           int64  // seconds from now; 0: unknown
	// ScopeKnown tells whether Scope, names joined by one space, was told by the
	// answer or else follows from the request.
	ScopeKnown bool
	Scope      string
	IDToken    secret.Text
	// RefreshTokenExpiresIn is what some providers tell about the refresh token,
	// seconds; 0: unknown. For information: many tell numbers that do not hold.
	RefreshTokenExpiresIn int64
	// Fields and SecretFields are what the entry's keep list takes from the
	// answer: a JSON object with sorted names and string values, or "".
	Fields       string
	SecretFields secret.Text

	RetryAfter int64 // seconds, 0…3600, with VerdictRetry; else NoRetryAfter
	// Throttled: the provider wants fewer requests of this client (429, or 503 with a
	// Retry-After). It concerns all of its connections.
	Throttled bool
	// Error is the provider's error code, at most 256 visible ASCII characters.
	Error string
	// Detail is the provider's own description of an error, for an operator to
	// read: scrubbed of the request's secrets, printable, at most 200 characters.
	Detail string
}
