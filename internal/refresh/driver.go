package refresh

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// Link is what a connection hangs on: its provider, and the client that got its
// tokens.
type Link struct {
	Entry provider.Entry // its variables put in
	// MayReach reports whether requests may go to an entry's endpoints, which answers
	// may name too; nil: they may.
	MayReach func(provider.Entry) bool
	Client   circuit.Client
	// Credentials fetches the client's id and secret. It may do I/O, so it is
	// called before anything is sent.
	Credentials func(ctx context.Context) (provider.Credentials, error)
	Plan        schedule.Plan
	// RedirectURI is the integration's, for a provider that wants it with a refresh of a
	// connection that has not kept its own; "" where it is not known.
	RedirectURI string
}

// Rescuer keeps what the store would not take, until it is replayed. The payload is
// sealed already.
type Rescuer interface {
	// Put makes the payload durable.
	Put(ctx context.Context, id string, payload []byte) error
	// Holds reports whether something of that connection may still be replayed.
	Holds(id string) bool
}

// Driver performs the effects of the machines. Its fields are set before first use
// and then only read; it may be used concurrently.
type Driver struct {
	Store    connection.Store
	Keys     *secret.Keyring
	Provider *provider.Client
	Circuits *circuit.Breaker
	Rescue   Rescuer
	// IDTokens verifies the ID token of a consent. Nil: ID tokens are not used.
	IDTokens provider.VerifyIDToken
	Now      func() time.Time
	// Links finds what a connection of the integration, got by the client id, hangs
	// on. False: the integration or the client is not in the configuration. An error:
	// it is, but what is needed to tell cannot be read now. connection is what is known
	// of the connection, for the variables of its provider's URLs.
	Links func(ctx context.Context, integration, clientID string, connection map[string]string) (Link, bool, error)
	// Epoch is the deployment's restore epoch, raised when its table was restored.
	Epoch int64
	// SendTime bounds one token request, ms; 0: the constant SendTime.
	SendTime int64
	// Horizon is how long a refusal in doubt is held back, s; 0: the constant Horizon.
	Horizon int64
	// Pause waits, or returns early with the context's error; nil: a timer.
	Pause func(ctx context.Context, d time.Duration) error
	// Admit, where set, is asked before anything is claimed whether the integration may
	// be sent one more request now; it may wait. An error puts the refresh off, with
	// nothing written. What it returns is called when the refresh has ended.
	Admit func(ctx context.Context, integration string, why Why) (release func(), err error)
	// Done, where set, is told of every refresh that ended, with what is stored.
	Done func(Report)
}

// Report is one refresh that ended.
type Report struct {
	Record  connection.Record // as last seen; its ID is always set
	Outcome Outcome
	Why     Why
	Sent    int           // token requests
	Took    time.Duration // of the last token request
	Lost    int           // answers that did not come
	// Recovered: it saved a connection of which an answer was lost, now or before.
	Recovered bool
	// Restored: it put a connection in doubt because its table was restored.
	Restored bool
	Answer   string // the provider's error code, "" for none
	// PausedUntil, unix s, is when the provider may be asked again; 0 for any time.
	PausedUntil int64
	Err         error // what failed, where something of ours did; holds no secret
}

func (d *Driver) ms() int64 { return d.Now().UnixMilli() }

func (d *Driver) sendTime() int64 {
	if d.SendTime != 0 {
		return d.SendTime
	}
	return SendTime
}

// AttemptTime is what an invocation must have left for a refresh to be begun.
func (d *Driver) AttemptTime() time.Duration {
	return time.Duration(d.sendTime()+SaveTime+RescueTime+Slack) * time.Millisecond
}

