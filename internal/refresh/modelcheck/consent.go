package modelcheck

import (
	"context"
	"fmt"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
)

// A Consent is one attempt to connect, with its own code.
type Consent struct {
	// Fresh: a new connection, not a reconnect of the one under test.
	Fresh bool
	// Session is the number of its session; two consents may share one.
	Session int
	// NoRefreshToken: the answer brings an access token alone.
	NoRefreshToken bool
	// Account is whose account the user consents with, Client which client asks. The
	// connection under test is of account and client 0.
	Account, Client int
	// At is when the exchange is answered, s after the others.
	At uint8
	// AllowAccountChange: the session permits another account.
	AllowAccountChange bool
}

// consentResult is the result that a cause stands for.
func (m *model) consentResult(c cause) refresh.ConsentResult {
	r := refresh.ConsentResult{Now: early + 1000*int64(c.epoch), Failed: c.failed, Applied: c.applied, Found: c.item != 0}
	if c.late {
		r.Now = after
	}
	if c.spent {
		r.Now = early + refresh.SaveTime + 1000*int64(c.epoch) + 1
	}
	s := &m.items.all[c.item]
	switch c.kind {
	case causeRead, causeWrite:
		r.Core = s.Core
	case causeSession:
		r.Session, r.Take = s.session, s.item.Map("take").String("id")
	case causeAnswer:
		r.Answer = m.exchanged(c)
	case causeIdentity:
		if !c.failed {
			r.Account = refresh.Account{ID: account(int(c.epoch))}
		}
	}
	return r
}

func account(n int) string  { return fmt.Sprintf("account%d", n) }
func clientID(n int) string { return fmt.Sprintf("client%d", n) }

// exchanged is the answer to an exchange. c.applied: it brings a refresh token.
func (m *model) exchanged(c cause) provider.Answer {
	a := provider.Answer{RetryAfter: provider.NoRetryAfter}
	switch c.answer {
	case good:
		a.Verdict, a.AccessToken = provider.VerdictOK, m.texts[c.token]
		if c.applied {
			a.RefreshToken, a.RefreshTokenArrived = m.texts[c.token], true
		}
	case lost:
		a.Verdict, a.ResponseLost = provider.VerdictRetry, true
	default:
		a.Verdict = provider.VerdictNeedsReauth
	}
	return a
}

func sessionID(n int) string { return fmt.Sprintf("s%d", n) }
func newID(n int) string     { return fmt.Sprintf("n%d", n) }

// take is what consent i takes its code with. A repeat has the same.
func (m *model) take(i int) connection.Take {
	return connection.Take{
		ID: fmt.Sprintf("t%d", i), Until: early/1000 + 60, Client: "app", ClientID: clientID(m.Consents[i].Client), Owner: owner,
		Connection: newID(i), Confirm: "h",
	}
}

// consentSteps are what consent i can do, or suffer, next. Once its answer is in the
// session, the tick takes up whatever was left undone.
func (m *model) consentSteps(w *world, i int) {
	p := &w.consents[i]
	sess := m.Consents[i].Session
	switch p.phase {
	case waiting:
		next := *w
		next.consents[i].phase = ready
		if next.session[sess] == 0 {
			next.session[sess] = m.createSession(w, i)
		}
		if m.Coarse {
			m.beginConsent(&next, i, "reconnects")
			return
		}
		m.emit(&next, label{who: consents, n: uint8(i), what: "gets a session"})
	case ready:
		next := *w
		m.beginConsent(&next, i, "begins")
	case running:
		m.consentEffect(w, i)
	case over:
		s := &m.items.all[w.session[sess]]
		unfinished := s.session == connection.SessionExchanged || !m.Coarse && s.item.String("todo") != ""
		if unfinished && !m.finishing(w, sess) {
			next := *w
			m.beginConsent(&next, i, "is taken up by the tick")
		}
	}
}

// finishing reports whether somebody works on the session already. Two ticks at once
// do what two confirms at once do.
func (m *model) finishing(w *world, sess int) bool {
	for i := range m.Consents {
		if m.Consents[i].Session == sess && w.consents[i].phase == running {
			return true
		}
	}
	return false
}

// createSession notes the connection's last disconnect, as the broker does.
func (m *model) createSession(w *world, i int) uint32 {
	c := m.Consents[i]
	sess := connection.Session{
		Hash: sessionID(c.Session), Integration: integration, State: connection.SessionAwaiting,
		CreatedAt: early / 1000, ExpiresAt: early/1000 + 600, AllowAccountChange: c.AllowAccountChange,
	}
	if !c.Fresh {
		sess.ConnectionID, sess.DisconnectGen = connectionID, m.items.all[w.item[0]].DisconnectGen
	}
	t := &table{}
	if err := (connection.Store{Authorizations: t}).CreateSession(context.Background(), sess); err != nil {
		m.violate("a session cannot be stored: %v", err)
	}
	return m.items.intern(sess.Hash, t.item)
}

