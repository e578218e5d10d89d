package modelcheck

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/refresh"
)

// The clock's two readings, ms: all that a machine is ever told happens early, unless
// the world says that every lease and horizon is past.
const (
	early = 1_000_000_000
	after = early + 100_000_000
	ample = 1 << 40 // time left, ms
)

// refreshResult is the result that a cause stands for.
func (m *model) refreshResult(c cause) refresh.Result {
	r := refresh.Result{Now: early, Left: ample, Failed: c.failed, Applied: c.applied}
	if c.late {
		r.Now = after
	}
	switch c.kind {
	case causeRead:
		r.Found, r.Core, r.Facts = c.item != 0, m.items.all[c.item].Core, m.facts(c)
	case causeWrite:
		r.Found, r.Core = c.item != 0, m.items.all[c.item].Core
		if c.spent {
			r.Now = early + refresh.SaveTime + 1
		}
	case causeAnswer:
		r.Answer = m.answer(c)
	case causeDone:
		if c.failed {
			r.Left = 0
		}
	}
	return r
}

func (m *model) facts(c cause) refresh.Facts {
	f := refresh.Facts{
		ClientKnown: true, Profile: m.Mode.profile(), Epoch: int64(c.epoch),
		SendTime: refresh.SendTime, Horizon: refresh.Horizon,
	}
	f.Profile.RevokePerToken = !m.RevokesGrant
	if m.mistake.facts != nil {
		m.mistake.facts(&f)
	}
	return f
}

// workerSteps are what worker i can do, or suffer, next.
func (m *model) workerSteps(w *world, i int) {
	k := &w.workers[i]
	if k.node == 0 {
		if k.rounds > 0 && w.item[0] != 0 {
			m.beginRefresh(w, i)
		}
		return
	}
	switch n := m.refresh.at(k.node); n.Effect.Kind {
	case refresh.EffectSend:
		m.giveUp(w, i)
	case refresh.EffectClaim:
		m.claim(w, i)
	case refresh.EffectSave:
		m.save(w, i)
	case refresh.EffectRescue, refresh.EffectRevokeRecord:
		m.rescueSave(w, i)
	case refresh.EffectRevoke:
		m.revokeLate(w, i)
	default:
		m.settleAttempt(w, i)
	}
}

// beginRefresh reads the item; the claim comes in a step of its own. A lease that
// stands is found valid or run out, whatever its holder does.
func (m *model) beginRefresh(w *world, i int) {
	standing := m.items.all[w.item[0]].Attempt.ID != ""
	for _, late := range []bool{false, true} {
		if late && !standing {
			continue
		}
		next := *w
		next.attempts++
		k := &next.workers[i]
		k.rounds--
		k.attempt = next.attempts
		k.node = m.refresh.step(m.begun(k.attempt), cause{kind: causeRead, item: w.item[0], late: late, epoch: w.epoch})
		if m.refresh.at(k.node).Effect.Kind == refresh.EffectDone {
			continue // it found nothing to do, and might as well not have looked
		}
		m.advance(&next, i, "reads")
	}
}

// advance carries out what the worker's machine wants and nobody else can see, up to
// its next effect that somebody can.
func (m *model) advance(w *world, i int, what string) {
	k := &w.workers[i]
	for {
		n := m.refresh.at(k.node)
		switch n.Effect.Kind {
		case refresh.EffectDone:
			l := label{who: workers, n: k.attempt, what: what, then: n.Effect.Outcome.String()}
			m.endRefresh(w, i, n)
			m.emit(w, l)
			return
		case refresh.EffectPrepare:
			if !m.open(w, i, n.State.Core) {
				k.node = m.refresh.step(k.node, cause{kind: causeDone, failed: true})
				continue
			}
			k.node = m.refresh.step(k.node, cause{kind: causeDone})
		case refresh.EffectPause, refresh.EffectCircuit:
			k.node = m.refresh.step(k.node, cause{kind: causeDone})
		case refresh.EffectSend:
			m.sendToken(w, i, what)
			return
		default:
			m.emit(w, label{who: workers, n: k.attempt, what: what})
			return
		}
	}
}

// open has the refresh token at hand. It fails where the stored value was not sealed
// for where it stands.
func (m *model) open(w *world, i int, c connection.Core) bool {
	t, ok := unseal(c.Refresh, place{"rt", c.ID, c.TokGen})
	if !ok && !m.mistake.opensAny {
		return false
	}
	w.workers[i].opened = t
	return true
}

// sendToken puts the one request on the network, which may hold it back for any time:
// so nothing is lost by sending in the step of the claim. A crash can come between.
func (m *model) sendToken(w *world, i int, what string) {
	k := &w.workers[i]
	n := m.refresh.at(k.node)
	if w.faults > 0 && n.State.Claimed && n.State.Sends == 1 {
		next := *w
		m.crashWorker(&next, i)
		m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: what, then: "dies before the send"})
	}
	k.waits = uint8(n.State.Sends)
	w.sent = max(w.sent, uint8(n.State.Core.Gen))
	w.send(request{worker: uint8(i), attempt: k.attempt, send: k.waits, token: k.opened})
	m.emit(w, label{who: workers, n: k.attempt, what: what, then: "sends", token: k.opened})
}