// Wait returns when the time is over, or with the error of ctx when that ends before.
func (d *Driver) Wait(ctx context.Context, wait time.Duration) error {
	if d.Pause != nil {
		return d.Pause(ctx, wait)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// left is what the invocation has left, ms. Without a deadline there is no end.
func (d *Driver) left(ctx context.Context) int64 {
	if end, ok := ctx.Deadline(); ok {
		return int64(time.Until(end) / time.Millisecond)
	}
	return 1 << 40
}

// storeTime bounds one call to the store; the SDK has no overall time-out.
const storeTime = 3 * time.Second

// refreshing is one run of the refresh machine.
type refreshing struct {
	*Driver
	in   Input
	rec  connection.Record // as last seen
	link Link
	// Of the connection as read: whose tokens the answer will be.
	integration, clientID, grant string
	fields                       map[string]string

	cred  provider.Credentials
	token secret.Text // the refresh token, opened before the claim
	old   secret.Text // the access token likewise
	begun int64       // ms: when the last send began
	took  time.Duration
	lost  int              // answers that did not come
	save  *connection.Save // sealed once, before its first try

	restored bool   // see Report.Restored
	leave    func() // ends what Admit admitted; nil before
	err      error
}

// Refresh runs one refresh to its end. Once something was claimed it no longer ends
// with the caller's context, only with its deadline: a caller that goes away must
// not turn an answer into a lost one.
func (d *Driver) Refresh(ctx context.Context, in Input) Report {
	if in.Attempt == "" {
		in.Attempt, in.Jitter = connection.NewRandom(), jitter()
	}
	run := &refreshing{Driver: d, in: in}
	run.rec.ID = in.ID
	defer func() {
		if run.leave != nil {
			run.leave()
		}
	}()
	safe := context.WithoutCancel(ctx)
	s, r := Begin(in), Result{Now: d.ms()}
	for {
		var e Effect
		s, e = Next(s, r)
		if e.Kind == EffectDone {
			rep := Report{Record: run.rec, Outcome: e.Outcome, Why: in.Why, Sent: s.Sends, Took: run.took, Lost: run.lost, Answer: s.Answer.Error, Err: run.err}
			rep.Restored = run.restored
			rep.Recovered = rep.Outcome == Saved && (run.lost > 0 || s.Core.DoubtAt != 0)
			if s.Facts.PausedUntil > run.ms()/1000 {
				rep.PausedUntil = s.Facts.PausedUntil
			}
			run.finish(safe, rep)
			return rep
		}
		use := safe
		if e.Kind == EffectRead || e.Kind == EffectPrepare {
			use = ctx // nothing was promised yet
		}
		r = run.perform(use, s, e)
		r.Now, r.Left = d.ms(), d.left(ctx)
	}
}

// jitter is a random number in [0, 1).
func jitter() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}

func (run *refreshing) finish(ctx context.Context, rep Report) {
	if rep.Outcome == Saved || rep.Outcome == Overtaken {
		_ = run.Circuits.Worked(ctx, run.link.Client) // an open circuit is probed again
	}
	if run.Done != nil {
		run.Done(rep)
	}
}

// perform does one effect. What it returns says only what happened.
func (run *refreshing) perform(ctx context.Context, s State, e Effect) Result {
	switch e.Kind {
	case EffectRead:
		return run.read(ctx)
	case EffectPrepare:
		return run.failed(run.prepare(ctx))
	case EffectClaim:
		r := run.write(ctx, e.Claim)
		run.restored = e.Claim.Older && s.Core.DoubtAt == 0 && r.Core.Attempt.ID == e.Claim.Attempt.ID
		return r
	case EffectRelease:
		return run.write(ctx, connection.Release{Attempt: run.in.Attempt})
	case EffectPause:
		return run.failed(run.Wait(ctx, time.Duration(e.Pause)*time.Millisecond))
	case EffectSend:
		return run.send(ctx, s.doubted() || s.Doubt)
	case EffectSave:
		if run.save == nil {
			if err := run.seal(s); err != nil {
				return run.failed(err)
			}
		}
		// The save's own time is over at Until: what is left then is the rescue's.
		if left := time.Duration(s.Until-run.ms()) * time.Millisecond; !s.Rescued && left < storeTime {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, max(left, storeTime/6))
			defer cancel()
		}
		return run.write(ctx, *run.save)
	case EffectRescue:
		return run.failed(run.rescue(ctx, rescueSave))
	case EffectRevokeRecord:
		return run.failed(run.rescue(ctx, rescueRevoke))
	case EffectRevoke:
		return run.failed(run.revoke(ctx, s.Answer))
	case EffectCircuit:
		return run.failed(run.Circuits.Trip(ctx, run.link.Client, tripReason(s.Answer)))
	case EffectPark, EffectLater:
		e.Later.Journal = run.journal(e.Note)
		return run.write(ctx, e.Later)
	case EffectVerdict:
		e.Verdict.Journal = run.journal(e.Note)
		return run.write(ctx, e.Verdict)
	case EffectRefuseImport:
		return run.write(ctx, connection.RefuseImport{
			ID: run.in.ID, Gen: s.Core.Gen, Attempt: s.attempt(), Now: run.ms() / 1000,
		})
	}
	return Result{Failed: true}
}

