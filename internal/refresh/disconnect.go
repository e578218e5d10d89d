package refresh

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// DisconnectInput is one disconnect, or the next try of one that is pending.
type DisconnectInput struct {
	ID    string
	Until int64 // ms: when provider calls end; the rest is pending
}

// DisconnectOutcome is how a disconnect ended.
type DisconnectOutcome int

// The outcomes of a disconnect.
const (
	DisconnectDone      DisconnectOutcome = iota // tokens erased, the receipt says what was proved
	DisconnectPending                            // tombstoned; the tick goes on
	DisconnectAbsent                             // no such connection
	DisconnectUnknown                            // the store did not answer: ask again
	DisconnectOvertaken                          // disconnected, and connected anew since; the new consent stands
)

type disconnectStep int

const (
	disconnectStart disconnectStep = iota
	disconnectRead
	disconnectTombstone
	disconnectHeld
	disconnectRevokeRefresh
	disconnectRevokeAccess
	disconnectMark
	disconnectProof
	disconnectKeep
	disconnectErase
	disconnectPostpone
	disconnectOver
)

// DisconnectState is the comparable state of one disconnect.
type DisconnectState struct {
	Step    disconnectStep
	In      DisconnectInput
	Core    connection.Core
	Profile provider.Profile
	Answer  provider.Answer // of a proof that succeeded: the fresh pair, to be revoked
	Fresh   bool            // Answer holds such a pair
	Proofs  int
	// OfRefresh and OfAccess are what came of the last revocations; "" where there was
	// no such token.
	OfRefresh, OfAccess provider.RevokeResult
	// Marked: this try wrote that it is about to prove.
	Marked bool
	// Stray: an earlier try did, and said nothing after: it may have died with a live
	// token in its hands.
	Stray bool
	// Loose: the answer to a proof was lost or could not be stored, and with it perhaps
	// a live token.
	Loose   bool
	Revoked string // receipt
	Proof   string
	Outcome DisconnectOutcome
}

// DisconnectKind is what a disconnect's effect does.
type DisconnectKind int

// The effects of a disconnect.
const (
	DisconnectEnd           DisconnectKind = iota
	DisconnectReadItem                     // read the connection and its profile
	DisconnectTombstone                    // write Tombstone
	DisconnectTombstoneHeld                // write TombstoneHeld
	DisconnectRevokeRefresh                // revoke the stored refresh token, or Answer's where there is one
	DisconnectRevokeAccess                 // revoke the access token likewise
	DisconnectMark                         // write Proving
	DisconnectProve                        // send the refresh token once
	DisconnectKeep                         // write Proved with Answer's pair
	DisconnectErase                        // write Erase
	DisconnectPostpone                     // file the next try
)

// DisconnectEffect is one thing for the driver to do.
type DisconnectEffect struct {
	Kind    DisconnectKind
	Quiet   bool
	Fence   int64 // of DisconnectTombstone: the item's DisconnectGen
	Gen     int64
	Revoked string
	Proof   string
	Loose   bool // of DisconnectPostpone and DisconnectErase
	Proven  bool // of DisconnectPostpone
	Outcome DisconnectOutcome
}

// DisconnectResult is what came of the effect before.
type DisconnectResult struct {
	Now     int64 // ms
	Failed  bool
	Applied bool
	Found   bool
	Core    connection.Core
	Profile provider.Profile
	Revoke  provider.RevokeResult
	Answer  provider.Answer
}

// BeginDisconnect is the state before a disconnect.
func BeginDisconnect(in DisconnectInput) DisconnectState { return DisconnectState{In: in} }

// maxProofs bounds how often a proof that succeeded is revoked and repeated.
const maxProofs = 3

// NextDisconnect takes the result of the last effect and says what to do next. Every
// repeat goes on from where the one before stopped: the tombstone stands, and as
// long as the tokens are there they are revoked.
func NextDisconnect(s DisconnectState, r DisconnectResult) (DisconnectState, DisconnectEffect) {
	switch s.Step {
	case disconnectStart:
		return s.do(disconnectRead, DisconnectEffect{Kind: DisconnectReadItem})
	case disconnectRead, disconnectTombstone, disconnectHeld:
		return s.found(r)
	case disconnectRevokeRefresh:
		return s.revokedRefresh(r)
	case disconnectRevokeAccess:
		return s.revokedAccess(r)
	case disconnectMark:
		if r.Failed || !r.Applied {
			return s.postpone() // nothing was sent
		}
		s.Marked = true
		return s.prove()
	case disconnectProof:
		return s.proved(r)
	case disconnectKeep:
		return s.kept(r)
	case disconnectErase:
		if r.Failed {
			return s.done(DisconnectPending)
		}
		return s.done(DisconnectDone)
	case disconnectPostpone:
		return s.done(DisconnectPending)
	}
	return s.done(s.Outcome)
}

func (s DisconnectState) do(step disconnectStep, e DisconnectEffect) (DisconnectState, DisconnectEffect) {
	s.Step = step
	return s, e
}

func (s DisconnectState) done(o DisconnectOutcome) (DisconnectState, DisconnectEffect) {
	s.Step, s.Outcome = disconnectOver, o
	return s, DisconnectEffect{Kind: DisconnectEnd, Outcome: o}
}

