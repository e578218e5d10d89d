// Package circuit keeps a client that its provider refuses from harming the
// connections that it got.
//
// A refused client configuration (a wrong secret, a deleted client) says nothing of
// the users' grants, and some providers burn a rotating refresh token on each try
// with a wrong secret. So the first such answer opens the circuit of that client:
// nothing more is sent or written for its connections, but for one probe an
// interval. A success closes it, and the slots that were missed meanwhile are
// walked. The circuit is tied to the generation of the client's configuration: a
// changed secret is tried at once.
//
// The same stands for a storm of refusals: when many grants of one integration are
// said to be gone at once, it is more likely an incident than the users' will.
package circuit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/item"
)

// Client names whose circuit it is.
type Client struct {
	Integration string
	Name        string
	Generation  string // of its configuration: changes with its id or secret
}

func (c Client) key() string { return "circuit#" + c.Integration + "#" + c.Name }

// Status is a circuit as last seen.
type Status struct {
	Open      bool
	Since     int64 // unix s
	Reason    string
	NextProbe int64 // unix s: when one refresh may go through
	WalkFrom  int64 // unix minute from which missed slots must be walked, 0 for none
	// Young is true for an hour after the client's configuration was changed.
	Young bool
}

const (
	cacheAge   = 5  // s: how old a status may be before it is read again
	probeFirst = 60 // s
	probeCap   = 15 * 60
	youngTime  = 3600

	stormWindow = 10 // minutes
	stormCount  = 5
	stormShare  = 5 // more than one in so many
)

// Breaker knows the circuits of one process. It may be used concurrently.
type Breaker struct {
	table item.Table
	now   func() time.Time

	mu     sync.Mutex
	seen   map[string]cached              // guarded by mu
	storms map[string]*[stormWindow]tally // by integration; guarded by mu
}

type cached struct {
	status Status
	gen    string
	at     int64
}

type tally struct {
	minute         int64
	total, refused int64
}

// New makes a Breaker over the table of connections.
func New(table item.Table, now func() time.Time) *Breaker {
	return &Breaker{table: table, now: now, seen: map[string]cached{}, storms: map[string]*[stormWindow]tally{}}
}

// Status tells how the client's circuit stands, at most a few seconds late. Where
// the store does not answer, what was known last counts.
func (b *Breaker) Status(ctx context.Context, c Client) (Status, error) {
	now := b.now().Unix()
	b.mu.Lock()
	known, ok := b.seen[c.key()]
	b.mu.Unlock()
	if ok && known.gen == c.Generation && now-known.at < cacheAge && now >= known.at {
		return known.status, nil
	}
	i, err := b.table.Get(ctx, c.key())
	if err != nil {
		return known.status, fmt.Errorf("read circuit of %s: %w", c.Integration, err)
	}
	if i == nil || i.String("gen") != c.Generation {
		if i, err = b.adopt(ctx, c, i, now); err != nil {
			return known.status, err
		}
	}
	return b.remember(c, i, now), nil
}

// adopt writes the client's new generation into its circuit: the first one closed, a
// changed one half-open where it was open, so that the next refresh is its probe.
func (b *Breaker) adopt(ctx context.Context, c Client, old item.Item, now int64) (item.Item, error) {
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("gen", c.Generation)}}
	if old == nil {
		u.If = []item.Cond{item.Lacks("gen")}
		u.Set = append(u.Set, item.Put("state", "closed"))
	} else {
		u.If = []item.Cond{item.Eq("gen", old.String("gen"))}
		u.Set = append(u.Set, item.Put("gen_since", now), item.Put("next_probe", now), item.Put("probes", int64(0)))
	}
	res, err := b.table.Update(ctx, c.key(), u)
	if err != nil {
		return nil, fmt.Errorf("adopt circuit of %s: %w", c.Integration, err)
	}
	return res.Item, nil // refused: another process was faster; what it wrote counts
}

