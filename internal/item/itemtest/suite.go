// Package itemtest provides the contract of item.Table as tests, which every store
// runs: what its text promises one by one, and a comparison with item.Update.Apply on
// random items and updates.
package itemtest

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/item"
)

// Tables are the two tables of a store, empty, with the indexes of
// item.ConnectionIndexes and item.AuthorizationIndexes.
type Tables struct {
	Connections    item.Table
	Authorizations item.Table
}

// Run runs the contract. open makes new tables, once for each test.
func Run(t *testing.T, open func(t *testing.T) Tables) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, tables Tables)
	}{
		{"an absent item reads as nil", absentReadsNil},
		{"values come back as they were written", valuesComeBack},
		{"an item may have no attribute", emptyItem},
		{"a target chooses between present and absent", targets},
		{"a condition holds as its text says", conditions},
		{"a refusal brings the item as found", refusals},
		{"right sides read the item as it was", rightSides},
		{"a sum needs a number", sums},
		{"a count begins at zero", counts},
		{"an assignment may keep what is there", keeps},
		{"nothing happens unless all of it does", allOrNothing},
		{"a deletion returns what it deleted", deletions},
		{"an item over the limit is refused", largeItems},
		{"an update that no store takes is refused", impossibleUpdates},
		{"one of many writers wins", oneWinner},
		{"no increment is lost", noLostIncrement},
		{"the tables are apart", tablesApart},
		{"an item stands in an index while it has the attributes", membership},
		{"an index is in the order of its range", rangeOrder},
		{"an index finds a prefix", prefixes},
		{"pages join without gap or repeat", pages},
		{"a foreign cursor is refused", foreignCursors},
		{"a scan sees each key once", scans},
		{"an ended context ends every method", endedContext},
		{"random updates agree with Apply", agreesWithApply},
		{"random index writes agree with the items", agreesWithIndexes},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// deadline is how long one test waits for its store in all: far beyond a slow one.
const deadline = 2 * time.Minute

func contextOf(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// fresh returns a key that no other test uses.
func fresh(prefix string) string { return prefix + rand.Text() }

// put stores i under a new key and returns the key.
func put(t testing.TB, table item.Table, i item.Item) string {
	t.Helper()
	key := fresh("conn_")
	res := update(t, table, key, creation(i))
	if !res.Applied {
		t.Fatalf("creating %s was refused; found %v", key, res.Item)
	}
	return key
}

func creation(i item.Item) item.Update {
	u := item.Update{Target: item.Absent}
	for name, v := range i {
		u.Set = append(u.Set, item.Put(name, v))
	}
	return u
}

func update(t testing.TB, table item.Table, key string, u item.Update) item.Result {
	t.Helper()
	res, err := table.Update(contextOf(t), key, u)
	if err != nil {
		t.Fatalf("update %s by %+v: %v", key, u, err)
	}
	return res
}

func get(t testing.TB, table item.Table, key string) item.Item {
	t.Helper()
	i, err := table.Get(contextOf(t), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return i
}

// want demands a result, and that a read shows the item that it leaves.
func want(t testing.TB, table item.Table, key string, got, wanted item.Result, stored item.Item) {
	t.Helper()
	if got.Applied != wanted.Applied {
		t.Errorf("applied is %t, want %t", got.Applied, wanted.Applied)
	}
	wantItem(t, "result", got.Item, wanted.Item)
	wantItem(t, "stored", get(t, table, key), stored)
}

func wantItem(t testing.TB, what string, got, wanted item.Item) {
	t.Helper()
	if !same(got, wanted) {
		t.Errorf("%s item (-want +got):\n%s", what, cmp.Diff(wanted, got))
	}
}

// same reports whether two items are both absent, or have equal attributes.
func same(a, b item.Item) bool {
	return (a == nil) == (b == nil) && item.Equal(item.Map(a), item.Map(b))
}