// consentStart names a start of the machine; what it begins with follows.
type consentStart struct {
	consent int
	session uint32
}

func (m *model) beginConsent(w *world, i int, what string) {
	p := &w.consents[i]
	key := consentStart{i, w.session[m.Consents[i].Session]}
	id, known := m.consentStarts[key]
	if !known {
		id = m.startConsent(key)
		m.consentStarts[key] = id
	}
	*p = process{node: id, phase: running}
	m.advanceConsent(w, i, what)
}

func (m *model) startConsent(key consentStart) uint32 {
	record := &m.items.all[key.session]
	sess := m.readSession(key.session, sessionID(m.Consents[key.consent].Session))
	in := refresh.ConsentInput{
		Session: sess.Hash, Take: m.take(key.consent), Reconnect: sess.ConnectionID, DisconnectGen: sess.DisconnectGen,
		AllowAccountChange: sess.AllowAccountChange, HasIdentity: m.Identity, MayList: !m.Coarse,
	}
	unfinished := record.session == connection.SessionExchanged || sess.Todo != ""
	if unfinished {
		in.Take, in.Exchanged, in.Seq, in.ExchangedAt = sess.Take, true, sess.Seq, sess.ExchangedAt
		in.Ended, in.Result = record.session != connection.SessionExchanged, sess.Result
	}
	s := refresh.BeginConsent(in)
	if t, _ := unseal(sess.Tokens, place{}); t != 0 {
		s.Answer = m.exchanged(cause{answer: good, token: t, applied: !m.Consents[m.consentOf(sess.Take)].NoRefreshToken})
	}
	s, e := m.consent.next(s, refresh.ConsentResult{Now: early})
	return m.consent.intern(node[refresh.ConsentState, refresh.ConsentEffect]{State: s, Effect: e})
}

func (m *model) readSession(id uint32, hash string) connection.Session {
	store := connection.Store{Authorizations: &table{item: m.items.all[id].item}}
	sess, err := store.GetSession(context.Background(), hash)
	if err != nil {
		m.violate("a session cannot be read: %v", err)
	}
	return sess
}

// consentOf is the consent that took the code.
func (m *model) consentOf(t connection.Take) int {
	for i := range m.Consents {
		if newID(i) == t.Connection {
			return i
		}
	}
	return 0
}

// advanceConsent emits the world with the machine's next effect pending. In a coarse
// world the effects that only the consent itself can see, and the short way from
// taking the code to its answer, are one step.
func (m *model) advanceConsent(w *world, i int, what string) {
	p := &w.consents[i]
	n := m.consent.at(p.node)
	if n.Effect.Kind == refresh.ConsentDone {
		l := label{who: consents, n: uint8(i), what: what, then: n.Effect.Outcome.String()}
		m.endConsent(w, i)
		m.emit(w, l)
		return
	}
	if m.Coarse {
		switch n.Effect.Kind {
		case refresh.ConsentJoin, refresh.ConsentAccess, refresh.ConsentRevoke, refresh.ConsentCreate:
		default:
			from := p.node
			c := m.performConsent(w, i)
			w.consents[i].node = m.consent.step(from, c)
			m.advanceConsent(w, i, what)
			return
		}
	}
	m.emit(w, label{who: consents, n: uint8(i), what: what})
}

// endConsent notes an answer that could not be kept: it is lost.
func (m *model) endConsent(w *world, i int) {
	m.loseAnswer(w, w.consents[i].held)
	w.consents[i] = process{phase: over}
}

// loseAnswer notes an answer that never came into its session.
func (m *model) loseAnswer(w *world, t token) {
	if t != 0 {
		m.vanish(w, t)
		w.superseded.add(t)
	}
}

