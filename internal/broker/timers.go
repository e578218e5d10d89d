package broker

import (
	"container/heap"
	"sync"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/schedule"
)

// timers are the exact times at which short-lived tokens are refreshed by a process
// that lives long enough. The table stays the truth: they are rebuilt from it at
// start, and each refresh reads its item first.
type timers struct {
	mu    sync.Mutex
	queue timerQueue
	due   map[string]int64 // by connection id; guarded by mu
}

type timer struct {
	id, integration string
	at              int64
}

type timerQueue []timer

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q timerQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *timerQueue) Push(x any)        { *q = append(*q, x.(timer)) }
func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	*q = old[:len(old)-1]
	return t
}

func newTimers() *timers { return &timers{due: map[string]int64{}} }

// file sets, moves or drops the timer of a connection by what is stored now; margin is
// how long before its end the token is replaced, s.
func (t *timers) file(rec connection.Record, margin int64) {
	if rec.Status == "" {
		return // nothing was read
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if rec.Sched != schedule.Timer || !rec.Refreshable() {
		delete(t.due, rec.ID)
		return
	}
	at := rec.ExpiresAt - margin
	if rec.RetryAt != 0 {
		at = rec.RetryAt
	}
	if t.due[rec.ID] != at {
		t.due[rec.ID] = at
		heap.Push(&t.queue, timer{rec.ID, rec.Integration, at})
	}
}

// take returns the connections whose time has come.
func (t *timers) take(now int64) []timer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []timer
	for len(t.queue) > 0 && t.queue[0].at <= now {
		next := heap.Pop(&t.queue).(timer)
		if t.due[next.id] == next.at { // else it was moved meanwhile
			delete(t.due, next.id)
			out = append(out, next)
		}
	}
	return out
}

// move sets a timer by hand, for a refresh that ended with nothing sent.
func (t *timers) move(id, integration string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due[id] = at
	heap.Push(&t.queue, timer{id, integration, at})
}
