package refresh

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
)

// Why is what asks for a refresh, and so what counts as fresh.
type Why int

// The reasons to refresh.
const (
	Slot         Why = iota // the schedule's slot, or a retry minute
	Timer                   // serve's exact timer for a short life
	Read                    // somebody asks for a token that should last
	Unauthorized            // a caller's token got a 401: compare and refresh
	Forced                  // an operator, or an import's first refresh
)

// Input is what a refresh is asked for.
type Input struct {
	ID  string
	Why Why
	// Minute is the unix minute of the slot: the event's, not the clock's.
	Minute int64
	// MinTTL is how many seconds a read wants the token to last.
	MinTTL int64
	// IfGeneration and IfTokenID are the token that a caller saw refused.
	// IfTokenID "" was not given.
	IfGeneration int64
	IfTokenID    string
	// Attempt is a fresh random id, for the claim and for the save.
	Attempt string
	// Jitter is a random number in [0, 1), for the retry that may be needed.
	Jitter float64
	// Probe lets this one refresh through an open circuit.
	Probe bool
}

// Facts are what the driver knows about a connection's surroundings once it has
// read the item: its client and provider, and the deployment.
type Facts struct {
	ClientKnown bool // the client that got the tokens is in the configuration
	CircuitOpen bool // that client is refused: nothing is sent, nothing written
	// PausedUntil, unix s: the provider asked for no requests of that client before
	// it. Nothing is sent, nothing written. 0 for none.
	PausedUntil int64
	// RefreshEnds, unix s, is when the refresh token has certainly ended by itself; 0
	// unknown.
	RefreshEnds int64
	// NotBefore, unix s: the stored token is too young for the provider to refresh it
	// before. Nothing is sent, nothing written. 0 for none.
	NotBefore int64
	Profile   provider.Profile
	Plan      schedule.Plan
	Epoch     int64 // the deployment's restore epoch
	SendTime  int64 // ms
	Horizon   int64 // s
}

// Outcome is how a refresh ended.
type Outcome int

// The outcomes.
const (
	Fresh         Outcome = iota // nothing to do: the stored token serves
	NotRefreshed                 // the status or the grant admits no refresh
	NotYet                       // put off before, and its time has not come
	Busy                         // somebody else refreshes it now
	ClientChanged                // its client is gone from the configuration
	Suspended                    // the circuit is open
	NotReady                     // a key, a secret or the time for it is missing
	StoreFailed                  // the store did not answer; nothing was sent, or nothing is known
	Parked                       // in doubt, and the profile waits
	Saved                        // refreshed and stored
	Overtaken                    // refreshed, but a newer state was stored: that one counts
	Rescued                      // refreshed, and safe outside the store
	Dropped                      // refreshed after a disconnect: the new tokens are revoked
	LostTokens                   // refreshed, and neither stored nor rescued
	NotActed                     // the provider did nothing; later
	Doubted                      // the answer was lost; the old token may be spent
	Refused                      // the client configuration is refused
	Verdict                      // the user must consent again
	HeldBack                     // refused in doubt; held until the horizon
	ImportRefused                // an import's token is refused; erased
	Absent                       // no such connection
	TooLarge                     // refreshed, and the item would be larger than a store takes
)

// Step is where a refresh stands: what its last effect was.
type Step int

const (
	stepStart Step = iota
	stepRead
	stepPrepare
	stepClaim
	stepPark
	stepPause
	stepSend
	stepSave
	stepSavePause
	stepRescue
	stepRevoke
	stepRevokeRecord
	stepCircuit
	stepWrite
	stepRelease
	stepDone
)

// State is the comparable state of one refresh.
type State struct {
	Step    Step
	In      Input
	Facts   Facts
	Core    connection.Core // as read, then as claimed
	Claimed bool
	// Lease is when the claim runs out, ms; 0 without a claim.
	Lease  int64
	Sends  int
	Answer provider.Answer
	Save   Keeping
	// Until is when the present save or rescue gives up, ms.
	Until   int64
	Tries   int
	Rescued bool // the rescue was tried: saves go on to the end of the invocation
	Large   bool // the save was refused as too large
	Doubt   bool // this attempt's own sends put the generation in doubt
	Outcome Outcome
}

