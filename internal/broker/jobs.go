package broker

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/panicked"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// job is one refresh to be done.
type job struct {
	id          string
	integration string // "" where it is not known yet
	minute      int64  // unix minute at which it fell due
	why         refresh.Why
}

// guard is deferred around the work on one item: one that brings its worker down is set
// aside, since the others must not suffer for it.
func (t *ticking) guard(key string) {
	if v := recover(); v != nil {
		t.b.Log.Error("an item is set aside: the work on it panicked", "item", key, "panic", panicked.Kind(v), "at", panicked.Place())
		t.count("set_aside")
	}
}

// refreshNow does one job. One that brings its worker down is set aside: the others
// must not suffer for it, nor come again and again with it.
func (t *ticking) refreshNow(j job) {
	defer t.guard(j.id)
	b := t.b
	rep := b.refreshOne(t.ctx, refresh.Input{ID: j.id, Why: j.why, Minute: j.minute})
	if rep.Record.Integration != "" {
		j.integration = rep.Record.Integration
	}
	switch {
	case errors.Is(rep.Err, item.ErrCorrupt) || errors.Is(rep.Err, secret.ErrSealed):
		b.Log.Error("a connection is set aside: what is stored cannot be read", "connection", j.id, "error", rep.Err.Error())
		t.count("set_aside")
		return // without a timer either: it would be read in vain every second
	case errors.Is(rep.Err, item.ErrTooLarge):
		t.count("set_aside")
		return // likewise; the log has told
	case j.why == refresh.Timer:
		t.timeAgain(j, rep)
	case rep.Outcome == refresh.Saved:
		late := b.now() - j.minute*60
		b.tallies.lateness(b.now(), rep.Record.Integration, late)
		b.measure(metric.RefreshLateness, rep.Record.Integration, "", float64(max(late, 0)))
	default:
		t.missed(j, rep)
	}
	t.count(rep.Outcome.String())
}

// timeAgain sets the timer of a connection that nothing was sent for: what is stored
// would call for it in the next second again.
func (t *ticking) timeAgain(j job, rep refresh.Report) {
	again := t.b.now() + 1 // busy, or the store away
	switch rep.Outcome {
	case refresh.Suspended, refresh.NotReady:
		again += 4
	case refresh.NotYet:
		again = rep.PausedUntil
	case refresh.Busy, refresh.StoreFailed:
	default:
		return
	}
	if again > t.b.now() {
		t.b.timers.move(j.id, j.integration, again)
	}
}

// missed sees to a slot at which nothing was sent though it was due. What the provider,
// the budget or the circuit forbids now is owed. What of ours did not work is owed too
// in a tick; a chunk comes again by itself.
func (t *ticking) missed(j job, rep refresh.Report) {
	switch rep.Outcome {
	case refresh.NotYet:
		if rep.PausedUntil == 0 {
			return // put off by itself, to a time that is on file
		}
	case refresh.Suspended:
	case refresh.Busy:
		// Whoever has the claim may be dead: then its lease is over by the next tick.
		if j.integration == "" {
			return
		}
	case refresh.NotReady, refresh.StoreFailed:
		waits := errors.Is(rep.Err, errBudget) || errors.Is(rep.Err, errBusyLane)
		if !t.tick && !waits || j.integration == "" {
			t.fail(cmp.Or(rep.Err, errors.New("the invocation's time was over")))
			return
		}
	default:
		return
	}
	t.owe(j, rep.Record.ClientID)
}

func (t *ticking) count(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[outcome]++
}

// late is what becomes of a job that there was no time for.
func (t *ticking) late(j job) {
	switch {
	case t.tick && t.b.Chunks != nil:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.lanes[j.integration].handOn = append(t.lanes[j.integration].handOn, j)
	case t.tick:
		t.owe(j, "")
	default:
		t.fail(errors.New("the invocation's time was over"))
	}
}

// fail leaves a job to whoever asked for it.
func (t *ticking) fail(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.undone++
	t.cause = cause
}

// owe notes that a slot was missed, in the circuit of the client: nothing is written to
// the connection, and the next tick walks the slots from there.
func (t *ticking) owe(j job, clientID string) {
	i, ok := t.b.Settings.Integration(j.integration)
	if !ok {
		return // taken out of the configuration: there is nobody to send for
	}
	c := i.Current()
	if known, ok := i.ClientByID(clientID); ok {
		c = known
	}
	if c == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owedAll++
	t.b.measure(metric.Owed, i.Name, "", 1)
	key := circuit.Client{Integration: i.Name, Name: c.Name}
	if oldest, ok := t.owed[key]; !ok || j.minute < oldest {
		t.owed[key] = j.minute
	}
}

// settle writes down what is owed, and what was walked. An error says that something
// is neither done nor noted: the cursor must not move past it.
func (t *ticking) settle() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var failed []error
	if t.undone > 0 {
		failed = append(failed, fmt.Errorf("%d refreshes could not begin: %w", t.undone, t.cause))
	}
	for c, minute := range t.owed {
		failed = append(failed, t.b.circuits.Owe(t.ctx, c, minute))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, w := range t.walked {
		// What this tick owes has been noted above, and is then not forgotten.
		failed = append(failed, t.b.circuits.Walked(t.ctx, w.client, w.status))
	}
	return errors.Join(failed...)
}