func (m *model) crashWorker(w *world, i int) {
	w.faults--
	w.crashed = true
	m.dropWorker(w, i)
}

// dropWorker forgets what the worker was doing.
func (m *model) dropWorker(w *world, i int) {
	k := &w.workers[i]
	m.vanish(w, k.held)
	*k = worker{rounds: k.rounds}
}

// endRefresh ends the worker's refresh: it hands out what is stored, and drops what
// was overtaken.
func (m *model) endRefresh(w *world, i int, n *node[refresh.State, refresh.Effect]) {
	k := &w.workers[i]
	switch n.Effect.Outcome {
	case refresh.Saved, refresh.Overtaken:
		at, _ := unseal(n.State.Core.Access, place{})
		m.handOut(w, at)
		if k.held != 0 && n.Effect.Outcome == refresh.Overtaken {
			w.superseded.add(k.held)
		}
		k.held = 0
	case refresh.Rescued, refresh.Dropped:
		k.held = 0
	}
	m.dropWorker(w, i)
}

// giveUp is a worker that waits for an answer: its time ends, or it dies. The request
// may be answered later all the same.
func (m *model) giveUp(w *world, i int) {
	if w.faults == 0 {
		return
	}
	next := *w
	next.faults--
	m.deliver(&next, i, lost, 0)
	next = *w
	m.crashWorker(&next, i)
	m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "dies waiting"})
}

// deliver hands an answer to worker i.
func (m *model) deliver(w *world, i int, kind answerKind, t token) {
	k := &w.workers[i]
	k.waits, k.answer = 0, kind
	if kind == good || kind == refreshOnly || kind == accessOnly {
		k.held = t
	}
	if kind == accessOnly {
		k.held = 0 // its refresh token is out of reach already
	}
	if kind == good && m.mistake.exposes {
		m.handOut(w, t)
		m.use(w, t)
	}
	n := m.refresh.at(k.node)
	for _, late := range []bool{false, true} {
		if late && (kind != refused || n.State.Core.DoubtAt == 0 || !m.quiet(w, i)) {
			continue
		}
		next := *w
		next.workers[i].node = m.refresh.step(k.node, cause{kind: causeAnswer, answer: kind, token: t, late: late})
		m.advance(&next, i, answerTexts[kind])
	}
}

var answerTexts = [...]string{
	good: "gets tokens", refused: "gets invalid_grant", busy: "gets 429", lost: "gives up waiting", unreadable: "gets a 200 it cannot read",
	refreshOnly: "gets a refresh token alone", accessOnly: "gets an access token alone", misconfigured: "gets invalid_client",
}

// claim writes the marker. An SDK that repeats an applied claim is refused by it.
func (m *model) claim(w *world, i int) {
	next := *w
	k := &next.workers[i]
	claiming := k.node
	applied := m.writeRefresh(&next, k.node, k.answer)
	if !applied && m.items.all[next.item[0]].Attempt.ID != attemptID(k.attempt) {
		return // refused, it changed nothing, and might as well not have been tried
	}
	m.afterClaim(&next, i, cause{kind: causeWrite, applied: applied, item: next.item[0]}, "claims")
	if !applied || w.faults == 0 {
		return
	}
	next.workers[i].node = claiming
	next.faults--
	m.afterClaim(&next, i, cause{kind: causeWrite, item: next.item[0]}, "claims, and its repeat is refused")
	next.workers[i].node = claiming
	next.crashed = true // the attempt may stand although nothing will be sent
	m.afterClaim(&next, i, cause{kind: causeWrite, failed: true}, "claims, and does not learn of it")
}

// afterClaim goes on from a claim: a token in doubt may be held back until its time.
func (m *model) afterClaim(w *world, i int, c cause, what string) {
	from := w.workers[i].node
	doubted := m.items.all[c.item].DoubtAt != 0
	for _, late := range []bool{false, true} {
		if late && !(doubted && m.quiet(w, i)) {
			continue
		}
		next := *w
		c.late = late
		next.workers[i].node = m.refresh.step(from, c)
		m.advance(&next, i, what)
		if !m.waits() {
			return // the clock decides nothing here
		}
	}
}

// settleAttempt is any write that ends an attempt without tokens. Whether its result
// is learned makes no difference, so the fault is that it is never made.
func (m *model) settleAttempt(w *world, i int) {
	next := *w
	k := &next.workers[i]
	applied := m.writeRefresh(&next, k.node, k.answer)
	k.node = m.refresh.step(k.node, cause{kind: causeWrite, applied: applied, item: next.item[0]})
	m.advance(&next, i, "writes the outcome")
	if w.faults > 0 && applied {
		next = *w
		m.crashWorker(&next, i)
		m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "dies before the outcome"})
	}
}

