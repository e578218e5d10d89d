package itemtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/item"
)

// tries bounds how often an index is read again: it may follow its items a little
// later, and each read takes the store a while.
const tries = 200

// wantKeys demands that q finds these keys in this order.
func wantKeys(t testing.TB, table item.Table, q item.Query, wanted ...string) {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	var got []string
	for range tries {
		if got = keysOf(t, table, q); slices.Equal(got, wanted) {
			return
		}
	}
	t.Errorf("index %s, hash %q, prefix %q (-want +got):\n%s", q.Index, q.Hash, q.Prefix, cmp.Diff(wanted, got))
}

// keysOf reads all pages of q.
func keysOf(t testing.TB, table item.Table, q item.Query) []string {
	t.Helper()
	var keys []string
	for {
		page, err := table.Query(contextOf(t), q)
		if err != nil {
			t.Fatalf("query %+v: %v", q, err)
		}
		if len(page.Keys) > q.Limit {
			t.Fatalf("a page of %d keys under the limit %d", len(page.Keys), q.Limit)
		}
		keys = append(keys, page.Keys...)
		if q.After = page.Next; q.After == "" {
			return keys
		}
	}
}

func membership(t *testing.T, tables Tables) {
	table := tables.Connections
	owner, sched := fresh("owner-"), fresh("50#7#")
	byOwner := item.Query{Index: item.IndexByOwner, Hash: owner}
	due := item.Query{Index: item.IndexDue, Hash: sched}
	key := put(t, table, item.Item{"owner": owner})
	wantKeys(t, table, byOwner) // without the range attribute it is not in the index

	update(t, table, key, item.Update{Set: []item.Assign{item.Put("integration_id", "askfred#"+key)}})
	wantKeys(t, table, byOwner, key)
	wantKeys(t, table, due)

	update(t, table, key, item.Update{Set: []item.Assign{item.Put("sched", sched)}})
	wantKeys(t, table, due, key)

	update(t, table, key, item.Update{Set: []item.Assign{item.Put("sched", sched+"x")}, Remove: []string{"owner"}})
	wantKeys(t, table, due)
	wantKeys(t, table, byOwner)
	due.Hash = sched + "x"
	wantKeys(t, table, due, key)

	update(t, table, key, item.Update{Remove: []string{"sched"}})
	wantKeys(t, table, due)

	update(t, table, key, item.Update{Set: []item.Assign{item.Put("sched", sched), item.Put("owner", owner)}})
	wantKeys(t, table, byOwner, key)
	if _, err := table.Delete(contextOf(t), key); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, table, byOwner)
}

func rangeOrder(t *testing.T, tables Tables) {
	table := tables.Connections
	integration, todo := fresh("int-"), fresh("todo#")
	var keys []string
	ranges := []string{"a", "a\x00", "a\x00b", "a\x01", "a#", "aa", "b", "ä", "日"} // in the order of their bytes
	for _, n := range []int{4, 8, 0, 6, 2, 7, 1, 5, 3} {
		key := put(t, table, item.Item{"integration": integration, "status_id": ranges[n], "todo": todo})
		keys = append(keys, key)
	}
	byRange := []string{keys[2], keys[6], keys[4], keys[8], keys[0], keys[7], keys[3], keys[5], keys[1]}
	wantKeys(t, table, item.Query{Index: item.IndexByIntegration, Hash: integration}, byRange...)
	page, err := table.Query(contextOf(t), item.Query{Index: item.IndexByIntegration, Hash: integration, Limit: 100})
	if err != nil || !slices.Equal(page.Ranges, ranges) {
		t.Errorf("range attributes %q, want %q, %v", page.Ranges, ranges, err)
	}
	slices.Sort(keys)
	wantKeys(t, table, item.Query{Index: item.IndexTodo, Hash: todo}, keys...)
	wantKeys(t, table, item.Query{Index: item.IndexTodo, Hash: todo[:len(todo)-1]}) // a hash is whole
}

