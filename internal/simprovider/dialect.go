package simprovider

import (
	"net/url"
	"time"
)

// The grant types that the simulators know (RFC 6749).
const (
	grantCode        = "authorization_code"
	grantRefresh     = "refresh_token"
	grantCredentials = "client_credentials"
)

// dialect is what makes a service differ from the others. It is plain data and
// functions without state.
type dialect struct {
	id, title string
	grants    []string
	ttl       time.Duration // life of an access token, as documented
	codeTTL   time.Duration
	// refreshTTL is the life of a refresh token; 0: it does not end by itself.
	refreshTTL time.Duration
	policy     Policy

	auth          authPlace // where a confidential client's credentials must stand
	publicClients bool      // with PKCE, client_id in the body
	pastedBy      string    // client_id to which tokens copied from an account page belong
	multipart     bool      // token requests may be multipart/form-data

	authorizesOnce   bool // a second consent of the same browser is skipped
	authorizesByPost bool // an authorization request may be a POST
	redirectMatches  func(registered, given string) bool
	denial           url.Values // what a denied redirect says, besides state

	routes    map[string]route
	endpoints map[string]string // catalogue name -> path
	// facts and places are those of a catalogue entry that was added; else nil.
	facts  *facts
	places []place

	wrongMethod int // status of a request by another method
	example     func(grant string) Call

	// mint makes the access token of a row; mintRefresh a refresh token.
	mint        func(sv *service, r *row, now time.Time) string
	mintRefresh func() string
	// complete adds the service's own fields to a token answer; nil: none.
	complete func(sv *service, r *row, now time.Time, a *tokenAnswer)
	refuse   func(q *request, why refusal) answer
	tooMany  func() answer // the service's 429
}

// authPlace is where a confidential client shows its secret.
type authPlace int

const (
	inBody            authPlace = iota // client_id and client_secret in the form
	inHeader                           // Basic, base64 of the plain id:secret
	inHeaderOrEncoded                  // Basic, also with id and secret form-encoded first (RFC 6749 section 2.3.1)
)

// refusal is why a token request is refused; each dialect has its own words.
type refusal int

const (
	badRequest    refusal = iota // malformed, or a parameter missing
	badGrantType                 // unknown grant_type, or one that the service does not offer
	badClient                    // client authentication failed
	wrongGrant                   // this client may not use this grant_type
	unknownCode                  // never issued, or the grant has ended
	foreignCode                  // issued to another client
	usedCode                     // already exchanged
	expiredCode                  // too old
	wrongRedirect                // redirect_uri is not that of the authorization
	wrongVerifier                // PKCE verifier missing, or not that of the challenge
	needlessProof                // PKCE verifier without a challenge
	deadRefresh                  // refresh token unknown, spent, revoked, expired, or another client's
)

// PreviousToken says what a rotation does to the refresh token that was used.
type PreviousToken int

// What becomes of the refresh token that a rotation replaces.
const (
	DiesAtOnce     PreviousToken = iota // it is spent as soon as it was used
	DiesOnFirstUse                      // it lives until the new access token is first used (Doorkeeper's previous_refresh_token)
	Stays                               // it stays good
)

// Policy is how a service treats refresh tokens.
type Policy struct {
	// Rotates: each refresh brings another refresh token.
	Rotates bool
	// Repeats: a refresh that does not rotate repeats the refresh token in its
	// answer, rather than leaving it out.
	Repeats bool
	// Previous is the fate of the refresh token that a rotation replaces.
	Previous PreviousToken
	// ReuseEndsGrant: using a spent refresh token ends the whole grant, not only
	// the request.
	ReuseEndsGrant bool
	// KeepsOldAccess: access tokens issued before a refresh live on.
	KeepsOldAccess bool
}

// Breakage is a way in which a service can be made to depart from its dialect.
type Breakage string

// The breakages that Break knows.
const (
	AcceptReusedRefreshToken Breakage = "accept_reused_refresh_token" // #nosec G101 -- a name. A spent refresh token still works
	NeverRotate              Breakage = "never_rotate"                // each refresh repeats the refresh token it was given
	WrongAuthPlace           Breakage = "wrong_auth_place"            // credentials are demanded in the body instead of the header, or the reverse
	RevokeDoesNothing        Breakage = "revoke_does_nothing"         // a revocation is answered well and forgotten
	IgnoreExpiry             Breakage = "ignore_expiry"               // the API takes expired access tokens
	IgnoreUserRevocation     Breakage = "ignore_user_revocation"      // RevokeUser ends nothing
)

// Breakages lists what Break knows.
func Breakages() []Breakage {
	return []Breakage{
		AcceptReusedRefreshToken, NeverRotate, WrongAuthPlace, RevokeDoesNothing, IgnoreExpiry, IgnoreUserRevocation,
	}
}

// route is what stands at one path of a service.
type route struct {
	methods []string
	on      string // the place that faults and counters call it by; "" for none
	serve   func(*service, *request) answer
}
