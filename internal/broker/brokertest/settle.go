package brokertest

import (
	"context"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
)

// EndLease lets the time of a claim run out.
func (w *World) EndLease() { w.Advance(time.Minute) }

// NextSlot goes on to the minute at which the schedule will refresh the connection, as if
// every minute before had been ticked.
func (w *World) NextSlot(id string) {
	w.T.Helper()
	v, err := w.Home.Get(context.Background(), Caller(), id)
	w.Must(err)
	if v.NextRefreshAt == 0 {
		w.T.Fatalf("%s is not scheduled: %+v", id, v.Core)
	}
	w.Advance(time.Duration(v.NextRefreshAt-60-w.Unix()) * time.Second)
	w.Home.TickNow()
	w.Advance(time.Minute)
}

// Lost is a connection whose refresh token is gone for good, known only after the doubt
// has stood for its horizon. The user's next consent heals it.
func (w *World) Lost(id, user string) {
	w.T.Helper()
	p := w.Start()
	r := p.TickUntil(id, 80, func(r connection.Record) bool { return r.Status == connection.NeedsReauth })
	if r.Reason != connection.LostResponse || w.Unix()-r.DoubtAt < refresh.Horizon || r.DoubtAt == 0 {
		w.T.Fatalf("%s %d s after the doubt: %+v", r.Reason, w.Unix()-r.DoubtAt, r.Core)
	}
	if s := w.Reconnect(w.Home, user, id); s.State != connection.SessionConnected || s.Result != id {
		w.T.Fatalf("the reconnect is %s %s", s.State, s.Error)
	}
	w.Settle(id)
}

// Settle lifts every fault and lets time go on, a tick each minute, until each of the
// connections is refreshed and nothing of the fault is left. It fails where one is not
// within the hour, or where its token ends before (L1, L2, L3).
func (w *World) Settle(ids ...string) {
	w.T.Helper()
	w.Must(w.Sim.ClearFaults(Integration))
	p := w.Start()
	gens := map[string]int64{}
	for _, id := range ids {
		gens[id] = w.Record(id).Gen
	}
	for step := 0; ; step++ {
		p.Replay()
		p.TickNow()
		open := ""
		for _, id := range ids {
			r := w.Record(id)
			if r.Gen == gens[id] || r.Attempt.ID != "" || r.DoubtAt != 0 || r.RetryAt != 0 {
				open = id
			}
			if r.Status == connection.Active && r.ExpiresAt < w.Unix() {
				w.T.Fatalf("%s expired before it was refreshed: %+v\n%s", id, r.Core, w.Log)
			}
		}
		if open == "" {
			break
		}
		if step == 40 {
			w.T.Fatalf("%s is not refreshed: %+v\n%s", open, w.Record(open).Core, w.Log)
		}
		if wait := time.Minute; step < 10 {
			w.Advance(wait)
		} else {
			w.Advance(2 * wait)
		}
	}
	w.Check(ids...)
}

// ToSlot lets time go on to the slot at which the connection is really refreshed.
func (w *World) ToSlot(id string) {
	w.T.Helper()
	r := w.Record(id)
	w.AdvanceTo((schedule.Plan{NoTimers: true}).NextRefresh(id, r.Life(), r.ExpiresAt, w.Unix()))
}

// AdvanceTo moves the clock on to a time, in seconds since 1970.
func (w *World) AdvanceTo(at int64) {
	w.T.Helper()
	if at < w.Unix() {
		w.T.Fatalf("%d s have gone by already", w.Unix()-at)
	}
	w.Advance(time.Duration(at-w.Unix()) * time.Second)
}

// ComesBack lifts the provider's faults and ticks each minute until all connections are
// refreshed anew. Unlike settle it does not mind that their tokens ended meanwhile.
func (w *World) ComesBack(p *Process, within time.Duration, ids ...string) {
	w.T.Helper()
	w.Must(w.Sim.ClearFaults(Integration))
	began, gens := w.Unix(), map[string]int64{}
	for _, id := range ids {
		gens[id] = w.Record(id).Gen
	}
	for {
		_, _ = p.Tick(context.Background(), w.Minute())
		open := ""
		for _, id := range ids {
			if w.Record(id).Gen == gens[id] {
				open = id
			}
		}
		if open == "" {
			break
		}
		if w.Unix()-began > int64(within.Seconds()) {
			w.T.Fatalf("%s is not back after %s: %+v\n%s", open, within, w.Record(open).Core, w.Tail())
		}
		w.Advance(time.Minute)
	}
	w.Check(ids...)
}
