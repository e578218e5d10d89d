package modelcheck

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
)

// disconnectResult is the result that a cause stands for.
func (m *model) disconnectResult(c cause) refresh.DisconnectResult {
	r := refresh.DisconnectResult{Now: early, Failed: c.failed, Applied: c.applied, Found: c.item != 0, Core: m.items.all[c.item].Core}
	r.Profile = m.Mode.profile()
	r.Profile.RevokePerToken = !m.RevokesGrant
	if m.mistake.profile != nil {
		m.mistake.profile(&r.Profile)
	}
	switch c.kind {
	case causeAnswer:
		r.Answer = m.answer(c)
	case causeDone:
		r.Revoke = provider.RevokeDone
		if c.failed {
			r.Revoke = provider.RevokeRetry
		}
		if m.NoRevocation {
			r.Revoke = provider.RevokeUnsupported
		}
		if c.spent {
			r.Revoke = "" // there is no such token
		}
	}
	return r
}

// disconnectSteps are what a disconnect can do, or suffer, next. A tombstone whose
// tokens are still there is taken up by the tick.
func (m *model) disconnectSteps(w *world) {
	switch c := &m.items.all[w.item[0]]; w.disconnect.phase {
	case waiting:
		if w.left&mayDisconnect == 0 || w.item[0] == 0 {
			return
		}
		next := *w
		next.left &^= mayDisconnect
		m.beginDisconnect(&next, "disconnects")
	case running:
		m.disconnectEffect(w)
	default:
		// Each fault can cost one try, so more would show nothing new.
		if c.Status == connection.Disconnected && c.Todo != "" && int(w.disconnect.tries) <= m.Faults {
			next := *w
			m.beginDisconnect(&next, "is taken up by the tick")
		}
	}
}

func (m *model) beginDisconnect(w *world, what string) {
	if m.disconnectStart == 0 {
		s, e := m.disconnect.next(refresh.BeginDisconnect(refresh.DisconnectInput{ID: connectionID, Until: early + 20_000}), refresh.DisconnectResult{Now: early})
		m.disconnectStart = m.disconnect.intern(node[refresh.DisconnectState, refresh.DisconnectEffect]{State: s, Effect: e})
	}
	w.disconnect = process{phase: running, tries: w.disconnect.tries + 1, node: m.disconnectStart, ended: w.disconnect.ended}
	c := m.performDisconnect(w) // the read
	w.disconnect.node = m.disconnect.step(w.disconnect.node, c)
	if m.Coarse && m.items.all[w.item[0]].Status != connection.Disconnected {
		c = m.performDisconnect(w) // the tombstone
		w.disconnect.node = m.disconnect.step(w.disconnect.node, c)
	}
	m.advanceDisconnect(w, what)
}

// advanceDisconnect emits the world with the next effect pending. In a coarse world
// all that follows the tombstone is one step.
func (m *model) advanceDisconnect(w *world, what string) {
	n := m.disconnect.at(w.disconnect.node)
	if n.Effect.Kind == refresh.DisconnectEnd {
		w.disconnect = process{phase: over, tries: w.disconnect.tries, ended: w.disconnect.ended}
		m.emit(w, label{who: disconnects, what: what, then: disconnectTexts[n.Effect.Outcome]})
		return
	}
	m.emit(w, label{who: disconnects, what: what})
}

var disconnectTexts = [...]string{
	refresh.DisconnectDone: "is done", refresh.DisconnectPending: "is pending", refresh.DisconnectAbsent: "finds nothing",
	refresh.DisconnectUnknown: "does not know", refresh.DisconnectOvertaken: "finds the connection connected anew",
}

func (m *model) disconnectEffect(w *world) {
	from := w.disconnect.node
	kind := m.disconnect.at(from).Effect.Kind
	next := *w
	c := m.performDisconnect(&next)
	took := next
	next.disconnect.node = m.disconnect.step(from, c)
	for m.Coarse && m.disconnect.at(next.disconnect.node).Effect.Kind != refresh.DisconnectEnd {
		c := m.performDisconnect(&next)
		next.disconnect.node = m.disconnect.step(next.disconnect.node, c)
	}
	m.advanceDisconnect(&next, disconnectEffects[kind])
	if w.faults == 0 || m.Coarse {
		return
	}
	next = *w
	next.faults--
	if kind == refresh.DisconnectKeep {
		// A live token that nobody holds: only where the provider said that it revoked,
		// and did not. The receipt must say so.
		next.superseded.add(m.tokens[m.disconnect.at(from).State.Answer.RefreshToken])
		next.stray = true
	}
	m.killDisconnect(&next, "dies before it "+disconnectEffects[kind])
	next = took
	next.faults--
	if kind == refresh.DisconnectProve && c.answer == good {
		m.vanish(&next, c.token)
		next.superseded.add(c.token)
		next.stray = true
	}
	m.killDisconnect(&next, "dies after it "+disconnectEffects[kind])
	switch kind {
	case refresh.DisconnectRevokeRefresh, refresh.DisconnectRevokeAccess:
		next = *w
		next.faults--
		next.disconnect.node = m.disconnect.step(from, cause{kind: causeDone, failed: true})
		m.advanceDisconnect(&next, "is not heard by the provider")
	case refresh.DisconnectProve:
		next = took
		next.faults--
		m.vanish(&next, c.token)
		if c.token != 0 {
			next.superseded.add(c.token)
		}
		next.disconnect.node = m.disconnect.step(from, cause{kind: causeAnswer, answer: lost})
		m.advanceDisconnect(&next, "loses the answer to its proof")
	default:
		for _, world := range []world{*w, took} {
			next = world
			next.faults--
			if kind == refresh.DisconnectKeep {
				next.superseded.add(m.tokens[m.disconnect.at(from).State.Answer.RefreshToken]) // as above, and the receipt says so
			}
			next.disconnect.node = m.disconnect.step(from, cause{kind: causeWrite, failed: true})
			m.advanceDisconnect(&next, "learns nothing")
		}
		next = took
		next.faults--
		m.emit(&next, label{who: disconnects, what: disconnectEffects[kind], then: "and the SDK will repeat it"})
	}
}