func (b *Breaker) remember(c Client, i item.Item, now int64) Status {
	s := Status{
		Open: i.String("state") == "open", Since: i.Int("since"), Reason: i.String("reason"),
		NextProbe: i.Int("next_probe"), WalkFrom: i.Int("walk_from"),
	}
	if since := i.Int("gen_since"); since != 0 && now-since < youngTime {
		s.Young = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[c.key()] = cached{status: s, gen: c.Generation, at: now}
	return s
}

// Trip opens the circuit. Opened again it keeps its beginning.
func (b *Breaker) Trip(ctx context.Context, c Client, reason string) error {
	now := b.now().Unix()
	if _, err := b.Status(ctx, c); err != nil {
		return err
	}
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If: []item.Cond{item.Eq("gen", c.Generation), item.Ne("state", "open")},
		Set: []item.Assign{
			item.Put("state", "open"), item.Put("since", now), item.Put("reason", reason), item.Put("probes", int64(0)),
			item.Put("next_probe", now+probeFirst), item.Keep("walk_from", now/60),
		},
	})
	if err != nil {
		return fmt.Errorf("open circuit of %s: %w", c.Integration, err)
	}
	b.remember(c, res.Item, now)
	return nil
}

// TakeProbe takes the right to the one refresh that an open circuit lets through in
// each interval; the intervals double up to a quarter of an hour.
func (b *Breaker) TakeProbe(ctx context.Context, c Client) (bool, error) {
	now := b.now().Unix()
	s, err := b.Status(ctx, c)
	if err != nil || !s.Open || s.NextProbe > now {
		return false, err
	}
	i, err := b.table.Get(ctx, c.key())
	if err != nil {
		return false, err
	}
	probes := i.Int("probes")
	wait := min(int64(probeFirst)<<min(probes, 10), probeCap)
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:  []item.Cond{item.Eq("gen", c.Generation), item.Eq("state", "open"), item.Lt("next_probe", now+1), item.Eq("probes", probes)},
		Set: []item.Assign{item.Put("next_probe", now+wait), item.Put("probes", probes+1)},
	})
	if err != nil {
		return false, err
	}
	b.remember(c, res.Item, now)
	return res.Applied, nil
}

// Worked closes the circuit after a success. Only a success closes it: a refused
// token proves no client good.
func (b *Breaker) Worked(ctx context.Context, c Client) error {
	s, err := b.Status(ctx, c)
	if err != nil || !s.Open {
		return err
	}
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:     []item.Cond{item.Eq("gen", c.Generation), item.Eq("state", "open")},
		Set:    []item.Assign{item.Put("state", "closed")},
		Remove: []string{"since", "reason", "next_probe", "probes"},
	})
	if err != nil {
		return fmt.Errorf("close circuit of %s: %w", c.Integration, err)
	}
	b.remember(c, res.Item, b.now().Unix())
	return nil
}

// Walked says that the slots missed since from have been walked.
func (b *Breaker) Walked(ctx context.Context, c Client, from int64) error {
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:     []item.Cond{item.Eq("walk_from", from), item.Ne("state", "open")},
		Remove: []string{"walk_from"},
	})
	if err == nil {
		b.remember(c, res.Item, b.now().Unix())
	}
	return err
}

// Judge counts one answer to a refresh, and reports whether a refusal among them is
// one of so many that it should open the circuit instead of being a verdict.
func (b *Breaker) Judge(c Client, refused bool) bool {
	minute := b.now().Unix() / 60
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.storms[c.Integration]
	if w == nil {
		w = new([stormWindow]tally)
		b.storms[c.Integration] = w
	}
	t := &w[minute%stormWindow]
	if t.minute != minute {
		*t = tally{minute: minute}
	}
	t.total++
	if !refused {
		return false
	}
	t.refused++
	var total, all int64
	for _, t := range w {
		if minute-t.minute < stormWindow {
			total, all = total+t.refused, all+t.total
		}
	}
	known := b.seen[c.key()]
	return known.status.Young || total > stormCount && total*stormShare > all
}
