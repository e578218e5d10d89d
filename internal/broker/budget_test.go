package broker_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// A provider that hangs has its own workers at most, and the refreshes of another one
// are done while it hangs.
func TestHangingProviderDelaysNobodyElse(t *testing.T) {
	w := newWorld(t, "")
	slow, fast := w.connect("one", 80), w.connect("two", 40)
	w.allDue()
	w.a.gate = make(chan struct{})
	w.a.arrive, w.b.arrive = make(chan struct{}, len(slow)), make(chan struct{}, len(fast))
	done := make(chan broker.TickReport)
	go func() { done <- w.tick(w.start()) }()
	for range fast {
		<-w.b.arrive
	}
	for range 32 {
		<-w.a.arrive
	}
	if n := w.refreshed(slow, 3); n != 0 {
		t.Errorf("%d refreshes of the hanging provider came through", n)
	}
	close(w.a.gate)
	<-done
	if w.a.most != 32 {
		t.Errorf("%d requests at once at the provider that hangs", w.a.most)
	}
	if a, b := w.refreshed(slow, 3), w.refreshed(fast, 3); a != len(slow) || b != len(fast) {
		t.Errorf("%d and %d were refreshed\n%s", a, b, w.Log)
	}
}

// Chunks of several processes at once, one of a hanging provider.
func TestMaxConcurrent(t *testing.T) {
	w := newWorld(t, `"max_concurrent": 3,`)
	ids := w.connect("one", 20)
	w.a.mu.Lock()
	w.a.most = 0
	w.a.mu.Unlock()
	w.allDue()
	b := w.start()
	var group sync.WaitGroup
	for _, chunk := range [][]string{ids[:10], ids[10:]} {
		group.Go(func() { w.Must(b.RefreshAll(t.Context(), chunk, w.Minute())) })
	}
	group.Wait()
	if w.refreshed(ids, 3) != len(ids) || w.a.most > 3 {
		t.Errorf("%d refreshed, %d at once", w.refreshed(ids, 3), w.a.most)
	}
}

// What a tick has no time for is owed: nothing is written to a connection, the cursor
// moves, and the next tick goes on with it.
func TestTickThatIsCutShortOwesTheRest(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 10)
	w.allDue()
	before := w.Record(ids[0])
	if rep := w.tick(w.start(func(c *broker.Config) { c.TickTime = 1 })); rep.Owed != 10 || w.a.requests() != 0 {
		t.Errorf("%+v", rep)
	}
	if w.Record(ids[0]).Core != before.Core {
		t.Error("a connection was written")
	}
	w.Advance(time.Minute)
	b := w.start()
	if w.tick(b); w.refreshed(ids, 3) != 10 {
		t.Errorf("%d refreshed", w.refreshed(ids, 3))
	}
	if n := w.a.requests(); n != 10 {
		t.Errorf("%d requests for 10 connections", n)
	}
}

// A Retry-After counts for the whole integration, in every process, and for no other.
// Nothing is lost by it, and what was due meanwhile is made good.
func TestRetryAfterPausesTheIntegration(t *testing.T) {
	w := newWorld(t, "")
	ids, others := w.connect("one", 60), w.connect("two", 10)
	w.allDue()
	w.a.does(tooMany("180"))
	first := w.start()
	w.tick(first)
	// Those that were under way together when the first answer came are told too.
	if n := w.a.requests(); n > 40 {
		t.Errorf("%d requests, though the first was told to wait", n)
	}
	if w.refreshed(others, 3) != 10 {
		t.Error("another integration waits too")
	}
	w.a.does(good)
	w.Advance(2 * time.Minute)
	second := w.start()
	w.tick(second)
	if _, err := second.Refresh(t.Context(), caller(), ids[0], 2, ""); err == nil {
		t.Error("a caller gets through the pause")
	}
	w.Must(second.RefreshAll(t.Context(), ids, w.Minute()))
	if n := w.a.requests(); n != 0 {
		t.Errorf("%d requests within the pause", n)
	}
	for range 2 {
		w.Advance(time.Minute)
		w.tick(second)
	}
	if n := w.refreshed(ids, 3); n != len(ids) {
		t.Errorf("%d refreshed after the pause", n)
	}
}

// A 429 without a time is each connection's own matter: later, with jitter.
func TestPlain429PausesNobodyElse(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 40)
	w.allDue()
	w.a.does(func(rw http.ResponseWriter, token string) {
		if token == "rt-one-0" {
			tooMany("")(rw, token)
			return
		}
		good(rw, token)
	})
	w.tick(w.start())
	if n := w.refreshed(ids, 3); n != 39 {
		t.Errorf("%d refreshed", n)
	}
	w.noneLost(ids)
}

// The budget of a minute is one for all processes; what is above it waits for the next.
func TestBudgetOfAMinuteIsShared(t *testing.T) {
	w := newWorld(t, `"max_per_minute": 40,`)
	ids := w.connect("one", 100)
	w.allDue()
	a, b := w.start(), w.start()
	for range 4 {
		w.Advance(time.Minute)
		var group sync.WaitGroup
		group.Go(func() { w.tick(a) })
		group.Go(func() { w.Must(b.RefreshAll(t.Context(), ids, w.Minute())) })
		group.Wait()
		if n := w.a.requests(); n > 40 {
			t.Errorf("%d requests in a minute", n)
		}
	}
	if n := w.refreshed(ids, 3); n != 100 {
		t.Errorf("%d refreshed in the end", n)
	}
	w.Advance(2 * time.Minute)
	w.tick(a) // nothing is owed any more
	if n := w.a.requests(); n > 10 {
		t.Errorf("%d requests though all were refreshed", n)
	}
}