func tripReason(a provider.Answer) string {
	if a.Error != "" {
		return a.Error
	}
	return "refused"
}

func (run *refreshing) failed(err error) Result {
	if err != nil {
		run.err = err
	}
	return Result{Failed: err != nil}
}

// journal is the connection's journal with what came of this attempt.
func (run *refreshing) journal(outcomes ...connection.Outcome) connection.Journal {
	j := run.rec.Journal
	for _, o := range outcomes {
		j = j.Add(connection.Entry{At: run.ms() / 1000, Outcome: o, Gen: run.rec.Gen, Millis: run.took.Milliseconds()})
	}
	return j
}

func (run *refreshing) read(ctx context.Context) Result {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	rec, err := run.Store.Get(ctx, run.in.ID)
	switch {
	case errors.Is(err, connection.ErrNotFound):
		return Result{}
	case err != nil:
		return run.failed(err)
	}
	run.rec = rec
	run.integration, run.clientID, run.grant, run.fields = rec.Integration, rec.ClientID, rec.Grant, rec.Fields
	facts, err := run.facts(ctx)
	if err != nil {
		return run.failed(err)
	}
	return Result{Found: true, Core: rec.Core, Facts: facts}
}

// profileOf is the profile by which a connection of this grant is refreshed.
func profileOf(e provider.Entry, grant string) provider.Profile {
	if grant == string(provider.GrantClientCredentials) {
		return e.Profile(provider.GrantClientCredentials)
	}
	return e.Profile(provider.GrantRefreshToken)
}

func (run *refreshing) facts(ctx context.Context) (Facts, error) {
	f := Facts{Epoch: run.Epoch, SendTime: run.sendTime(), Horizon: run.horizon()}
	link, known, err := run.Links(ctx, run.rec.Integration, run.rec.ClientID, run.rec.Fields)
	if err != nil || !known {
		return f, err
	}
	status, err := run.Circuits.Status(ctx, link.Client)
	if err != nil {
		return f, err
	}
	run.link = link
	f.ClientKnown, f.CircuitOpen, f.PausedUntil = true, status.Open, status.PausedUntil
	f.Profile, f.Plan = profileOf(link.Entry, run.rec.Grant), link.Plan
	f.RefreshEnds = LifeOf(run.rec, f.Profile).Last
	if age := link.Entry.MinimumTokenAge; age > 0 && run.rec.Status == connection.Active && run.rec.Access != "" && run.rec.DoubtAt == 0 {
		f.NotBefore = run.rec.IssuedAt + age
	}
	return f, nil
}

// horizon is how long a refusal in doubt is held: for ever while a rescue of this
// connection is still to be replayed.
func (run *refreshing) horizon() int64 {
	h := run.Horizon
	if h == 0 {
		h = Horizon
	}
	if run.Rescue.Holds(run.in.ID) && run.rec.DoubtAt != 0 {
		h = max(h, run.ms()/1000-run.rec.DoubtAt+h)
	}
	return h
}

