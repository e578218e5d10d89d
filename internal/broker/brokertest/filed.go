package brokertest

import (
	"context"
	"sync"

	"github.com/evergrant/evergrant/internal/item"
)

// filed is a table that answers for the partitions of the schedule and of what is to do
// in which nothing was ever filed. The tick of a full hour looks into ten thousand of
// them; at DynamoDB Local that takes many seconds and shows nothing. All other questions,
// and all writes, go to the table.
type filed struct {
	item.Table
	mu   sync.Mutex
	ever map[partition]bool // guarded by mu
}

type partition struct {
	index string
	hash  item.Value
}

func onlyFiled(t item.Table) item.Table { return &filed{Table: t, ever: map[partition]bool{}} }

// Update implements item.Table. A write that fails may have been applied, so what it
// would file counts before it is sent.
func (f *filed) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	f.mu.Lock()
	for _, a := range u.Set {
		switch a.Name {
		case "sched":
			f.ever[partition{item.IndexDue, a.Value}] = true
		case "todo":
			f.ever[partition{item.IndexTodo, a.Value}] = true
		}
	}
	f.mu.Unlock()
	return f.Table.Update(ctx, key, u)
}

// Query implements item.Table.
func (f *filed) Query(ctx context.Context, q item.Query) (item.Page, error) {
	f.mu.Lock()
	known := f.ever[partition{q.Index, q.Hash}]
	f.mu.Unlock()
	if !known && (q.Index == item.IndexDue || q.Index == item.IndexTodo) {
		return item.Page{}, ctx.Err()
	}
	return f.Table.Query(ctx, q)
}