func (m *model) killDisconnect(w *world, what string) {
	w.disconnect = process{phase: over, tries: w.disconnect.tries, ended: w.disconnect.ended}
	m.emit(w, label{who: disconnects, what: what})
}

var disconnectEffects = [...]string{
	refresh.DisconnectTombstone: "writes the tombstone", refresh.DisconnectTombstoneHeld: "writes the tombstone of a held one",
	refresh.DisconnectRevokeRefresh: "revokes the refresh token", refresh.DisconnectRevokeAccess: "revokes the access token",
	refresh.DisconnectMark: "marks that it will prove", refresh.DisconnectProve: "proves", refresh.DisconnectKeep: "keeps what the proof brought", refresh.DisconnectErase: "erases",
	refresh.DisconnectPostpone: "postpones",
}

// performDisconnect carries out the pending effect in w, and returns what came of it.
func (m *model) performDisconnect(w *world) cause {
	id := w.disconnect.node
	n := m.disconnect.at(id)
	s := n.State
	switch n.Effect.Kind {
	case refresh.DisconnectReadItem:
		return cause{kind: causeRead, item: w.item[0]}
	case refresh.DisconnectRevokeRefresh:
		m.revokeAt(w, m.refreshOf(s))
		return cause{kind: causeDone}
	case refresh.DisconnectRevokeAccess:
		at, _ := unseal(s.Core.Access, place{})
		if s.Fresh {
			at = m.tokens[s.Answer.AccessToken]
		}
		if at != 0 && m.RevokesGrant && !m.NoRevocation {
			m.revokeAt(w, at)
		}
		return cause{kind: causeDone, spent: at == 0}
	case refresh.DisconnectProve:
		w.gone.add(w.grantOf(m.refreshOf(s))) // the user asked for its end: no harm if the proof ends it
		kind, t := m.refreshAt(w, m.refreshOf(s))
		return cause{kind: causeAnswer, answer: kind, token: t}
	}
	old := w.item[0]
	res := m.disconnect.write(id, old, func() written { return m.apply(connectionID, old, m.disconnectWrite(id)) })
	w.item[0] = res.item
	if res.applied {
		if kind := n.Effect.Kind; kind == refresh.DisconnectTombstone {
			if w.disconnect.ended {
				m.violate("S5: a repeat of the tombstone ends a later consent")
			}
			w.disconnect.ended = true
		}
		m.checkDisconnect(w, old)
	}
	return cause{kind: causeWrite, applied: res.applied, item: res.item}
}

// refreshOf is the refresh token that a disconnect revokes and proves: the stored one,
// or the one that its last proof brought.
func (m *model) refreshOf(s refresh.DisconnectState) token {
	if s.Fresh {
		return m.tokens[s.Answer.RefreshToken]
	}
	t, _ := unseal(s.Core.Refresh, place{})
	return t
}

// checkDisconnect holds of a disconnect's writes: the receipt says that nothing was
// under way only if nothing was, and a proof only of what is dead.
func (m *model) checkDisconnect(w *world, old uint32) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	if was.Status != connection.Disconnected && (was.Attempt.ID != "" || was.DoubtAt != 0) && !is.InFlight && is.Revocation != "none" {
		m.violate("S4: the receipt says that no refresh was under way, and one was")
	}
	if is.Proof == "refresh_refused" && was.rt != 0 && w.live(was.rt) {
		m.violate("S4: the receipt says that token %d is proved dead", was.rt)
	}
	m.checkWrite(w, old)
}

func (m *model) disconnectWrite(id uint32) connection.Write {
	s, e := m.disconnect.at(id).State, m.disconnect.at(id).Effect
	switch e.Kind {
	case refresh.DisconnectTombstone:
		return connection.Tombstone{ID: connectionID, Reason: connection.ByRequest, Todo: todo, Quiet: e.Quiet, DisconnectGen: e.Fence, Now: early / 1000}
	case refresh.DisconnectTombstoneHeld:
		return connection.TombstoneHeld{ID: connectionID, Now: early / 1000}
	case refresh.DisconnectKeep:
		g := s.Core.TokGen
		at, rt := m.tokens[s.Answer.AccessToken], m.tokens[s.Answer.RefreshToken]
		return connection.Proved{Gen: e.Gen, Access: seal(at, place{"at", connectionID, g}), Refresh: seal(rt, place{"rt", connectionID, g})}
	case refresh.DisconnectMark:
		return connection.Proving{Gen: e.Gen}
	case refresh.DisconnectErase:
		return connection.Erase{Gen: e.Gen, Revocation: e.Revoked, Proof: e.Proof, InFlight: e.Loose}
	}
	return connection.Postpone{Gen: s.Core.Gen, Todo: todo, InFlight: e.Loose, Proven: e.Proven}
}
