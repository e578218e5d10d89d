package broker

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wording"
)

const (
	codeTime   = 60  // s that a code may wait, where the entry does not say
	takeTime   = 60  // s that an exchange may take
	repeatTime = 600 // s in which the same confirmation gives the same answer
	maxCode    = 16 << 10
)

// linkOver is what every callback without a valid state gets: one text, whatever the
// cause, and no redirect, since nobody vouches for where it would lead.
func linkOver() *Error {
	return &Error{Code: RestartConnect, Page: wording.StartAgain}
}

// Callback takes a browser that comes back from the provider. The state is spent by
// looking at it; whatever is wrong after that, nothing is exchanged.
func (b *Broker) Callback(ctx context.Context, r CallbackRequest) (Browser, error) {
	i, ok := b.Settings.Integration(r.Integration)
	if !ok {
		return Browser{}, fail(NotFound, "there is no such integration")
	}
	state := r.Params["state"]
	if state == "" || len(state) > 512 {
		return Browser{}, linkOver()
	}
	now := b.now()
	st, err := b.Store.TakeState(ctx, connection.Hash(state), now)
	if errors.Is(err, connection.ErrNotFound) {
		return Browser{}, linkOver()
	}
	if err != nil {
		return Browser{}, internal(err)
	}
	secure := strings.HasPrefix(r.Origin, "https://")
	done := []Cookie{{Name: cookieName(st.Hash, secure)}}
	if st.Integration != i.Name || !b.sameBrowser(st, r.Cookies, secure) {
		return Browser{Cookies: done, Secure: secure}, linkOver()
	}
	answer, err := b.returned(ctx, i, st, r, now)
	answer.Cookies, answer.Secure = done, secure
	return answer, err
}

// sameBrowser compares the browser-binding cookie, in constant time. An absent one is
// never equal.
func (b *Broker) sameBrowser(st connection.State, cookies []Cookie, secure bool) bool {
	name := cookieName(st.Hash, secure)
	for _, c := range cookies {
		if c.Name == name && c.Value != "" && st.Cookie != "" &&
			subtle.ConstantTimeCompare([]byte(connection.Hash(c.Value)), []byte(st.Cookie)) == 1 {
			return true
		}
	}
	return false
}

// returning is a browser that came back with a good state.
type returning struct {
	b    *Broker
	i    *config.Integration
	st   connection.State
	sess connection.Session
	id   secret.Text // of the session
}

func (b *Broker) returned(ctx context.Context, i *config.Integration, st connection.State, r CallbackRequest, now int64) (Browser, error) {
	if err := b.Keys.Load(ctx, secret.PurposeFlow); err != nil {
		return Browser{}, internal(err)
	}
	id, err := b.Keys.Open(ctx, secret.PurposeFlow, flowPlace(st.Hash, "session"), []byte(st.SessionID))
	if err != nil {
		return Browser{}, internal(err)
	}
	sess, err := b.Store.GetSession(ctx, st.Session)
	if err != nil {
		return Browser{}, linkOver()
	}
	back := &returning{b: b, i: i, st: st, sess: sess, id: id}
	e, err := b.entry(ctx, i, st.ClientID, sess.Variables)
	switch {
	case err != nil:
		return back.refuse(ctx, ProviderUnavailable, "")
	case sess.Expired(now):
		return back.refuse(ctx, RestartConnect, "")
	case !b.issuerFits(e, r.Params):
		return back.refuse(ctx, "issuer_mismatch", "")
	case r.Params["error"] != "":
		return back.denied(ctx, r.Params["error"], r.Params["error_description"])
	}
	code := r.Params[e.CodeParamName()]
	if code == "" || len(code) > maxCode {
		return back.refuse(ctx, "provider_error", "")
	}
	fields, err := callbackFields(e, r.Params)
	if err != nil {
		return back.refuse(ctx, "provider_error", "")
	}
	if i.Binding == config.BindingCookie {
		return back.exchange(ctx, secret.New(code), fields)
	}
	return back.park(ctx, e, secret.New(code), fields)
}

// issuerFits checks iss (RFC 9207): by exact string where the entry knows its issuer,
// and present where the entry says that it is sent.
func (b *Broker) issuerFits(e provider.Entry, params map[string]string) bool {
	iss, sent := params["iss"]
	if !sent {
		return !e.IssParameter
	}
	return e.Issuer == "" || iss == e.Issuer
}