// prepare has at hand whatever may fail between the answer and its save: the data
// key that will seal it, the client secret, the refresh token itself.
func (run *refreshing) prepare(ctx context.Context) error {
	if err := leavesRoom(run.rec); err != nil {
		return err
	}
	if run.Admit != nil {
		leave, err := run.Admit(ctx, run.rec.Integration, run.in.Why)
		if err != nil {
			return err
		}
		run.leave = leave
	}
	if err := run.loadKey(ctx); err != nil {
		return err
	}
	cred, err := run.link.Credentials(ctx)
	if err != nil {
		return fmt.Errorf("client secret of %s: %w", run.rec.Integration, err)
	}
	run.cred = cred
	if run.rec.Refresh == "" {
		return nil
	}
	if run.rec.Access != "" {
		run.old, err = run.Keys.Open(ctx, secret.PurposeToken, AccessPlace(run.rec.ID, run.rec.TokGen), []byte(run.rec.Access))
		if err != nil {
			return fmt.Errorf("access token of %s: %w", run.rec.ID, err)
		}
	}
	run.token, err = run.Keys.Open(ctx, secret.PurposeToken, RefreshPlace(run.rec.ID, run.rec.TokGen), []byte(run.rec.Refresh))
	if err != nil {
		return fmt.Errorf("refresh token of %s: %w", run.rec.ID, err)
	}
	return nil
}

// answerRoom is what an answer may add to an item, in bytes: two tokens of 64 KiB, a
// scope of 16 KiB, the journal, and what sealing and a write that comes between add.
const answerRoom = 160 << 10

// leavesRoom reports a connection whose item could not hold a refreshed token: nothing
// is sent for it, so that no token comes that cannot be stored.
func leavesRoom(r connection.Record) error {
	r.Access, r.Refresh, r.GrantedScope, r.Journal = "", "", "", ""
	i := r.Item()
	if size := i.Size(); size+answerRoom > item.MaxSize {
		return fmt.Errorf("connection %s: %d bytes of tags and fields leave no room for a refreshed token: %w", r.ID, size, item.ErrTooLarge)
	}
	return nil
}

// loadKey has the data key of the tokens in memory. A warm one is not asked for again:
// whoever rotates keys has each process load the new one.
func (d *Driver) loadKey(ctx context.Context) error {
	if d.Keys.Ready(secret.PurposeToken) {
		return nil
	}
	if err := d.Keys.Load(ctx, secret.PurposeToken); err != nil {
		return fmt.Errorf("data key: %w", err)
	}
	return nil
}

// AccessPlace is where the access token of a connection is sealed.
func AccessPlace(id string, gen int64) secret.Place {
	return secret.Place{Table: "connections", ID: id, Gen: gen, Field: "at"}
}

// RefreshPlace is where the refresh token of a connection is sealed.
func RefreshPlace(id string, gen int64) secret.Place {
	return secret.Place{Table: "connections", ID: id, Gen: gen, Field: "rt"}
}

// FieldsPlace is where the secret fields of a connection are sealed: by its id alone,
// since a refresh leaves them as they are.
func FieldsPlace(id string) secret.Place {
	return secret.Place{Table: "connections", ID: id, Field: "secret_fields"}
}

func (run *refreshing) write(ctx context.Context, w connection.Write) Result {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	res, err := run.Store.Write(ctx, run.in.ID, w)
	if err != nil {
		r := run.failed(err)
		r.TooLarge = errors.Is(err, item.ErrTooLarge)
		return r
	}
	if res.Found {
		run.rec = res.Record
	}
	return Result{Applied: res.Applied, Found: res.Found, Core: res.Record.Core}
}

