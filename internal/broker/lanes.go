package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// ChunkSize is how many ids a chunk has at most.
const ChunkSize = 100

const (
	// inlineMost is how many refreshes of one integration a tick does by itself where
	// there is a queue: ten rounds of a lane, some seconds of work.
	inlineMost = 10 * laneWidth
	// Where more than smoothAbove are due, each begins smoothGap after the one before,
	// or sooner where the spread would not hold them all.
	smoothAbove = laneWidth
	smoothGap   = 100 * time.Millisecond
)

// job is one refresh to be done.
type job struct {
	id          string
	integration string // "" where it is not known yet
	minute      int64  // unix minute at which it fell due
	why         refresh.Why
}

// lane is what one integration has to do in a tick. Lanes share no workers, so that a
// provider that hangs holds up nobody but itself. Its fields are guarded by ticking.mu.
type lane struct {
	jobs    []job
	workers int
	inline  int           // jobs taken by this process so far
	gap     time.Duration // between the beginnings of two refreshes
	next    time.Time     // when the next one may begin
	handOn  []job         // for the queue
}

// ticking is the refreshes of one tick, of one chunk, or of the timers of a second.
type ticking struct {
	b      *Broker
	ctx    context.Context
	begin  context.Context // ends when nothing more is to be begun
	stop   context.CancelFunc
	minute int64
	tick   bool          // a tick: what cannot be done now is handed on or owed
	slots  chan struct{} // of what is no refresh
	group  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	started  bool
	seen     map[string]bool // ids of this tick
	lanes    map[string]*lane
	outcomes map[string]int
	todo     int
	chunked  int
	owed     map[circuit.Client]int64 // the oldest minute owed; without generations
	owedAll  int
	undone   int   // refreshes that are to be tried again by whoever asked for them
	cause    error // of one of them
	walked   []walked
}

// walked is a client whose missed slots this tick has walked.
type walked struct {
	client circuit.Client
	status circuit.Status // as it was before the walk
}

func (b *Broker) newTick(ctx context.Context, minute int64, tick bool) *ticking {
	t := &ticking{
		b: b, ctx: ctx, begin: ctx, stop: func() {}, minute: minute, tick: tick, slots: make(chan struct{}, tickWorkers),
		seen: map[string]bool{}, lanes: map[string]*lane{}, outcomes: map[string]int{}, owed: map[circuit.Client]int64{},
	}
	if tick && b.TickTime > 0 {
		t.begin, t.stop = context.WithTimeout(ctx, b.TickTime)
	}
	return t
}

// enqueue puts a refresh into its lane, or among those for the queue.
func (t *ticking) enqueue(j job) {
	t.mu.Lock()
	if t.seen[j.id] {
		t.mu.Unlock()
		return
	}
	t.seen[j.id] = true
	l := t.lanes[j.integration]
	if l == nil {
		l = &lane{}
		t.lanes[j.integration] = l
	}
	if !t.tick || t.b.Chunks == nil || l.inline < inlineMost {
		l.inline++
		l.jobs = append(l.jobs, j)
		if t.started {
			t.work(l, j.integration)
		}
		t.mu.Unlock()
		return
	}
	l.handOn = append(l.handOn, j)
	var full []job
	if len(l.handOn) == ChunkSize {
		full, l.handOn = l.handOn, nil
	}
	t.mu.Unlock()
	t.put(full)
}

// start lets the lanes run. What they hold by then is known, and so how it is spread.
func (t *ticking) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = true
	for name, l := range t.lanes {
		if n := len(l.jobs); n > smoothAbove && t.b.Spread > 0 {
			l.gap = min(t.b.Spread/time.Duration(n), smoothGap)
		}
		for range l.jobs {
			t.work(l, name)
		}
	}
}

// work starts one more worker of a lane where there is room. t.mu is held.
func (t *ticking) work(l *lane, integration string) {
	if l.workers < t.b.width(integration) {
		l.workers++
		t.group.Go(func() { t.run(l) })
	}
}

func (t *ticking) run(l *lane) {
	for {
		t.mu.Lock()
		if len(l.jobs) == 0 {
			l.workers--
			t.mu.Unlock()
			return
		}
		j := l.jobs[0]
		l.jobs = l.jobs[1:]
		var wait time.Duration
		if l.gap > 0 {
			now := t.b.Now()
			if l.next.Before(now) {
				l.next = now
			}
			wait, l.next = l.next.Sub(now), l.next.Add(l.gap)
		}
		t.mu.Unlock()
		if wait > 0 {
			t.pause(wait)
		}
		if t.timeLeft() {
			t.refreshNow(j)
		} else {
			t.late(j)
		}
	}
}

func (t *ticking) pause(d time.Duration) {
	if t.b.Pause != nil {
		_ = t.b.Pause(t.begin, d)
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.begin.Done():
	}
}

// timeLeft reports whether one more refresh may be begun: the tick's time is not over,
// and the invocation lasts for a whole one.
func (t *ticking) timeLeft() bool {
	if t.begin.Err() != nil {
		return false
	}
	end, bounded := t.ctx.Deadline()
	return !bounded || time.Until(end) > t.b.driver.AttemptTime()
}

// late is what becomes of a job that there was no time for.
func (t *ticking) late(j job) {
	switch {
	case t.tick && t.b.Chunks != nil:
		t.mu.Lock()
		defer t.mu.Unlock()
		l := t.lanes[j.integration]
		l.handOn = append(l.handOn, j)
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
	key := circuit.Client{Integration: i.Name, Name: c.Name}
	if oldest, ok := t.owed[key]; !ok || j.minute < oldest {
		t.owed[key] = j.minute
	}
}

// flush puts what is for the queue onto it, less than whole chunks too.
func (t *ticking) flush() {
	t.mu.Lock()
	var chunks [][]job
	for _, l := range t.lanes {
		for len(l.handOn) > 0 {
			n := min(len(l.handOn), ChunkSize)
			chunks = append(chunks, l.handOn[:n:n])
			l.handOn = l.handOn[n:]
		}
	}
	t.mu.Unlock()
	for _, jobs := range chunks {
		t.put(jobs)
	}
}

// put hands one chunk of one integration on. A chunk bears its oldest minute.
func (t *ticking) put(jobs []job) {
	if len(jobs) == 0 {
		return
	}
	ids, minute := make([]string, len(jobs)), jobs[0].minute
	for n, j := range jobs {
		ids[n], minute = j.id, min(minute, j.minute)
	}
	if err := t.b.Chunks(t.ctx, jobs[0].integration, minute, ids); err != nil {
		t.fail(err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunked += len(jobs)
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

// refreshNow does one job. One that brings its worker down is set aside: the others
// must not suffer for it, nor come again and again with it.
func (t *ticking) refreshNow(j job) {
	defer func() {
		if recover() != nil { // its text may hold anything, the stack holds none of it
			t.b.Log.Error("a connection is set aside: its refresh panicked", "connection", j.id, "stack", string(debug.Stack()))
			t.count("set_aside")
		}
	}()
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
		b.tallies.lateness(b.now(), rep.Record.Integration, b.now()-j.minute*60)
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

// aside runs what is no refresh, once there is room, if there is time for it.
func (t *ticking) aside(f func()) {
	select {
	case t.slots <- struct{}{}:
	case <-t.begin.Done():
		return // it stands in the store, and is looked at again
	}
	if !t.timeLeft() {
		<-t.slots
		return
	}
	t.group.Go(func() {
		defer func() { <-t.slots }()
		f()
	})
}