func callbackFields(e provider.Entry, params map[string]string) (map[string]string, error) {
	q := url.Values{}
	for k, v := range params {
		q.Set(k, v)
	}
	text, _, err := e.CallbackFields(q)
	if err != nil || text == "" {
		return nil, err
	}
	var m map[string]string
	err = json.Unmarshal([]byte(text), &m)
	return m, err
}

// refuse ends this opening: back to the application with a code, or a page. The link
// may be opened again while it lives.
func (back *returning) refuse(ctx context.Context, code Code, quote string) (Browser, error) {
	if _, err := back.b.Store.FailSession(ctx, back.sess.Hash, string(code), back.b.now()); err != nil {
		back.b.Log.Warn("callback", "integration", back.i.Name, "error", err.Error())
	}
	return back.leave(map[string]string{"evergrant_error": string(code)}, refusedPage(back.i, code, quote, back.st.RedirectURI)), nil
}

// denied is the provider's own refusal. Only error codes of RFC 6749 section 4.1.2.1
// are passed on; what else it says is shown as its words, never as ours.
func (back *returning) denied(ctx context.Context, code, description string) (Browser, error) {
	switch code {
	case "access_denied", "invalid_scope", "temporarily_unavailable", "server_error", "unauthorized_client",
		"invalid_request", "unsupported_response_type", "login_required", "consent_required", "interaction_required":
	default:
		code = "provider_error"
	}
	return back.refuse(ctx, Code(code), description)
}

func refusedPage(i *config.Integration, code Code, quote, redirectURI string) Page {
	p := Page{Says: wording.Refused, Provider: displayName(i), Quote: quote, Code: code}
	switch code {
	case "access_denied":
		p.Says = wording.Denied
	case "temporarily_unavailable", "server_error", ProviderUnavailable:
		p.Says = wording.ProviderAway
	case RestartConnect, linkUsed:
		p.Says = wording.ExpiredLink
	case AccountMismatch:
		p.Says = wording.OtherAccount
	case NoRefreshToken:
		p.Says = wording.NoLastingAccess
	case "invalid_request", "unauthorized_client", "invalid_scope", "unsupported_response_type":
		p.Says, p.RedirectURI = wording.NotRegistered, redirectURI
	}
	return p
}

const linkUsed Code = "link_used"

func displayName(i *config.Integration) string {
	if i.Entry.Name != "" {
		return i.Entry.Name
	}
	return i.Name
}

// leave sends the browser on: to return_to, which is checked again, or to a page.
func (back *returning) leave(params map[string]string, page Page) Browser {
	if back.sess.ReturnTo != "" && back.i.AllowsReturnTo(back.sess.ReturnTo) {
		params["evergrant_session"] = back.id.Reveal()
		return Browser{Status: http.StatusSeeOther, Location: withParams(back.sess.ReturnTo, params)}
	}
	status := http.StatusOK
	if page.Code != "" {
		status = http.StatusBadRequest
	}
	return Browser{Status: status, Page: page}
}

// park keeps the code, sealed, until the application's backend confirms whose it is.
func (back *returning) park(ctx context.Context, e provider.Entry, code secret.Text, fields map[string]string) (Browser, error) {
	b, now := back.b, back.b.now()
	shown := randomText()
	confirm := shown
	if typesConfirm(back.sess) {
		shown = secret.New(newTyped())
		confirm = typedConfirm(back.id.Reveal(), shown.Reveal())
	}
	life := int64(codeTime)
	if e.AuthorizationCodeTTL > 0 {
		life = min(e.AuthorizationCodeTTL, repeatTime)
	}
	c := connection.Code{
		Hash: connection.Hash(confirm.Reveal()), Session: back.sess.Hash, Client: back.st.Client, ClientID: back.st.ClientID,
		Verifier: back.st.Verifier, State: back.st.Hash, Nonce: back.st.Nonce, RedirectURI: back.st.RedirectURI, Fields: fields, CreatedAt: now, ExpiresAt: now + life,
	}
	sealed, err := b.Keys.Seal(secret.PurposeFlow, flowPlace(c.Hash, "code"), code)
	if err != nil {
		return Browser{}, internal(err)
	}
	c.Code = item.Bytes(sealed)
	if err := b.Store.PutCode(ctx, c); err != nil {
		return Browser{}, internal(err)
	}
	for sess := back.sess; ; {
		res, err := b.Store.AwaitConfirm(ctx, sess, c.Hash, now)
		switch {
		case err != nil:
			return Browser{}, internal(err)
		case res.Applied:
			return back.leave(map[string]string{"evergrant_confirm": confirm.Reveal()}, Page{
				Says: wording.TypeCode, Provider: displayName(back.i), Confirm: shown, Life: life,
			}), nil
		case !res.Found || len(res.Session.Codes) <= len(sess.Codes):
			b.Store.DropCodes(ctx, []string{c.Hash})
			return back.refuse(ctx, linkUsed, "") // the session moved on
		}
		sess = res.Session // another opening of the same link came back meanwhile
	}
}