// consentEffect performs the pending effect of consent i, with its faults: it dies,
// the SDK repeats the write, or what became of the write is not learned.
func (m *model) consentEffect(w *world, i int) {
	from := w.consents[i].node
	n := m.consent.at(from)
	next := *w
	c := m.performConsent(&next, i)
	what := consentTexts[n.Effect.Kind]
	took := next
	next.consents[i].node = m.consent.step(from, c)
	m.advanceConsent(&next, i, what)
	looks := n.Effect.Kind == refresh.ConsentJoin || n.Effect.Kind == refresh.ConsentRead
	if looks && m.items.all[took.item[0]].AccountID != "" { // the wait for the account's identity may be over
		late := took
		c := c
		c.late = true
		late.consents[i].node = m.consent.step(from, c)
		m.advanceConsent(&late, i, what+", an hour later")
	}
	if w.faults == 0 {
		return
	}
	next = *w
	next.faults--
	next.crashed = true
	m.endConsent(&next, i)
	m.emit(&next, label{who: consents, n: uint8(i), what: "dies before it " + what})

	if c.kind == causeAnswer {
		next = *w
		next.faults--
		next.consents[i].node = m.consent.step(from, cause{kind: causeAnswer, answer: lost})
		m.advanceConsent(&next, i, "sends its code in vain")

		next = took
		next.faults--
		m.loseAnswer(&next, c.token)
		next.consents[i].held = 0
		next.consents[i].node = m.consent.step(from, cause{kind: causeAnswer, answer: lost})
		m.advanceConsent(&next, i, "sends its code, and the answer is lost")
		return
	}
	if m.Coarse && !c.applied {
		return
	}
	if c.applied { // the SDK repeats it
		next = took
		next.faults--
		m.emit(&next, label{who: consents, n: uint8(i), what: what, then: "and the SDK will repeat it"})
	}
	for _, world := range []world{*w, took} {
		next = world
		next.faults--
		next.consents[i].node = m.consent.step(from, cause{kind: c.kind, failed: true, spent: true, epoch: m.Consents[i].At})
		m.advanceConsent(&next, i, "learns nothing")
	}
}

var consentTexts = [...]string{
	refresh.ConsentTake: "takes its code", refresh.ConsentDraw: "draws its number", refresh.ConsentExchange: "exchanges its code",
	refresh.ConsentFailTake: "fails its session", refresh.ConsentSave: "saves the answer", refresh.ConsentPause: "pauses",
	refresh.ConsentIdentity: "reads the account", refresh.ConsentRead: "reads the connection", refresh.ConsentCreate: "creates a connection",
	refresh.ConsentJoin: "joins", refresh.ConsentAccess: "joins its access token", refresh.ConsentRevoke: "revokes", refresh.ConsentEnd: "ends its session",
	refresh.ConsentSupersede: "supersedes", refresh.ConsentFinish: "leaves the list",
}

// performConsent carries out the pending effect in w, and returns what came of it.
func (m *model) performConsent(w *world, i int) cause {
	p := &w.consents[i]
	n := m.consent.at(p.node)
	switch n.Effect.Kind {
	case refresh.ConsentTake, refresh.ConsentFailTake, refresh.ConsentSave, refresh.ConsentEnd, refresh.ConsentFinish:
		return m.writeSession(w, i)
	case refresh.ConsentDraw, refresh.ConsentJoin, refresh.ConsentAccess:
		return m.writeConsent(w, p.node, 0)
	case refresh.ConsentCreate:
		return m.writeConsent(w, p.node, 1+m.consentOf(n.State.In.Take))
	case refresh.ConsentRead:
		return cause{kind: causeRead, item: w.item[m.indexOf(n.State)]}
	case refresh.ConsentExchange:
		return m.exchange(w, i)
	case refresh.ConsentIdentity:
		return cause{kind: causeIdentity, epoch: uint8(m.Consents[m.consentOf(n.State.In.Take)].Account)}
	case refresh.ConsentRevoke:
		t := m.tokens[n.State.Answer.AccessToken]
		m.revokeAt(w, t)
		w.superseded.add(t)
		w.gone.add(w.grantOf(t))
	case refresh.ConsentSupersede:
		m.supersede(w, n.State)
	}
	return cause{kind: causeDone}
}

// indexOf is the connection that a consent reads: of an ended session the one that
// came of it.
func (m *model) indexOf(s refresh.ConsentState) int {
	for k := range m.Consents {
		if s.In.Ended && s.In.Result == newID(k) {
			return 1 + k
		}
	}
	return 0
}

// exchange sends the code of consent i: the provider makes a new grant, and perhaps
// ends the account's former ones.
func (m *model) exchange(w *world, i int) cause {
	sess := &m.items.all[w.session[m.Consents[i].Session]]
	if sess.item.Map("take").String("id") != m.take(i).ID || sess.session != connection.SessionExchanging {
		m.violate("take: a code is exchanged by who does not hold its session")
	}
	if m.EndsFormer {
		for g := uint8(1); g < maxGrants; g++ {
			if m.accountOf(g) == m.Consents[i].Account && m.granted(w, g) {
				w.dead.add(g)
				w.gone.add(g)
			}
		}
	}
	t := w.issue(uint8(2+i), 0)
	if m.Consents[i].NoRefreshToken {
		w.usable.remove(t)
	}
	w.consents[i].held = t
	return cause{kind: causeAnswer, answer: good, token: t, applied: !m.Consents[i].NoRefreshToken, epoch: m.Consents[i].At}
}

