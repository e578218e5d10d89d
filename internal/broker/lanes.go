package broker

import (
	"context"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/circuit"
)

// ChunkSize is how many ids a chunk has at most.
const ChunkSize = 100

const (
	// inlineMost is how many refreshes of one integration a tick does by itself where
	// there is a queue: ten rounds of a lane, some seconds of work.
	inlineMost = 10 * laneNarrow
	// Where more than smoothAbove are due, each begins smoothGap after the one before,
	// or sooner where the spread would not hold them all.
	smoothAbove = laneNarrow
	smoothGap   = 100 * time.Millisecond
)

// lane is what one integration has to do in a tick. Lanes share no workers, so that a
// provider that hangs holds up nobody but itself. Its fields are guarded by ticking.mu.
type lane struct {
	integration string
	jobs        []job
	taken       int // jobs taken by this process so far
	workers     int
	gap         time.Duration // between the beginnings of two refreshes
	next        time.Time     // when the next one may begin
	handOn      []job         // for the queue
}

// take takes the next job out of the lane, and says how long to wait before it begins.
func (l *lane) take(now time.Time) (j job, wait time.Duration, ok bool) {
	if len(l.jobs) == 0 {
		return job{}, 0, false
	}
	j, l.jobs = l.jobs[0], l.jobs[1:]
	if l.gap == 0 {
		return j, 0, true
	}
	if l.next.Before(now) {
		l.next = now
	}
	wait, l.next = l.next.Sub(now), l.next.Add(l.gap)
	return j, wait, true
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
func (t *ticking) enqueue(j job) { t.put(t.file(j)) }

// file is enqueue but for the queue: it returns the chunk that is full with this job.
func (t *ticking) file(j job) (chunk []job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[j.id] {
		return nil
	}
	t.seen[j.id] = true
	l := t.lanes[j.integration]
	if l == nil {
		l = &lane{integration: j.integration}
		t.lanes[j.integration] = l
	}
	if t.tick && t.b.Chunks != nil && l.taken == inlineMost {
		if l.handOn = append(l.handOn, j); len(l.handOn) == ChunkSize {
			chunk, l.handOn = l.handOn, nil
		}
		return chunk
	}
	l.taken++
	l.jobs = append(l.jobs, j)
	if t.started {
		t.work(l)
	}
	return nil
}

// start lets the lanes run. What they hold by then is known, and so how it is spread.
func (t *ticking) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = true
	for _, l := range t.lanes {
		if n := len(l.jobs); n > smoothAbove && t.b.Spread > 0 {
			l.gap = min(t.b.Spread/time.Duration(n), smoothGap)
		}
		for range l.jobs {
			t.work(l)
		}
	}
}

// work starts one more worker of a lane where what it has taken calls for one. t.mu is
// held.
func (t *ticking) work(l *lane) {
	var within time.Duration
	if t.tick {
		within = t.b.TickTime
	}
	if l.workers < t.b.workers(l.integration, l.taken, within) {
		l.workers++
		t.group.Go(func() { t.run(l) })
	}
}

func (t *ticking) run(l *lane) {
	for {
		t.mu.Lock()
		j, wait, ok := l.take(t.b.Now())
		if !ok {
			l.workers--
		}
		t.mu.Unlock()
		switch {
		case !ok:
			return
		case wait > 0:
			_ = t.b.driver.Wait(t.begin, wait)
		}
		if t.timeLeft() {
			t.refreshNow(j)
		} else {
			t.late(j)
		}
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

// aside runs what is no refresh of the item, once there is room, if there is time for it.
func (t *ticking) aside(key string, f func()) {
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
		defer t.guard(key)
		f()
	})
}