// Keeping is what a save keeps besides the tokens; see connection.Save. Its zero value
// belongs to an answer that is good in every part.
type Keeping struct {
	Doubt, Sent       int64
	RetryAt, Failures int64
	Sched             string // of a retry
}

// Kind is what an effect does.
type Kind int

// The effects. Those marked with a write carry it in Effect.
const (
	EffectDone         Kind = iota // the refresh ended with Outcome
	EffectRead                     // read the item, and the facts about it
	EffectPrepare                  // have at hand: data key, client secret, a warm store; tell the time left
	EffectClaim                    // write Claim
	EffectRelease                  // write Release, at best
	EffectPark                     // write Later
	EffectPause                    // wait Pause ms
	EffectSend                     // one token request with the stored refresh token
	EffectSave                     // seal Answer for generation Core.Gen+1 (once) and write Save
	EffectRescue                   // put the sealed save where it is replayed
	EffectRevoke                   // revoke Answer's tokens at the provider
	EffectRevokeRecord             // put a sealed order to revoke them where it is replayed
	EffectCircuit                  // open the circuit of the client
	EffectLater                    // write Later
	EffectVerdict                  // write Verdict
	EffectRefuseImport             // write RefuseImport
)

// Effect is one thing for the driver to do.
type Effect struct {
	Kind    Kind
	Claim   connection.Claim
	Later   connection.Later
	Verdict connection.Verdict
	Pause   int64 // ms
	Note    connection.Outcome
	Outcome Outcome
}

// Result is what came of the effect before.
type Result struct {
	Now int64 // ms, unix
	// Failed: the store, the queue or a key service did not answer, or answered in
	// a way that leaves open what it did.
	Failed bool
	// TooLarge: a write failed for good, since the item would be larger than a store
	// takes. Nothing was written.
	TooLarge bool
	// Applied, Found and Core belong to writes and reads.
	Applied bool
	Found   bool
	Core    connection.Core
	Facts   Facts // of a read
	// Left is the time that this invocation has left, ms.
	Left   int64
	Answer provider.Answer // of EffectSend
	// Brake: so many refusals came at once that they are more likely the provider's
	// or the client's fault than the users' will; of EffectSend.
	Brake bool
}

// Begin is the state before a refresh.
func Begin(in Input) State { return State{In: in} }

// Next takes the result of the last effect and says what to do next. The result of
// the first call is ignored but for its time.
func Next(s State, r Result) (State, Effect) {
	switch s.Step {
	case stepStart:
		return s.to(stepRead), Effect{Kind: EffectRead}
	case stepRead:
		return s.read(r)
	case stepPrepare:
		return s.prepared(r)
	case stepClaim:
		return s.claimed(r)
	case stepPause:
		return s.send()
	case stepSend:
		return s.answered(r)
	case stepSave:
		return s.saved(r)
	case stepSavePause:
		return s.to(stepSave), Effect{Kind: EffectSave}
	case stepRescue:
		return s.rescued(r)
	case stepRevoke:
		if r.Failed {
			return s.to(stepRevokeRecord), Effect{Kind: EffectRevokeRecord}
		}
		return s.done(Dropped)
	case stepRevokeRecord:
		return s.done(Dropped)
	case stepCircuit:
		return s.later(r, Refused)
	case stepPark, stepWrite:
		// A refused write was decided by somebody else. One that failed leaves the
		// attempt to run out, and nothing on file: the slot must not count as done.
		if r.Failed {
			return s.done(StoreFailed)
		}
		return s.done(s.Outcome)
	}
	return s.done(s.Outcome)
}

func (s State) to(step Step) State { s.Step = step; return s }

func (s State) done(o Outcome) (State, Effect) {
	s.Step, s.Outcome = stepDone, o
	return s, Effect{Kind: EffectDone, Outcome: o}
}

