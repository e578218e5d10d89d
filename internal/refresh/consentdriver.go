package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

func fields(s string) []string { return strings.Fields(s) }

// Code is what the browser brought back, opened.
type Code struct {
	Code        secret.Text
	Verifier    secret.Text // "" without PKCE
	RedirectURI string
	Nonce       string            // hash of the nonce of the ID token, "" where none was asked for
	Fields      map[string]string // kept of the callback
}

// identityTime bounds the reading of an account.
const identityTime = 3 * time.Second

// consenting is one run of the consent machine.
type consenting struct {
	*Driver
	sess   connection.Session
	take   connection.Take
	link   Link
	code   Code
	cred   provider.Credentials
	answer provider.Answer
	begun  int64 // ms: when the exchange was sent
	sealed item.Bytes
	rec    connection.Record // the connection to reconnect, as last found; then the one that came of it
	// refusedID: an ID token came that cannot be believed.
	refusedID bool
	err       error
}

// ConsentReport is one consent that ended.
type ConsentReport struct {
	Outcome ConsentOutcome
	Code    string            // problem code, "" for connected
	Result  string            // id of the connection that came of it
	Answer  string            // the provider's error code
	Record  connection.Record // of Result, where it was written here
	Err     error
}

// Connect takes the session's code, exchanges it once, and stores what came of it.
// mayList: this role may look for older connections of the same account; else the
// tick does.
func (d *Driver) Connect(ctx context.Context, sess connection.Session, take connection.Take, link Link, code Code, mayList bool) (ConsentReport, error) {
	run := &consenting{Driver: d, sess: sess, take: take, link: link, code: code}
	// As for a refresh: whatever the answer's way to the store needs is there first.
	if err := d.loadKey(ctx); err != nil {
		return ConsentReport{}, err
	}
	var err error
	if run.cred, err = link.Credentials(ctx); err != nil {
		return ConsentReport{}, fmt.Errorf("client secret of %s: %w", sess.Integration, err)
	}
	return run.run(ctx, ConsentInput{
		Session: sess.Hash, Take: take, Reconnect: sess.ConnectionID, DisconnectGen: sess.DisconnectGen,
		AllowAccountChange: sess.AllowAccountChange, MayList: mayList,
		HasIdentity: hasIdentity(link.Entry), HasIDToken: run.hasIDToken(),
	}), nil
}

// Finish goes on with a session whose answer is safe already. Of one that has ended
// only the superseding of older connections is left.
func (d *Driver) Finish(ctx context.Context, sess connection.Session) (ConsentReport, error) {
	run := &consenting{Driver: d, sess: sess, take: sess.Take}
	if err := d.loadKey(ctx); err != nil {
		return ConsentReport{}, err
	}
	if err := run.unpack(ctx); err != nil {
		return ConsentReport{}, err
	}
	link, known, err := d.Links(ctx, sess.Integration, sess.Take.ClientID, run.plainFields())
	if err != nil {
		return ConsentReport{}, err
	}
	if !known {
		return ConsentReport{}, fmt.Errorf("client of %s is not in the configuration", sess.Integration)
	}
	run.link = link
	if run.cred, err = link.Credentials(ctx); err != nil {
		return ConsentReport{}, err
	}
	return run.run(ctx, ConsentInput{
		Session: sess.Hash, Take: sess.Take, Reconnect: sess.ConnectionID, DisconnectGen: sess.DisconnectGen,
		AllowAccountChange: sess.AllowAccountChange, Exchanged: true, Seq: sess.Seq, ExchangedAt: sess.ExchangedAt,
		Ended: sess.State != connection.SessionExchanged, Result: sess.Result, MayList: true,
		HasIdentity: hasIdentity(link.Entry), HasIDToken: run.hasIDToken(),
	}), nil
}

// hasIdentity reports whether the account can be had without an ID token.
func hasIdentity(e provider.Entry) bool { return e.TellsByEndpoint() || e.Identity.Kept != "" }

// hasIDToken reports whether an ID token would tell whose account it is: nothing else
// does, and this very consent asked for one.
func (run *consenting) hasIDToken() bool {
	e := run.link.Entry
	return run.IDTokens != nil && !e.TellsByEndpoint() && e.TellsByIDToken() && run.code.Nonce != ""
}

