package provider

// Rotation says whether a refresh brings a new refresh token.
type Rotation string

// The rotations.
const (
	RotationNone      Rotation = "none"
	RotationAlways    Rotation = "always"
	RotationSometimes Rotation = "sometimes"
	RotationUnknown   Rotation = "unknown"
)

// LostAnswer is what to do when the answer to a refresh was lost, so that the
// refresh token that was sent may be spent.
type LostAnswer string

// The policies.
const (
	// SendNow: send the old token again at once; the worst is a plain refusal.
	SendNow LostAnswer = "send_now"
	// GraceResend: send it again within Profile.Grace, in the same attempt; what
	// follows after that is Profile.AfterGrace.
	GraceResend LostAnswer = "grace_resend"
	// Wait: sending a spent token may end the whole grant; wait until little is
	// left to lose.
	Wait LostAnswer = "wait"
)

// Profile is what the refresh protocol needs to know of a provider. It is
// comparable with ==. The zero Profile is not meaningful; see Entry.Profile.
type Profile struct {
	Grant      Grant
	Rotation   Rotation
	LostAnswer LostAnswer
	// Grace is how long the old refresh token may still be sent, seconds; with
	// GraceResend only, else 0.
	Grace int64
	// AfterGrace is SendNow or Wait: the policy once Grace is over. Without
	// GraceResend it equals LostAnswer.
	AfterGrace LostAnswer
	// OldAccessDies: a refresh may end the access token handed out before.
	OldAccessDies bool
	// AbsoluteLifetime (from the consent) and IdleLifetime (from the last use) of
	// the refresh token, seconds; 0: unknown.
	AbsoluteLifetime, IdleLifetime int64
	// RevokePerToken: revoking one token is proven to leave the rest of the grant.
	RevokePerToken bool
	// ProofSafe: after a revocation the refresh token may be sent once, and its
	// refusal proves the revocation.
	ProofSafe bool
}

// Profile derives the profile of connections that were made by g; a connection
// made by a code is refreshed, so GrantAuthorizationCode and GrantRefreshToken
// agree. What is unknown, or known by hearsay alone (evidence kind recalled),
// counts as the worst case.
func (e Entry) Profile(g Grant) Profile {
	if g == GrantClientCredentials {
		// Nothing is ever spent: a lost answer costs one more request.
		return Profile{Grant: g, Rotation: RotationNone, LostAnswer: SendNow, AfterGrace: SendNow}
	}
	r := e.Refresh
	reuse := e.trusted("refresh.reuse", r.Reuse)
	p := Profile{
		Grant:            g,
		Rotation:         RotationUnknown,
		OldAccessDies:    r.OldAccessTokenDiesOnRefresh != No || e.hearsay("refresh.old_access_token_dies_on_refresh"),
		AbsoluteLifetime: r.AbsoluteLifetimeS,
		IdleLifetime:     r.IdleLifetimeS,
		RevokePerToken:   e.Revocation.PerToken == Yes && !e.hearsay("revocation.per_token"),
	}
	if e.hearsay("refresh.absolute_lifetime_s") {
		p.AbsoluteLifetime = 0
	}
	switch rot := Rotation(e.trusted("refresh.rotation", r.Rotation)); rot {
	case RotationNone, RotationAlways, RotationSometimes:
		p.Rotation = rot
	}
	p.LostAnswer, p.AfterGrace = e.lostAnswer(p.Rotation, reuse)
	if p.LostAnswer == GraceResend {
		p.Grace = r.GraceS
	}
	p.ProofSafe = p.Rotation == RotationNone || reuse == "rejected" || reuse == "revokes_family"
	return p
}

// lostAnswer returns the policies within the grace period and after it.
func (e Entry) lostAnswer(rot Rotation, reuse string) (within, after LostAnswer) {
	if rot == RotationNone {
		return SendNow, SendNow
	}
	after = Wait
	if reuse == "rejected" || reuse == "same_answer" {
		after = SendNow
	}
	switch e.trusted("refresh.previous_token", e.Refresh.PreviousToken) {
	case "dies_at_once":
		return after, after
	case "dies_on_first_use_of_new", "stays":
		// Nobody has used the pair that was lost, so the old token lives.
		if reuse != "revokes_family" {
			return SendNow, SendNow
		}
	case "grace_s":
		if e.Refresh.GraceS > 0 && !e.hearsay("refresh.grace_s") {
			return GraceResend, after
		}
		return after, after
	}
	return Wait, Wait
}

// trusted returns a fact that a refresh decision may rest on, or "unknown".
func (e Entry) trusted(field, value string) string {
	if value == "" || e.hearsay(field) {
		return "unknown"
	}
	return value
}

// hearsay reports whether a fact, or what it stands in, rests on memory alone.
func (e Entry) hearsay(field string) bool { return e.kindOf(field) == "recalled" }