// read decides whether anything is to be done at all.
func (s State) read(r Result) (State, Effect) {
	now := r.Now / 1000
	switch {
	case r.Failed:
		return s.done(StoreFailed)
	case !r.Found:
		return s.done(Absent)
	}
	s.Core, s.Facts = r.Core, r.Facts
	switch {
	case !s.Core.Refreshable(), s.Core.Refresh == "" && s.Core.Grant != string(provider.GrantClientCredentials):
		return s.done(NotRefreshed)
	case s.fresh(now):
		return s.done(Fresh)
	case now < s.Core.RetryAt && (s.In.Why == Slot || s.In.Why == Timer || s.In.Why == Read && s.valid(now)):
		return s.done(NotYet)
	case !s.Facts.ClientKnown:
		return s.done(ClientChanged)
	case s.Facts.CircuitOpen && !s.In.Probe:
		return s.done(Suspended)
	case s.ended(now):
		return s.verdict(connection.Expired, connection.OutcomeExpired, now)
	case now < s.Facts.PausedUntil, now < s.Facts.NotBefore:
		return s.done(NotYet)
	case s.Core.Attempt.ID != "" && now < s.Core.Attempt.LeaseUntil:
		return s.done(Busy)
	}
	return s.to(stepPrepare), Effect{Kind: EffectPrepare}
}

// ended reports whether the refresh token is over by itself, and nothing that is under
// way or in doubt could bring another one. The provider is not asked: the refusals of
// tokens that ended on one day would look like a storm.
func (s State) ended(now int64) bool {
	return s.Facts.RefreshEnds != 0 && now >= s.Facts.RefreshEnds+endSlack && s.Core.Status == connection.Active &&
		s.Core.Attempt.ID == "" && s.Core.DoubtAt == 0 && !s.valid(now)
}

// valid reports whether the stored access token can still be handed out.
func (s State) valid(now int64) bool {
	return s.Core.Access != "" && (s.Core.ExpiresAt == 0 || s.Core.ExpiresAt-readSlack > now)
}

func (s State) fresh(now int64) bool {
	c, plan := &s.Core, s.Facts.Plan
	life := c.Life()
	if c.Access == "" {
		return false
	}
	switch s.In.Why {
	case Slot:
		// What was put off, or is not yet proved, has no slot of its own until it is
		// saved: to call it fresh would lose it from the schedule.
		if c.Status != connection.Active || schedule.IsRetry(c.Sched) {
			return false
		}
		if plan.ForIdle() {
			return plan.IdleSkips(c.IssuedAt, now) // whatever becomes of the access token
		}
		if plan.Mode == schedule.OnDemand && c.DoubtAt == 0 && c.Attempt.ID == "" {
			return true // nobody asks: a tick comes by since it looks at all after a long gap
		}
		return c.ExpiresAt == 0 || plan.SlotSkips(c.ID, life, c.ExpiresAt, max(now, s.In.Minute*60))
	case Timer:
		return c.ExpiresAt == 0 || c.ExpiresAt > now+plan.Margin(life)
	case Read:
		return c.ExpiresAt == 0 || now+min(s.In.MinTTL, life/2) <= c.ExpiresAt-readSlack
	case Unauthorized:
		return s.valid(now) && (c.Gen > s.In.IfGeneration || s.In.IfTokenID != "" && s.In.IfTokenID != c.TokenID)
	}
	return false
}

// claims reports whether this connection needs a claim: a refresh token that never
// changes may be sent by several at once. An attempt that stands from a time when the
// profile was another is taken over, since it would refuse every write but a save.
func (s State) claims() bool {
	return s.Facts.Profile.Rotation != provider.RotationNone || s.Core.Rotates || s.Core.Attempt.ID != ""
}

// sendsAllowed is how many sends one attempt may make.
func (s State) sendsAllowed() int64 {
	if s.Facts.Profile.LostAnswer == provider.GraceResend {
		return 2
	}
	return 1
}

// leaseTime is how long a claim holds, ms: everything that its holder may do, and more.
func (s State) leaseTime() int64 {
	return s.sendsAllowed()*s.Facts.SendTime + SaveTime + RescueTime + leaseSlack
}

// prepared claims, if everything that a save needs is at hand and there is time for
// the whole attempt: an invocation that ended after the send would be a lost answer.
func (s State) prepared(r Result) (State, Effect) {
	if r.Failed || r.Left < s.Facts.SendTime+SaveTime+RescueTime+Slack {
		return s.done(NotReady)
	}
	if !s.claims() {
		return s.send()
	}
	s.Lease = r.Now + s.leaseTime()
	return s.to(stepClaim), Effect{Kind: EffectClaim, Claim: connection.Claim{
		Gen:     s.Core.Gen,
		Attempt: connection.Attempt{ID: s.In.Attempt, BaseGen: s.Core.Gen, LeaseUntil: (s.Lease + 999) / 1000, Since: r.Now / 1000},
		Over:    s.Core.Attempt.ID, // expired, or there is none
		Sent:    s.Core.Attempt.Since,
		Older:   s.Core.RestoreEpoch < s.Facts.Epoch,
		Now:     r.Now / 1000,
	}}
}