func (run *consenting) run(ctx context.Context, in ConsentInput) ConsentReport {
	ctx = context.WithoutCancel(ctx)
	s, r := BeginConsent(in), ConsentResult{Now: run.ms()}
	s.Answer = run.answer
	for {
		var e ConsentEffect
		s, e = NextConsent(s, r)
		if e.Kind == ConsentDone {
			rep := ConsentReport{Outcome: e.Outcome, Code: s.Code, Result: s.Result, Answer: s.Answer.Error, Record: run.rec, Err: run.err}
			if s.Answer.Verdict == provider.VerdictOK && !in.Exchanged {
				_ = run.Circuits.Worked(ctx, run.link.Client)
			}
			if run.Done != nil && !in.Ended && rep.Result != "" && rep.Record.ID == rep.Result {
				run.Done(Report{Record: rep.Record, Outcome: Saved, Why: Forced})
			}
			return rep
		}
		r = run.perform(ctx, s, e)
		r.Now = run.ms()
		if e.Kind == ConsentExchange {
			run.answer = r.Answer
		}
	}
}

func (run *consenting) perform(ctx context.Context, s ConsentState, e ConsentEffect) ConsentResult {
	if e.Kind == ConsentPause {
		return run.failed(run.Wait(ctx, time.Duration(e.Pause)*time.Millisecond))
	}
	if e.Kind == ConsentExchange {
		return run.exchange(ctx)
	}
	limit := storeTime
	if e.Kind == ConsentSupersede || e.Kind == ConsentRevoke {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	now := run.ms() / 1000
	switch e.Kind {
	case ConsentTake:
		return run.session(run.Store.TakeCode(ctx, run.sess.Hash, run.take, now))
	case ConsentDraw:
		return run.connection(run.Store.Write(ctx, s.In.Reconnect, connection.ConsentNumber{DisconnectGen: s.In.DisconnectGen}))
	case ConsentFailTake:
		return run.session(run.Store.FailTake(ctx, run.sess.Hash, run.take.ID, e.Code))
	case ConsentSave:
		return run.keep(ctx, s)
	case ConsentIdentity:
		return run.identity(ctx)
	case ConsentRead:
		if s.In.Ended {
			return run.read(ctx, s.In.Result)
		}
		return run.read(ctx, s.In.Reconnect)
	case ConsentCreate:
		return run.create(ctx, s)
	case ConsentJoin, ConsentAccess:
		return run.join(ctx, s, e)
	case ConsentRevoke:
		return run.failed(run.revokeTokens(ctx, run.link, run.cred, run.answer.RefreshToken, run.answer.AccessToken))
	case ConsentEnd:
		return run.session(run.Store.EndSession(ctx, run.sess.Hash, run.take.ID, s.Result, e.Code, now))
	case ConsentSupersede:
		return run.failed(run.supersede(ctx, s))
	case ConsentFinish:
		return run.failed(run.Store.PostponeSession(ctx, run.sess.Hash, run.todo(s), ""))
	}
	return ConsentResult{Failed: true}
}

func (run *consenting) failed(err error) ConsentResult {
	if err != nil {
		run.err = err
	}
	return ConsentResult{Failed: err != nil}
}

func (run *consenting) session(res connection.SessionResult, err error) ConsentResult {
	if err != nil {
		return run.failed(err)
	}
	return ConsentResult{Applied: res.Applied, Found: res.Found, Session: res.Session.State, Take: res.Session.Take.ID}
}

func (run *consenting) connection(res connection.Result, err error) ConsentResult {
	if err != nil {
		return run.failed(err)
	}
	if res.Found {
		run.rec = res.Record
	}
	return ConsentResult{Applied: res.Applied, Found: res.Found, Core: res.Record.Core}
}

// exchange sends the code, once.
func (run *consenting) exchange(ctx context.Context) ConsentResult {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(run.sendTime())*time.Millisecond)
	defer cancel()
	run.begun = run.ms()
	e := run.link.Entry
	req := provider.Request{
		Grant: provider.GrantAuthorizationCode, Code: run.code.Code, CodeVerifier: run.code.Verifier,
		RedirectURI: run.code.RedirectURI, Scope: fields(run.sess.Scopes),
	}
	if told := run.code.Fields[provider.ScopeField]; e.CallbackScope && told != "" {
		req.Scope = []string{told} // what the callback says was granted
	}
	return ConsentResult{Answer: run.Provider.Token(ctx, e, run.cred, req)}
}