// found writes the tombstone that suits the item as it was just found.
func (s DisconnectState) found(r DisconnectResult) (DisconnectState, DisconnectEffect) {
	switch {
	case r.Failed:
		return s.done(DisconnectUnknown)
	case !r.Found:
		return s.done(DisconnectAbsent)
	}
	first := s.Step == disconnectRead
	if first {
		s.Profile = r.Profile
	}
	overtaken := !first && r.Core.DisconnectGen != s.Core.DisconnectGen
	s.Core = r.Core
	switch c := r.Core; {
	case overtaken && c.Status != connection.Disconnected:
		return s.done(DisconnectOvertaken)
	case c.Status == connection.Disconnected && c.Access == "" && c.Refresh == "" && c.Todo == "":
		return s.done(DisconnectDone)
	case c.Status == connection.Disconnected && c.Access == "" && c.Refresh == "":
		return s.erase("none", "none") // there was nothing to revoke
	case c.Status == connection.Disconnected:
		s.Stray = c.Proving
		return s.revoke()
	case c.Status == connection.Held:
		return s.do(disconnectHeld, DisconnectEffect{Kind: DisconnectTombstoneHeld})
	}
	quiet := s.Core.Attempt.ID == "" && s.Core.DoubtAt == 0
	return s.do(disconnectTombstone, DisconnectEffect{Kind: DisconnectTombstone, Quiet: quiet, Fence: s.Core.DisconnectGen})
}

// revoke begins with the refresh token: at many providers it takes the rest along.
func (s DisconnectState) revoke() (DisconnectState, DisconnectEffect) {
	if s.Core.Refresh != "" {
		return s.do(disconnectRevokeRefresh, DisconnectEffect{Kind: DisconnectRevokeRefresh})
	}
	return s.do(disconnectRevokeAccess, DisconnectEffect{Kind: DisconnectRevokeAccess})
}

func (s DisconnectState) revokedRefresh(r DisconnectResult) (DisconnectState, DisconnectEffect) {
	if r.Revoke == provider.RevokeRetry {
		return s.postpone()
	}
	s.OfRefresh = r.Revoke
	return s.do(disconnectRevokeAccess, DisconnectEffect{Kind: DisconnectRevokeAccess})
}

func (s DisconnectState) revokedAccess(r DisconnectResult) (DisconnectState, DisconnectEffect) {
	if r.Revoke == provider.RevokeRetry {
		return s.postpone()
	}
	s.OfAccess = r.Revoke
	has := s.Core.Refresh != ""
	switch {
	case unsupported(s.OfRefresh) && unsupported(s.OfAccess):
		return s.erase("unsupported", "none")
	case has && s.Profile.ProofSafe && r.Now >= s.In.Until:
		return s.postpone()
	case has && s.Profile.ProofSafe && !s.Marked && !s.Stray:
		return s.do(disconnectMark, DisconnectEffect{Kind: DisconnectMark, Gen: s.Core.Gen})
	case has && s.Profile.ProofSafe:
		return s.prove()
	case has && s.OfRefresh == provider.RevokeUnsupported:
		return s.erase("unsupported", "none") // the access token is revoked, the other one cannot be
	case s.OfRefresh == provider.RevokeRefused, !has && s.OfAccess == provider.RevokeRefused:
		return s.postpone()
	}
	return s.erase("at_provider", "none")
}

// unsupported reports whether there is no way to revoke such a token, or no such token.
func unsupported(r provider.RevokeResult) bool {
	return r == provider.RevokeUnsupported || r == ""
}

func (s DisconnectState) prove() (DisconnectState, DisconnectEffect) {
	s.Proofs++
	return s.do(disconnectProof, DisconnectEffect{Kind: DisconnectProve})
}

// proved reads what the provider said to the revoked refresh token. An answer 200 to
// a revocation proves nothing: some give it and revoke nothing.
func (s DisconnectState) proved(r DisconnectResult) (DisconnectState, DisconnectEffect) {
	switch a := r.Answer; {
	case a.Verdict == provider.VerdictOK, a.Verdict == provider.VerdictMalformed && a.RefreshTokenArrived:
		s.Answer, s.Fresh = a, true
		return s.do(disconnectKeep, DisconnectEffect{Kind: DisconnectKeep, Gen: s.Core.Gen})
	case a.Verdict == provider.VerdictNeedsReauth:
		return s.erase("at_provider", "refresh_refused")
	case a.Verdict == provider.VerdictConfigError && s.OfRefresh == provider.RevokeDone:
		return s.erase("at_provider", "none") // the client is refused: it can prove nothing
	case a.ResponseLost:
		s.Loose = true
	}
	return s.postpone()
}

// kept revokes the pair that the proof brought. It was stored first, so that the next
// try finds it; where the store did not answer it is revoked all the same, and what is
// left over then is said to be.
func (s DisconnectState) kept(r DisconnectResult) (DisconnectState, DisconnectEffect) {
	s.Loose = r.Failed || !r.Applied
	switch {
	case s.OfRefresh == provider.RevokeUnsupported:
		return s.erase("unsupported", "none")
	case s.Proofs >= maxProofs:
		return s.postpone()
	}
	return s.do(disconnectRevokeRefresh, DisconnectEffect{Kind: DisconnectRevokeRefresh})
}

func (s DisconnectState) erase(revoked, proof string) (DisconnectState, DisconnectEffect) {
	s.Revoked, s.Proof = revoked, proof
	return s.do(disconnectErase, DisconnectEffect{Kind: DisconnectErase, Gen: s.Core.Gen, Revoked: revoked, Proof: proof, Loose: s.Stray})
}

func (s DisconnectState) postpone() (DisconnectState, DisconnectEffect) {
	return s.do(disconnectPostpone, DisconnectEffect{Kind: DisconnectPostpone, Loose: s.Loose || s.Stray, Proven: s.Marked})
}