// accountOf is the account of a grant; the first one is the connection's own.
func (m *model) accountOf(g uint8) int {
	if g < 2 || int(g) > 1+len(m.Consents) {
		return 0
	}
	return m.Consents[g-2].Account
}

func (m *model) clientOf(g uint8) int {
	if g < 2 || int(g) > 1+len(m.Consents) {
		return 0
	}
	return m.Consents[g-2].Client
}

func (m *model) granted(w *world, g uint8) bool {
	for t := token(1); t <= w.issued; t++ {
		if w.grantOf(t) == g {
			return true
		}
	}
	return false
}

// writeSession performs the pending write of consent i on its session.
func (m *model) writeSession(w *world, i int) cause {
	sess := m.Consents[i].Session
	old, p := w.session[sess], &w.consents[i]
	res := m.consent.write(p.node, old, func() written { return m.applySession(p.node, old) })
	w.session[sess] = res.item
	if res.applied && m.items.all[res.item].session == connection.SessionExchanged {
		p.held = 0
		m.reach(Exchanged)
	}
	s := m.consent.at(p.node).State
	if res.applied && (s.Outcome == refresh.ConsentOvertaken || s.Outcome == refresh.ConsentGone) {
		w.superseded.add(m.tokens[s.Answer.AccessToken]) // its answer leaves the session, and is dropped
	}
	return cause{kind: causeSession, applied: res.applied, item: res.item}
}

func (m *model) applySession(id, old uint32) written {
	s, e := m.consent.at(id).State, m.consent.at(id).Effect
	t := &table{item: m.items.all[old].item}
	store, ctx, hash := connection.Store{Authorizations: t}, context.Background(), s.In.Session
	var res connection.SessionResult
	var err error
	switch e.Kind {
	case refresh.ConsentTake:
		res, err = store.TakeCode(ctx, hash, s.In.Take, early/1000)
	case refresh.ConsentFailTake:
		res, err = store.FailTake(ctx, hash, s.In.Take.ID, e.Code)
	case refresh.ConsentSave:
		res, err = store.SaveExchanged(ctx, hash, connection.Exchanged{
			Take: s.In.Take.ID, Tokens: seal(m.tokens[s.Answer.AccessToken], place{"tokens", hash, 0}), Seq: s.Seq, At: s.Exchanged, Todo: todo,
		})
	case refresh.ConsentEnd:
		res, err = store.EndSession(ctx, hash, s.In.Take.ID, s.Result, e.Code, early/1000)
	case refresh.ConsentFinish:
		err = store.PostponeSession(ctx, hash, todo, "")
	}
	if m.mistake.takesAnyway && e.Kind == refresh.ConsentTake {
		res.Applied = true
	}
	if err != nil {
		m.violate("an update of a session that no store takes: %v", err)
	}
	return written{item: m.items.intern(hash, t.item), applied: res.Applied}
}

// todo is a partition of the tick's list: one for all, since time has no length.
const todo = "todo#1#0"

// writeConsent performs the pending write of a consent on connection k.
func (m *model) writeConsent(w *world, id uint32, k int) cause {
	old := w.item[k]
	name := connectionID
	if k > 0 {
		name = newID(k - 1)
	}
	res := m.consent.write(id, old, func() written { return m.apply(name, old, m.consentWrite(id)) })
	w.item[k] = res.item
	if res.applied && k == 0 {
		if m.consent.at(id).Effect.Kind == refresh.ConsentJoin {
			m.checkConsent(w, old)
		} else {
			m.checkWrite(w, old)
		}
	}
	if res.applied && k > 0 && m.items.all[res.item].at != 0 {
		w.stored.add(m.items.all[res.item].at)
	}
	return cause{kind: causeWrite, applied: res.applied, item: res.item}
}

// checkConsent holds of a reconnect: it never loses to, and never wins against, a
// later consent or disconnect (S5), and its tokens are not spent (S6).
func (m *model) checkConsent(w *world, old uint32) {
	was, is := &m.items.all[old], &m.items.all[w.item[0]]
	if is.ConsentSeq <= was.ConsentSeq {
		m.violate("S5: consent %d is stored over consent %d", is.ConsentSeq, was.ConsentSeq)
	}
	m.reach(Reconnected)
	m.checkStored(w, old)
	m.checkWrite(w, old)
}