// send is the one request. Its own time-out counts from here, whatever the caller's
// context says, and everything that an answer needs stands ready. doubt: the refresh
// token may be spent.
func (run *refreshing) send(whole context.Context, doubt bool) Result {
	ctx, cancel := context.WithTimeout(whole, time.Duration(run.sendTime())*time.Millisecond)
	defer cancel()
	req := refreshRequest(run.link, run.rec.Fields, run.token)
	if run.rec.Grant == string(provider.GrantClientCredentials) {
		req = provider.Request{Grant: provider.GrantClientCredentials, Scope: fields(run.rec.RequestedScope)}
	}
	run.begun = run.ms()
	a := run.Provider.Token(ctx, run.link.Entry, run.cred, req)
	run.took = time.Duration(run.ms()-run.begun) * time.Millisecond
	if a.ResponseLost {
		run.lost++
	}
	if a.Throttled && a.RetryAfter > 0 {
		// Where it cannot be noted the others find out by themselves.
		_ = run.Circuits.Pause(whole, run.link.Client, run.ms()/1000+a.RetryAfter)
	}
	if run.rec.Status == connection.Connecting {
		return Result{Answer: a} // a bad import is no sign of a storm
	}
	word := circuit.Spoke
	switch {
	case a.Verdict != provider.VerdictNeedsReauth:
	case doubt:
		word = circuit.RefusedInDoubt
	default:
		word = circuit.Refused
	}
	return Result{Answer: a, Brake: run.judge(whole, word)}
}

// redirectField is the kept field that holds the redirect URI of the consent, where a
// refresh has to repeat it.
const redirectField = "redirect_uri"

// refreshRequest is the request of a refresh, with what is known of its connection.
func refreshRequest(link Link, fields map[string]string, token secret.Text) provider.Request {
	req := provider.Request{Grant: provider.GrantRefreshToken, RefreshToken: token}
	if link.Entry.RefreshSendsRedirectURI {
		req.RedirectURI = cmp.Or(fields[redirectField], link.RedirectURI)
	}
	return req
}

// judgeTime bounds the count of a refusal: it stands between an answer and its write.
const judgeTime = 2 * time.Second

func (run *refreshing) judge(ctx context.Context, w circuit.Word) bool {
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	return run.Circuits.Judge(ctx, run.link.Client, w)
}

// seal makes the save, once, so that every repeat of it is the same.
func (run *refreshing) seal(s State) error {
	a, gen := s.Answer, s.Core.Gen+1
	if a.Verdict != provider.VerdictOK {
		a.AccessToken = run.old
	}
	t, err := run.sealTokens(run.rec.ID, gen, a, run.begun/1000)
	if err != nil {
		return err
	}
	sched, note := run.link.Plan.Partition(run.rec.ID, a.ExpiresIn), connection.OutcomeSaved
	var notes []connection.Outcome
	if s.Doubt {
		notes = append(notes, connection.OutcomeLost) // it healed within this attempt, and is told all the same
	}
	if a.Verdict != provider.VerdictOK {
		// Only the refresh token can be used: the old access token is sealed anew.
		sched, note = s.Save.Sched, connection.OutcomeMalformed
		t.TokenID, t.TokenType, t.IssuedAt, t.ExpiresAt = run.rec.TokenID, run.rec.TokenType, run.rec.IssuedAt, run.rec.ExpiresAt
	}
	notes = append(notes, note)
	run.save = &connection.Save{
		ID: run.rec.ID, Gen: s.Core.Gen, SaveID: run.in.Attempt, Tokens: t,
		Rotated: run.rec.Refresh != "" && a.RefreshTokenArrived && !a.RefreshToken.Equal(run.token),
		Slides:  run.rec.RefreshExpiresAt != 0 && t.RefreshExpiresAt > run.rec.RefreshExpiresAt+slideSlack,
		Epoch:   run.Epoch, Sched: sched, Doubt: s.Save.Doubt, Sent: s.Save.Sent, RetryAt: s.Save.RetryAt, Failures: s.Save.Failures,
		Done: s.Core.Status == connection.Connecting && a.Verdict == provider.VerdictOK, Now: run.ms() / 1000,
		Journal: run.journal(notes...),
	}
	return nil
}

