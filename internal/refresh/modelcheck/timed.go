package modelcheck

import (
	"fmt"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
)

// Timed is a scenario under a real clock: one connection, refreshed by the tick of each
// minute, through every way in which its attempts can end. It checks what a world
// without time cannot: that the horizon is long enough, and the promises L1 to L4.
//
// The tick keeps its cursor, and so looks again at what was due, where it died, where
// the store did not answer, and where it met a standing attempt.
type Timed struct {
	Mode   Mode
	Life   int64 // of an access token, s
	Hours  int64 // how long it is watched
	Faults int
}

// A moment is the state of a timed world.
type moment struct {
	world
	minute, cursor int64
	outage         int64 // the store does not answer before, s
	replayAt       int64 // when the rescue queue delivers its record, s; 0: it is empty
	record         uint32
	trouble        int64 // when the last fault was over, s
}

// A way is one end of an attempt.
type way struct {
	moment
	outcome refresh.Outcome
	died    bool
	what    string
	broken  string
}

const (
	delayed = 45 // s that a refresh may begin after its minute
	// redelivery is the rescue queue's longest pause, s.
	redelivery = 120
	tickTime   = 60
	watchStart = 1_000_000 * 60 // the clock at the beginning, s
)

// outages are how long the store may be away, s.
var outages = [...]int64{90, 600}

// timing runs a Timed.
type timing struct {
	Timed
	*model
	plan schedule.Plan
	busy bool // a mistake: what was busy counts as done
}

// Run goes through every way. A deadline of zero is none.
func (t Timed) Run(deadline time.Time) Result { return t.run(Mistake{}, deadline) }

func (t Timed) run(planted Mistake, deadline time.Time) Result {
	began := time.Now()
	m := newModel(Scenario{Mode: t.Mode, Faults: t.Faults, Rounds: 1}, planted)
	m.items.timed = true
	run := &timing{Timed: t, model: m, busy: planted.busyIsDone}
	first := run.start()
	seen := map[moment]bool{first: true}
	stack := []timedFrame{{moment: first, what: "in the beginning"}}
	r := Result{States: 1}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.expanded {
			stack = stack[:len(stack)-1]
			continue
		}
		top.expanded = true
		if top.minute > watchStart/60+t.Hours*60 {
			continue
		}
		for _, next := range run.tick(top.moment) {
			r.Steps++
			if next.broken != "" {
				r.Broken, r.Trace = next.broken, run.timedTrace(stack, next)
				r.Reached, r.Took = m.reached, time.Since(began)
				return r
			}
			if !seen[next.moment] {
				seen[next.moment] = true
				r.States++
				stack = append(stack, timedFrame{moment: next.moment, what: next.what})
			}
		}
		if r.States&0xfff == 0 && !deadline.IsZero() && time.Now().After(deadline) {
			r.CutOff = true
			break
		}
	}
	r.Reached, r.Took = m.reached, time.Since(began)
	return r
}

type timedFrame struct {
	moment
	what     string
	expanded bool
}

func (t *timing) timedTrace(stack []timedFrame, last way) []string {
	var out []string
	for _, f := range append(stack, timedFrame{moment: last.moment, what: last.what, expanded: true}) {
		if f.expanded && f.what != "" {
			c := &t.items.all[f.item[0]]
			out = append(out, fmt.Sprintf("minute %3d: %-60s %s %s gen %d rt %d expires in %d s", f.minute-watchStart/60, f.what, c.Status, c.Reason, c.Gen, c.rt, c.ExpiresAt-f.minute*60))
		}
	}
	return out
}

// start is a connection that was made just now.
func (t *timing) start() moment {
	m := moment{minute: watchStart / 60, cursor: watchStart / 60}
	m.faults = uint8(t.Timed.Faults)
	tok := m.issue(1, 0)
	rec := connection.Record{Core: connection.Core{
		ID: connectionID, Integration: integration, Client: "app", ClientID: clientID(0), Owner: owner, Grant: "authorization_code",
		Status: connection.Active, Gen: 1, TokGen: 1, Access: seal(tok, place{"at", connectionID, 1}), Refresh: seal(tok, place{"rt", connectionID, 1}),
		IssuedAt: watchStart, ExpiresAt: watchStart + t.Life, Sched: t.plan.Partition(connectionID, t.Life),
	}}
	m.item[0] = t.items.intern(connectionID, rec.Item())
	m.stored.add(tok)
	return m
}