// learn puts what is known of the connection into the entry's URLs: some hosts are told
// by the answer alone.
func (run *consenting) learn(told map[string]string) {
	e, err := run.link.Entry.Resolve(told)
	switch {
	case err != nil:
		run.err = err // what needs it will say so
	case run.link.MayReach != nil && !run.link.MayReach(e):
		run.err = errors.New("the provider's answer names a host of the own network that is not open to it")
	default:
		run.link.Entry = e
	}
}

// remembered is what is kept of the consent besides its answer: what the browser
// brought, the session's own variables and, where a refresh repeats it, the redirect URI.
func (run *consenting) remembered() map[string]string {
	told := MergeFields(run.sess.Variables, run.code.Fields)
	if run.link.Entry.RefreshSendsRedirectURI {
		told = MergeFields(told, map[string]string{redirectField: run.code.RedirectURI})
	}
	return told
}

func (run *consenting) todo(s ConsentState) string {
	if run.sess.Todo != "" {
		return run.sess.Todo
	}
	return schedule.TodoPartition(run.sess.Hash, s.Exchanged)
}

// kept is the answer to a code exchange as it lies sealed in its session.
type kept struct {
	Access, Refresh, TokenType, Scope, Fields, SecretFields string
	IDToken, Nonce                                          string `json:",omitzero"` // only where they are used
	ScopeKnown                                              bool
	ExpiresIn, RefreshExpiresIn, Sent                       int64
}

func sessionPlace(hash string) secret.Place {
	return secret.Place{Table: "authorizations", ID: hash, Field: "tokens"}
}

// keep stores the answer in the session, under the key of the tokens.
func (run *consenting) keep(ctx context.Context, s ConsentState) ConsentResult {
	if run.sealed == "" {
		run.answer.Fields = mergeFields(run.remembered(), run.answer.Fields)
		run.learn(run.plainFields())
		a := run.answer
		k := kept{
			Access: a.AccessToken.Reveal(), Refresh: a.RefreshToken.Reveal(), TokenType: a.TokenType, Scope: a.Scope, ScopeKnown: a.ScopeKnown,
			Fields: a.Fields, SecretFields: a.SecretFields.Reveal(), ExpiresIn: a.ExpiresIn,
			RefreshExpiresIn: a.RefreshTokenExpiresIn, Sent: run.begun,
		}
		if s.In.HasIDToken {
			k.IDToken, k.Nonce = a.IDToken.Reveal(), run.code.Nonce
		}
		plain, err := json.Marshal(k)
		if err != nil {
			return run.failed(err)
		}
		box, err := run.Keys.Seal(secret.PurposeToken, sessionPlace(run.sess.Hash), secret.New(string(plain)))
		if err != nil {
			return run.failed(err)
		}
		run.sealed = item.Bytes(box)
	}
	return run.session(run.Store.SaveExchanged(ctx, run.sess.Hash, connection.Exchanged{
		Take: run.take.ID, Tokens: run.sealed, Seq: s.Seq, At: s.Exchanged, Todo: schedule.TodoPartition(run.sess.Hash, s.Exchanged),
	}))
}

// MergeFields is what two sources tell together; the later one counts. It returns nil
// for nothing.
func MergeFields(first, later map[string]string) map[string]string {
	if len(first)+len(later) == 0 {
		return nil
	}
	m := make(map[string]string, len(first)+len(later))
	maps.Copy(m, first)
	maps.Copy(m, later)
	return m
}

func mergeFields(callback map[string]string, answer string) string {
	m := map[string]string{}
	if answer != "" {
		_ = json.Unmarshal([]byte(answer), &m) // the token client wrote it
	}
	for k, v := range callback {
		m[k] = v
	}
	if len(m) == 0 {
		return ""
	}
	b, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	return string(b)
}

