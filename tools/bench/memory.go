package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/item"
)

// memory is a table that answers at once, or always after the same time. Its queries are
// answered from lists that somebody filled.
type memory struct {
	delay time.Duration

	mu    sync.Mutex
	items map[string]item.Item // guarded by mu
	gets  int                  // guarded by mu
	wrote int                  // guarded by mu

	// due are the ids in the partitions of the index due, in their order, and ranges what they
	// stand under: "integration#id". They are not changed while they are queried.
	due    map[string][]string
	ranges map[string][]string
}

var _ item.Table = (*memory)(nil)

func newMemory(delay time.Duration) *memory {
	return &memory{delay: delay, items: map[string]item.Item{}}
}

func (m *memory) wait() {
	if m.delay > 0 {
		time.Sleep(m.delay)
	}
}

// calls are the reads and writes so far.
func (m *memory) calls() (reads, writes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gets, m.wrote
}

// file puts connections of an integration into a partition of the index due.
func (m *memory) file(partition, integration string, ids []string) {
	if m.due == nil {
		m.due, m.ranges = map[string][]string{}, map[string][]string{}
	}
	all := append(m.due[partition], ids...)
	under := m.ranges[partition]
	for _, id := range ids {
		under = append(under, integration+"#"+id)
	}
	m.due[partition], m.ranges[partition] = all, under
}

// Get implements item.Table.
func (m *memory) Get(_ context.Context, key string) (item.Item, error) {
	m.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	return m.items[key], nil
}

// Update implements item.Table.
func (m *memory) Update(_ context.Context, key string, u item.Update) (item.Result, error) {
	m.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote++
	next, ok := u.Apply(m.items[key])
	if ok {
		m.items[key] = next
	}
	return item.Result{Applied: ok, Item: next}, nil
}

// Delete implements item.Table.
func (m *memory) Delete(_ context.Context, key string, conds ...item.Cond) (item.Result, error) {
	m.wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote++
	old := m.items[key]
	if old == nil || !item.Hold(old, conds) {
		return item.Result{Item: old}, nil
	}
	delete(m.items, key)
	return item.Result{Applied: true, Item: old}, nil
}

// Query implements item.Table, of the index due alone: all other indexes are empty.
func (m *memory) Query(_ context.Context, q item.Query) (item.Page, error) {
	m.wait()
	m.mu.Lock()
	m.gets++
	m.mu.Unlock()
	if q.Index != item.IndexDue {
		return item.Page{}, nil
	}
	ids := m.due[q.Hash]
	from, _ := strconv.Atoi(q.After) // "" is the beginning
	to := min(from+q.Limit, len(ids))
	page := item.Page{Keys: ids[from:to], Ranges: m.ranges[q.Hash][from:to]}
	if to < len(ids) {
		page.Next = strconv.Itoa(to)
	}
	return page, nil
}

// Scan implements item.Table. Nothing here is found by it.
func (*memory) Scan(context.Context, string, int) (item.Page, error) { return item.Page{}, nil }