// exchange is cookie mode: the callback takes the code at once.
func (back *returning) exchange(ctx context.Context, code secret.Text, fields map[string]string) (Browser, error) {
	b := back.b
	opened := refresh.Code{Code: code, RedirectURI: back.st.RedirectURI, Nonce: back.st.Nonce, Fields: fields}
	rep, refused := b.connect(ctx, back.sess, back.take(""), back.st.Hash, back.st.Verifier, opened, false)
	if refused != nil {
		page := refusedPage(back.i, refused.Code, "", back.st.RedirectURI)
		if rep.Outcome == refresh.ExchangeLost {
			page = refusedPage(back.i, ProviderUnavailable, "", "") // it is not the link's fault
		}
		return back.leave(map[string]string{"evergrant_error": string(refused.Code)}, page), nil
	}
	return back.leave(map[string]string{"evergrant_connection": rep.Result}, Page{Says: wording.Connected, Provider: displayName(back.i)}), nil
}

func (back *returning) take(confirm string) connection.Take {
	return newTake(back.st.Client, back.st.ClientID, back.sess.Owner, confirm, back.b.now())
}

func newTake(client, clientID, owner, confirm string, now int64) connection.Take {
	return connection.Take{
		ID: connection.NewRandom(), Until: now + takeTime, Client: client, ClientID: clientID, Owner: owner,
		Connection: connection.NewID(), Confirm: confirm,
	}
}

// Confirm is the backend's word that the person in front of it is the owner who came
// back with this confirm token. The code is exchanged once; the same call repeated
// gets the same answer.
func (b *Broker) Confirm(ctx context.Context, c Caller, origin, id string, confirm secret.Text, owner string) (View, error) {
	sess, refused := b.session(ctx, c, id)
	if refused != nil {
		return View{}, refused
	}
	typed := typesConfirm(sess)
	if typed {
		confirm = typedConfirm(id, confirm.Reveal())
	}
	hash := connection.Hash(confirm.Reveal())
	if sess.Take.Confirm != "" && subtle.ConstantTimeCompare([]byte(sess.Take.Confirm), []byte(hash)) == 1 && sess.Take.Owner == owner {
		return b.repeated(ctx, c, sess, origin, id)
	}
	if refused := checkOwner(c, owner); refused != nil && refused.Code != Forbidden {
		return View{}, refused
	}
	if refused := b.mayExchange(ctx, sess.Integration); refused != nil {
		return View{}, refused // before a try is counted, too
	}
	left := int64(0)
	if typed {
		if left, refused = b.countTry(ctx, sess); refused != nil {
			return View{}, refused
		}
	}
	code, err := b.Store.SpendCode(ctx, hash, sess.Hash, b.now())
	restart := &Error{
		Code: RestartConnect, Detail: "the confirm token is not valid any more: send the user to authorize_url again",
		AuthorizeURL: authorizeURL(origin, sess.Integration, id),
	}
	switch {
	case errors.Is(err, connection.ErrNotFound) && typed:
		return View{}, b.wrongTry(ctx, sess, left)
	case errors.Is(err, connection.ErrNotFound):
		return View{}, restart
	case err != nil:
		return View{}, internal(err)
	case !c.MayOwner(owner), sess.Owner != "" && sess.Owner != owner:
		if _, err := b.Store.RefuseCode(ctx, sess, hash); err != nil {
			b.Log.Warn("confirm", "integration", sess.Integration, "error", err.Error())
		}
		return View{}, fail(Forbidden, "this connect session belongs to another owner; its confirm token is spent, and the link can be opened again")
	}
	opened := refresh.Code{RedirectURI: code.RedirectURI, Nonce: code.Nonce, Fields: code.Fields}
	if opened.Code, err = b.openFlow(ctx, flowPlace(code.Hash, "code"), code.Code); err != nil {
		return View{}, internal(err)
	}
	sess.Owner = owner
	rep, refused := b.connect(ctx, sess, newTake(code.Client, code.ClientID, owner, hash, b.now()), code.State, code.Verifier, opened, true)
	b.Store.DropCodes(ctx, sess.Codes)
	if refused != nil {
		if refused.Code == RestartConnect {
			refused.AuthorizeURL = restart.AuthorizeURL
		}
		return View{}, refused
	}
	return b.Get(ctx, c, rep.Result)
}