// unpack opens what keep stored.
func (run *consenting) unpack(ctx context.Context) error {
	if run.sess.Tokens == "" {
		return nil // the connection is stored; only superseding is left
	}
	plain, err := run.Keys.Open(ctx, secret.PurposeToken, sessionPlace(run.sess.Hash), []byte(run.sess.Tokens))
	if err != nil {
		return fmt.Errorf("answer kept in a session: %w", err)
	}
	var k kept
	if err := json.Unmarshal([]byte(plain.Reveal()), &k); err != nil {
		return errors.New("answer kept in a session cannot be read")
	}
	run.begun, run.code.Nonce = k.Sent, k.Nonce
	run.answer = provider.Answer{
		Verdict: provider.VerdictOK, AccessToken: secret.New(k.Access), RefreshToken: secret.New(k.Refresh), TokenType: k.TokenType,
		Scope: k.Scope, ScopeKnown: k.ScopeKnown, ExpiresIn: k.ExpiresIn, RefreshTokenExpiresIn: k.RefreshExpiresIn, IDToken: secret.New(k.IDToken),
		Fields: k.Fields, SecretFields: secret.New(k.SecretFields), RetryAfter: provider.NoRetryAfter,
	}
	return nil
}

func (run *consenting) identity(ctx context.Context) ConsentResult {
	ctx, cancel := context.WithTimeout(ctx, identityTime)
	defer cancel()
	var a provider.Account
	var err error
	switch e := run.link.Entry; {
	case e.Identity.Kept != "":
		if a, err = provider.NewAccount(run.plainFields()[e.Identity.Kept], ""); err != nil {
			return ConsentResult{} // it was not told, and will not be: the account stays unknown
		}
	case e.TellsByEndpoint():
		if a, err = run.Provider.Identity(ctx, e, run.answer.AccessToken, run.answer.TokenType); err == nil {
			run.tell(a)
		}
	default:
		a, err = run.IDTokens(ctx, run.link.Entry, provider.IDToken{
			Raw: run.answer.IDToken, ClientID: run.take.ClientID, Nonce: run.code.Nonce, At: time.UnixMilli(run.begun),
		})
		if run.refusedID = err != nil && !errors.Is(err, provider.ErrKeysUnavailable); run.refusedID {
			run.err = err // it will be no better later: the account stays unknown
			return ConsentResult{}
		}
	}
	if err != nil {
		return run.failed(err)
	}
	return ConsentResult{Account: Account{ID: a.ID, Name: a.Name}}
}

// tell adds what the account's answer told to what is kept.
func (run *consenting) tell(a provider.Account) {
	run.answer.Fields = mergeFields(run.plainFields(), a.Fields)
	if a.SecretFields.IsZero() {
		return
	}
	hidden := map[string]string{}
	if !run.answer.SecretFields.IsZero() {
		_ = json.Unmarshal([]byte(run.answer.SecretFields.Reveal()), &hidden) // the token client wrote it
	}
	run.answer.SecretFields = secret.New(mergeFields(hidden, a.SecretFields.Reveal()))
}

func (run *consenting) read(ctx context.Context, id string) ConsentResult {
	rec, err := run.Store.Get(ctx, id)
	if errors.Is(err, connection.ErrNotFound) {
		return ConsentResult{}
	}
	if err != nil {
		return run.failed(err)
	}
	run.rec = rec
	return ConsentResult{Found: true, Core: rec.Core}
}

func (run *consenting) secretFields(id string) (item.Bytes, error) {
	if run.answer.SecretFields.IsZero() {
		return "", nil
	}
	b, err := run.Keys.Seal(secret.PurposeToken, FieldsPlace(id), run.answer.SecretFields)
	return item.Bytes(b), err
}

func (run *consenting) plainFields() map[string]string {
	var m map[string]string
	if run.answer.Fields != "" {
		_ = json.Unmarshal([]byte(run.answer.Fields), &m)
	}
	return m
}

