package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/schedule"
)

// hangs measures how late one provider's refreshes of a minute are, while another provider,
// with as many due, hangs; against the same minute without the other.
func hangs(ctx context.Context, b *bench) error {
	n := b.scaled(2000, 200)
	alone, err := b.minute(ctx, n, false)
	if err != nil {
		return err
	}
	beside, err := b.minute(ctx, n, true)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"median", 0.5}, {"last", 1}} {
		least, ours := quantile(alone, q.at), quantile(beside, q.at)
		what := fmt.Sprintf("hang/%d refreshes beside a provider that hangs/%s", n, q.name)
		b.judged(what, ms(ours), "ms after the minute", ms(least), "ratio <= 1.1", ours.Seconds() <= 1.1*least.Seconds())
	}
	return nil
}

// watch notes when the refreshes of one integration ended.
type watch struct {
	integration string
	began       time.Time
	all         chan struct{} // closed with the last

	mu    sync.Mutex
	left  int             // guarded by mu
	ended []time.Duration // guarded by mu
}

// Observe implements broker.Metrics.
func (w *watch) Observe(m metric.Metric, p metric.Point, _ float64) {
	if m != metric.Refreshes || p.Integration != w.integration {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, time.Since(w.began))
	if w.left--; w.left == 0 {
		close(w.all)
	}
}

// minute runs a tick at which n connections of a provider at 50 ms are due, and n of one that
// hangs where hanging says so. It returns when each of the former was refreshed.
func (b *bench) minute(ctx context.Context, n int, hanging bool) ([]time.Duration, error) {
	const fast, slow = "fast", "slow"
	c, err := settings(b.provider.base, site{name: fast, token: "/token/50", rotates: true}, site{name: slow, token: "/hang", rotates: true})
	if err != nil {
		return nil, err
	}
	w := &watch{integration: fast, all: make(chan struct{}), left: n}
	table := newMemory(0)
	d, err := b.deploy(ctx, connection.Store{Connections: table, Authorizations: newMemory(0)}, c, func(c *broker.Config) {
		c.Metrics, c.TickTime = w, 30*time.Second // the refresh function's
	})
	if err != nil {
		return nil, err
	}
	minute := d.minute() + life/60
	partition := slotAt(minute)
	for _, name := range []string{fast, slow} {
		if name == slow && !hanging {
			continue
		}
		ids, err := d.seed(ctx, name, n, life, false)
		if err != nil {
			return nil, err
		}
		table.file(partition, name, ids)
	}
	if _, err := d.store.MoveCursor(ctx, 0, minute-1); err != nil {
		return nil, err
	}
	d.later()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.began = time.Now()
	ticked := make(chan error, 1)
	go func() {
		_, err := d.Tick(ctx, minute)
		ticked <- err
	}()
	select {
	case <-w.all:
	case err := <-ticked:
		return nil, errors.Join(err, errors.New("the tick ended before all was refreshed"))
	}
	cancel() // what hangs is begun no more
	for {
		if err := b.provider.release(); err != nil {
			return nil, err
		}
		select {
		case <-ticked: // it says that it was ended
			return w.ended, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// slotAt is the partition of connections with a life of an hour that are due at a minute.
func slotAt(minute int64) string {
	period := schedule.Plan{}.Period(life)
	for {
		if id := connection.NewID(); schedule.Phase(id, period) == minute%period {
			return schedule.Plan{}.Partition(id, life)
		}
	}
}