// mayExchange looks before a code is spent whether what its exchange needs is at hand: a
// code that is spent for nothing costs the user another consent.
func (b *Broker) mayExchange(ctx context.Context, integration string) *Error {
	i, ok := b.Settings.Integration(integration)
	if !ok || i.Current() == nil {
		return nil // told later, and for good
	}
	_, err := b.Secrets.Get(ctx, i.Current())
	for _, p := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
		if err == nil {
			err = b.Keys.Load(ctx, p)
		}
	}
	if err != nil {
		return notNow(err, 30, "the connection cannot be made now; nothing is spent, ask again in a minute")
	}
	return nil
}

func (b *Broker) openFlow(ctx context.Context, at secret.Place, sealed item.Bytes) (secret.Text, error) {
	if err := b.Keys.Load(ctx, secret.PurposeFlow); err != nil {
		return secret.Text{}, err
	}
	return b.Keys.Open(ctx, secret.PurposeFlow, at, []byte(sealed))
}

// connect runs the consent with the code as the browser brought it.
func (b *Broker) connect(ctx context.Context, sess connection.Session, take connection.Take, state string, verifier item.Bytes, code refresh.Code, mayList bool) (refresh.ConsentReport, *Error) {
	if verifier != "" {
		v, err := b.openFlow(ctx, flowPlace(state, "verifier"), verifier)
		if err != nil {
			return refresh.ConsentReport{}, internal(err)
		}
		code.Verifier = v
	}
	link, known, err := b.link(ctx, sess.Integration, take.ClientID, refresh.MergeFields(sess.Variables, code.Fields))
	switch {
	case err != nil:
		return refresh.ConsentReport{}, notNow(err, 30, "the connection cannot be made now; start again in a minute")
	case !known:
		return refresh.ConsentReport{}, fail(RestartConnect, "the client that began this was taken out of the configuration: start again")
	}
	rep, err := b.driver.Connect(ctx, sess, take, link, code, mayList)
	if err != nil {
		return rep, notNow(err, 30, "the connection cannot be made now; start again in a minute")
	}
	b.judgeExchange(ctx, sess.Integration, take.ClientID, take.Owner, link, rep)
	b.Log.Info("connect", "integration", sess.Integration, "connection", rep.Result, "outcome", rep.Outcome.String(), "provider_error", rep.Answer)
	if rep.Err != nil {
		b.Log.Warn("connect", "integration", sess.Integration, "error", rep.Err.Error())
	}
	return rep, consentError(rep)
}

// spentLimit is for how many owners exchanges may be refused, none succeeding between,
// before an operator must look: a code that somebody spoiled on its way is refused too,
// and some providers answer a used code and a wrong secret alike. One owner is not
// enough, however often: who brings garbage for codes must not stop the others.
const spentLimit = 3

