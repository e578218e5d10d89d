package simprovider

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// service is the state of one simulated service. The Server's lock guards it.
type service struct {
	d     dialect
	base  string // URL of the service's root
	pages *template.Template

	ttl       time.Duration
	policy    Policy
	broken    Breakage
	clients   map[string]Client
	grants    []*grant          // those that users gave and that have not ended
	machines  map[string]*grant // by client: what client credentials are issued on
	codes     map[string]*code
	byAccess  map[string]*row
	byRefresh map[string]*row
	consents  map[consent]bool
	faults    []*Fault
	requests  map[string]int
	deaths    int // refresh tokens refused as dead, at an entry
}

// grant is what one user gave to one client at one time. All that was issued on
// it dies when it ends.
type grant struct {
	client, user, scope string
	ended               bool
	began               time.Time // of an entry: the first exchange
	refreshes           int       // of an entry
	rows                []*row    // oldest first, the last maxRows at least
}

// maxRows is how many rows a grant remembers once they are dead, so that a service
// may run for weeks.
const maxRows = 256

// row is an access token and the refresh token that came with it, as one record.
type row struct {
	grant                         *grant
	access, refresh               string
	accessExpires, refreshExpires time.Time // a zero refreshExpires is never
	accessDead                    bool
	spent                         bool // the refresh token was rotated away
	revoked                       bool // both were revoked
	issued, spentAt               time.Time
	next                          *row // of an entry: what the rotation brought
	previous                      *row // dies when the access token is first used
}

// code is an authorization code.
type code struct {
	grant                  *grant
	redirectURI, challenge string
	expires                time.Time
	used                   bool
}

// consent names a user's standing approval of a client.
type consent struct{ client, user string }

// tokenAnswer is the body of a good answer to a token request (RFC 6749 section
// 5.1), with the fields that some services add.
type tokenAnswer struct {
	AccessToken           string `json:"access_token"`
	TokenType             string `json:"token_type"`
	ExpiresIn             int64  `json:"expires_in"`
	RefreshToken          string `json:"refresh_token,omitempty"`
	RefreshTokenExpiresIn int64  `json:"refresh_token_expires_in,omitempty"`
	IDToken               string `json:"id_token,omitempty"`
	Scope                 string `json:"scope,omitempty"`
	CreatedAt             int64  `json:"created_at,omitempty"`
}

func newService(d dialect, base string, pages *template.Template) *service {
	sv := &service{
		d: d, base: base, pages: pages, ttl: d.ttl, policy: d.policy,
		clients: map[string]Client{}, machines: map[string]*grant{}, codes: map[string]*code{},
		byAccess: map[string]*row{}, byRefresh: map[string]*row{},
		consents: map[consent]bool{}, requests: map[string]int{},
	}
	if d.pastedBy != "" {
		sv.clients[d.pastedBy] = Client{ID: d.pastedBy}
	}
	return sv
}

// serve answers a request at a route, after faults have had their say.
func (sv *service) serve(rt route, q *request) answer {
	method := q.http.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	if !slices.Contains(rt.methods, method) {
		return sv.methodRefused(rt)
	}
	return rt.serve(sv, q)
}

func (sv *service) methodRefused(rt route) answer {
	a := textAnswer(sv.d.wrongMethod, http.StatusText(sv.d.wrongMethod)+"\n")
	if sv.d.wrongMethod == http.StatusMethodNotAllowed {
		for _, m := range rt.methods {
			a = a.with("Allow", m)
		}
	}
	return a
}

func (sv *service) count(rt route, q *request) {
	switch kind := q.grantType(); {
	case rt.on == "":
	case rt.on != onToken:
		sv.requests[rt.on]++
	case kind == grantCode, kind == grantRefresh, kind == grantCredentials:
		sv.requests[kind]++
	default:
		sv.requests["other"]++
	}
}

// token is the token endpoint of every service.
func (sv *service) token(q *request) answer {
	kind := q.form.Get("grant_type")
	if q.malformed || kind == "" {
		return sv.d.refuse(q, badRequest)
	}
	if !slices.Contains(sv.d.grants, kind) {
		return sv.d.refuse(q, badGrantType)
	}
	c, ok := sv.authenticate(q)
	if !ok {
		return sv.d.refuse(q, badClient)
	}
	switch kind {
	case grantCode:
		return sv.exchange(q, c)
	case grantRefresh:
		return sv.refresh(q, c)
	}
	// RFC 6749 section 4.4: client credentials are for confidential clients only.
	if c.Secret == "" {
		return sv.d.refuse(q, wrongGrant)
	}
	g, ok := sv.machines[c.ID]
	if !ok {
		g = &grant{client: c.ID}
		sv.machines[c.ID] = g
	}
	return sv.granted(sv.issue(g, "", q.now), false, q.now)
}

