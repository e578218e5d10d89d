package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
)

// connectionsHeld is how many connections the stores hold in the driver of refreshes.
const connectionsHeld = 10_000

// chunkWorkers is how many refreshes one call of RefreshAll has under way.
const chunkWorkers = 32

// refreshes measures how many rotating refreshes a second one process makes, against a loop
// that sends the same requests from as many goroutines and does nothing else. Of a store that
// costs something there is a second floor, with the same calls of the store in the loop.
func refreshes(ctx context.Context, b *bench) error {
	n := b.scaled(connectionsHeld, 1000)
	instant := newMemory(0)
	var failed []error
	stores := []struct {
		name string
		open func() (connection.Store, func() error, error)
	}{
		{"store-at-once", func() (connection.Store, func() error, error) {
			return connection.Store{Connections: instant, Authorizations: newMemory(0)}, func() error { return nil }, nil
		}},
		{"bolt", func() (connection.Store, func() error, error) { return b.bolt("refresh.db") }},
		{"dynamodb-local", func() (connection.Store, func() error, error) {
			store, _, _, err := b.dynamo(ctx)
			return store, func() error { return nil }, err
		}},
	}
	for _, s := range stores {
		store, end, err := s.open()
		if missing, ok := errors.AsType[errMissing](err); ok {
			b.leftOut("refresh/"+s.name, string(missing))
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(b.refreshesOn(ctx, s.name, store, n), end()); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return errors.Join(append(failed, b.inFlight(ctx))...)
}

// refreshesOn measures on one store that holds n connections.
func (b *bench) refreshesOn(ctx context.Context, name string, store connection.Store, n int) error {
	c, err := settings(b.provider.base, site{name: integration, token: "/token/0", rotates: true})
	if err != nil {
		return err
	}
	d, err := b.deploy(ctx, store, c)
	if err != nil {
		return err
	}
	ids, err := d.seed(ctx, integration, n, life, false)
	if err != nil {
		return err
	}
	var failed []error // of single cells; the others are measured all the same
	for _, delay := range []int{0, 50, 200} {
		for _, concurrency := range []int{16, 64, 256} {
			if b.quick && (delay != 50 || concurrency != 64) || b.over(fmt.Sprintf("refresh/%s/provider %d ms/%d at once", name, delay, concurrency)) {
				continue
			}
			if err := b.cell(ctx, name, store, ids, delay, concurrency, d.ahead); err != nil {
				failed = append(failed, fmt.Errorf("provider at %d ms, %d at once: %w", delay, concurrency, err))
			}
			if ctx.Err() != nil {
				return errors.Join(append(failed, ctx.Err())...)
			}
		}
	}
	return errors.Join(failed...)
}

// cell measures one combination: floor and refreshes in turns, so that what disturbs the
// machine disturbs both.
func (b *bench) cell(ctx context.Context, name string, store connection.Store, ids []string, delay, concurrency int, ahead *atomic.Int64) error {
	path := fmt.Sprintf("/token/%d", delay)
	c, err := settings(b.provider.base, site{name: integration, token: path, rotates: true, concurrency: concurrency})
	if err != nil {
		return err
	}
	d, err := b.deploy(ctx, store, c)
	if err != nil {
		return err
	}
	d.ahead.Store(ahead.Load())
	floor := func(id string) error { return b.sendAndStore(ctx, path, store.Connections, id) }
	first := ids[:min(len(ids), 2*concurrency)]
	took, err := loop(first, concurrency, floor)
	if err != nil {
		return err
	}
	n := min(len(ids), max(len(first), int(float64(len(first))*b.lasts(1300*time.Millisecond).Seconds()/took.Seconds())))
	ids = ids[:n]
	var bare, withStore, ours time.Duration
	var cost usage
	const rounds = 2
	for range rounds {
		d.later()
		took, err := loop(ids, concurrency, func(string) error { return b.send(ctx, path) })
		if err != nil {
			return err
		}
		bare += took
		if name != "store-at-once" {
			if took, err = loop(ids, concurrency, floor); err != nil {
				return err
			}
			withStore += took
		}
		before, began := used(), time.Now()
		if err := d.refreshAll(ctx, ids, concurrency); err != nil {
			return err
		}
		ours += time.Since(began)
		cost = cost.add(used().since(before))
		if err := d.saved(ctx, ids); err != nil {
			return err
		}
	}
	ahead.Store(d.ahead.Load())
	total := float64(n * rounds)
	rate := func(took time.Duration) float64 { return total / took.Seconds() }
	what := fmt.Sprintf("refresh/%s/provider %d ms/%d at once", name, delay, concurrency)
	ratio := rate(ours) / rate(bare)
	bar := map[string]float64{"store-at-once": 0.9, "bolt": 0.7}[name]
	if delay == 50 && concurrency == 64 && bar != 0 {
		b.judged(what, rate(ours), "a second", rate(bare), fmt.Sprintf("ratio >= %g", bar), ratio >= bar)
	} else {
		b.report(what, rate(ours), "a second", rate(bare))
	}
	if withStore > 0 {
		b.report(what+"/floor with the store's calls", rate(ours), "a second", rate(withStore))
	}
	if delay == 50 && concurrency == 64 {
		b.report(what+"/processor time", float64(cost.cpu.Microseconds())/total, "µs a refresh", 0)
		b.report(what+"/allocations", float64(cost.allocs)/total, "a refresh", 0)
		b.report(what+"/allocated", float64(cost.bytes)/total/1024, "KiB a refresh", 0)
	}
	return nil
}

// refreshAll refreshes the connections as chunks that a queue hands to one process, so many
// at once.
func (d *deployment) refreshAll(ctx context.Context, ids []string, concurrency int) error {
	calls := max(1, concurrency/chunkWorkers)
	var group sync.WaitGroup
	failed := make([]error, calls)
	for k := range calls {
		part := ids[len(ids)*k/calls : len(ids)*(k+1)/calls]
		group.Go(func() { failed[k] = d.RefreshAll(ctx, part, d.minute()) })
	}
	group.Wait()
	return errors.Join(failed...)
}

// saved is an error unless the tokens of all connections are new by the clock.
func (d *deployment) saved(ctx context.Context, ids []string) error {
	old := 0
	for _, id := range ids {
		rec, err := d.store.Get(ctx, id)
		if err != nil {
			return err
		}
		if rec.ExpiresAt < d.now().Unix()+life-300 {
			old++
		}
	}
	if old > 0 {
		return fmt.Errorf("%d of %d connections were not refreshed", old, len(ids))
	}
	return nil
}

// loop does something for all ids from so many goroutines, and tells how long that took.
func loop(ids []string, concurrency int, do func(id string) error) (time.Duration, error) {
	var group sync.WaitGroup
	var next atomic.Int64
	failed := make([]error, concurrency)
	began := time.Now()
	for g := range concurrency {
		group.Go(func() {
			for k := next.Add(1) - 1; k < int64(len(ids)); k = next.Add(1) - 1 {
				if err := do(ids[k]); err != nil {
					failed[g] = err
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(began), errors.Join(failed...)
}

// bareTransport is that of the token client, whose requests each have a connection of their
// own: the floor is to send the same.
func bareTransport() *http.Transport {
	return provider.NewTransport(provider.TransportOptions{AllowLoopback: true})
}

// send is a token request made bare: a form, an answer, its JSON.
func (b *bench) send(ctx context.Context, path string) error {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {strings.Repeat("r", 52)},
		"client_id": {clientID}, "client_secret": {"a client secret of usual length"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.provider.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.bare.RoundTrip(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	var answer struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresIn    int64  `json:"expires_in"`
	}
	return json.Unmarshal(body, &answer)
}

// sendAndStore is send amid the store's calls of a rotating refresh: a read, a small write and
// one of both tokens.
func (b *bench) sendAndStore(ctx context.Context, path string, table item.Table, id string) error {
	i, err := table.Get(ctx, id)
	if err != nil {
		return err
	}
	if _, err := table.Update(ctx, id, item.Update{Set: []item.Assign{item.Put("bare", int64(1))}}); err != nil {
		return err
	}
	if err := b.send(ctx, path); err != nil {
		return err
	}
	_, err = table.Update(ctx, id, item.Update{
		Set: []item.Assign{item.Put("at", i.Bytes("at")), item.Put("rt", i.Bytes("rt"))}, Remove: []string{"bare"},
	})
	return err
}

// inFlight measures what one refresh holds while its provider is slow.
func (b *bench) inFlight(ctx context.Context) error {
	const n = 256
	c, err := settings(b.provider.base, site{name: integration, token: "/hang", rotates: true, concurrency: n})
	if err != nil {
		return err
	}
	table := newMemory(0)
	d, err := b.deploy(ctx, connection.Store{Connections: table, Authorizations: newMemory(0)}, c)
	if err != nil {
		return err
	}
	ids, err := d.seed(ctx, integration, n, life, false)
	if err != nil {
		return err
	}
	d.later()
	before, ended := held(), make(chan error, 1)
	go func() { ended <- d.refreshAll(ctx, ids, n) }()
	for _, writes := table.calls(); writes < 2*n; _, writes = table.calls() { // seeded, and claimed
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // from the claim to the request on its way
	during := held()
	if err := errors.Join(b.provider.release(), <-ended); err != nil {
		return err
	}
	b.report("refresh/memory of one in flight", (during-before)/n/1024, "KiB", 0)
	return d.saved(ctx, ids)
}