func prefixes(t *testing.T, tables Tables) {
	table := tables.Connections
	sched := fresh("50#7#")
	keys := map[string]string{}
	for _, id := range []string{"askfred#1", "askfred#2", "askfred2#1", "ask\x00#1", "zoom#1"} {
		keys[id] = put(t, table, item.Item{"sched": sched, "integration_id": id})
	}
	due := item.Query{Index: item.IndexDue, Hash: sched}
	for prefix, ids := range map[string][]string{
		"":         {"ask\x00#1", "askfred#1", "askfred#2", "askfred2#1", "zoom#1"},
		"askfred#": {"askfred#1", "askfred#2"},
		"ask":      {"ask\x00#1", "askfred#1", "askfred#2", "askfred2#1"},
		"ask\x00":  {"ask\x00#1"},
		"zoom#1":   {"zoom#1"},
		"zoom#11":  nil,
	} {
		var wanted []string
		for _, id := range ids {
			wanted = append(wanted, keys[id])
		}
		due.Prefix = prefix
		for _, due.Limit = range []int{1, 100} {
			wantKeys(t, table, due, wanted...)
		}
	}
}

func pages(t *testing.T, tables Tables) {
	table := tables.Connections
	owner, todo := fresh("o\x00"), fresh("todo#")
	var keys []string
	for n := range 11 {
		keys = append(keys, put(t, table, item.Item{"owner": owner, "integration_id": fmt.Sprintf("i\x00#%02d", n), "todo": todo}))
	}
	byOwner := item.Query{Index: item.IndexByOwner, Hash: owner}
	for _, byOwner.Limit = range []int{1, 3, 10, 11, 12} {
		wantKeys(t, table, byOwner, keys...)
	}
	slices.Sort(keys)
	wantKeys(t, table, item.Query{Index: item.IndexTodo, Hash: todo, Limit: 4}, keys...)

	// What is done between two pages is not an error, and the place stays: the walk of
	// what is due removes as it goes.
	walk := item.Query{Index: item.IndexTodo, Hash: todo, Limit: 4}
	page, err := table.Query(contextOf(t), walk)
	if err != nil || !slices.Equal(page.Keys, keys[:4]) {
		t.Fatalf("first page: %v, %v", page, err)
	}
	for _, key := range page.Keys {
		update(t, table, key, item.Update{Remove: []string{"todo"}})
	}
	walk.After, walk.Limit = page.Next, 100
	wantKeys(t, table, walk, keys[4:]...)
}

func foreignCursors(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	owner := fresh("o")
	for n := range 3 {
		put(t, table, item.Item{"owner": owner, "integration_id": fmt.Sprintf("i#%d", n)})
	}
	q := item.Query{Index: item.IndexByOwner, Hash: owner, Limit: 1}
	wantPage, err := table.Query(ctx, q)
	if err != nil || wantPage.Next == "" {
		t.Fatalf("first page: %v, %v", wantPage, err)
	}
	cursor := wantPage.Next
	for name, q := range map[string]item.Query{
		"no base64":       {Index: item.IndexByOwner, Hash: owner, After: "!"},
		"nothing in it":   {Index: item.IndexByOwner, Hash: owner, After: "AAAA"},
		"cut off":         {Index: item.IndexByOwner, Hash: owner, After: cursor[:len(cursor)-4]},
		"longer":          {Index: item.IndexByOwner, Hash: owner, After: cursor + "AAAA"},
		"another hash":    {Index: item.IndexByOwner, Hash: owner + "2", After: cursor},
		"another index":   {Index: item.IndexByIntegration, Hash: owner, After: cursor},
		"another prefix":  {Index: item.IndexByOwner, Hash: owner, Prefix: "i#", After: cursor},
		"with a new line": {Index: item.IndexByOwner, Hash: owner, After: cursor[:8] + "\n" + cursor[8:]},
	} {
		q.Limit = 1
		if page, err := table.Query(ctx, q); !errors.Is(err, item.ErrBadCursor) {
			t.Errorf("%s: %v, %v", name, page, err)
		}
	}
	if page, err := table.Scan(ctx, cursor, 1); !errors.Is(err, item.ErrBadCursor) {
		t.Errorf("scan: %v, %v", page, err)
	}
}

func scans(t *testing.T, tables Tables) {
	table := tables.Authorizations
	wanted := map[string]int{}
	for range 23 {
		wanted[put(t, table, item.Item{"kind": "session"})] = 1
	}
	for _, limit := range []int{1, 5, 23, 100} {
		got := map[string]int{}
		for after := ""; ; {
			page, err := table.Scan(contextOf(t), after, limit)
			if err != nil || len(page.Keys) > limit {
				t.Fatalf("scan of %d: %v, %v", limit, page, err)
			}
			for _, key := range page.Keys {
				got[key]++
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("keys by pages of %d (-want +got):\n%s", limit, diff)
		}
	}
}
