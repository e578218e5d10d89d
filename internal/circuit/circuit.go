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
// A provider that asks to be left alone for a while is: its pause stands beside the
// circuit and works alike. And what could not be sent though it was due, for whatever
// reason, is owed: the circuit remembers since when, and the tick walks those slots.
//
// The same stands for a storm of refusals: when many grants of one integration are
// said to be gone at once, it is more likely an incident than the users' will.
package circuit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

// Client names whose circuit it is.
type Client struct {
	Integration string
	Name        string
	Generation  string // of its configuration: changes with its id or secret
}

const keyPrefix = "circuit#"

func (c Client) key() string { return keyPrefix + c.Integration + "#" + c.Name }

// ClientOf is the client whose circuit is stored under a key; its Generation is not
// known. ok is false for any other key.
func ClientOf(key string) (c Client, ok bool) {
	rest, ok := strings.CutPrefix(key, keyPrefix)
	if !ok {
		return Client{}, false
	}
	integration, name, ok := strings.Cut(rest, "#")
	return Client{Integration: integration, Name: name}, ok
}

// Status is a circuit as last seen.
type Status struct {
	Open      bool
	Since     int64 // unix s
	Reason    string
	NextProbe int64 // unix s: when one refresh may go through
	WalkFrom  int64 // unix minute from which missed slots must be walked, 0 for none
	Owed      int64 // how often slots were owed; see Walked
	// PausedUntil, unix s: the provider asked for no requests before it. 0 for none.
	PausedUntil int64
	// FirstSeen, unix s, is when this configuration of the client was first seen; 0 unknown.
	FirstSeen int64
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

	pauseStep = 5 // s: a pause that is longer by no more than this is not written
)

// Breaker knows the circuits of one process. It may be used concurrently.
type Breaker struct {
	// Announce, where set before the first use, has the writes that open and close a
	// circuit tell of it: one event for an outage, and one for its end.
	Announce *outbox.Announcer

	table item.Table
	now   func() time.Time

	mu     sync.Mutex
	seen   map[string]cached              // guarded by mu
	storms map[string]*[stormWindow]tally // by integration; guarded by mu
	apart  map[Client]int64               // answers not yet added to the shared count; guarded by mu
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
	return &Breaker{table: table, now: now, seen: map[string]cached{}, storms: map[string]*[stormWindow]tally{}, apart: map[Client]int64{}}
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

// Look reads how the circuit of a client stands whose generation is not known: an open
// one may have been mended by now, which the next tick finds out. It changes nothing.
func (b *Breaker) Look(ctx context.Context, c Client) (Status, error) {
	i, err := b.table.Get(ctx, c.key())
	if err != nil {
		return Status{}, fmt.Errorf("read circuit of %s: %w", c.Integration, err)
	}
	return statusOf(i, b.now().Unix()), nil
}

// adopt writes the client's new generation into its circuit: the first one closed, a
// changed one half-open where it was open, so that the next refresh is its probe.
func (b *Breaker) adopt(ctx context.Context, c Client, old item.Item, now int64) (item.Item, error) {
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("gen", c.Generation), item.Put("gen_at", now)}}
	if old.String("gen") == "" {
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
	s := statusOf(i, now)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[c.key()] = cached{status: s, gen: c.Generation, at: now}
	return s
}

func statusOf(i item.Item, now int64) Status {
	s := Status{
		Open: i.String("state") == "open", Since: i.Int("since"), Reason: i.String("reason"),
		NextProbe: i.Int("next_probe"), WalkFrom: i.Int("walk_from"),
		Owed: i.Int("owed"), PausedUntil: i.Int("pause_until"), FirstSeen: i.Int("gen_at"),
	}
	if since := i.Int("gen_since"); since != 0 && now-since < youngTime {
		s.Young = true
	}
	return s
}

