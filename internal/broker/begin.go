package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wording"
)

const (
	sessionTime    = 900 // s
	sessionTimeMin = 60
	sessionTimeMax = 86400
	stateTime      = 900
	maxURL         = 8 << 10 // what browsers and gateways surely take
	maxCookies     = 4
)

// randomText is 256 random bits as text, for states, cookies and confirm tokens.
func randomText() secret.Text {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return secret.New(base64.RawURLEncoding.EncodeToString(b))
}

// CreateSession begins an attempt to connect an owner.
func (b *Broker) CreateSession(ctx context.Context, c Caller, r SessionRequest) (NewSession, error) {
	i, refused := b.integration(c, r.Integration)
	if refused != nil {
		return NewSession{}, refused
	}
	if refused := b.checkSession(c, i, &r); refused != nil {
		return NewSession{}, refused
	}
	if refused := b.suspended(ctx, i); refused != nil {
		return NewSession{}, refused
	}
	now := b.now()
	sess := connection.Session{
		Integration: i.Name, Owner: r.Owner, Key: c.Name, ReturnTo: r.ReturnTo, LoginHint: r.LoginHint, Tags: r.Tags,
		AllowAccountChange: r.AllowAccountChange, State: connection.SessionOpen, CreatedAt: now, ExpiresAt: now + r.ExpiresIn,
	}
	if r.ConnectionID != "" {
		rec, refused := b.record(ctx, c, r.ConnectionID)
		switch {
		case refused != nil:
			return NewSession{}, refused
		case rec.Integration != i.Name || rec.Owner != r.Owner:
			return NewSession{}, fail(NotFound, "that connection is of another integration or owner")
		case rec.Status == connection.Held:
			return NewSession{}, fail(HeldConnection, "the connection is held for another broker; activate or disconnect it first")
		}
		sess.ConnectionID, sess.DisconnectGen = rec.ID, rec.DisconnectGen
		own := i.Entry.OwnVariables(rec.Fields)
		for _, name := range sortedKeys(own) {
			if v, told := r.Variables[name]; told && v != own[name] && !r.AllowAccountChange {
				return NewSession{}, fail(InvalidRequest, "variables.%s is not the connection's: without allow_account_change a reconnect stays where it was", name)
			}
		}
		r.Variables = refresh.MergeFields(own, r.Variables)
		r.Scopes = strings.Fields(connection.JoinScopes(strings.Fields(rec.RequestedScope), strings.Fields(rec.GrantedScope), r.Scopes))
	}
	sess.Scopes, sess.Variables = connection.JoinScopes(r.Scopes), r.Variables
	id := "cs_" + randomText().Reveal()
	sess.Hash = connection.Hash(id)
	if refused := b.checkURL(ctx, i, r.Origin, sess); refused != nil {
		return NewSession{}, refused
	}
	if err := b.Store.CreateSession(ctx, sess); err != nil {
		return NewSession{}, internal(err)
	}
	return NewSession{ID: id, AuthorizeURL: authorizeURL(r.Origin, i.Name, id), ExpiresAt: sess.ExpiresAt}, nil
}

// suspended refuses to send anybody to a provider that refuses the client: a user who
// has consented would learn it only then. While a probe is due the next one may pass,
// since where there are no connections yet a connect is the probe.
func (b *Broker) suspended(ctx context.Context, i *config.Integration) *Error {
	s, err := b.circuits.Look(ctx, circuit.Client{Integration: i.Name, Name: i.Current().Name})
	if err != nil || !s.Open || s.NextProbe <= b.now() {
		return nil // where the store does not answer, the connect itself will tell
	}
	return &Error{
		Code: IntegrationSuspended, RetryAfter: min(s.NextProbe-b.now(), 900),
		Detail: displayName(i) + " refuses this application at the moment, so nobody can be connected. Whoever runs Evergrant must look at it; see GET /v1/integrations",
	}
}

func authorizeURL(origin, integration, session string) string {
	return origin + "/authorize/" + integration + "?session=" + session
}

