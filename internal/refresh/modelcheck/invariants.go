package modelcheck

import (
	"fmt"

	"github.com/evergrant/evergrant/internal/connection"
)

// violate notes that an invariant is broken in the world being made.
func (m *model) violate(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// reach notes that something was seen to happen.
func (m *model) reach(w Witness) { m.reached |= w }

// checkWrite holds of every applied write of the connection under test: old is the
// item before it. Fences only rise (S5), what is disconnected stays so but for a
// consent (S4), no write but an ending one takes the refresh token away (S7), and what
// is stored opens where it stands.
func (m *model) checkWrite(w *world, old uint32) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	ended := is.Status == connection.Disconnected
	if was.Status == connection.Disconnected && !ended && is.ConsentSeq <= was.ConsentSeq {
		m.violate("S4: something is stored after a disconnect")
	}
	if is.ConsentSeq < was.ConsentSeq || is.Gen < was.Gen || is.ConsentNext < was.ConsentNext {
		m.violate("S5: a fence falls")
	}
	if was.rt != 0 && is.rt == 0 && !ended {
		m.violate("S7: the refresh token is taken away")
	}
	if !is.opens && !ended && (is.Refresh != was.Refresh || is.Access != was.Access) {
		m.violate("sealing: generation %d holds a value that was sealed for another place", is.Gen)
	}
	if len(m.Consents) > 0 {
		m.checkMixed(w, is)
	}
	if m.rotates() && was.rt != is.rt && is.ConsentSeq == was.ConsentSeq && !ended && !is.Rotates || was.Rotates && !is.Rotates {
		m.violate("rotates: the connection forgets that it rotates")
	}
	if was.rt != is.rt && was.rt != 0 && is.Revocation != "at_provider" {
		w.superseded.add(was.rt) // replaced, or let go without a word about its end
	}
	if is.at != 0 {
		w.stored.add(is.at)
	}
	if is.DoubtAt != 0 && is.Gen > was.Gen && int64(w.sent) >= was.Gen {
		w.sent = uint8(is.Gen) // the save of an answer without a refresh token: the one that was sent stands on
	}
	if was.DoubtAt == 0 && is.DoubtAt != 0 && int64(w.sent) < is.Gen && !w.crashed && is.RestoreEpoch >= int64(w.epoch) {
		m.violate("S9: generation %d is in doubt, and nothing was sent", is.Gen)
	}
}

// checkStored holds of new tokens: they are not known to be spent (S6).
func (m *model) checkStored(w *world, old uint32) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	g := w.grantOf(is.rt)
	if is.rt != 0 && is.rt != was.rt && !w.live(is.rt) && m.Mode != Grace && !w.gone.has(g) && !w.lost.has(g) {
		m.violate("S6: token %d is stored, and it is spent", is.rt)
	}
	if is.rt != 0 && is.rt != was.rt && w.live(is.rt) {
		w.lost.remove(g)
	}
}

// checkSave holds of a refresh that stores its answer.
func (m *model) checkSave(w *world, old uint32, last answerKind) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	if was.Status == connection.Disconnected {
		m.violate("S4: a refresh stores tokens after a disconnect")
	}
	if was.rt != 0 && is.rt != 0 && w.grantOf(was.rt) != w.grantOf(is.rt) {
		m.violate("S5: a refresh overwrites the tokens of another consent")
	}
	m.checkStored(w, old)
	m.checkWrite(w, old)
	if last == noAnswer {
		m.reach(Replayed)
	}
	if was.Status == connection.NeedsReauth {
		m.reach(Healed)
	}
	if is.Gen >= 3 && is.ConsentSeq == 0 {
		m.reach(RefreshedTwice)
	}
	if was.Status == connection.Connecting {
		m.reach(Imported)
	}
}

// checkClaim: nobody takes over an attempt that it has not found run out (S9).
func (m *model) checkClaim(w *world, old uint32, c connection.Claim) {
	if standing := m.items.all[old].Attempt.ID; standing != "" && standing != c.Over {
		m.violate("S9: two claims of one generation")
	}
	m.checkWrite(w, old)
}