// slideSlack is by how much the told end of a refresh token may vary, s, and still be the
// same: providers count from their own clocks, in days or seconds.
const slideSlack = 3600

// sealTokens seals an answer for a generation of a connection. Its life counts from
// when the request was sent: a slow answer must not make a token look younger.
func (d *Driver) sealTokens(id string, gen int64, a provider.Answer, sent int64) (connection.Tokens, error) {
	t := connection.Tokens{
		TokenID: connection.NewTokenID(), TokenType: a.TokenType, IssuedAt: sent, Scope: a.Scope, ScopeKnown: a.ScopeKnown,
	}
	if a.ExpiresIn > 0 {
		t.ExpiresAt = sent + a.ExpiresIn
	}
	if a.RefreshTokenExpiresIn > 0 {
		t.RefreshExpiresAt = sent + a.RefreshTokenExpiresIn
	}
	if !a.AccessToken.IsZero() {
		at, err := d.Keys.Seal(secret.PurposeToken, AccessPlace(id, gen), a.AccessToken)
		if err != nil {
			return t, fmt.Errorf("seal: %w", err)
		}
		t.Access = item.Bytes(at)
	}
	if !a.RefreshToken.IsZero() {
		rt, err := d.Keys.Seal(secret.PurposeToken, RefreshPlace(id, gen), a.RefreshToken)
		if err != nil {
			return t, fmt.Errorf("seal: %w", err)
		}
		t.Refresh = item.Bytes(rt)
	}
	return t, nil
}

// revoke ends the new tokens of an answer that arrived after a disconnect.
func (run *refreshing) revoke(ctx context.Context, a provider.Answer) error {
	return run.revokeTokens(ctx, run.link, run.cred, a.RefreshToken, a.AccessToken)
}

// revokeTime bounds one revocation.
const revokeTime = 5 * time.Second

var errNotRevoked = errors.New("the provider did not take the revocation")

func (d *Driver) revokeTokens(ctx context.Context, link Link, cred provider.Credentials, refreshToken, access secret.Text) error {
	for _, t := range []struct {
		token secret.Text
		hint  string
	}{{refreshToken, "refresh_token"}, {access, "access_token"}} {
		if t.token.IsZero() {
			continue
		}
		call, cancel := context.WithTimeout(ctx, revokeTime)
		res := d.Provider.Revoke(call, link.Entry, cred, t.token, t.hint)
		cancel()
		if res == provider.RevokeRetry {
			return errNotRevoked
		}
	}
	return nil
}

// The kinds of rescue records.
const (
	rescueSave   = "save"
	rescueRevoke = "revoke"
)

// rescued is a rescue record: the save as it was, sealed.
type rescued struct {
	Kind       string
	ID         string
	Gen        int64
	SaveID     string
	Access     []byte
	Refresh    []byte
	TokenID    string
	TokenType  string
	Scope      string
	ScopeKnown bool
	Rotated    bool
	Done       bool
	IssuedAt   int64
	ExpiresAt  int64
	RTExpires  int64
	Epoch      int64
	Sched      string
	Doubt      int64
	Sent       int64
	RetryAt    int64
	Failures   int64

	// Whose tokens these are: the connection may be another client's by the time of
	// the replay, or gone.
	Integration string
	ClientID    string
	Grant       string
	Fields      map[string]string `json:",omitempty"`
}