func (b *Broker) checkSession(c Caller, i *config.Integration, r *SessionRequest) *Error {
	if r.ExpiresIn == 0 {
		r.ExpiresIn = sessionTime
	}
	if r.Scopes == nil {
		r.Scopes = i.Scopes
	}
	switch refused := checkOwner(c, r.Owner); {
	case refused != nil:
		return refused
	case !i.Entry.Offers(provider.GrantAuthorizationCode):
		return fail(InvalidRequest, "%s connects no users by a browser: import its token with POST /v1/connections", i.Name)
	case r.ReturnTo != "" && !i.AllowsReturnTo(r.ReturnTo):
		return fail(InvalidRequest, "return_to is not among this integration's return_to addresses in the configuration")
	case r.ExpiresIn < sessionTimeMin || r.ExpiresIn > sessionTimeMax:
		return fail(InvalidRequest, "expires_in_s must be %d to %d", sessionTimeMin, sessionTimeMax)
	case len(r.LoginHint) > 320 || hasControl(r.LoginHint):
		return fail(InvalidRequest, "login_hint must have at most 320 bytes and no control characters")
	case len(r.Scopes) > 200 || slices.ContainsFunc(r.Scopes, badScope):
		return fail(InvalidRequest, "a scope is 1 to 256 visible characters without blanks, quotes or backslashes (RFC 6749 section 3.3)")
	}
	if refused := checkVariables(i, r.Variables); refused != nil {
		return refused
	}
	return checkTags(r.Tags)
}

// checkVariables admits the variables that the provider has a value of for each
// connection, and that the configuration leaves open.
func checkVariables(i *config.Integration, vars map[string]string) *Error {
	for _, name := range sortedKeys(vars) {
		if _, fixed := i.Variables[name]; fixed {
			return fail(InvalidRequest, "variables.%s is set by the configuration of %s, for all of its connections", name, i.Name)
		}
	}
	if err := i.Entry.CheckOwnVariables(vars); err != nil {
		return fail(InvalidRequest, "variables: %v", err)
	}
	return nil
}

func badScope(s string) bool {
	return s == "" || len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == '"' || r == '\\' })
}

// checkURL refuses here what would be too long for the browser later.
func (b *Broker) checkURL(ctx context.Context, i *config.Integration, origin string, sess connection.Session) *Error {
	e, err := b.entry(ctx, i, i.Current().ClientID, sess.Variables)
	if err != nil {
		return &Error{Code: ProviderUnavailable, Detail: "the provider's endpoints cannot be read now; try again soon", RetryAfter: 30, Err: err}
	}
	const placeholder = "0123456789012345678901234567890123456789012"
	ask := provider.AuthorizeRequest{
		ClientID: i.Current().ClientID, RedirectURI: i.RedirectURI(origin), State: placeholder, CodeChallenge: placeholder,
		Scopes: strings.Fields(sess.Scopes), LoginHint: sess.LoginHint,
	}
	if provider.AsksIDToken(ask.Scopes) {
		ask.Nonce = placeholder
	}
	u, err := e.AuthorizeURL(ask)
	switch {
	case err != nil:
		return &Error{Code: InvalidRequest, Detail: "no authorization URL can be built: " + err.Error(), Err: err}
	case len(u) > maxURL:
		return fail(InvalidRequest, "the authorization URL would exceed %d bytes; ask for fewer scopes", maxURL)
	}
	return nil
}

// Session tells how far a connect session has come.
func (b *Broker) Session(ctx context.Context, c Caller, id string) (SessionView, error) {
	sess, refused := b.session(ctx, c, id)
	if refused != nil {
		return SessionView{}, refused
	}
	return b.viewSession(sess), nil
}

func (b *Broker) session(ctx context.Context, c Caller, id string) (connection.Session, *Error) {
	missing := fail(NotFound, "there is no such connect session")
	if !validID(id, "cs_") {
		return connection.Session{}, missing
	}
	sess, err := b.Store.GetSession(ctx, connection.Hash(id))
	if err != nil {
		return sess, readError(err, "connect session")
	}
	if !c.MayIntegration(sess.Integration) || (!sess.Public && sess.Key != c.Name) || (sess.Owner != "" && !c.MayOwner(sess.Owner)) {
		return connection.Session{}, missing
	}
	return sess, nil
}