// checkVerdict: "revoked" is said only of what was ended (S3), "lost_response" only
// when nobody can save the new token any more, and neither for any answer but a
// refusal (S10).
func (m *model) checkVerdict(w *world, old uint32, last answerKind) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	g := w.grantOf(was.rt)
	if last != refused {
		m.violate("S10: the status changes for an answer that is no refusal")
	}
	switch is.Reason {
	case connection.LostResponse:
		if !w.lost.has(g) && !w.gone.has(g) && !m.ShortHorizon {
			m.violate("S3: lost_response is said, and the new token can still be saved")
		}
		m.reach(SaidLost)
	default:
		if !w.gone.has(g) {
			m.violate("S3: %s is said, and nobody ended the grant", is.Reason)
		}
		m.reach(SaidRevoked)
	}
	m.checkWrite(w, old)
}

// handOut is an access token that leaves: it was stored first (S2).
func (m *model) handOut(w *world, at token) {
	if at != 0 && !w.stored.has(at) {
		m.violate("S2: access token %d is handed out before it is stored", at)
	}
}

// familyEnds is a provider that ends a whole grant for the reuse of t: our own replay
// may cause it only where the grant was lost already (S8).
func (m *model) familyEnds(w *world, t token) {
	g, now := w.grantOf(t), &m.items.all[w.item[0]]
	current := now.Status == connection.Active && w.grantOf(now.rt) == g
	if !w.lost.has(g) && !w.gone.has(g) && (!w.superseded.has(t) || current) {
		m.violate("S8: our replay of token %d ends a living grant", t)
	}
}

// checkRest holds whenever nothing is under way.
func (m *model) checkRest(w *world) {
	if !m.atRest(w) {
		return
	}
	c := &m.items.all[w.item[0]]
	g := w.grantOf(c.rt)
	excused := w.gone.has(g) || w.lost.has(g) && (m.Mode.lossy() || m.Restore || m.Tamper)
	switch c.Status {
	case connection.Active, connection.Connecting:
		if c.opens && c.rt != 0 && !excused && !w.live(c.rt) {
			m.violate("S1: %s, and its refresh token %d is dead", c.Status, c.rt)
		}
	case connection.NeedsReauth:
		if !excused {
			m.violate("S3: needs_reauth, and nothing was lost or ended")
		}
	case connection.Disconnected:
		m.checkEnded(w, c)
	}
	m.checkSessions(w)
}

// checkEnded: after a disconnect no token that anybody held is alive (S4), unless
// revoking was impossible, or would have ended what superseded it.
func (m *model) checkEnded(w *world, c *stored) {
	if c.Access != "" || c.Refresh != "" {
		m.violate("S4: tokens are left after a disconnect")
	}
	if w.stray && !c.InFlight {
		m.violate("S4: a proof's answer was lost with its sender, and the receipt says that nothing is left")
	}
	if c.Reason == connection.Superseded || c.Revocation == "unsupported" || c.Revocation == "none" {
		return
	}
	m.reach(Disconnected)
	for t := token(1); t <= w.issued; t++ {
		if w.live(t) && !w.superseded.has(t) && !m.elsewhere(w, t) {
			m.violate("S4: token %d lives on after a disconnect", t)
		}
	}
}

// atRest reports whether nobody is in the middle of anything.
func (m *model) atRest(w *world) bool {
	for i := range w.workers {
		if w.workers[i].node != 0 {
			return false
		}
	}
	for i := range w.consents {
		if w.consents[i].phase == running {
			return false
		}
	}
	for _, s := range w.session {
		if st := &m.items.all[s]; st.session == connection.SessionExchanged {
			return false
		}
	}
	c := &m.items.all[w.item[0]]
	return w.networkEmpty() && w.rescueEmpty() && w.disconnect.phase != running &&
		!(c.Status == connection.Disconnected && c.Todo != "")
}