// consentWrite is what the driver makes of a consent's effect.
func (m *model) consentWrite(id uint32) connection.Write {
	s, e := m.consent.at(id).State, m.consent.at(id).Effect
	at := m.tokens[s.Answer.AccessToken]
	rt := m.tokens[s.Answer.RefreshToken]
	take := s.In.Take
	sealed := func(id string, g int64) connection.Tokens {
		return connection.Tokens{Access: seal(at, place{"at", id, g}), Refresh: seal(rt, place{"rt", id, g}), TokenID: "x"}
	}
	switch e.Kind {
	case refresh.ConsentDraw:
		return connection.ConsentNumber{DisconnectGen: s.In.DisconnectGen}
	case refresh.ConsentAccess:
		return connection.ConsentAccess{Gen: e.Gen, Seq: s.Seq, Tokens: sealed(connectionID, e.Gen), ConsentedAt: s.Exchanged}
	case refresh.ConsentJoin:
		return connection.Consent{
			ID: connectionID, Gen: e.Gen, Seq: s.Seq, Tokens: sealed(connectionID, e.Gen+1), DropRefresh: e.DropRefresh, ConsentedAt: s.Exchanged,
			Identity: connection.Identity{Client: take.Client, ClientID: take.ClientID, AccountID: s.Account.ID}, Epoch: m.Epoch,
		}
	}
	id0 := take.Connection
	t := sealed(id0, 1)
	return connection.Create{Record: connection.Record{Core: connection.Core{
		ID: id0, Integration: integration, Client: take.Client, ClientID: take.ClientID, Owner: take.Owner, Grant: "authorization_code",
		Status: connection.Active, Gen: 1, TokGen: 1, Access: t.Access, Refresh: t.Refresh, AccountID: s.Account.ID, ConsentedAt: s.Exchanged,
	}}}
}

// supersede ends the older connections of the account, as the driver does once it has
// listed them.
func (m *model) supersede(w *world, s refresh.ConsentState) {
	for k := range w.item {
		c := &m.items.all[w.item[k]]
		if w.item[k] == 0 || c.ID == s.Result || c.Status == connection.Disconnected || c.AccountID != s.Account.ID {
			continue
		}
		res := m.apply(c.ID, w.item[k], connection.Supersede{ID: c.ID, ConsentedAt: s.Exchanged, Now: early / 1000})
		if res.applied {
			w.superseded.add(c.rt)
			m.reach(Superseded)
		}
		w.item[k] = res.item
	}
}

// checkSessions holds of the consents when nothing is under way: what a session says
// came of it is there; two connects of one account never end each other; and no live
// token is held by nobody.
func (m *model) checkSessions(w *world) {
	for _, id := range w.session {
		s := &m.items.all[id]
		if s.session != connection.SessionConnected {
			continue
		}
		for k := range m.Consents {
			if s.item.String("result") == newID(k) && w.item[1+k] == 0 {
				m.violate("take: a session is connected, and its connection is not there")
			}
		}
	}
	a, b := &m.items.all[w.item[1]], &m.items.all[w.item[2]]
	if w.item[1] != 0 && w.item[2] != 0 && a.Status == connection.Disconnected && b.Status == connection.Disconnected {
		m.violate("supersede: two connects ended each other")
	}
	for t := token(1); t <= w.issued; t++ {
		g := w.grantOf(t)
		if w.live(t) && !w.superseded.has(t) && !w.lost.has(g) && !m.held(w, t) {
			m.violate("token %d lives at the provider, and nobody holds it", t)
		}
	}
}

// held reports whether some connection holds the token.
func (m *model) held(w *world, t token) bool {
	for k := range w.item {
		if m.items.all[w.item[k]].rt == t {
			return true
		}
	}
	return false
}

// elsewhere reports whether another connection than the one under test holds t.
func (m *model) elsewhere(w *world, t token) bool {
	return m.items.all[w.item[1]].rt == t || m.items.all[w.item[2]].rt == t
}

// checkMixed: no record holds tokens of two accounts or two clients, or says others
// than it holds.
func (m *model) checkMixed(w *world, is *stored) {
	if is.Status == connection.Disconnected || is.rt == 0 || is.at == 0 {
		return
	}
	a, r := w.grantOf(is.at), w.grantOf(is.rt)
	if m.accountOf(a) != m.accountOf(r) || m.clientOf(a) != m.clientOf(r) || is.ClientID != clientID(m.clientOf(r)) ||
		is.AccountID != "" && m.Identity && is.AccountID != account(m.accountOf(r)) {
		m.violate("accounts: one record holds tokens of two accounts or clients")
	}
}
