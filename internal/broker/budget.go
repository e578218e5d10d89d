package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
)

// How many refreshes of one integration a process has under way at once, unless its
// configuration says otherwise: as many as end what is due within the tick, where each
// takes refreshTime. Integrations share nothing: however many refreshes hang at one
// provider, those of another find their own width free.
const (
	laneNarrow = 32
	laneWide   = 256
	// refreshTime is more than a provider that answers within 200 ms takes, with the
	// reads and writes of the store.
	refreshTime = 300 * time.Millisecond
)

var (
	errBusyLane = errors.New("as many refreshes of the integration are under way as may be")
	errBudget   = errors.New("the integration's refreshes of this minute are used up")
)

// budgets keep how much is sent for each integration.
type budgets struct {
	mu    sync.Mutex
	lanes map[string]chan struct{} // slots, by integration; guarded by mu
	held  map[string]allowance     // of the minute's budget, by integration; guarded by mu
}

// allowance is what this process has taken out of a minute's budget and not used.
type allowance struct {
	minute int64
	left   int
	spent  bool // the minute's budget is used up
}

func newBudgets() *budgets {
	return &budgets{lanes: map[string]chan struct{}{}, held: map[string]allowance{}}
}

// width is how many refreshes of the integration may be under way at once, for
// whatever reason.
func (b *Broker) width(integration string) int {
	if i, ok := b.Settings.Integration(integration); ok && i.MaxConcurrent > 0 {
		return i.MaxConcurrent
	}
	return laneWide
}

// workers is how many of them work off what is due, n refreshes. within is the time
// that they have, 0 for no end.
func (b *Broker) workers(integration string, n int, within time.Duration) int {
	need := laneNarrow
	if within > 0 {
		need = max(need, int(time.Duration(n)*refreshTime/within))
	}
	return min(need, b.width(integration))
}

// How long a refresh waits for its lane. Readers wait less: somebody waits for them.
const (
	laneWait     = 5 * time.Second
	laneWaitRead = 2 * time.Second
)

// admit lets a refresh begin once its integration's lane has room, and a scheduled one
// only while the minute's budget lasts; see refresh.Driver.Admit. A token that somebody
// asks for now is worth more than one that is due, so reads spend none of the budget.
func (b *Broker) admit(ctx context.Context, integration string, why refresh.Why) (func(), error) {
	if b.Ready != nil {
		if err := b.Ready(ctx); err != nil {
			return nil, err
		}
	}
	b.budgets.mu.Lock()
	lane := b.budgets.lanes[integration]
	if lane == nil {
		lane = make(chan struct{}, b.width(integration))
		b.budgets.lanes[integration] = lane
	}
	b.budgets.mu.Unlock()
	scheduled := why == refresh.Slot || why == refresh.Timer
	if err := enter(ctx, lane, scheduled); err != nil {
		return nil, err
	}
	leave := func() { <-lane }
	if scheduled {
		if err := b.spend(ctx, integration); err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}

func enter(ctx context.Context, lane chan struct{}, scheduled bool) error {
	select {
	case lane <- struct{}{}:
		return nil
	default:
	}
	wait := laneWaitRead
	if scheduled {
		wait = laneWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case lane <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errBusyLane
	}
}

// spend takes one refresh out of the minute's budget of the integration, which all
// processes share.
func (b *Broker) spend(ctx context.Context, integration string) error {
	i, ok := b.Settings.Integration(integration)
	if !ok || i.MaxPerMinute == 0 {
		return nil
	}
	return b.spendOf(ctx, integration, i.MaxPerMinute)
}

// spendOf takes one out of the minute's budget of that name. A process takes a few at
// once, so that the count costs little.
func (b *Broker) spendOf(ctx context.Context, name string, most int) error {
	minute := b.now() / 60
	b.budgets.mu.Lock()
	defer b.budgets.mu.Unlock() // while the store is asked, too: one asks for all
	a := b.budgets.held[name]
	if a.minute != minute {
		a = allowance{minute: minute}
	}
	if a.left == 0 && !a.spent {
		n, err := b.take(ctx, name, minute, most)
		if err != nil {
			return fmt.Errorf("budget of %s: %w", name, err)
		}
		a.left, a.spent = n, n == 0
	}
	defer func() { b.budgets.held[name] = a }()
	if a.left == 0 {
		return errBudget
	}
	a.left--
	return nil
}

// mayImport takes one out of the caller's imports of this minute: each sends a request
// to a provider and fills the schedule from then on. Their slots are spread by their
// ids, whatever minute they came in.
func (b *Broker) mayImport(ctx context.Context, c Caller) *Error {
	most := c.ImportsPerMinute
	if most == 0 {
		most = config.DefaultImportsPerMinute
	}
	// A colon is in no integration's name, so the two kinds of budget stay apart.
	err := b.spendOf(ctx, "import:"+c.Name, most)
	switch {
	case errors.Is(err, errBudget):
		return &Error{
			Code: RateLimited, RetryAfter: 60 - b.now()%60,
			Detail: fmt.Sprintf("this caller may import or activate %d connections in a minute; raise imports_per_minute in its entry, or go on in the next", most),
		}
	case err != nil:
		return internal(err)
	}
	return nil
}

// take reserves a twentieth of a minute's budget, or what is left of it.
func (b *Broker) take(ctx context.Context, name string, minute int64, most int) (int, error) {
	key := "budget#" + name
	n := max(1, most/20)
	for range 4 {
		res, err := b.Store.Connections.Update(ctx, key, item.Update{
			Target: item.Existing,
			If:     []item.Cond{item.Eq("minute", minute), item.Lt("used", int64(most-n+1))},
			Set:    []item.Assign{item.Count("used", int64(n))},
		})
		switch {
		case err != nil:
			return 0, err
		case res.Applied:
			return n, nil
		case res.Item.Int("minute") == minute:
			if n = most - int(res.Item.Int("used")); n <= 0 {
				return 0, nil
			}
			continue
		}
		res, err = b.Store.Connections.Update(ctx, key, item.Update{
			Target: item.Any, If: []item.Cond{item.Ne("minute", minute)},
			Set: []item.Assign{item.Put("minute", minute), item.Put("used", int64(n))},
		})
		if err != nil {
			return 0, err
		}
		if res.Applied {
			return n, nil
		}
	}
	return 0, nil
}
