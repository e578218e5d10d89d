package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
)

// plans measures the planner: how many due connections a second a tick finds and puts onto the
// queue, and what memory it takes, with all of 1,000,000 hourly connections due at once, as
// after an outage of an hour. The floor reads the same pages and puts the ids into a set, so that
// none is taken twice.
func plans(ctx context.Context, b *bench) error {
	n := b.scaled(1_000_000, 100_000)
	c, err := settings(b.provider.base, site{name: integration, token: "/token/0", rotates: true})
	if err != nil {
		return err
	}
	table := newMemory(0)
	var queued atomic.Int64
	d, err := b.deploy(ctx, connection.Store{Connections: table, Authorizations: newMemory(0)}, c, func(c *broker.Config) {
		c.TickTime = 30 * time.Second
		c.Chunks = func(_ context.Context, _ string, _ int64, ids []string) error {
			queued.Add(int64(len(ids)))
			return nil
		}
	})
	if err != nil {
		return err
	}
	period := schedule.Plan{}.Period(life)
	minute := d.minute()
	for phase := range period {
		ids := make([]string, int64(n)/period)
		for k := range ids {
			ids[k] = connection.NewID()
		}
		table.file(slotAt(minute-phase), integration, ids)
	}
	if _, err := d.store.MoveCursor(ctx, 0, minute-period); err != nil {
		return err
	}
	least, err := walkBare(ctx, table)
	if err != nil {
		return err
	}
	before, most := held(), peak()
	began := time.Now()
	rep, err := d.Tick(ctx, minute)
	took, peaked := time.Since(began), most()
	if err != nil {
		return err
	}
	planned := int(queued.Load()) + rep.Outcomes["absent"]
	if want := n / int(period) * int(period); planned < want {
		return fmt.Errorf("%d of %d connections were found: %v", planned, want, rep.Outcomes)
	}
	what := fmt.Sprintf("planner/%d connections", n)
	b.report(what+"/found and queued", float64(n)/took.Seconds(), "a second", float64(n)/least.Seconds())
	b.report(what+"/memory", (peaked-before)/(1<<20), "MiB", 0)
	return nil
}

// walkBare reads all pages of the index due.
func walkBare(ctx context.Context, table *memory) (time.Duration, error) {
	began := time.Now()
	seen := map[string]bool{}
	for partition := range table.due {
		for q := (item.Query{Index: item.IndexDue, Hash: partition, Limit: 100}); ; {
			page, err := table.Query(ctx, q)
			if err != nil {
				return 0, err
			}
			for _, id := range page.Keys {
				seen[id] = true
			}
			if q.After = page.Next; q.After == "" {
				break
			}
		}
	}
	return time.Since(began), nil
}

// peak watches the memory in use until the function that it returns is called, which tells
// the most.
func peak() func() float64 {
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	look := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if v := m.HeapAlloc + m.StackInuse; v > most.Load() {
			most.Store(v)
		}
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				look()
			}
		}
	}()
	return func() float64 {
		close(stop)
		<-stopped
		look()
		return float64(most.Load())
	}
}