// claimed goes on with the item that the claim returned: what the read before said
// about doubt may be older than the claim.
func (s State) claimed(r Result) (State, Effect) {
	switch {
	case r.Failed:
		s.Outcome = StoreFailed
		return s.to(stepRelease), Effect{Kind: EffectRelease}
	case !r.Applied && (!r.Found || r.Core.Attempt.ID != s.In.Attempt):
		return s.done(Busy)
	}
	s.Core, s.Claimed = r.Core, true // applied, or refused since our own repeat met our own claim
	if s.doubted() && !s.replayDue(r.Now/1000) {
		s.Outcome = Parked
		at := s.replayAt()
		return s.to(stepPark), Effect{Kind: EffectPark, Note: connection.OutcomeParked, Later: connection.Later{
			Gen: s.Core.Gen, Attempt: s.In.Attempt, RetryAt: at, Sched: s.retrySched(at), Doubt: s.Core.DoubtAt,
		}}
	}
	return s.send()
}

// doubted reports whether the generation is in doubt by the item that the claim
// returned: never by an earlier read.
func (s State) doubted() bool { return s.Core.DoubtAt != 0 }

// replayDue reports whether a refresh token in doubt may be sent now.
func (s State) replayDue(now int64) bool {
	policy := s.Facts.Profile.LostAnswer
	if policy == provider.GraceResend && !s.inGrace(now) {
		policy = s.Facts.Profile.AfterGrace
	}
	return policy != provider.Wait || now >= s.replayAt()
}

// inGrace reports whether the provider certainly still takes the token that was sent.
// The doubt was discovered after the send, so the grace is counted from the earliest
// moment at which that can have been. A token in doubt since a restore was sent at a
// time that nobody knows.
func (s State) inGrace(now int64) bool {
	sent := s.Core.Attempt.Since
	if s.doubted() {
		sent = s.Core.DoubtSent
	}
	return sent != 0 && s.Core.RestoreEpoch >= s.Facts.Epoch && now+s.Facts.SendTime/1000 < sent+s.Facts.Profile.Grace // when it arrives, at the latest
}

// replayAt is when a token in doubt is tried again where a replay may end the whole
// grant: after the horizon, and when the access token is nearly over.
func (s State) replayAt() int64 {
	return max(s.Core.DoubtAt+s.Facts.Horizon, s.Core.ExpiresAt-replayLead)
}

func (s State) retrySched(at int64) string {
	if s.Facts.Plan.Partition(s.Core.ID, s.Core.Life()) == schedule.Timer {
		return schedule.Timer // an exact timer keeps retry_at too
	}
	return schedule.RetryPartition(s.Core.ID, at)
}

func (s State) send() (State, Effect) {
	s.Sends++
	return s.to(stepSend), Effect{Kind: EffectSend}
}

// answered turns the provider's answer into one write.
func (s State) answered(r Result) (State, Effect) {
	s.Answer = r.Answer
	switch a := r.Answer; a.Verdict {
	case provider.VerdictOK:
		return s.save(r, Keeping{})
	case provider.VerdictRetry, provider.VerdictMalformed:
		if a.Verdict == provider.VerdictRetry && !a.ResponseLost {
			return s.later(r, NotActed)
		}
		if a.RefreshTokenArrived {
			return s.saveRefreshToken(r)
		}
		if s.mayResend(r) {
			s.Doubt = true
			return s.to(stepPause), Effect{Kind: EffectPause, Pause: gracePause}
		}
		return s.later(r, Doubted)
	case provider.VerdictConfigError:
		return s.to(stepCircuit), Effect{Kind: EffectCircuit}
	case provider.VerdictNeedsReauth:
		return s.refused(r)
	}
	return s.later(r, Doubted)
}

// save stores the answer. An answer that is good but for its refresh token leaves the
// old one in doubt: it may be spent.
func (s State) save(r Result, k Keeping) (State, Effect) {
	s.Until = r.Now + SaveTime
	if s.Answer.ResponseLost && s.Answer.Verdict == provider.VerdictOK {
		k.Doubt, k.Sent = r.Now/1000, s.Core.Attempt.Since
	}
	s.Save = k
	return s.to(stepSave), Effect{Kind: EffectSave}
}