// tick is the next minute: a rescued save is replayed when its time has come, and what
// is due is refreshed.
func (t *timing) tick(m moment) []way {
	m.minute++
	now := m.minute * 60
	t.broken = ""
	t.replayDue(&m, now)
	if now < m.outage {
		return t.judge([]way{{moment: m, what: "the store does not answer"}})
	}
	c := &t.items.all[m.item[0]]
	due := slices.Contains(schedule.Walk(m.cursor, m.minute), c.Sched)
	if !due || !c.Refreshable() {
		m.cursor = m.minute
		return t.judge([]way{{moment: m}})
	}
	var out []way
	for _, delay := range []int64{0, delayed} {
		for _, w := range t.attempt(m, now+delay) {
			stays := w.died || w.outcome == refresh.StoreFailed || w.outcome == refresh.NotReady || w.outcome == refresh.Busy && !t.busy
			if !stays {
				w.cursor = w.minute
			}
			out = append(out, w)
		}
	}
	return t.judge(out)
}

// replayDue delivers a rescued save, or puts it off while the store is away.
func (t *timing) replayDue(m *moment, now int64) {
	if m.replayAt == 0 || now < m.replayAt || now < m.outage {
		return
	}
	t.writeRefresh(&m.world, m.record, noAnswer)
	m.replayAt, m.record = 0, 0
}

// attempt runs one refresh from its read to its end, once for each way in which it can
// end. The attempt's id is the number of the attempt.
func (t *timing) attempt(m moment, at int64) []way {
	m.attempts++
	in := refresh.Input{ID: connectionID, Why: refresh.Slot, Minute: m.minute, Attempt: attemptID(m.attempts), Jitter: 0.99}
	s, _ := t.refresh.next(refresh.Begin(in), refresh.Result{Now: at * 1000})
	f := refresh.Facts{
		ClientKnown: true, Profile: t.Timed.Mode.profile(), Plan: t.plan, SendTime: refresh.SendTime, Horizon: refresh.Horizon,
	}
	if t.mistake.facts != nil {
		t.mistake.facts(&f)
	}
	return t.goOn(m, s, refresh.Result{Now: at * 1000, Left: ample, Found: true, Core: t.items.all[m.item[0]].Core, Facts: f})
}

// goOn takes the machine on by one result, and on every way from there.
func (t *timing) goOn(m moment, s refresh.State, r refresh.Result) []way {
	s, e := t.refresh.next(s, r)
	r = refresh.Result{Now: r.Now, Left: ample}
	switch e.Kind {
	case refresh.EffectDone:
		if s.Claimed && e.Outcome != refresh.Busy {
			m.workers[0] = worker{}
		}
		return []way{{moment: m, outcome: e.Outcome, what: "a refresh ends: " + e.Outcome.String()}}
	case refresh.EffectSend:
		return t.sendTimed(m, s, r)
	case refresh.EffectPause:
		r.Now += e.Pause
	case refresh.EffectClaim, refresh.EffectPark, refresh.EffectLater, refresh.EffectVerdict, refresh.EffectSave:
		id := t.refresh.intern(node[refresh.State, refresh.Effect]{State: s, Effect: e})
		r.Failed = r.Now/1000 < m.outage
		if !r.Failed {
			last := noAnswer
			if s.Answer.Verdict == provider.VerdictNeedsReauth {
				last = refused
			}
			r.Applied = t.writeRefresh(&m.world, id, last)
			r.Found, r.Core = true, t.items.all[m.item[0]].Core
		} else {
			r.Now += 1000
		}
	case refresh.EffectRescue:
		m.record = t.refresh.intern(node[refresh.State, refresh.Effect]{State: s, Effect: e})
		m.replayAt = m.outage + redelivery
	}
	return t.goOn(m, s, r)
}