func (run *refreshing) rescue(ctx context.Context, kind string) error {
	w := run.save
	if w == nil {
		return errors.New("nothing is sealed to be rescued")
	}
	payload, err := json.Marshal(rescued{
		Kind: kind, ID: w.ID, Gen: w.Gen, SaveID: w.SaveID, Access: []byte(w.Tokens.Access), Refresh: []byte(w.Tokens.Refresh),
		TokenID: w.Tokens.TokenID, TokenType: w.Tokens.TokenType, Scope: w.Tokens.Scope, ScopeKnown: w.Tokens.ScopeKnown,
		Rotated: w.Rotated, Done: w.Done, IssuedAt: w.Tokens.IssuedAt, ExpiresAt: w.Tokens.ExpiresAt,
		RTExpires: w.Tokens.RefreshExpiresAt, Epoch: w.Epoch, Sched: w.Sched, Doubt: w.Doubt, Sent: w.Sent, RetryAt: w.RetryAt,
		Failures: w.Failures, Integration: run.integration, ClientID: run.clientID, Grant: run.grant, Fields: run.fields,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, RescueTime*time.Millisecond)
	defer cancel()
	return run.Rescue.Put(ctx, w.ID, payload)
}

// Replay carries out one rescue record: the same save under the same condition, with
// the same reading of a refusal. It reports whether the record is done with; an
// error means that it must be kept.
func (d *Driver) Replay(ctx context.Context, id string, payload []byte) (bool, error) {
	var w rescued
	if err := json.Unmarshal(payload, &w); err != nil || w.ID != id || w.ID == "" {
		return false, fmt.Errorf("rescue record of %q cannot be read", id)
	}
	if w.Kind == rescueRevoke {
		return d.replayRevoke(ctx, w)
	}
	rec, err := d.Store.Get(ctx, id)
	if err != nil && !errors.Is(err, connection.ErrNotFound) {
		return false, err
	}
	res, err := d.Store.Write(ctx, id, connection.Save{
		ID: w.ID, Gen: w.Gen, SaveID: w.SaveID, Rotated: w.Rotated, Done: w.Done, Epoch: w.Epoch, Sched: w.Sched, Now: d.ms() / 1000,
		Doubt: w.Doubt, Sent: w.Sent, RetryAt: w.RetryAt, Failures: w.Failures,
		Tokens: connection.Tokens{
			Access: item.Bytes(w.Access), Refresh: item.Bytes(w.Refresh), TokenID: w.TokenID, TokenType: w.TokenType,
			IssuedAt: w.IssuedAt, ExpiresAt: w.ExpiresAt, RefreshExpiresAt: w.RTExpires, Scope: w.Scope, ScopeKnown: w.ScopeKnown,
		},
		Journal: rec.Journal.Add(connection.Entry{At: d.ms() / 1000, Outcome: connection.OutcomeRescued, Gen: w.Gen}),
	})
	if err != nil {
		return false, err
	}
	if res.Applied {
		if d.Done != nil {
			d.Done(Report{Record: res.Record, Outcome: Saved, Why: Forced})
		}
		return true, nil
	}
	link, known, err := d.Links(ctx, w.Integration, w.ClientID, w.Fields)
	if err != nil {
		return false, err
	}
	perToken := known && profileOf(link.Entry, w.Grant).RevokePerToken
	if JudgeRefusedSave(w.Gen, w.SaveID, res.Found, res.Record.Core, perToken) == Dropped {
		return d.replayRevoke(ctx, w)
	}
	return true, nil
}

// replayRevoke revokes the sealed tokens of a record whose connection was ended, or is
// gone.
func (d *Driver) replayRevoke(ctx context.Context, w rescued) (bool, error) {
	link, known, err := d.Links(ctx, w.Integration, w.ClientID, w.Fields)
	if err != nil {
		return false, err
	}
	if !known {
		return false, fmt.Errorf("client of connection %s is not in the configuration", w.ID)
	}
	cred, err := link.Credentials(ctx)
	if err != nil {
		return false, err
	}
	var at, rt secret.Text
	if len(w.Access) > 0 {
		if at, err = d.Keys.Open(ctx, secret.PurposeToken, AccessPlace(w.ID, w.Gen+1), w.Access); err != nil {
			return false, err
		}
	}
	if len(w.Refresh) > 0 {
		if rt, err = d.Keys.Open(ctx, secret.PurposeToken, RefreshPlace(w.ID, w.Gen+1), w.Refresh); err != nil {
			return false, err
		}
	}
	if err := d.revokeTokens(ctx, link, cred, rt, at); err != nil {
		return false, err
	}
	return true, nil
}