func (b *Broker) viewSession(s connection.Session) SessionView {
	now := b.now()
	v := SessionView{Status: string(s.State), ConnectionID: s.Result, Error: Code(s.Error)}
	switch {
	case s.Stuck(now):
		v.Status, v.Error = string(connection.SessionFailed), RestartConnect
	case s.Expired(now):
		v.Status, v.Error = "expired", RestartConnect
	case s.State == connection.SessionExchanged:
		v.Status = string(connection.SessionExchanging)
	}
	return v
}

// Authorize opens a connect link in a browser: each time with a new state, verifier
// and cookie, so that a previewer of links uses nothing up.
func (b *Broker) Authorize(ctx context.Context, r AuthorizeRequest) (Browser, error) {
	i, ok := b.Settings.Integration(r.Integration)
	if !ok {
		return Browser{}, fail(NotFound, "there is no such integration")
	}
	if r.Head {
		return Browser{Status: http.StatusOK}, nil
	}
	if !b.Gateway { // on AWS this role reads no circuits; the session would not have been made
		if refused := b.suspended(ctx, i); refused != nil {
			refused.Page, refused.Provider = wording.Suspended, displayName(i)
			return Browser{}, refused
		}
	}
	sess, id, refused := b.openSession(ctx, i, r)
	if refused != nil {
		return Browser{}, refused
	}
	e, err := b.entry(ctx, i, i.Current().ClientID, sess.Variables)
	if err != nil {
		return Browser{}, &Error{Code: ProviderUnavailable, Page: wording.ProviderAway, Provider: displayName(i), RetryAfter: 30, Err: err}
	}
	if err := b.Keys.Load(ctx, secret.PurposeFlow); err != nil {
		return Browser{}, internal(err)
	}
	return b.sendToProvider(ctx, i, e, sess, id, r)
}

func (b *Broker) openSession(ctx context.Context, i *config.Integration, r AuthorizeRequest) (connection.Session, string, *Error) {
	now := b.now()
	if r.Session == "" {
		return b.openPublic(ctx, i, r, now)
	}
	gone := &Error{Code: RestartConnect, Page: wording.ExpiredLink}
	if !validID(r.Session, "cs_") {
		return connection.Session{}, "", gone
	}
	sess, err := b.Store.GetSession(ctx, connection.Hash(r.Session))
	switch {
	case err != nil && readError(err, "").Code == NotFound:
		return sess, "", gone
	case err != nil:
		return sess, "", internal(err)
	case sess.Integration != i.Name, sess.Expired(now):
		return sess, "", gone
	}
	switch sess.State {
	case connection.SessionConnected, connection.SessionExchanged:
		return sess, "", &Error{Code: RestartConnect, Page: wording.AlreadyConnected}
	case connection.SessionAuthorizing, connection.SessionAwaiting:
		return sess, r.Session, nil
	case connection.SessionExchanging:
		if !sess.Stuck(now) {
			return sess, "", &Error{Code: RestartConnect, Page: wording.Connecting}
		}
	case connection.SessionFailed:
		if sess.ExchangedAt != 0 {
			return sess, "", gone
		}
	}
	res, err := b.Store.OpenSession(ctx, sess, now)
	switch {
	case err != nil:
		return sess, "", internal(err)
	case !res.Applied && !slices.Contains([]connection.SessionState{connection.SessionAuthorizing, connection.SessionAwaiting}, res.Session.State):
		return sess, "", gone
	}
	return res.Session, r.Session, nil
}