// judgeExchange opens the client's circuit at once where the client itself was refused,
// else when the exchanges of three owners were, and none succeeded meanwhile.
func (b *Broker) judgeExchange(ctx context.Context, integration, clientID, owner string, link refresh.Link, rep refresh.ConsentReport) {
	refused := rep.Outcome == refresh.ExchangeRefused && (rep.Code == string(IntegrationSuspended) || link.Entry.CodeReuseStatus != 0)
	b.mu.Lock()
	switch {
	case refused && b.spent[integration] == nil:
		b.spent[integration] = map[string]bool{owner: true}
	case refused:
		b.spent[integration][owner] = true
	case rep.Result != "":
		delete(b.spent, integration)
	}
	many := len(b.spent[integration]) >= spentLimit
	if many {
		delete(b.spent, integration) // once the circuit closes they are counted anew
	}
	b.mu.Unlock()
	client := refused && (rep.Answer == "invalid_client" || rep.Answer == "unauthorized_client")
	if !client && !many {
		return
	}
	b.forgetSecret(integration, clientID)
	reason := rep.Answer
	if !client {
		reason = "code_exchanges_refused"
	}
	if err := b.circuits.Trip(ctx, link.Client, reason); err != nil {
		b.Log.Warn("circuit", "integration", integration, "error", err.Error())
	}
}

// consentError is what the caller is told of a consent that did not connect.
func consentError(rep refresh.ConsentReport) *Error {
	e := &Error{Code: RestartConnect, Err: rep.Err, ConnectionID: rep.Result}
	switch rep.Outcome {
	case refresh.Connected, refresh.ConsentOvertaken:
		return nil
	case refresh.NotAwaiting:
		e.Detail = "another confirmation of this session was faster, or the session is over"
	case refresh.ExchangeRefused:
		e.Detail = "the provider refused the code; send the user to authorize_url again"
		if rep.Code == string(IntegrationSuspended) {
			e.Code, e.Detail = IntegrationSuspended, "the provider refuses this integration's client configuration; an operator must look at it"
		}
	case refresh.ExchangeLost:
		e.Detail = "the provider did not answer, or asked to wait; send the user to authorize_url again"
	case refresh.ConsentUnknown, refresh.AnswerUnsaved:
		e.Detail = "the connection could not be stored; send the user to authorize_url again"
	case refresh.Unfinished:
		e.Code, e.RetryAfter, e.Detail = ProviderUnavailable, 5, "the tokens are safe and the connection is being finished; repeat this call"
	case refresh.IdentityPending:
		e.Code, e.RetryAfter, e.Detail = ProviderUnavailable, 30, "the account cannot be read from the provider now; the tokens are safe: repeat this call"
	case refresh.MismatchKept:
		e.Code, e.Detail = AccountMismatch, "another account consented; it is kept apart as connection_id, and the connection goes on as it was"
	case refresh.NoRefreshToken:
		e.Code, e.Detail = NoRefreshToken, "the provider gave no refresh token, and the account could not be proved the same: reconnect with a forced consent (such as prompt=consent)"
	case refresh.ConsentGone:
		e.Code, e.Detail = Disconnected, "the connection was disconnected meanwhile"
	}
	return e
}

// repeated answers the same confirmation again, and finishes what is unfinished.
func (b *Broker) repeated(ctx context.Context, c Caller, sess connection.Session, origin, id string) (View, error) {
	now := b.now()
	restart := &Error{Code: RestartConnect, Detail: "this attempt came to nothing: send the user to authorize_url again", AuthorizeURL: authorizeURL(origin, sess.Integration, id)}
	switch {
	case sess.State == connection.SessionConnected && now < sess.Take.Until-takeTime+repeatTime:
		return b.Get(ctx, c, sess.Result)
	case sess.State == connection.SessionExchanging && !sess.Stuck(now):
		return View{}, &Error{Code: RefreshInProgress, Detail: "the same confirmation is under way", RetryAfter: 1}
	case sess.State == connection.SessionExchanged:
		rep, err := b.driver.Finish(ctx, sess)
		if err != nil {
			return View{}, &Error{Code: ProviderUnavailable, Detail: "the tokens are safe and the connection is being finished; repeat this call", RetryAfter: 5, Err: err}
		}
		if refused := consentError(rep); refused != nil {
			return View{}, refused
		}
		return b.Get(ctx, c, rep.Result)
	case sess.State == connection.SessionFailed && sess.ExchangedAt != 0:
		return View{}, &Error{Code: Code(sess.Error), Detail: "this attempt ended: " + sess.Error, ConnectionID: sess.Result}
	case sess.State == connection.SessionFailed && sess.Error == string(IntegrationSuspended):
		return View{}, fail(IntegrationSuspended, "the provider refuses this integration's client configuration; an operator must look at it")
	}
	return View{}, restart
}