// saveRefreshToken stores what an answer of no use brought all the same: it may be the
// only refresh token alive. The old access token stays, and the refresh is put off.
func (s State) saveRefreshToken(r Result) (State, Effect) {
	at := r.Now/1000 + s.backoff(r.Now/1000)
	return s.save(r, Keeping{RetryAt: at, Failures: s.Core.Failures + 1, Sched: s.retrySched(at)})
}

// mayResend reports whether the lost answer may be asked for once more within this
// attempt: the token is taken in grace or merely rejected, and the lease and this
// invocation have room for a whole send and what follows it.
func (s State) mayResend(r Result) bool {
	p, need := s.Facts.Profile, gracePause+s.Facts.SendTime+SaveTime+RescueTime
	return s.Claimed && p.LostAnswer == provider.GraceResend && s.Sends < int(s.sendsAllowed()) &&
		(p.AfterGrace != provider.Wait || s.inGrace((r.Now+gracePause)/1000)) &&
		r.Now+need+resendSlack < s.Lease && r.Left >= need+Slack
}

// refused is the provider's word that the grant is gone. Without doubt it is a
// verdict; in doubt somebody may still be about to save the new token, so it is held
// back until the horizon.
func (s State) refused(r Result) (State, Effect) {
	now := r.Now / 1000
	doubt := s.doubted() || s.Doubt
	switch {
	case (r.Brake || s.Facts.CircuitOpen) && s.Core.Status != connection.Connecting:
		// A storm, or a probe while the client is refused: such an answer proves
		// neither that the grant is gone nor that the client is good.
		return s.to(stepCircuit), Effect{Kind: EffectCircuit}
	case !doubt && s.Core.Status == connection.Connecting:
		s.Outcome = ImportRefused
		return s.to(stepWrite), Effect{Kind: EffectRefuseImport}
	case !doubt:
		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted() && now >= s.Core.DoubtAt+s.Facts.Horizon:
		return s.verdict(connection.LostResponse, connection.OutcomeLostResponse, now)
	}
	return s.later(r, HeldBack)
}

func (s State) verdict(reason connection.Reason, note connection.Outcome, now int64) (State, Effect) {
	s.Outcome = Verdict
	return s.to(stepWrite), Effect{Kind: EffectVerdict, Note: note, Verdict: connection.Verdict{
		ID: s.Core.ID, Gen: s.Core.Gen, Attempt: s.attempt(), Reason: reason, Now: now,
	}}
}

// attempt is the claim's id, "" without a claim.
func (s State) attempt() string {
	if s.Claimed {
		return s.In.Attempt
	}
	return ""
}

// later puts the connection off and gives the claim back. A doubt that stands is
// answered by no 429.
func (s State) later(r Result, o Outcome) (State, Effect) {
	now := r.Now / 1000
	w := connection.Later{Gen: s.Core.Gen, Attempt: s.attempt(), Failed: o != Refused}
	if !s.doubted() {
		w.Sent = s.Core.Attempt.Since
	}
	if s.Doubt {
		w.Doubt = now // an earlier send of this attempt was lost, whatever this one says
	}
	note := connection.OutcomeNotActed
	w.RetryAt = now + s.backoff(now)
	switch o {
	case Doubted:
		w.Doubt, note = now, connection.OutcomeLost
		if s.Answer.Verdict == provider.VerdictMalformed {
			note = connection.OutcomeMalformed
		}
		if s.Facts.Profile.LostAnswer == provider.Wait && s.claims() {
			s.Core.DoubtAt = firstOf(s.Core.DoubtAt, now)
			w.RetryAt = s.replayAt()
		}
	case HeldBack:
		first := firstOf(s.Core.DoubtAt, now)
		w.Doubt, note = first, connection.OutcomeHeldBack
		w.RetryAt = first + s.Facts.Horizon
	case Refused:
		note = connection.OutcomeConfigError
	}
	if s.Facts.Plan.Mode != schedule.OnDemand || s.Core.Status != connection.Active || w.Doubt != 0 || s.doubted() {
		// On demand the next one who asks is the retry, but for a doubt: the provider's
		// grace runs out.
		w.Sched = s.retrySched(w.RetryAt)
	}
	s.Outcome = o
	return s.to(stepWrite), Effect{Kind: EffectLater, Later: w, Note: note}
}