// authenticate finds the client of a token or revocation request. Credentials in
// two places at once, or in the wrong one, are no credentials.
func (sv *service) authenticate(q *request) (Client, bool) {
	id, secret, inHead := q.http.BasicAuth()
	bodyID, bodySecret := q.form.Get("client_id"), q.form.Get("client_secret")
	if !inHead {
		c, ok := sv.clients[bodyID]
		rightPlace := c.Secret == "" || sv.authPlace() == inBody
		return c, ok && rightPlace && q.http.Header.Get("Authorization") == "" && bodySecret == c.Secret
	}
	c, ok := sv.clientOf(id, secret)
	if !ok && sv.d.auth == inHeaderOrEncoded {
		c, ok = sv.clientOf(formDecoded(id), formDecoded(secret))
	}
	alone := bodySecret == "" && (bodyID == "" || bodyID == c.ID)
	return c, ok && alone && sv.authPlace() != inBody
}

// clientOf finds a confidential client by its credentials.
func (sv *service) clientOf(id, secret string) (Client, bool) {
	c := sv.clients[id]
	return c, c.Secret != "" && c.Secret == secret
}

func formDecoded(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

func (sv *service) authPlace() authPlace {
	switch {
	case sv.broken != WrongAuthPlace:
		return sv.d.auth
	case sv.d.auth == inBody:
		return inHeader
	default:
		return inBody
	}
}

// exchange turns a code into tokens. A refused exchange leaves the code as it was.
func (sv *service) exchange(q *request, c Client) answer {
	co, ok := sv.codes[q.form.Get("code")]
	verifier := q.form.Get("code_verifier")
	var why refusal
	switch {
	case q.form.Get("code") == "":
		why = badRequest
	case !ok || co.grant.ended:
		why = unknownCode
	case co.grant.client != c.ID:
		why = foreignCode
	case co.used:
		why = usedCode
	case !q.now.Before(co.expires):
		why = expiredCode
	case q.form.Get("redirect_uri") != co.redirectURI:
		why = wrongRedirect
	case co.challenge == "" && verifier != "":
		why = needlessProof
	case co.challenge != "" && challengeOf(verifier) != co.challenge:
		why = wrongVerifier
	default:
		co.used = true
		return sv.granted(sv.issue(co.grant, sv.d.mintRefresh(), q.now), true, q.now)
	}
	return sv.d.refuse(q, why)
}

// challengeOf is S256 of RFC 7636 section 4.2.
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// refresh turns a refresh token into tokens.
func (sv *service) refresh(q *request, c Client) answer {
	sent := q.form.Get("refresh_token")
	if sent == "" {
		return sv.d.refuse(q, badRequest)
	}
	old, ok := sv.byRefresh[sent]
	if !ok || old.grant.client != c.ID {
		return sv.d.refuse(q, deadRefresh)
	}
	reused := old.spent && sv.broken != AcceptReusedRefreshToken
	if reused && sv.policy.ReuseEndsGrant {
		old.grant.ended = true
	}
	if reused || !old.refreshUsable(q.now) {
		return sv.d.refuse(q, deadRefresh)
	}
	if !sv.policy.Rotates {
		return sv.granted(sv.keepRefresh(old, q.now), sv.policy.Repeats, q.now)
	}
	if sv.broken == NeverRotate {
		return sv.granted(sv.keepRefresh(old, q.now), true, q.now)
	}
	return sv.granted(sv.rotate(old, q.now), true, q.now)
}

// refreshUsable is all that counts but whether the token was rotated away.
func (r *row) refreshUsable(now time.Time) bool {
	expired := !r.refreshExpires.IsZero() && !now.Before(r.refreshExpires)
	return !r.grant.ended && !r.revoked && !expired
}

// keepRefresh issues an access token on the same refresh token.
func (sv *service) keepRefresh(old *row, now time.Time) *row {
	if !sv.policy.KeepsOldAccess {
		old.grant.endAccess()
	}
	next := sv.issue(old.grant, old.refresh, now)
	next.refreshExpires = old.refreshExpires
	return next
}

func (sv *service) rotate(old *row, now time.Time) *row {
	next := sv.issue(old.grant, "", now)
	switch sv.policy.Previous {
	case DiesAtOnce:
		old.spent = true
	case DiesOnFirstUse:
		next.previous = old
	case Stays:
	}
	if !sv.policy.KeepsOldAccess && sv.policy.Previous != DiesOnFirstUse {
		old.grant.endAccess()
		next.accessDead = false
	}
	next.refresh = sv.d.mintRefresh()
	sv.byRefresh[next.refresh] = next
	return next
}

func (g *grant) endAccess() {
	for _, r := range g.rows {
		r.accessDead = true
	}
}

// issue adds a row to a grant; refresh may be empty.
func (sv *service) issue(g *grant, refresh string, now time.Time) *row {
	r := &row{grant: g, refresh: refresh, accessExpires: now.Add(sv.ttl), issued: now}
	if sv.d.refreshTTL > 0 {
		r.refreshExpires = now.Add(sv.d.refreshTTL)
	}
	r.access = sv.d.mint(sv, r, now)
	g.rows = append(g.rows, r)
	sv.byAccess[r.access] = r
	if refresh != "" {
		sv.byRefresh[refresh] = r
	}
	sv.forget(g, now)
	return r
}

// forget drops the oldest row of a long grant, once both of its tokens are dead.
func (sv *service) forget(g *grant, now time.Time) {
	if len(g.rows) <= maxRows {
		return
	}
	old := g.rows[0]
	superseded := old.refresh == "" || old.spent || sv.byRefresh[old.refresh] != old
	if old.accessState(now) == tokenLive || !superseded {
		return
	}
	delete(sv.byAccess, old.access)
	if sv.byRefresh[old.refresh] == old {
		delete(sv.byRefresh, old.refresh)
	}
	g.rows = g.rows[1:]
}

// granted is the answer that hands out a row.
func (sv *service) granted(r *row, showRefresh bool, now time.Time) answer {
	a := tokenAnswer{AccessToken: r.access, TokenType: "Bearer", ExpiresIn: int64(sv.ttl / time.Second)}
	if showRefresh {
		a.RefreshToken = r.refresh
	}
	if sv.d.complete != nil {
		sv.d.complete(sv, r, now, &a)
	}
	return jsonAnswer(http.StatusOK, a).with("Pragma", "no-cache")
}

// tokenState is what an API finds when it looks at a request's access token.
type tokenState int

const (
	tokenLive tokenState = iota
	tokenMissing
	tokenUnknown
	tokenExpired
	tokenRevoked
)

// bearer judges the access token of an API request. A live one counts as used,
// which ends its predecessor where the policy says so.
func (sv *service) bearer(q *request) (*row, tokenState) {
	token := q.bearer()
	r, ok := sv.byAccess[token]
	switch {
	case token == "":
		return nil, tokenMissing
	case !ok:
		return nil, tokenUnknown
	}
	state := r.accessState(q.now)
	if state == tokenExpired && sv.broken == IgnoreExpiry {
		state = tokenLive
	}
	if state == tokenLive && r.previous != nil {
		r.previous.spent, r.previous.accessDead = true, true
		r.previous = nil
	}
	return r, state
}

func (r *row) accessState(now time.Time) tokenState {
	switch {
	case r.grant.ended || r.revoked || r.accessDead:
		return tokenRevoked
	case !now.Before(r.accessExpires):
		return tokenExpired
	default:
		return tokenLive
	}
}

// owner is the user behind a row.
func (r *row) owner() User {
	u, _ := userByLogin(r.grant.user)
	return u
}

// pastedToken is a refresh token that a user copies from the account page.
func (sv *service) pastedToken(user string, now time.Time) string {
	g := &grant{client: sv.d.pastedBy, user: user}
	sv.grants = append(sv.grants, g)
	r := &row{grant: g, refresh: sv.d.mintRefresh(), accessExpires: now, accessDead: true}
	g.rows = append(g.rows, r)
	sv.byRefresh[r.refresh] = r
	return r.refresh
}

func (sv *service) endUser(user string) int {
	if sv.broken == IgnoreUserRevocation {
		return 0
	}
	n := 0
	for _, g := range sv.grants {
		if g.user == user && !g.ended {
			g.ended = true
			n++
		}
	}
	sv.grants = slices.DeleteFunc(sv.grants, func(g *grant) bool { return g.ended })
	for c := range sv.consents {
		if c.user == user {
			delete(sv.consents, c)
		}
	}
	return n
}

func (sv *service) lookup(token string, now time.Time) (TokenInfo, bool) {
	if r, ok := sv.byAccess[token]; ok {
		return TokenInfo{User: r.grant.user, ClientID: r.grant.client, Live: r.accessState(now) == tokenLive}, true
	}
	r, ok := sv.byRefresh[token]
	if !ok {
		return TokenInfo{}, false
	}
	live := r.refreshUsable(now) && (!r.spent || sv.broken == AcceptReusedRefreshToken)
	return TokenInfo{User: r.grant.user, ClientID: r.grant.client, Refresh: true, Live: live}, true
}
