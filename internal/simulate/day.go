package simulate

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/schedule"
)

// Day is a simulation of a fleet at the level of the protocol's effects.
type Day struct {
	Name        string
	Connections int
	Kinds       []Kind // their shares sum to 1000
	Hours       int
	Trouble     Trouble
	// Processes work at once on what a tick found, 64 refreshes each.
	Processes int
	// TickDelay is by how much a tick may begin after its minute, s.
	TickDelay int64
	// Outage is the minute of the run at which the ticks stop for half an hour; 0: never.
	Outage int64
}

// The times of a tick, beside the provider's own.
const (
	queryTime   = 5  // ms: one page of an index
	readTime    = 5  // ms: one read of an item
	writeTime   = 10 // ms: one conditional write
	pageSize    = 100
	queryLanes  = 32
	workers     = 64 // of one process
	lots        = 2  // in which the workers are simulated, one to a core
	outageTime  = 30 // minutes
	dayBegin    = 29_600_000 * 60
	millisecond = 1000
)

// task is one connection that a tick found, and when.
type task struct {
	at   int64 // ms
	slot int64 // unix s: the beginning of the minute at which it was due; 0 for what was put off
	conn uint32
}

// dayRun is a day under way.
type dayRun struct {
	Day
	fleet    *fleet
	workers  [lots]*worker
	report   *Report
	cursor   int64 // unix minute
	caughtUp int64 // ms; 0: not yet
}

// Run simulates the day.
func (d Day) Run() (*Report, error) {
	began := time.Now()
	run := &dayRun{
		Day: d, fleet: newFleet(d.Connections, d.Kinds, dayBegin), cursor: dayBegin/60 - 1,
		report: &Report{
			Name: d.Name, Connections: d.Connections, Span: time.Duration(d.Hours) * time.Hour, Kinds: d.Kinds, Outcomes: map[string]int64{},
			Assumptions: []string{
				fmt.Sprintf("%d process(es) of %d refreshes at once", d.Processes, workers),
				fmt.Sprintf("a tick begins 0 to %d s after its minute, and never before the one before has ended", d.TickDelay),
				"the provider answers in 50 to 200 ms",
				fmt.Sprintf("a page of %d ids %d ms, a read %d ms, a write %d ms", pageSize, queryTime, readTime, writeTime),
				fmt.Sprintf("of a million requests %d turned away, %d answers lost", d.Trouble.TurnedAway, d.Trouble.Lost),
			},
		},
	}
	for k := range run.workers {
		run.workers[k] = newWorker(run.fleet, d)
	}
	if err := run.ticks(); err != nil {
		return nil, err
	}
	run.finish()
	run.report.Took = time.Since(began)
	return run.report, nil
}

// outage is a time without ticks, ms; zero: there is none.
type outage struct{ from, to int64 }

func (d Day) outage() outage {
	if d.Outage == 0 {
		return outage{}
	}
	from := (dayBegin + d.Outage*60) * int64(millisecond)
	return outage{from, from + outageTime*60*millisecond}
}

// ticks runs one tick after the other, as serve does: one that takes longer than a
// minute is followed at once by one of the minute that it is then.
func (run *dayRun) ticks() error {
	out := run.outage()
	end := int64(dayBegin+run.Hours*3600) * millisecond
	for now := int64(dayBegin) * millisecond; ; {
		minute := now / 60_000
		if minute <= run.cursor {
			minute = run.cursor + 1
		}
		now = max(now, minute*60_000+between(0, run.TickDelay*millisecond, uint64(minute), 7))
		if now >= end {
			return nil
		}
		if now >= out.from && now < out.to {
			now = out.to
			continue
		}
		ended, err := run.tick(minute, now)
		if err != nil {
			return err
		}
		now = ended
	}
}

// tick is one tick, from its beginning to the end of its last refresh, in ms.
func (run *dayRun) tick(minute, now int64) (int64, error) {
	out := run.outage()
	if out.to != 0 && run.caughtUp == 0 && now >= out.to && run.cursor == minute-1 {
		run.caughtUp = now
	}
	catching := out.to != 0 && now >= out.to && run.caughtUp == 0
	tasks, walked := run.walk(minute, now)
	run.report.Ticks++
	run.report.Missed += minute - run.cursor - 1
	run.cursor = minute
	var group sync.WaitGroup
	ends, errs := [lots]int64{}, [lots]error{}
	for k, w := range run.workers {
		group.Go(func() { ends[k], errs[k] = w.work(tasks, k, minute, catching) })
	}
	group.Wait()
	return max(walked, slices.Max(ends[:])), cmp.Or(errs[0], errs[1])
}

