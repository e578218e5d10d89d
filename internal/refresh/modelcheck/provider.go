package modelcheck

import (
	"github.com/evergrant/evergrant/internal/provider"
)

// Mode is what a provider does with a refresh token that was used once.
type Mode uint8

// The modes.
const (
	// None: the refresh token never changes.
	None Mode = iota
	// Immediate: it is dead at once.
	Immediate
	// Grace: it lives for a while, and every use brings another child.
	Grace
	// Family: it is dead at once, and used again it ends the whole grant (RFC 9700
	// section 4.14.2).
	Family
	// OnUse: it lives until its child's access token is first used.
	OnUse
	// Sometimes: the profile says None, and the provider rotates all the same.
	Sometimes
)

var modeNames = [...]string{"none", "immediate", "grace", "family", "on_use", "sometimes"}

// String is the mode's name.
func (m Mode) String() string { return modeNames[m] }

// lossy reports whether a lost answer can cost the connection.
func (m Mode) lossy() bool { return m == Immediate || m == Grace || m == Family || m == Sometimes }

// profile is what an entry for such a provider says.
func (m Mode) profile() provider.Profile {
	p := provider.Profile{
		Grant: provider.GrantRefreshToken, Rotation: provider.RotationAlways, ProofSafe: true,
		LostAnswer: provider.SendNow, AfterGrace: provider.SendNow,
	}
	switch m {
	case None, Sometimes:
		p.Rotation = provider.RotationNone
	case Grace:
		p.LostAnswer, p.Grace = provider.GraceResend, 60
	case Family:
		p.LostAnswer, p.AfterGrace = provider.Wait, provider.Wait
	}
	return p
}

// answerKind is what an answer says.
type answerKind uint8

const (
	noAnswer    answerKind = iota
	good                   // tokens
	refused                // invalid_grant
	busy                   // 429: the provider did nothing
	lost                   // time-out or reset
	unreadable             // a 200 that cannot be used
	refreshOnly            // a 200 of which only the refresh token can be used
	accessOnly             // a 200 whose refresh token cannot be used
	misconfigured
)

// verdicts are the answers as the token client classifies them.
func (m *model) answer(c cause) provider.Answer {
	a := provider.Answer{RetryAfter: provider.NoRetryAfter, RefreshToken: m.texts[c.token]}
	switch c.answer {
	case good:
		a.Verdict, a.AccessToken = provider.VerdictOK, m.texts[c.token]
		a.RefreshTokenArrived = m.rotates()
	case accessOnly:
		a.Verdict, a.ResponseLost, a.AccessToken = provider.VerdictOK, true, m.texts[c.token]
	case refused:
		a.Verdict = provider.VerdictNeedsReauth
	case busy:
		a.Verdict = provider.VerdictRetry
	case lost:
		a.Verdict, a.ResponseLost = provider.VerdictRetry, true
	case unreadable:
		a.Verdict, a.ResponseLost = provider.VerdictMalformed, true
	case refreshOnly:
		a.Verdict, a.ResponseLost, a.RefreshTokenArrived = provider.VerdictMalformed, true, true
	case misconfigured:
		a.Verdict = provider.VerdictConfigError
	}
	return a
}

func (m *model) rotates() bool { return m.Mode != None }

// refreshAt is a refresh at the provider: what it answers and the token it issues.
func (m *model) refreshAt(w *world, t token) (answerKind, token) {
	g := w.grantOf(t)
	if !w.live(t) {
		if m.Mode == Family && w.used.has(t) && !w.dead.has(g) {
			m.familyEnds(w, t)
			w.dead.add(g)
		}
		return refused, 0
	}
	parent := token(0)
	if m.Mode == OnUse {
		parent = t
	}
	n := w.issue(g, parent)
	switch m.Mode {
	case None:
		w.usable.remove(n) // an access token alone
	case Immediate, Sometimes:
		w.usable.remove(t)
	case Family:
		w.usable.remove(t)
		w.used.add(t)
	case Grace:
		w.inGrace.add(t)
	}
	return good, n
}

// revokeAt is a revocation (RFC 7009) at the provider.
func (m *model) revokeAt(w *world, t token) {
	if t == 0 || m.RevokesNothing {
		return
	}
	w.usable.remove(t)
	if m.RevokesGrant {
		w.dead.add(w.grantOf(t))
		w.gone.add(w.grantOf(t))
	}
}

// use is somebody's call of the provider's API with an access token.
func (m *model) use(w *world, t token) {
	if p := w.parentOf(t); p != 0 {
		w.usable.remove(p)
	}
}

// vanish notes a new token that nobody will ever store.
func (m *model) vanish(w *world, t token) {
	if t != 0 && m.rotates() {
		w.lost.add(w.grantOf(t))
		w.superseded.add(t)
	}
}

// providerSteps are what the provider does: it takes a request off the network, any
// one, and it ends a grace period.
func (m *model) providerSteps(w *world) {
	for i, r := range w.network {
		if r.token != 0 && (i == 0 || r != w.network[i-1]) {
			m.serve(w, i)
		}
	}
	for t := token(1); m.Mode == Grace && t <= w.issued; t++ {
		if w.inGrace.has(t) && w.usable.has(t) {
			next := *w
			next.usable.remove(t)
			m.emit(&next, label{what: "the grace of token ends", token: t})
		}
	}
}

// serve answers one request. Who asked may have given up: then the answer vanishes.
// An answer that is lost on its way is a sender that gave up before.
func (m *model) serve(w *world, i int) {
	r := w.network[i]
	base := *w
	base.network[i] = request{}
	k := &base.workers[r.worker]
	awaited := k.node != 0 && k.attempt == r.attempt && k.waits == r.send

	next := base
	kind, n := m.refreshAt(&next, r.token)
	if !awaited {
		m.vanish(&next, n)
		m.emit(&next, label{what: "the provider answers token, and nobody waits", token: r.token})
		return
	}
	m.deliver(&next, int(r.worker), kind, n)
	if w.faults == 0 {
		return
	}
	base.faults--
	for _, k := range []answerKind{busy, misconfigured} {
		next = base
		m.deliver(&next, int(r.worker), k, 0)
	}
	if kind != good {
		return
	}
	if m.mistake.wireRepeats {
		next = base
		_, n = m.refreshAt(&next, r.token)
		m.vanish(&next, n)
		next.send(r)
		m.emit(&next, label{what: "the connection breaks, and the transport sends token again", token: r.token})
	}
	next = base
	_, n = m.refreshAt(&next, r.token)
	m.vanish(&next, n)
	m.deliver(&next, int(r.worker), unreadable, 0)
	if !m.rotates() {
		return
	}
	next = base
	_, n = m.refreshAt(&next, r.token)
	m.deliver(&next, int(r.worker), refreshOnly, n)
	next = base
	_, n = m.refreshAt(&next, r.token)
	m.vanish(&next, n)
	if !m.Mode.lossy() {
		next.gone.add(next.grantOf(n)) // its use will end the old token, and it came without a new one
	}
	m.deliver(&next, int(r.worker), accessOnly, n)
}

// waits reports whether a token in doubt is held back until the horizon.
func (m *model) waits() bool { return m.Mode == Family }