// sendTimed is the request: every answer, and every death.
func (t *timing) sendTimed(m moment, s refresh.State, r refresh.Result) []way {
	tok, _ := unseal(s.Core.Refresh, place{})
	m.sent = max(m.sent, uint8(s.Core.Gen))
	answered := func(m moment, kind answerKind, tok token, took int64) []way {
		r := r
		r.Now += took * 1000
		r.Answer = t.answer(cause{answer: kind, token: tok})
		if kind == good {
			r.Answer.ExpiresIn = t.Life
		}
		return t.goOn(m, s, r)
	}
	acted := m
	kind, n := t.refreshAt(&acted.world, tok)
	out := answered(acted, kind, n, 1)
	if m.faults == 0 {
		return out
	}
	now := r.Now / 1000
	m.faults--
	acted.faults--
	m.trouble, acted.trouble = now+refresh.SendTime/1000, now+refresh.SendTime/1000
	m.crashed, acted.crashed = true, true
	out = append(out, answered(m, busy, 0, 1)...)
	out = append(out, answered(m, lost, 0, refresh.SendTime/1000)...)
	out = append(out, way{moment: m, died: true, what: "the tick dies before it sends"})
	if kind != good {
		return out
	}
	gone := acted
	t.vanish(&gone.world, n)
	out = append(out, answered(gone, lost, 0, refresh.SendTime/1000)...)
	out = append(out, way{moment: gone, died: true, what: "the tick dies before it saves"})
	for _, d := range outages {
		away := acted
		away.outage = now + d
		away.trouble = away.outage + redelivery
		out = append(out, answered(away, good, n, 1)...)
	}
	return out
}

// judge checks the promises of time at the end of each minute's ways.
func (t *timing) judge(ways []way) []way {
	for i := range ways {
		w := &ways[i]
		t.promises(&w.moment)
		w.broken, t.broken = t.broken, ""
	}
	return ways
}

func (t *timing) promises(m *moment) {
	c := &t.items.all[m.item[0]]
	now := m.minute * 60
	if !c.Refreshable() {
		return
	}
	healthy := m.trouble == 0
	if healthy && c.ExpiresAt <= now+tickTime {
		t.violate("L1: the token runs out at a healthy provider")
	}
	settled := max(c.DoubtAt, m.trouble) + refresh.Horizon + 4*tickTime
	if t.waits() {
		settled = max(settled, c.ExpiresAt-600+4*tickTime)
	}
	if c.DoubtAt != 0 && now > settled {
		t.violate("L2: a doubt of minute %d is not settled", (c.DoubtAt-watchStart)/60)
	}
	if c.Attempt.ID != "" && now > max(c.Attempt.LeaseUntil, m.outage)+2*tickTime {
		t.violate("L3: a dead attempt is not taken up")
	}
	if c.DoubtAt == 0 && c.ExpiresAt <= now && now > m.trouble+(t.plan.Period(t.Life)+5)*tickTime {
		t.violate("L1: the token has run out, a whole period after the last fault")
	}
	t.readNow(m, c, now)
}

// readNow is L4: whoever reads a token that lasts gets it with no effect but the read,
// and where a refresh is under way nobody waits for it.
func (t *timing) readNow(m *moment, c *stored, now int64) {
	s, _ := t.refresh.next(refresh.Begin(refresh.Input{ID: connectionID, Why: refresh.Read, MinTTL: 60, Attempt: "reader"}), refresh.Result{Now: now * 1000})
	_, e := t.refresh.next(s, refresh.Result{
		Now: now * 1000, Left: ample, Found: true, Core: c.Core,
		Facts: refresh.Facts{ClientKnown: true, Profile: t.Timed.Mode.profile(), Plan: t.plan, SendTime: refresh.SendTime, Horizon: refresh.Horizon},
	})
	lasts, claimed := c.ExpiresAt > now+65, c.Attempt.ID != "" && now < c.Attempt.LeaseUntil
	if (lasts || claimed) && e.Kind != refresh.EffectDone {
		t.violate("L4: a read of a token that lasts waits")
	}
}