// walk asks for each partition that the planner names, 32 queries at once, and returns
// what it found in the order in which it was found, each connection once.
func (run *dayRun) walk(minute, now int64) ([]task, int64) {
	lanes := make(lanes, queryLanes)
	for k := range lanes {
		lanes[k] = now
	}
	seen := map[uint32]bool{}
	var tasks []task
	for _, name := range schedule.Walk(min(run.cursor, minute-1), minute) {
		at := lanes[0] + queryTime
		for n, conn := range run.fleet.due(name) {
			if n > 0 && n%pageSize == 0 {
				at += queryTime
			}
			if !seen[conn] {
				seen[conn] = true
				tasks = append(tasks, task{at: at, slot: slotOf(name, minute), conn: conn})
			}
		}
		lanes.take(at)
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(a.at, b.at) })
	return tasks, slices.Max(lanes)
}

// slotOf is the last minute up to this one at which a partition was due, in unix s; 0
// for what was put off.
func slotOf(name string, minute int64) int64 {
	period, phase, ok := schedule.ParsePartition(name)
	if !ok {
		return 0
	}
	return (minute - ((minute-phase)%period+period)%period) * 60
}

// lanes are the times at which each of several that work at once is free, ms; the
// first is the earliest.
type lanes []int64

func (l lanes) Len() int           { return len(l) }
func (l lanes) Less(a, b int) bool { return l[a] < l[b] }
func (l lanes) Swap(a, b int)      { l[a], l[b] = l[b], l[a] }
func (l *lanes) Push(any)          {} // their number is fixed
func (l *lanes) Pop() any          { return nil }

// take busies the earliest until then.
func (l *lanes) take(until int64) {
	(*l)[0] = until
	heap.Fix(l, 0)
}

// retried is how long before the outage a slot can lie whose retry fell into it, s.
const retried = 180

// expiry is a token that ran out before it was replaced, unix s.
type expiry struct {
	conn uint32
	at   int64
}

// slotBefore is the slot that should have replaced a token.
func (f *fleet) slotBefore(e expiry) int64 {
	life := f.kinds[f.all[e.conn].kind].Life
	period := schedule.Plan{}.Period(life)
	return schedule.NextSlot(identity(e.conn), period, e.at-schedule.Margin(life)) - period*60
}

// finish joins what the workers counted, and counts the tokens that stand expired.
func (run *dayRun) finish() {
	r := run.report
	out := run.outage()
	if run.caughtUp != 0 {
		r.CaughtUp = time.Duration(run.caughtUp-out.to) * time.Millisecond
	}
	minutes := make([]Minute, run.Hours*60)
	perSecond := make([]int64, run.Hours*3600)
	end := int64(dayBegin + run.Hours*3600)
	var expired []expiry
	for i := range run.fleet.all {
		if p := &run.fleet.all[i]; p.expires < end {
			expired = append(expired, expiry{uint32(i), p.expires})
		}
	}
	for _, w := range run.workers {
		expired = append(expired, w.expired...)
		r.add(w.Counts)
		r.Late.Merge(&w.late)
		r.Catching.Merge(&w.catching)
		for name, n := range w.outcomes {
			r.Outcomes[name.String()] += n
		}
		for s, n := range w.perSecond {
			perSecond[s] += n
			minutes[s/60].Requests += n
		}
		for m, late := range w.perMinute {
			minutes[m].MaxLate = max(minutes[m].MaxLate, late)
		}
	}
	for _, e := range expired {
		if slot := run.fleet.slotBefore(e) * millisecond; out.to != 0 && slot >= out.from-retried*millisecond && (slot < run.caughtUp || run.caughtUp == 0) {
			r.ExpiredOutage++
		} else {
			r.ExpiredRunning++
		}
	}
	r.Minutes = minutes
	for s, n := range perSecond {
		if ms := (dayBegin + int64(s)) * millisecond; out.to != 0 && ms >= out.to && ms < run.caughtUp {
			r.PeakCatching = max(r.PeakCatching, n)
		} else {
			r.Peak = max(r.Peak, n)
		}
	}
}