func (run *consenting) create(ctx context.Context, s ConsentState) ConsentResult {
	id, a := run.take.Connection, run.answer
	t, err := run.sealTokens(id, 1, a, run.begun/1000)
	if err != nil {
		return run.failed(err)
	}
	hidden, err := run.secretFields(id)
	if err != nil {
		return run.failed(err)
	}
	now := run.ms() / 1000
	rec := connection.Record{
		Core: connection.Core{
			ID: id, Integration: run.sess.Integration, Client: run.take.Client, ClientID: run.take.ClientID, Owner: run.take.Owner,
			Grant: string(provider.GrantAuthorizationCode), Status: connection.Active, Gen: 1, TokGen: 1,
			Access: t.Access, Refresh: t.Refresh, TokenID: t.TokenID, RestoreEpoch: run.Epoch,
			IssuedAt: t.IssuedAt, ExpiresAt: t.ExpiresAt, Sched: run.scheduled(id, a),
			AccountID: s.Account.ID, ConsentedAt: s.Exchanged,
		},
		Provider: run.link.Entry.ID, AccountName: s.Account.Name, TokenType: t.TokenType,
		RequestedScope: run.sess.Scopes, GrantedScope: t.Scope, ScopeKnown: t.ScopeKnown,
		Tags: run.sess.Tags, Fields: run.plainFields(), SecretFields: hidden, CreatedAt: now, UpdatedAt: now,
		RefreshExpiresAt: t.RefreshExpiresAt,
	}
	rec.Journal = run.noteID(rec.Journal.Add(connection.Entry{At: now, Outcome: connection.OutcomeCreated, Gen: 1}), 1)
	return run.connection(run.Store.Write(ctx, id, connection.Create{Record: rec}))
}

// scheduled is the new connection's partition: none for one that cannot be refreshed.
func (run *consenting) scheduled(id string, a provider.Answer) string {
	if a.RefreshToken.IsZero() {
		return ""
	}
	return run.link.Plan.Partition(id, a.ExpiresIn)
}

func (run *consenting) join(ctx context.Context, s ConsentState, e ConsentEffect) ConsentResult {
	id, a := s.In.Reconnect, run.answer
	if e.Kind == ConsentAccess {
		t, err := run.sealTokens(id, e.Gen, a, run.begun/1000)
		if err != nil {
			return run.failed(err)
		}
		return run.connection(run.Store.Write(ctx, id, connection.ConsentAccess{Gen: e.Gen, Seq: s.Seq, Tokens: t, ConsentedAt: s.Exchanged}))
	}
	t, err := run.sealTokens(id, e.Gen+1, a, run.begun/1000)
	if err != nil {
		return run.failed(err)
	}
	hidden, err := run.secretFields(id)
	if err != nil {
		return run.failed(err)
	}
	return run.connection(run.Store.Write(ctx, id, connection.Consent{
		ID: id, Gen: e.Gen, Seq: s.Seq, Tokens: t, DropRefresh: e.DropRefresh, ConsentedAt: s.Exchanged, Epoch: run.Epoch,
		Sched: run.scheduled(id, a),
		Identity: connection.Identity{
			Client: run.take.Client, ClientID: run.take.ClientID, AccountID: s.Account.ID, AccountName: s.Account.Name,
			RequestedScope: run.sess.Scopes, Fields: run.plainFields(), SecretFields: hidden,
		},
		Journal: run.noteID(run.rec.Journal.Add(connection.Entry{At: run.ms() / 1000, Outcome: connection.OutcomeConsented, Gen: e.Gen + 1}), e.Gen+1),
	}))
}

// noteID adds to a journal that the ID token was not believed, so that who wonders why
// the account is unknown finds it.
func (run *consenting) noteID(j connection.Journal, gen int64) connection.Journal {
	if !run.refusedID {
		return j
	}
	return j.Add(connection.Entry{At: run.ms() / 1000, Outcome: connection.OutcomeIDTokenRefused, Gen: gen})
}

// supersede ends the older connections of the account that was just connected.
func (run *consenting) supersede(ctx context.Context, s ConsentState) error {
	q := item.Query{Index: item.IndexByOwner, Hash: run.take.Owner, Prefix: run.sess.Integration + "#", Limit: 100}
	for {
		page, err := run.Store.Connections.Query(ctx, q)
		if err != nil {
			return err
		}
		for _, id := range page.Keys {
			if err := run.supersedeOne(ctx, s, id); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
	}
}

func (run *consenting) supersedeOne(ctx context.Context, s ConsentState, id string) error {
	if id == s.Result {
		return nil
	}
	rec, err := run.Store.Get(ctx, id)
	if errors.Is(err, connection.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	own := run.link.Entry.OwnVariables // an account of another host is another one
	if rec.Status == connection.Disconnected || rec.AccountID != s.Account.ID || !maps.Equal(own(rec.Fields), own(run.rec.Fields)) {
		return nil
	}
	_, err = run.Store.Write(ctx, id, connection.Supersede{ID: id, ConsentedAt: s.Exchanged, Now: run.ms() / 1000})
	return err
}
