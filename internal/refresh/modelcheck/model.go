package modelcheck

import (
	"errors"
	"fmt"
	"strings"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

var errNotModelled = errors.New("no machine asks for it, so it is not modelled")

// A Scenario is what a world holds and how much may happen in it.
type Scenario struct {
	Mode   Mode
	Rounds int // refreshes that each of the two workers may begin
	Faults int // of any kind, in one run
	// Workers is 2 where it is 0, and at most 2.
	Workers int

	// What may happen, each once and at any time.
	Consents   []Consent // two at most
	Disconnect bool
	Revoke     bool // the user ends the grant at the provider
	Activate   bool // the operator activates a held connection
	Restore    bool // the table is restored to its beginning, and the epoch raised
	Reseal     bool // the tokens are sealed anew under a newer data key
	Tamper     bool // somebody with the table puts old sealed tokens back

	// What the provider does.
	RevokesGrant   bool // revoking one token ends the whole grant
	EndsFormer     bool // a new grant ends the account's former ones
	RevokesNothing bool // it says that it revoked, and did not
	NoRevocation   bool // it has no revocation endpoint
	Identity       bool // it tells whose account a token belongs to

	// Status is the connection's at the beginning; "" is active, "absent" none.
	Status connection.Status
	// ShortHorizon: the horizon may pass while a save is still on its way. Then
	// lost_response may be wrong, and must be healed. Not for Family: there the token
	// would be replayed too early.
	ShortHorizon bool
	// Rotated: the connection once got a changed refresh token.
	Rotated bool
	// Epoch is the deployment's restore epoch.
	Epoch int64
	// Coarse makes one step of what only a consent or a disconnect itself can see,
	// and of a disconnect's revocation, proof and erasure.
	Coarse bool
}

// absent is the Status of a scenario that begins without a connection.
const absent connection.Status = "absent"

// A Witness is a set of good ends that a run was seen to reach.
type Witness uint32

// The good ends.
const (
	Healed         Witness = 1 << iota // a late save healed needs_reauth
	RefreshedTwice                     // two refreshes in a row were stored
	SaidLost                           // lost_response was said, and true
	SaidRevoked                        // revoked was said, and true
	Disconnected                       // a disconnect was completed
	Reconnected                        // a reconnect was stored
	Replayed                           // a rescued save was stored
	Imported                           // an import was proved
	Exchanged                          // an answer was kept in its session
	Superseded                         // an older connection was superseded
	Restored                           // the table was restored
	Resealed                           // tokens were sealed anew
)

var witnessNames = [...]string{
	"healed", "refreshed twice", "lost_response", "revoked", "disconnected", "reconnected", "replayed", "imported", "exchanged",
	"superseded", "restored", "resealed",
}

// String lists the ends.
func (w Witness) String() string {
	var names []string
	for i, name := range witnessNames {
		if w>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// A model explores one scenario, with one mistake planted or none.
type model struct {
	Scenario
	mistake Mistake

	items      *itemTable
	refresh    *machine[refresh.State, refresh.Effect, refresh.Result]
	consent    *machine[refresh.ConsentState, refresh.ConsentEffect, refresh.ConsentResult]
	disconnect *machine[refresh.DisconnectState, refresh.DisconnectEffect, refresh.DisconnectResult]

	starts          [256]uint32 // of refreshes, by attempt
	consentStarts   map[consentStart]uint32
	disconnectStart uint32
	beginning       uint32 // the item at the beginning
	texts           [maxTokens]secret.Text
	tokens          map[secret.Text]token

	broken  string
	reached Witness
	out     []successor
}

// A successor is a world that a step leads to.
type successor struct {
	world    world
	label    label
	broken   string
	expanded bool
}

// A label tells a step, for a trace.
type label struct {
	who   who
	n     uint8
	token token
	what  string
	then  string
}

type who uint8

const (
	others who = iota
	workers
	consents
	disconnects
)

// String is the step in words.
func (l label) String() string {
	s := l.what
	switch l.who {
	case workers:
		s = fmt.Sprintf("worker of attempt %d %s", l.n, l.what)
	case consents:
		s = fmt.Sprintf("consent %d %s", l.n, l.what)
	case disconnects:
		s = "disconnect " + l.what
	}
	if l.then != "" {
		s += ", " + l.then
	}
	if l.token != 0 {
		s += fmt.Sprintf(" (token %d)", l.token)
	}
	return s
}

func newModel(s Scenario, planted Mistake) *model {
	m := &model{
		Scenario: s, mistake: planted, items: newItemTable(), consentStarts: map[consentStart]uint32{}, tokens: map[secret.Text]token{},
	}
	next := refresh.Next
	if planted.next != nil {
		next = planted.next(refresh.Next)
	}
	m.refresh = newMachine(next, m.refreshResult)
	consent := refresh.NextConsent
	if planted.consent != nil {
		consent = planted.consent(refresh.NextConsent)
	}
	m.consent = newMachine(consent, m.consentResult)
	m.disconnect = newMachine(refresh.NextDisconnect, m.disconnectResult)
	for t := range m.texts {
		if t > 0 {
			m.texts[t] = secret.New(fmt.Sprint(t))
			m.tokens[m.texts[t]] = token(t)
		}
	}
	return m
}

// begin is the world at the beginning: a connection of generation 1 with token 1.
func (m *model) begin() world {
	w := world{faults: uint8(m.Faults), epoch: uint8(m.Epoch)}
	n := m.Workers
	if n == 0 {
		n = len(w.workers)
	}
	for i := range n {
		w.workers[i].rounds = uint8(m.Rounds)
	}
	for may, set := range map[actions]bool{
		mayDisconnect: m.Disconnect, mayRevoke: m.Revoke, mayActivate: m.Activate, mayRestore: m.Restore, mayReseal: m.Reseal, mayTamper: m.Tamper,
	} {
		if set {
			w.left |= may
		}
	}
	for i := len(m.Consents); i < len(w.consents); i++ {
		w.consents[i].phase = over
	}
	if m.Status != absent {
		t := w.issue(1, 0)
		m.beginning = m.items.intern(connectionID, m.first(t))
		w.item[0] = m.beginning
		w.stored.add(m.items.all[m.beginning].at)
	}
	w.settle()
	return w
}

func (m *model) first(t token) item.Item {
	rec := connection.Record{Core: connection.Core{
		ID: connectionID, Integration: integration, Client: "app", ClientID: clientID(0), Owner: owner, Grant: "authorization_code",
		Status: connection.Active, Gen: 1, TokGen: 1, Access: seal(t, place{"at", connectionID, 1}), Refresh: seal(t, place{"rt", connectionID, 1}),
		ConsentedAt: early/1000 - 100, Rotates: m.Rotated,
	}}
	if m.Identity {
		rec.AccountID = account(0)
	}
	if m.Status != "" {
		rec.Status, rec.Access, rec.Grant = m.Status, "", "refresh_token"
		if m.Status == connection.Connecting {
			rec.Todo = todo
		}
	}
	return rec.Item()
}

// steps are all worlds that one step leads to from w.
func (m *model) steps(w *world) []successor {
	m.out = m.out[:0]
	for i := range w.workers {
		m.workerSteps(w, i)
	}
	m.providerSteps(w)
	m.rescueSteps(w)
	for i := range m.Consents {
		m.consentSteps(w, i)
	}
	m.disconnectSteps(w)
	m.userSteps(w)
	return m.out
}

// emit adds a world to those that the present step leads to.
func (m *model) emit(w *world, l label) {
	w.settle()
	m.out = append(m.out, successor{world: *w, label: l, broken: m.broken})
	m.broken = ""
}

// userSteps are what comes from outside: the user at the provider, an owner's backend
// that uses the stored access token, and the operator.
func (m *model) userSteps(w *world) {
	c := &m.items.all[w.item[0]]
	if w.item[0] == 0 {
		return
	}
	if w.left&mayRevoke != 0 && c.Status != connection.Disconnected && c.rt != 0 {
		next := *w
		next.left &^= mayRevoke
		next.dead.add(w.grantOf(c.rt))
		next.gone.add(w.grantOf(c.rt))
		m.emit(&next, label{what: "the user ends the grant at the provider"})
	}
	if p := w.parentOf(c.at); c.Status == connection.Active && p != 0 && w.usable.has(p) {
		next := *w
		m.use(&next, c.at)
		m.emit(&next, label{what: "an owner uses the stored access token", token: c.at})
	}
	if w.left&mayActivate != 0 && c.Status == connection.Held {
		next := *w
		next.left &^= mayActivate
		next.item[0] = m.apply(connectionID, w.item[0], connection.Activate{ID: connectionID, Todo: todo, Now: early / 1000}).item
		m.checkWrite(&next, w.item[0])
		m.emit(&next, label{what: "the operator activates the held connection"})
	}
	m.restoreStep(w)
	m.resealStep(w)
	m.tamperStep(w)
}

// restoreStep is a table that is restored to its beginning while nothing runs and no
// rescued save waits: one of the lost future would be taken for one of the new. What was
// issued since is lost.
func (m *model) restoreStep(w *world) {
	idle := w.workers[0].node == 0 && w.workers[1].node == 0
	if w.left&mayRestore == 0 || !idle || !w.rescueEmpty() || w.item[0] == m.beginning {
		return
	}
	next := *w
	next.left &^= mayRestore
	was, is := &m.items.all[w.item[0]], &m.items.all[m.beginning]
	if was.rt != is.rt {
		next.lost.add(w.grantOf(was.rt))
		next.superseded.add(was.rt)
	}
	next.item[0] = m.beginning
	next.epoch++
	m.reach(Restored)
	m.emit(&next, label{what: "the table is restored to its beginning"})
}

func (m *model) resealStep(w *world) {
	c := &m.items.all[w.item[0]]
	if w.left&mayReseal == 0 || c.Status == connection.Disconnected || c.Access == "" {
		return
	}
	next := *w
	next.left &^= mayReseal
	// The labels name no data key, so the new values equal the old ones: what counts is
	// when the write is taken.
	res := m.apply(connectionID, w.item[0], connection.Reseal{
		Gen: c.Gen, OldAccess: c.Access, OldRT: c.Refresh, Access: c.Access, RefreshTok: c.Refresh,
	})
	if res.applied != (c.Attempt.ID == "") {
		m.violate("reseal: written while an attempt stands, or refused while none does")
	}
	m.reach(Resealed)
	m.emit(&next, label{what: "the tokens are sealed anew"})
}

// tamperStep is somebody with the table who puts the first sealed tokens back.
func (m *model) tamperStep(w *world) {
	c := &m.items.all[w.item[0]]
	if w.left&mayTamper == 0 || c.Status == connection.Disconnected || c.Gen == 1 {
		return
	}
	next := *w
	next.left &^= mayTamper
	next.lost.add(w.grantOf(c.rt)) // the newest token is overwritten, and with it all hope
	next.superseded.add(c.rt)
	i := c.item.Clone()
	i["at"], i["rt"] = m.items.all[m.beginning].Access, m.items.all[m.beginning].Refresh
	next.item[0] = m.items.intern(connectionID, i)
	m.emit(&next, label{what: "somebody puts old sealed tokens back"})
}
