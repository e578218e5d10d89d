package itemtest

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/item"
)

// names are few, so that conditions and assignments meet; some are words that
// DynamoDB reserves.
func names() []string {
	return []string{"status", "gen", "attempt", "doubt_at", "at", "size", "hash", "name"}
}

func paths() []string { return append(names(), "attempt.id", "attempt.gen", "status.id", "name.id") }

// values draws small values, so that equal ones are common.
func values() *rapid.Generator[item.Value] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "A", "ä"}), func(s string) item.Value { return s }),
		rapid.Map(rapid.Int64Range(-2, 12), func(n int64) item.Value { return n }),
		rapid.Map(rapid.Bool(), func(b bool) item.Value { return b }),
		rapid.Map(rapid.SampledFrom([]item.Bytes{"", "a", "\xff"}), func(b item.Bytes) item.Value { return b }),
	)
	return rapid.OneOf(leaf, leaf, leaf,
		rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"id", "gen", "x"}), leaf, 0, 3), func(m map[string]item.Value) item.Value { return item.Map(m) }),
		rapid.Map(rapid.SliceOfN(leaf, 0, 2), func(l []item.Value) item.Value { return item.List(l) }),
	)
}

func drawConds(t *rapid.T) []item.Cond {
	var conds []item.Cond
	for range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "conditions") {
		c := item.Cond{Path: rapid.SampledFrom(paths()).Draw(t, "path"), Op: rapid.SampledFrom([]item.Op{
			item.Equals, item.NotEquals, item.Less, item.Greater, item.OneOf, item.Exists, item.NotExists,
		}).Draw(t, "op")}
		switch c.Op {
		case item.Equals, item.NotEquals:
			c.Value = values().Draw(t, "value")
		case item.Less, item.Greater:
			c.Value = values().Filter(ordered).Draw(t, "value")
		case item.OneOf:
			c.Values = rapid.SliceOfN(values(), 1, 4).Draw(t, "values")
		}
		conds = append(conds, c)
	}
	return conds
}

func ordered(v item.Value) bool {
	switch v.(type) {
	case int64, string:
		return true
	}
	return false
}

func drawUpdate(t *rapid.T) item.Update {
	u := item.Update{
		Target: rapid.SampledFrom([]item.Target{item.Existing, item.Any, item.Any, item.Absent}).Draw(t, "target"),
		If:     drawConds(t),
	}
	written := rapid.SliceOfNDistinct(rapid.SampledFrom(names()), 0, 5, rapid.ID).Draw(t, "written")
	for _, name := range written {
		n := rapid.Int64Range(-2, 3).Draw(t, "n")
		switch rapid.SampledFrom([]string{"put", "put", "keep", "plus", "count", "number", "remove"}).Draw(t, name) {
		case "put":
			u.Set = append(u.Set, item.Put(name, values().Draw(t, "value")))
		case "keep":
			u.Set = append(u.Set, item.Keep(name, values().Draw(t, "value")))
		case "plus":
			u.Set = append(u.Set, item.Plus(name, rapid.SampledFrom(names()).Draw(t, "from"), n))
		case "count":
			u.Set = append(u.Set, item.Count(name, n))
		case "number":
			u.Set = append(u.Set, item.Number(name, rapid.SampledFrom(names()).Draw(t, "from"), n))
		case "remove":
			u.Remove = append(u.Remove, name)
		}
	}
	return u
}

// agreesWithApply compares each write of a random history with Apply on a copy.
func agreesWithApply(t *testing.T, tables Tables) {
	ctx, table := contextOf(t), tables.Connections
	rapid.Check(t, func(rt *rapid.T) {
		key, shadow := fresh("conn_"), item.Item(nil)
		for range rapid.IntRange(1, 12).Draw(rt, "writes") {
			var res, wanted item.Result
			var err error
			if rapid.IntRange(0, 9).Draw(rt, "deletes") == 0 {
				conds := drawConds(rt)
				wanted = item.Result{Applied: shadow != nil && item.Hold(shadow, conds), Item: shadow}
				res, err = table.Delete(ctx, key, conds...)
				if wanted.Applied {
					shadow = nil
				}
			} else {
				u := drawUpdate(rt)
				shadow, wanted.Applied = u.Apply(shadow)
				wanted.Item = shadow
				res, err = table.Update(ctx, key, u)
			}
			if err != nil || res.Applied != wanted.Applied || !same(res.Item, wanted.Item) {
				rt.Fatalf("got %+v, %v\nwant %+v", res, err, wanted)
			}
			if stored, err := table.Get(ctx, key); err != nil || !same(stored, shadow) {
				rt.Fatalf("stored %v, %v\nwant %v", stored, err, shadow)
			}
		}
	})
}

// agreesWithIndexes compares what the indexes hold with the items, after random
// writes of the attributes that they follow.
func agreesWithIndexes(t *testing.T, tables Tables) {
	table, ctx := tables.Connections, contextOf(t)
	rapid.Check(t, func(rt *rapid.T) {
		run := fresh("")
		hashes := []string{run + "a", run + "b", run + "a\x00"}
		items := map[string]item.Item{}
		keys := []string{run + "1", run + "2", run + "3"}
		for range rapid.IntRange(1, 8).Draw(rt, "writes") {
			key := rapid.SampledFrom(keys).Draw(rt, "key")
			u := item.Update{Target: item.Any}
			for _, name := range []string{"sched", "owner", "todo", "integration_id"} {
				switch rapid.IntRange(0, 3).Draw(rt, name) {
				case 0:
					u.Remove = append(u.Remove, name)
				case 1:
					u.Set = append(u.Set, item.Put(name, rapid.SampledFrom(hashes).Draw(rt, "hash")+key[len(run):]))
				case 2:
					u.Set = append(u.Set, item.Put(name, rapid.SampledFrom(hashes).Draw(rt, "hash")))
				}
			}
			items[key], _ = u.Apply(items[key])
			if _, err := table.Update(ctx, key, u); err != nil {
				rt.Fatal(err)
			}
		}
		for _, x := range item.ConnectionIndexes()[:3] {
			for _, hash := range hashes {
				got := keysOf(t, table, item.Query{Index: x.Name, Hash: hash, Limit: 2})
				slices.Sort(got)
				if wanted := standing(items, x, hash); !slices.Equal(got, wanted) {
					rt.Fatalf("index %s, hash %q: got %v, want %v", x.Name, hash, got, wanted)
				}
			}
		}
	})
}

// standing is the sorted keys of the items that stand in x under hash.
func standing(items map[string]item.Item, x item.Index, hash string) []string {
	var keys []string
	for key, i := range items {
		_, ranged := i[x.Range]
		if i.String(x.Hash) == hash && (ranged || x.Range == item.KeyName) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