// Trip opens the circuit. Opened again it keeps its beginning.
func (b *Breaker) Trip(ctx context.Context, c Client, reason string) error {
	now := b.now().Unix()
	if _, err := b.Status(ctx, c); err != nil {
		return err
	}
	res, err := b.Announce.Update(ctx, b.table, c.key(), item.Update{
		If: []item.Cond{item.Eq("gen", c.Generation), item.Ne("state", "open")},
		Set: []item.Assign{
			item.Put("state", "open"), item.Put("since", now), item.Put("reason", reason), item.Put("probes", int64(0)),
			item.Put("next_probe", now+probeFirst), item.Keep("walk_from", now/60),
		},
	}, outbox.Suspended, reason, now)
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

// GiveBack returns a probe that was taken and not used, since its connection was being
// refreshed by somebody else: the next one who asks gets it.
func (b *Breaker) GiveBack(ctx context.Context, c Client) error {
	now := b.now().Unix()
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:  []item.Cond{item.Eq("gen", c.Generation), item.Eq("state", "open"), item.Gt("next_probe", now)},
		Set: []item.Assign{item.Put("next_probe", now)},
	})
	if err != nil {
		return fmt.Errorf("give back the probe of %s: %w", c.Integration, err)
	}
	if res.Item != nil {
		b.remember(c, res.Item, now)
	}
	return nil
}

// Worked closes the circuit after a success. Only a success closes it: a refused
// token proves no client good.
func (b *Breaker) Worked(ctx context.Context, c Client) error {
	s, err := b.Status(ctx, c)
	if err != nil || !s.Open {
		return err
	}
	now := b.now().Unix()
	res, err := b.Announce.Update(ctx, b.table, c.key(), item.Update{
		If:     []item.Cond{item.Eq("gen", c.Generation), item.Eq("state", "open")},
		Set:    []item.Assign{item.Put("state", "closed")},
		Remove: []string{"since", "reason", "next_probe", "probes"},
	}, outbox.Resumed, "", now)
	if err != nil {
		return fmt.Errorf("close circuit of %s: %w", c.Integration, err)
	}
	b.remember(c, res.Item, now)
	return nil
}

// Pause has nothing sent for the client before a moment, unix s: the provider asked
// for it. Every process knows within seconds. The slots that are missed meanwhile are
// owed.
func (b *Breaker) Pause(ctx context.Context, c Client, until int64) error {
	now := b.now().Unix()
	s, err := b.Status(ctx, c)
	if err != nil || until <= now || until <= s.PausedUntil+pauseStep {
		return err
	}
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:  []item.Cond{item.Eq("gen", c.Generation)},
		Set: []item.Assign{item.Put("pause_until", until), item.Keep("walk_from", now/60)},
	})
	if err != nil {
		return fmt.Errorf("pause %s: %w", c.Integration, err)
	}
	if res.Applied {
		b.remember(c, res.Item, now)
	}
	return nil
}

// Owe says that what was due at a minute could not be sent: it is to be walked again
// from there. The client's generation need not be known.
func (b *Breaker) Owe(ctx context.Context, c Client, minute int64) error {
	earlier := item.Update{
		Target: item.Existing, If: []item.Cond{item.Gt("walk_from", minute)},
		Set: []item.Assign{item.Put("walk_from", minute), item.Count("owed", 1)},
	}
	res, err := b.table.Update(ctx, c.key(), earlier)
	if err == nil && !res.Applied {
		res, err = b.table.Update(ctx, c.key(), item.Update{
			Target: item.Any, Set: []item.Assign{item.Keep("walk_from", minute), item.Count("owed", 1)},
		})
	}
	if err != nil {
		return fmt.Errorf("note what %s is owed: %w", c.Integration, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.seen, c.key()) // read anew
	return nil
}

// Walked says that the slots missed by s have been walked. What was owed since s was
// read keeps them, since nobody knows whether the walk came before or after.
func (b *Breaker) Walked(ctx context.Context, c Client, s Status) error {
	owed := item.Eq("owed", s.Owed)
	if s.Owed == 0 {
		owed = item.Lacks("owed")
	}
	res, err := b.table.Update(ctx, c.key(), item.Update{
		If:     []item.Cond{item.Eq("walk_from", s.WalkFrom), item.Ne("state", "open"), owed},
		Remove: []string{"walk_from"},
	})
	if err == nil && res.Item.String("gen") == c.Generation {
		b.remember(c, res.Item, b.now().Unix())
	}
	return err
}
