package itemtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/evergrant/evergrant/internal/item"
)

func largeItems(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	bytes := func(kb int) item.Bytes { return item.Bytes(strings.Repeat("x", kb<<10)) }

	wanted := item.Item{"at": bytes(340)}
	key := put(t, table, wanted)
	wantItem(t, "stored", get(t, table, key), wanted)

	absent := fresh("conn_")
	if _, err := table.Update(ctx, absent, creation(item.Item{"at": bytes(351)})); !errors.Is(err, item.ErrTooLarge) {
		t.Errorf("creating 351 KB: %v", err)
	}
	wantItem(t, "stored", get(t, table, absent), nil)

	old := item.Item{"at": bytes(300), "gen": int64(1)}
	key = put(t, table, old)
	_, err := table.Update(ctx, key, item.Update{Set: []item.Assign{item.Put("rt", bytes(200)), item.Put("gen", int64(2))}})
	if !errors.Is(err, item.ErrTooLarge) {
		t.Errorf("growing to 500 KB: %v", err)
	}
	wantItem(t, "stored", get(t, table, key), old)

	got := update(t, table, key, item.Update{Set: []item.Assign{item.Put("rt", bytes(200))}, Remove: []string{"at"}})
	wanted = item.Item{"rt": bytes(200), "gen": int64(1)}
	want(t, table, key, got, item.Result{Applied: true, Item: wanted}, wanted)
}

func impossibleUpdates(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	old := item.Item{"gen": int64(1), "owner": "o", "integration_id": "i#1"}
	deep := item.Value("x")
	for range item.MaxDepth {
		deep = item.List{deep}
	}
	set := func(a ...item.Assign) item.Update { return item.Update{Set: a} }
	when := func(c item.Cond) item.Update {
		return item.Update{If: []item.Cond{c}, Set: []item.Assign{item.Put("gen", int64(2))}}
	}
	for name, u := range map[string]item.Update{
		"a name twice":           set(item.Put("gen", int64(2)), item.Put("gen", int64(3))),
		"set and removed":        {Set: []item.Assign{item.Put("gen", int64(2))}, Remove: []string{"gen"}},
		"no name":                set(item.Put("", int64(2))),
		"a name with a dot":      set(item.Put("attempt.id", "x")),
		"the key":                set(item.Put(item.KeyName, "x")),
		"no value":               set(item.Put("gen", nil)),
		"a foreign type":         set(item.Put("gen", 2)),
		"a foreign type inside":  set(item.Put("gen", item.Map{"a": item.List{1.5}})),
		"too deep":               set(item.Put("gen", deep)),
		"no UTF-8":               set(item.Put("gen", "\xff")),
		"an empty index hash":    set(item.Put("owner", "")),
		"a number in an index":   set(item.Put("integration_id", int64(1))),
		"a long index hash":      set(item.Put("owner", strings.Repeat("o", 2049))),
		"a sum in an index":      set(item.Plus("owner", "gen", 1)),
		"a long index range":     set(item.Put("integration_id", strings.Repeat("o", 1025))),
		"less than true":         when(item.Lt("gen", true)),
		"equal to nothing":       when(item.Eq("gen", nil)),
		"in nothing":             when(item.In("gen")),
		"two members":            when(item.Has("a.b.c")),
		"a condition on the key": when(item.Has(item.KeyName)),
	} {
		t.Run(name, func(t *testing.T) {
			key := put(t, table, old)
			if res, err := table.Update(ctx, key, u); err == nil {
				t.Errorf("no error, but %+v", res)
			}
			wantItem(t, "stored", get(t, table, key), old)
		})
	}
	if _, err := table.Update(ctx, "", set(item.Put("gen", int64(2)))); err == nil {
		t.Error("an empty key was taken")
	}
	for name, q := range map[string]item.Query{
		"no such index": {Index: "none", Hash: "x", Limit: 1},
		"no hash":       {Index: item.IndexTodo, Limit: 1},
		"no limit":      {Index: item.IndexTodo, Hash: "x"},
	} {
		if _, err := table.Query(ctx, q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := table.Scan(ctx, "", 0); err == nil {
		t.Error("a scan without a limit was taken")
	}
}

// writers is how many write at once, as many as a busy process has refreshes.
const writers = 64

// together runs f by all writers at the same moment.
func together(f func(n int64)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for n := range int64(writers) {
		all.Go(func() {
			<-start
			f(n)
		})
	}
	close(start)
	all.Wait()
}

func oneWinner(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	key := put(t, table, item.Item{"gen": int64(0)})
	for gen := range int64(8) {
		var winners atomic.Int64
		var winner atomic.Int64
		together(func(n int64) {
			res, err := table.Update(ctx, key, item.Update{
				If:  []item.Cond{item.Eq("gen", gen)},
				Set: []item.Assign{item.Plus("gen", "gen", 1), item.Put("by", n)},
			})
			if err != nil {
				t.Error(err)
			}
			if res.Item.Int("gen") != gen+1 || (res.Applied && res.Item.Int("by") != n) {
				t.Errorf("writer %d of generation %d: %+v", n, gen, res)
			}
			if res.Applied {
				winners.Add(1)
				winner.Store(n)
			}
		})
		if i := get(t, table, key); winners.Load() != 1 || i.Int("gen") != gen+1 || i.Int("by") != winner.Load() {
			t.Fatalf("generation %d has %d winners, and is then %v", gen, winners.Load(), i)
		}
	}
}

func noLostIncrement(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	key := put(t, table, item.Item{"n": int64(0)})
	var seen sync.Map
	together(func(int64) {
		res, err := table.Update(ctx, key, item.Update{Set: []item.Assign{item.Plus("n", "n", 1)}})
		if err != nil || !res.Applied {
			t.Errorf("increment: %+v, %v", res, err)
		}
		if _, twice := seen.LoadOrStore(res.Item.Int("n"), true); twice {
			t.Errorf("two increments returned %d", res.Item.Int("n"))
		}
	})
	if n := get(t, table, key).Int("n"); n != writers {
		t.Errorf("the sum is %d, want %d", n, writers)
	}
}

func tablesApart(t *testing.T, tables Tables) {
	wanted := item.Item{"todo": "todo#5#0"}
	key := put(t, tables.Connections, wanted)
	wantItem(t, "other table's", get(t, tables.Authorizations, key), nil)
	wantKeys(t, tables.Connections, item.Query{Index: item.IndexTodo, Hash: "todo#5#0"}, key)
	wantKeys(t, tables.Authorizations, item.Query{Index: item.IndexTodo, Hash: "todo#5#0"})
	if page, err := tables.Authorizations.Scan(contextOf(t), "", 10); err != nil || len(page.Keys) > 0 {
		t.Errorf("scan of the other table: %v, %v", page, err)
	}
}

func endedContext(t *testing.T, tables Tables) {
	table := tables.Connections
	old := item.Item{"gen": int64(1)}
	key := put(t, table, old)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"get":    func() error { _, err := table.Get(ctx, key); return err },
		"update": func() error { _, err := table.Update(ctx, key, item.Update{Remove: []string{"gen"}}); return err },
		"delete": func() error { _, err := table.Delete(ctx, key); return err },
		"query": func() error {
			_, err := table.Query(ctx, item.Query{Index: item.IndexTodo, Hash: "x", Limit: 1})
			return err
		},
		"scan": func() error { _, err := table.Scan(ctx, "", 1); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantItem(t, "stored", get(t, table, key), old)
}