func firstOf(a, b int64) int64 {
	if a != 0 {
		return a
	}
	return b
}

// backoff is how many seconds to wait: what the provider asks for, else full jitter
// over 15 s doubled with each failure; while the token is valid it is never so long
// that its end could be missed.
func (s State) backoff(now int64) int64 {
	if ra := s.Answer.RetryAfter; s.Answer.Verdict == provider.VerdictRetry && ra >= 0 {
		return max(1, min(ra, retryAfterUp))
	}
	span := int64(retryFirst)
	for i := int64(0); i < s.Core.Failures && span < retryCap; i++ {
		span *= 2
	}
	wait := 1 + int64(s.In.Jitter*float64(min(span, retryCap)))
	if s.Core.ExpiresAt > now {
		if last := s.Core.ExpiresAt - s.Facts.Plan.Margin(s.Core.Life())/2 - now; last > 0 {
			wait = min(wait, last)
		}
	}
	return max(1, wait)
}

// saved ends the save, tries it again, or hands it to the rescue. Who was refused
// reads the item as found before calling it anything.
func (s State) saved(r Result) (State, Effect) {
	switch {
	case r.TooLarge:
		return s.tooLarge(r)
	case r.Failed:
		return s.saveFailed(r)
	case r.Applied:
		s.Core = r.Core
		return s.kept()
	}
	o := JudgeRefusedSave(s.Core.Gen, s.In.Attempt, r.Found, r.Core, s.Facts.Profile.RevokePerToken)
	if r.Found {
		s.Core = r.Core
	}
	if o == Dropped {
		return s.to(stepRevoke), Effect{Kind: EffectRevoke}
	}
	if o == Saved {
		return s.kept()
	}
	return s.done(o)
}

// kept ends a save that was applied. Without an access token it is no refresh yet.
func (s State) kept() (State, Effect) {
	if s.Answer.Verdict != provider.VerdictOK {
		return s.done(Doubted)
	}
	return s.done(Saved)
}

// JudgeRefusedSave tells what it means that the save of an answer to generation g
// was refused: Saved (our own earlier try was applied), Overtaken (drop the new
// tokens, never revoke them: that may end the grant that overtook us), or Dropped
// (the connection was ended, so the new tokens must be revoked).
func JudgeRefusedSave(g int64, saveID string, found bool, c connection.Core, perToken bool) Outcome {
	switch {
	case !found:
		return Dropped
	case c.SaveID == saveID && saveID != "":
		return Saved
	case c.Status == connection.Disconnected && c.Reason == connection.Superseded:
		return Overtaken
	case c.Status == connection.Disconnected:
		return Dropped
	case g < c.DisconnectGen && perToken:
		return Dropped // disconnected, then reconnected; revoking one token leaves the new grant alone
	}
	return Overtaken
}

// tooLarge ends a save that no repeat can bring into the store; the stored tokens stay.
// What may have replaced them is rescued, and waits there for an operator. Where the
// refresh token never changes there is nothing to keep.
func (s State) tooLarge(r Result) (State, Effect) {
	if !s.claims() {
		return s.done(TooLarge)
	}
	s.Large, s.Rescued, s.Until = true, true, r.Now+RescueTime
	return s.to(stepRescue), Effect{Kind: EffectRescue}
}

func (s State) saveFailed(r Result) (State, Effect) {
	s.Tries++
	switch {
	case r.Now < s.Until:
		return s.to(stepSavePause), Effect{Kind: EffectPause, Pause: min(int64(50)<<min(s.Tries-1, 5), 1000)}
	case !s.Rescued:
		s.Rescued, s.Until = true, r.Now+RescueTime
		return s.to(stepRescue), Effect{Kind: EffectRescue}
	case r.Left > Slack:
		return s.to(stepRescue), Effect{Kind: EffectRescue} // both are down: in turn, to the end
	}
	return s.done(LostTokens)
}

func (s State) rescued(r Result) (State, Effect) {
	switch {
	case !r.Failed && s.Large:
		return s.done(TooLarge)
	case !r.Failed:
		return s.done(Rescued)
	case r.Left > Slack:
		return s.to(stepSavePause), Effect{Kind: EffectPause, Pause: 200}
	}
	return s.done(LostTokens)
}
