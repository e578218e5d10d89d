package simulate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/evergrant/evergrant/internal/item"
)

var _ item.Table = (*Table)(nil)

// Table is an item.Table in memory. It counts what its writes would cost.
type Table struct {
	defs  []item.Index
	calls atomic.Int64 // of all methods
	// changed, where set, is told of every update that was applied; the table is locked
	// meanwhile.
	changed func(key string, before, after item.Item)

	mu    sync.RWMutex
	items map[string]item.Item      // guarded by mu
	sizes map[string]int            // of items; guarded by mu
	keys  []string                  // of items, sorted; guarded by mu
	rows  []map[string]indexedItems // by index, then by hash; guarded by mu
	meter meter                     // guarded by mu
}

// indexedItems is one partition of an index, in the order of range and key.
type indexedItems []indexedItem

type indexedItem struct{ rng, key string }

func (a indexedItem) compare(b indexedItem) int {
	return cmp.Or(strings.Compare(a.rng, b.rng), strings.Compare(a.key, b.key))
}

// NewTable makes an empty table with these indexes.
func NewTable(indexes []item.Index) *Table {
	t := &Table{defs: indexes, items: map[string]item.Item{}, sizes: map[string]int{}, meter: meter{indexes: indexes}}
	for range indexes {
		t.rows = append(t.rows, map[string]indexedItems{})
	}
	return t
}

// Get implements item.Table.
func (t *Table) Get(ctx context.Context, key string) (item.Item, error) {
	t.calls.Add(1)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.items[key].Clone(), nil
}

// Update implements item.Table.
func (t *Table) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	t.calls.Add(1)
	if err := cmp.Or(ctx.Err(), checkKey(key), u.Check(t.defs)); err != nil {
		return item.Result{}, fmt.Errorf("update %s: %w", key, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.items[key]
	after, applied := u.Apply(before)
	size := after.Size()
	if applied && size > item.MaxSize {
		return item.Result{}, fmt.Errorf("update %s: %w", key, item.ErrTooLarge)
	}
	t.meter.write(key, before, after, applied, t.sizes[key], size)
	if applied {
		t.store(key, before, after, size)
		if t.changed != nil {
			t.changed(key, before, after)
		}
	}
	return item.Result{Applied: applied, Item: after.Clone()}, nil
}

// Delete implements item.Table.
func (t *Table) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	t.calls.Add(1)
	if err := cmp.Or(ctx.Err(), checkKey(key), item.CheckConds(conds)); err != nil {
		return item.Result{}, fmt.Errorf("delete %s: %w", key, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.items[key]
	applied := before != nil && item.Hold(before, conds)
	t.meter.write(key, before, nil, applied, t.sizes[key])
	if applied {
		t.store(key, before, nil, 0)
	}
	return item.Result{Applied: applied, Item: before.Clone()}, nil
}

func checkKey(key string) error {
	if key == "" || len(key) > item.MaxHash {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	return nil
}

// store puts after in the place of before; either may be nil.
func (t *Table) store(key string, before, after item.Item, size int) {
	at, known := slices.BinarySearch(t.keys, key)
	switch {
	case after == nil:
		delete(t.items, key)
		delete(t.sizes, key)
		t.keys = slices.Delete(t.keys, at, at+1)
	case !known:
		t.keys = slices.Insert(t.keys, at, key)
		fallthrough
	default:
		t.items[key], t.sizes[key] = after, size
	}
	for k, x := range t.defs {
		oldHash, oldRange, stood := place(x, key, before)
		newHash, newRange, stands := place(x, key, after)
		if stood == stands && oldHash == newHash && oldRange == newRange {
			continue
		}
		if stood {
			t.rows[k][oldHash] = t.rows[k][oldHash].without(indexedItem{oldRange, key})
			if len(t.rows[k][oldHash]) == 0 {
				delete(t.rows[k], oldHash)
			}
		}
		if stands {
			t.rows[k][newHash] = t.rows[k][newHash].with(indexedItem{newRange, key})
		}
	}
}

func (p indexedItems) with(row indexedItem) indexedItems {
	at, _ := slices.BinarySearchFunc(p, row, indexedItem.compare)
	return slices.Insert(p, at, row)
}

func (p indexedItems) without(row indexedItem) indexedItems {
	at, _ := slices.BinarySearchFunc(p, row, indexedItem.compare)
	return slices.Delete(p, at, at+1)
}

// Query implements item.Table.
func (t *Table) Query(ctx context.Context, q item.Query) (item.Page, error) {
	t.calls.Add(1)
	def, err := q.IndexOf(t.defs)
	if err := cmp.Or(ctx.Err(), err); err != nil {
		return item.Page{}, err
	}
	begin, err := q.Place(2)
	if err != nil {
		return item.Page{}, fmt.Errorf("query index %s: %w", q.Index, err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	rows := t.rows[slices.IndexFunc(t.defs, func(x item.Index) bool { return x.Name == def.Name })][q.Hash]
	at, _ := slices.BinarySearchFunc(rows, indexedItem{rng: q.Prefix}, indexedItem.compare)
	if begin != nil {
		after := indexedItem{begin[0], begin[1]}
		var found bool
		if at, found = slices.BinarySearchFunc(rows, after, indexedItem.compare); found {
			at++
		}
	}
	var page item.Page
	for ; at < len(rows) && strings.HasPrefix(rows[at].rng, q.Prefix); at++ {
		if len(page.Keys) == q.Limit {
			page.Next = q.Cursor(rows[at-1].rng, rows[at-1].key)
			break
		}
		page.Keys, page.Ranges = append(page.Keys, rows[at].key), append(page.Ranges, rows[at].rng)
	}
	return page, nil
}

// Scan implements item.Table.
func (t *Table) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	t.calls.Add(1)
	all := item.Query{After: after}
	begin, err := all.Place(1)
	if err := cmp.Or(ctx.Err(), err); err != nil {
		return item.Page{}, fmt.Errorf("scan: %w", err)
	}
	if limit < 1 {
		return item.Page{}, fmt.Errorf("scan: a limit of %d", limit)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := 0
	if begin != nil {
		var found bool
		if at, found = slices.BinarySearch(t.keys, begin[0]); found {
			at++
		}
	}
	end := min(at+limit, len(t.keys))
	page := item.Page{Keys: slices.Clone(t.keys[at:end])}
	if end < len(t.keys) {
		page.Next = all.Cursor(t.keys[end-1])
	}
	return page, nil
}