// save stores an answer.
func (m *model) save(w *world, i int) {
	next := *w
	k := &next.workers[i]
	applied := m.writeRefresh(&next, k.node, k.answer)
	saving := k.node
	k.node = m.refresh.step(saving, cause{kind: causeWrite, applied: applied, item: next.item[0]})
	if applied {
		next.workers[i].held = 0
	}
	m.advance(&next, i, "saves")
	if w.faults == 0 {
		return
	}
	if !w.workers[i].repeats {
		next = *w
		m.crashWorker(&next, i)
		m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "dies before the save"})

		next = *w
		next.faults--
		next.workers[i].node = m.refresh.step(saving, cause{kind: causeWrite, failed: true, spent: true})
		m.advance(&next, i, "cannot save")
	}
	if !applied {
		return
	}
	next = *w
	next.faults--
	m.writeRefresh(&next, saving, k.answer)
	next.workers[i].repeats, next.workers[i].held = true, 0
	m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "saves, and the SDK will repeat it"})

	next.workers[i].node = m.refresh.step(saving, cause{kind: causeWrite, failed: true, spent: true})
	m.advance(&next, i, "saves, and does not learn of it")
}

// begun is the machine of an attempt that wants to read.
func (m *model) begun(attempt uint8) uint32 {
	if m.starts[attempt] == 0 {
		s, e := m.refresh.next(refresh.Begin(refresh.Input{ID: connectionID, Why: refresh.Forced, Attempt: attemptID(attempt)}), refresh.Result{Now: early})
		m.starts[attempt] = m.refresh.intern(node[refresh.State, refresh.Effect]{State: s, Effect: e})
	}
	return m.starts[attempt]
}

// rescueSave puts a save, or an order to revoke, where it is replayed.
func (m *model) rescueSave(w *world, i int) {
	next := *w
	k := &next.workers[i]
	n := m.refresh.at(k.node)
	record := rescued{node: k.node, revoke: n.Effect.Kind == refresh.EffectRevokeRecord, token: m.tokenOf(n.State.Answer)}
	if !m.mistake.noRescue {
		next.rescue(record)
	}
	k.held = 0
	k.node = m.refresh.step(k.node, cause{kind: causeDone})
	m.advance(&next, i, "leaves a rescue record")
	if w.faults == 0 {
		return
	}
	next = *w
	m.crashWorker(&next, i)
	m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "dies before the rescue"})
}

// revokeLate ends tokens that came after a disconnect.
func (m *model) revokeLate(w *world, i int) {
	next := *w
	k := &next.workers[i]
	t := m.tokenOf(m.refresh.at(k.node).State.Answer)
	m.revokeOwn(&next, t)
	k.held = 0
	k.node = m.refresh.step(k.node, cause{kind: causeDone})
	m.advance(&next, i, "revokes what came too late")
	if w.faults == 0 {
		return
	}
	next = *w
	next.faults--
	next.workers[i].node = m.refresh.step(w.workers[i].node, cause{kind: causeDone, failed: true})
	m.advance(&next, i, "is not heard by the provider")
	next = *w
	m.crashWorker(&next, i)
	m.emit(&next, label{who: workers, n: w.workers[i].attempt, what: "dies before the revocation"})
}

// rescueSteps replay a record, as Driver.Replay does: the same save under the same
// condition, and a refusal read the same way. A record may be replayed twice.
func (m *model) rescueSteps(w *world) {
	for i, r := range w.rescued {
		if r.node == 0 {
			continue
		}
		next := *w
		m.replay(&next, r)
		kept := next
		next.rescued[i] = rescued{}
		m.emit(&next, label{what: "a rescue record is replayed"})
		if w.faults > 0 {
			kept.faults--
			m.emit(&kept, label{what: "a rescue record is replayed, and stays"})
		}
	}
}

func (m *model) replay(w *world, r rescued) {
	s := m.refresh.at(r.node).State
	if !r.revoke {
		if m.writeRefresh(w, r.node, noAnswer) {
			return
		}
		found := &m.items.all[w.item[0]]
		o := refresh.JudgeRefusedSave(s.Core.Gen, s.In.Attempt, w.item[0] != 0, found.Core, !m.RevokesGrant)
		if o == refresh.Overtaken {
			w.superseded.add(r.token)
		}
		if o != refresh.Dropped {
			return
		}
	}
	m.revokeOwn(w, r.token)
}

// revokeOwn revokes a token of ours that came too late. That ends the grant in the
// user's name only if there was a disconnect.
func (m *model) revokeOwn(w *world, t token) {
	gone := w.gone
	m.revokeAt(w, t)
	w.superseded.add(t)
	if m.items.all[w.item[0]].DisconnectGen == 0 {
		w.gone = gone
	}
}

// quiet reports whether the horizon of a doubt can have passed for worker i: nobody
// else can still save an answer, which is what the horizon's length must guarantee.
func (m *model) quiet(w *world, i int) bool {
	o := &w.workers[1-i]
	return m.ShortHorizon || w.networkEmpty() && w.rescueEmpty() && o.waits == 0 && o.held == 0 && o.answer != accessOnly
}