// openPublic makes a session for whoever comes; its owner is told at the confirmation.
func (b *Broker) openPublic(ctx context.Context, i *config.Integration, r AuthorizeRequest, now int64) (connection.Session, string, *Error) {
	switch {
	case i.Connect != config.ConnectPublic:
		return connection.Session{}, "", fail(InvalidRequest, "The link names no session.")
	case r.ReturnTo == "" || !i.AllowsReturnTo(r.ReturnTo):
		return connection.Session{}, "", fail(InvalidRequest, "The link leads back to an address that return_to does not allow.")
	}
	id := "cs_" + randomText().Reveal()
	sess := connection.Session{
		Hash: connection.Hash(id), Integration: i.Name, ReturnTo: r.ReturnTo, Scopes: connection.JoinScopes(i.Scopes), Public: true,
		State: connection.SessionAuthorizing, CreatedAt: now, ExpiresAt: now + sessionTime,
	}
	if err := b.Store.CreateSession(ctx, sess); err != nil {
		return sess, "", internal(err)
	}
	return sess, id, nil
}

func (b *Broker) sendToProvider(ctx context.Context, i *config.Integration, e provider.Entry, sess connection.Session, id string, r AuthorizeRequest) (Browser, error) {
	state, cookie, client, now := randomText(), randomText(), i.Current(), b.now()
	st := connection.State{
		Hash: connection.Hash(state.Reveal()), Session: sess.Hash, Integration: i.Name, Client: client.Name, ClientID: client.ClientID,
		Cookie: connection.Hash(cookie.Reveal()), RedirectURI: i.RedirectURI(r.Origin), CreatedAt: now, ExpiresAt: now + stateTime,
	}
	ask := provider.AuthorizeRequest{
		ClientID: client.ClientID, RedirectURI: st.RedirectURI, State: state.Reveal(), Scopes: strings.Fields(sess.Scopes), LoginHint: sess.LoginHint,
	}
	if provider.AsksIDToken(ask.Scopes) {
		ask.Nonce = randomText().Reveal()
		st.Nonce = provider.NonceHash(ask.Nonce)
	}
	if e.SendsPKCE() {
		verifier := provider.NewVerifier()
		ask.CodeChallenge = provider.Challenge(verifier)
		sealed, err := b.Keys.Seal(secret.PurposeFlow, flowPlace(st.Hash, "verifier"), verifier)
		if err != nil {
			return Browser{}, internal(err)
		}
		st.Verifier = item.Bytes(sealed)
	}
	sealed, err := b.Keys.Seal(secret.PurposeFlow, flowPlace(st.Hash, "session"), secret.New(id))
	if err != nil {
		return Browser{}, internal(err)
	}
	st.SessionID = item.Bytes(sealed)
	location, err := e.AuthorizeURL(ask)
	if err != nil {
		return Browser{}, internal(err)
	}
	if err := b.Store.PutState(ctx, st); err != nil {
		return Browser{}, internal(err)
	}
	secure := strings.HasPrefix(r.Origin, "https://")
	cookies := append(dropCookies(r.Cookies, secure), Cookie{Name: cookieName(st.Hash, secure), Value: cookie.Reveal()})
	return Browser{Status: http.StatusFound, Location: location, Cookies: cookies, Secure: secure}, nil
}

// flowPlace is where a verifier, a code or a session's id is sealed.
func flowPlace(key, field string) secret.Place {
	return secret.Place{Table: "authorizations", ID: key, Field: field}
}

// The cookies' names. Under https a sibling domain cannot set the first; the second
// is never read there.
const (
	cookiePrefix    = "__Host-evg-"
	cookiePrefixDev = "evg-dev-"
)

func cookieName(stateHash string, secure bool) string {
	if secure {
		return cookiePrefix + stateHash[:8]
	}
	return cookiePrefixDev + stateHash[:8]
}

// dropCookies deletes the oldest flows of a browser that has as many as it may.
// Browsers send older cookies first.
func dropCookies(sent []Cookie, secure bool) []Cookie {
	prefix := cookiePrefixDev
	if secure {
		prefix = cookiePrefix
	}
	var ours []Cookie
	for _, c := range sent {
		if strings.HasPrefix(c.Name, prefix) {
			ours = append(ours, Cookie{Name: c.Name})
		}
	}
	if over := len(ours) - (maxCookies - 1); over > 0 {
		return ours[:over]
	}
	return nil
}
