package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
)

const (
	reviveFirst = 3  // connections tried one after the other until one recovers
	reviveNext  = 10 // those tried after it, at once
	// revivePace is how many of the rest are filed for one minute, where the integration
	// has no budget of its own.
	revivePace = 600
	// reviveTime is how long one call goes on: what waits for it may be a gateway.
	reviveTime = 12 * time.Second
)

// Revive takes back the verdicts of an incident: a provider that told all users' grants
// to be gone when they were not. The sealed tokens are still there. One connection is
// tried first, then ten, and only if these are taken the rest is reopened, for the
// schedule to refresh within its budget. What the provider refuses again is a verdict
// again. A call that ran out of time is repeated.
func (b *Broker) Revive(ctx context.Context, c Caller, r ReviveRequest) (ReviveReport, error) {
	i, refused := b.integration(c, r.Integration)
	switch {
	case refused != nil:
		return ReviveReport{}, refused
	case r.Since <= 0 || r.Since > b.now():
		return ReviveReport{}, fail(InvalidRequest, "since must be a time in the past: the beginning of the incident")
	}
	work, cancel := context.WithTimeout(ctx, reviveTime)
	defer cancel()
	v := &reviving{b: b, ctx: ctx, work: work, i: i, since: r.Since, own: c}
	err := v.run()
	b.Log.Warn("revive", "integration", i.Name, "recovered", v.rep.Recovered, "refused", v.rep.Refused, "reopened", v.rep.Reopened,
		"more", v.rep.More, "stopped", v.rep.Stopped)
	if err != nil {
		return v.rep, internal(err)
	}
	return v.rep, nil
}

// reviving is one run of Revive.
type reviving struct {
	b     *Broker
	ctx   context.Context
	work  context.Context // ends when nothing more is to be begun
	i     *config.Integration
	since int64
	own   Caller

	page  []string // of the index, not yet looked at
	after string
	ended bool

	mu  sync.Mutex
	rep ReviveReport // guarded by mu
}

func (v *reviving) run() error {
	for n := 0; v.rep.Recovered == 0; n++ {
		rec, err := v.next()
		switch {
		case err != nil:
			return err
		case rec == nil:
			return nil // nothing (more) to revive
		case n == reviveFirst:
			v.rep.Stopped = "the provider still refuses: none of the connections that were tried is taken"
			return nil
		}
		if err := v.try(*rec); err != nil {
			return err
		}
	}
	if err := v.ten(); err != nil || v.rep.Stopped != "" {
		return err
	}
	return v.rest()
}

// ten tries some at once. Half of them must be taken.
func (v *reviving) ten() error {
	before := v.rep
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error // guarded by mu
	tried := 0
	for ; tried < reviveNext; tried++ {
		rec, err := v.next()
		if err != nil {
			group.Wait()
			return err
		}
		if rec == nil {
			break
		}
		group.Go(func() {
			if err := v.try(*rec); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	group.Wait()
	if 2*(v.rep.Recovered-before.Recovered) < tried {
		v.rep.Stopped = "the provider takes fewer than half of those that were tried"
	}
	return failed
}

// rest reopens what is left, and leaves the refreshing to the schedule.
func (v *reviving) rest() error {
	pace := v.i.MaxPerMinute
	if pace == 0 {
		pace = revivePace
	}
	for n := 0; ; n++ {
		rec, err := v.next()
		if err != nil || rec == nil {
			return err
		}
		applied, err := v.reopen(*rec, v.b.now()+60+int64(n/pace)*60)
		if err != nil {
			return err
		}
		if applied {
			v.rep.Reopened++
		}
	}
}

// next is the next connection that was judged in the incident, nil after the last or
// when the time is over.
func (v *reviving) next() (*connection.Record, error) {
	for {
		if v.work.Err() != nil {
			v.rep.More = true
			return nil, v.ctx.Err()
		}
		if len(v.page) == 0 {
			if v.ended {
				return nil, nil
			}
			page, err := v.b.Store.Connections.Query(v.ctx, item.Query{
				Index: item.IndexByIntegration, Hash: v.i.Name, Prefix: string(connection.NeedsReauth) + "#", After: v.after, Limit: tickPage,
			})
			if err != nil {
				return nil, err
			}
			v.page, v.after, v.ended = page.Keys, page.Next, page.Next == ""
			continue
		}
		id := v.page[0]
		v.page = v.page[1:]
		rec, err := v.b.Store.Get(v.ctx, id)
		switch {
		case errors.Is(err, connection.ErrNotFound), errors.Is(err, item.ErrCorrupt):
		case err != nil:
			return nil, err
		case v.concerned(rec):
			return &rec, nil
		}
	}
}

// concerned reports whether the connection was judged in the incident and can be
// refreshed at all.
func (v *reviving) concerned(rec connection.Record) bool {
	if rec.Status != connection.NeedsReauth || (rec.Reason != connection.Revoked && rec.Reason != connection.LostResponse) ||
		!v.own.MayOwner(rec.Owner) || (rec.Refresh == "" && rec.Grant != string(provider.GrantClientCredentials)) {
		return false
	}
	if _, known := v.i.ClientByID(rec.ClientID); !known {
		return false
	}
	at := rec.UpdatedAt
	for _, e := range rec.Journal.Entries() {
		if e.Outcome == connection.OutcomeRevoked || e.Outcome == connection.OutcomeLostResponse {
			at = e.At
		}
	}
	return at >= v.since
}

// reopen makes the connection active, to be refreshed by the schedule at a time.
func (v *reviving) reopen(rec connection.Record, at int64) (bool, error) {
	now := v.b.now()
	res, err := v.b.Store.Write(v.ctx, rec.ID, connection.Revive{
		ID: rec.ID, Gen: rec.Gen, Sched: schedule.RetryPartition(rec.ID, at), RetryAt: at, Now: now,
		Journal: rec.Journal.Add(connection.Entry{At: now, Outcome: connection.OutcomeRevived, Gen: rec.Gen}),
	})
	return res.Applied, err
}

// try reopens a connection and refreshes it now, through an open circuit too: the
// incident will have opened it, and a success closes it.
func (v *reviving) try(rec connection.Record) error {
	applied, err := v.reopen(rec, v.b.now()+60)
	if err != nil || !applied {
		return err
	}
	rep := v.b.refreshOne(v.ctx, refresh.Input{ID: rec.ID, Why: refresh.Forced, Probe: true})
	v.mu.Lock()
	defer v.mu.Unlock()
	switch rep.Outcome {
	case refresh.Saved, refresh.Overtaken, refresh.Rescued:
		v.rep.Recovered++
	case refresh.Verdict, refresh.Refused:
		v.rep.Refused++
	default:
		v.rep.Reopened++ // no answer now: the schedule goes on
	}
	return nil
}