// Many refreshes of a minute are spread, few are not.
func TestRefreshesAreSpread(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 50)
	few := w.connect("two", 10)
	w.allDue()
	var mu sync.Mutex
	var waits []time.Duration
	w.tick(w.start(func(c *broker.Config) {
		c.Spread = 4 * time.Second
		c.Pause = func(_ context.Context, d time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, d)
			return nil
		}
	}))
	slices.Sort(waits)
	if len(waits) != 49 || waits[0] != 80*time.Millisecond || waits[48] != 49*80*time.Millisecond {
		t.Errorf("%d waits: %v", len(waits), waits)
	}
	if w.refreshed(ids, 3) != 50 || w.refreshed(few, 3) != 10 {
		t.Error("not all were refreshed")
	}
}

// queue is a chunk queue that delivers as it is told.
type queue struct {
	mu     sync.Mutex
	chunks [][]string // guarded by mu
	minute []int64    // guarded by mu
	down   bool       // guarded by mu
}

func (q *queue) put(_ context.Context, _ string, minute int64, ids []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down {
		return errors.New("queue is down")
	}
	q.chunks, q.minute = append(q.chunks, ids), append(q.minute, minute)
	return nil
}

// What is too much for one tick goes to the queue in chunks; the cursor moves once all
// of it is there. Chunks that come twice, at once and in any order send nothing twice.
func TestTickHandsChunksOn(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 350)
	others := w.connect("two", 5)
	w.allDue()
	q := &queue{down: true}
	b := w.start(func(c *broker.Config) { c.Chunks = q.put })
	if rep, err := b.Tick(t.Context(), w.Minute()); err == nil || rep.Whole {
		t.Errorf("the cursor moved past what is nowhere: %+v, %v", rep, err)
	}
	if n := w.a.requests(); n != 320 || w.refreshed(others, 3) != 5 {
		t.Errorf("%d were refreshed by the tick itself", n)
	}
	w.Advance(time.Minute)
	q.down = false
	rep := w.tick(b)
	if len(q.chunks) == 0 || rep.Chunked != 30 && rep.Chunked != 35 {
		t.Fatalf("%+v", rep)
	}
	for n, chunk := range q.chunks {
		if len(chunk) > broker.ChunkSize || q.minute[n] > w.Minute() || q.minute[n] < w.Minute()-60 {
			t.Errorf("%d ids of minute %d", len(chunk), q.minute[n])
		}
	}
	var group sync.WaitGroup
	slices.Reverse(q.chunks)
	for _, chunk := range append(q.chunks, q.chunks...) {
		group.Go(func() { w.Must(w.start().RefreshAll(t.Context(), chunk, w.Minute()-1)) })
	}
	group.Wait()
	if n := w.refreshed(ids, 3); n != 350 {
		t.Errorf("%d refreshed", n)
	}
}

// An invocation that is nearly over hands on what it did not begin, and a chunk that is
// cut short comes again.
func TestNoTimeLeft(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 5)
	w.allDue()
	q := &queue{}
	b := w.start(func(c *broker.Config) { c.Chunks = q.put })
	short, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than one refresh may take
	defer cancel()
	rep, err := b.Tick(short, w.Minute())
	if err != nil || !rep.Whole || rep.Chunked != 5 || len(q.chunks) != 1 || w.a.requests() != 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	if err := b.RefreshAll(short, q.chunks[0], w.Minute()); err == nil {
		t.Error("a chunk that nobody looked at counts as done")
	}
	w.Must(b.RefreshAll(t.Context(), q.chunks[0], w.Minute()))
	if w.refreshed(ids, 3) != 5 {
		t.Error("not refreshed")
	}
}

// One id that cannot be read is set aside; the others of its chunk are done, and the
// chunk does not come again.
func TestPoisonInAChunk(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 6)
	w.allDue()
	spoil := func(id string, set ...item.Assign) {
		res, err := w.Store.Connections.Update(t.Context(), id, item.Update{Set: set})
		w.Must(err)
		if !res.Applied {
			t.Fatal("not spoiled")
		}
	}
	spoil(ids[0], item.Put("rt", w.Record(ids[1]).Refresh)) // sealed for another place
	spoil(ids[2], item.Put("tok_gen", int64(77)))
	spoil(ids[4], item.Put("client_id", "gone"))
	w.Must(w.start().RefreshAll(t.Context(), append(ids, "conn_unknown"), w.Minute()))
	if n := w.refreshed([]string{ids[1], ids[3], ids[5]}, 3); n != 3 {
		t.Errorf("%d of the others", n)
	}
	if n := strings.Count(w.Log.String(), "set aside"); n != 2 {
		t.Errorf("%d were set aside\n%s", n, w.Log)
	}
	w.tick(w.start())
}

// However many processes see a storm of refusals, five connections are judged at most.
func TestStormIsBrakedAcrossProcesses(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 30)
	w.allDue()
	w.a.does(refuse)
	var group sync.WaitGroup
	for n := range 6 {
		group.Go(func() { w.Must(w.start().RefreshAll(t.Context(), ids[n*5:n*5+5], w.Minute())) })
	}
	group.Wait()
	lost := 0
	for _, id := range ids {
		if w.Record(id).Status == connection.NeedsReauth {
			lost++
		}
	}
	if lost > 5 || lost == 0 {
		t.Errorf("%d verdicts", lost)
	}
	views, err := w.start().Integrations(t.Context(), caller(), "")
	if err != nil || views[0].Status != "suspended" || views[1].Status != "ok" {
		t.Errorf("%+v, %v", views, err)
	}
}
