package refresh_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/item"
)

// fault is what befalls one write.
type fault int

const (
	noFault    fault = iota
	failBefore       // not applied, and an error
	failAfter        // applied, and an error: its answer was lost
	repeated         // applied, its answer lost, and sent again as an SDK does
)

var errStore = errors.New("store is down")

// table is an item.Table in memory, by the meaning of item.Update itself. strike,
// where set, decides what befalls a write; between, where set, runs before each
// write is applied, as another process would.
type table struct {
	mu      sync.Mutex // guards items and calls of strike
	items   map[string]item.Item
	indexes []item.Index
	strike  func(key string, u item.Update) fault
	between func(key string, u item.Update)
	down    bool
}

var _ item.Table = (*table)(nil)

func newTable(indexes []item.Index) *table {
	return &table{items: map[string]item.Item{}, indexes: indexes}
}

func (t *table) Get(ctx context.Context, key string) (item.Item, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return nil, errStore
	}
	return t.items[key].Clone(), ctx.Err()
}

func (t *table) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	if err := u.Check(t.indexes); err != nil {
		return item.Result{}, err
	}
	if t.between != nil {
		t.between(key, u)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := noFault
	if t.strike != nil {
		f = t.strike(key, u)
	}
	if t.down || f == failBefore || ctx.Err() != nil {
		return item.Result{}, errStore
	}
	next, applied := u.Apply(t.items[key])
	if applied {
		t.items[key] = next
	}
	switch f {
	case failAfter:
		return item.Result{}, errStore
	case repeated:
		next, applied = u.Apply(t.items[key])
		if applied {
			t.items[key] = next
		}
	}
	return item.Result{Applied: applied, Item: next.Clone()}, nil
}

func (t *table) Delete(_ context.Context, key string, conds ...item.Cond) (item.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.items[key]
	if t.down {
		return item.Result{}, errStore
	}
	if old == nil || !item.Hold(old, conds) {
		return item.Result{Item: old.Clone()}, nil
	}
	delete(t.items, key)
	return item.Result{Applied: true, Item: old}, nil
}

func (t *table) Query(_ context.Context, q item.Query) (item.Page, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return item.Page{}, errStore
	}
	i := slices.IndexFunc(t.indexes, func(i item.Index) bool { return i.Name == q.Index })
	rangeOf := func(key string) string {
		if t.indexes[i].Range == item.KeyName {
			return key
		}
		return t.items[key].String(t.indexes[i].Range)
	}
	var p item.Page
	for _, key := range slices.Sorted(maps.Keys(t.items)) {
		if t.items[key].String(t.indexes[i].Hash) == q.Hash && strings.HasPrefix(rangeOf(key), q.Prefix) {
			p.Keys = append(p.Keys, key)
		}
	}
	return p, nil
}

func (t *table) Scan(context.Context, string, int) (item.Page, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return item.Page{Keys: slices.Sorted(maps.Keys(t.items))}, nil
}

// sets reports whether the update assigns an attribute: by it a write is known.
func sets(u item.Update, name string) bool {
	return slices.ContainsFunc(u.Set, func(a item.Assign) bool { return a.Name == name })
}

func isSave(u item.Update) bool  { return sets(u, "save_id") }
func isClaim(u item.Update) bool { return sets(u, "attempt") }

// once makes a fault strike the first write that is meant.
func once(f fault, meant func(item.Update) bool) func(string, item.Update) fault {
	done := false
	return func(_ string, u item.Update) fault {
		if done || !meant(u) {
			return noFault
		}
		done = true
		return f
	}
}

// always makes a fault strike every write that is meant.
func always(f fault, meant func(item.Update) bool) func(string, item.Update) fault {
	return func(_ string, u item.Update) fault {
		if meant(u) {
			return f
		}
		return noFault
	}
}
