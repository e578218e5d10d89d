package itemtest

import (
	"testing"

	"github.com/evergrant/evergrant/internal/item"
)

func absentReadsNil(t *testing.T, tables Tables) {
	if i := get(t, tables.Connections, fresh("conn_")); i != nil {
		t.Errorf("got %v", i)
	}
}

func valuesComeBack(t *testing.T, tables Tables) {
	wanted := item.Item{
		"text": "Grüße", "empty": "", "number": int64(-1 << 63), "large": int64(1<<63 - 1), "yes": true, "no": false,
		"bytes": item.Bytes("\x00\xff\x80"), "no_bytes": item.Bytes(""),
		"map":  item.Map{"a": "b", "n": int64(7), "inner": item.Map{"list": item.List{}}, "empty": item.Map{}},
		"list": item.List{"x", int64(1), true, item.Bytes("y"), item.Map{"k": ""}, item.List{item.List{}}},
	}
	key := put(t, tables.Connections, wanted)
	wantItem(t, "stored", get(t, tables.Connections, key), wanted)
}

func emptyItem(t *testing.T, tables Tables) {
	key := put(t, tables.Connections, item.Item{})
	wantItem(t, "stored", get(t, tables.Connections, key), item.Item{})

	key = put(t, tables.Connections, item.Item{"status": "active"})
	got := update(t, tables.Connections, key, item.Update{Remove: []string{"status", "reason"}})
	want(t, tables.Connections, key, got, item.Result{Applied: true, Item: item.Item{}}, item.Item{})
}

func targets(t *testing.T, tables Tables) {
	old, next := item.Item{"gen": int64(1)}, item.Item{"gen": int64(2)}
	for _, c := range []struct {
		name    string
		target  item.Target
		present bool
		applied bool
	}{
		{"existing, present", item.Existing, true, true},
		{"existing, absent", item.Existing, false, false},
		{"absent, present", item.Absent, true, false},
		{"absent, absent", item.Absent, false, true},
		{"any, present", item.Any, true, true},
		{"any, absent", item.Any, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, left := fresh("conn_"), item.Item(nil)
			if c.present {
				key, left = put(t, tables.Connections, old), old
			}
			if c.applied {
				left = next
			}
			got := update(t, tables.Connections, key, item.Update{Target: c.target, Set: []item.Assign{item.Put("gen", int64(2))}})
			want(t, tables.Connections, key, got, item.Result{Applied: c.applied, Item: left}, left)
		})
	}
}

func conditions(t *testing.T, tables Tables) {
	key := put(t, tables.Connections, item.Item{
		"status": "active", "gen": int64(5), "rotates": true, "at": item.Bytes("sealed"), "zero": int64(0), "empty": "",
		"attempt": item.Map{"id": "a1", "base_gen": int64(5)}, "list": item.List{"x"}, "text": "a",
	})
	for _, c := range []struct {
		name  string
		cond  item.Cond
		holds bool
	}{
		{"= same string", item.Eq("status", "active"), true},
		{"= other string", item.Eq("status", "held"), false},
		{"= same number", item.Eq("gen", int64(5)), true},
		{"= other type", item.Eq("gen", "5"), false},
		{"= bool", item.Eq("rotates", true), true},
		{"= bytes", item.Eq("at", item.Bytes("sealed")), true},
		{"= bytes and string", item.Eq("at", "sealed"), false},
		{"= map", item.Eq("attempt", item.Map{"id": "a1", "base_gen": int64(5)}), true},
		{"= map with less", item.Eq("attempt", item.Map{"id": "a1"}), false},
		{"= list", item.Eq("list", item.List{"x"}), true},
		{"= empty string", item.Eq("empty", ""), true},
		{"= absent", item.Eq("reason", ""), false},
		{"= member", item.Eq("attempt.id", "a1"), true},
		{"= other member", item.Eq("attempt.id", "a2"), false},
		{"= absent member", item.Eq("attempt.lease", int64(0)), false},
		{"= member of an absent map", item.Eq("tags.a", "b"), false},
		{"= member of a string", item.Eq("status.id", "a1"), false},
		{"<> same", item.Ne("status", "active"), false},
		{"<> other", item.Ne("status", "disconnected"), true},
		{"<> other type", item.Ne("gen", "5"), true},
		{"<> absent", item.Ne("reason", "revoked"), true},
		{"<> member of an absent map", item.Ne("tags.a", "b"), true},
		{"< larger", item.Lt("gen", int64(6)), true},
		{"< same", item.Lt("gen", int64(5)), false},
		{"< smaller", item.Lt("gen", int64(4)), false},
		{"< negative", item.Lt("zero", int64(-1)), false},
		{"< absent", item.Lt("retry_at", int64(9)), false},
		{"< other type", item.Lt("status", int64(9)), false},
		{"< string", item.Lt("text", "b"), true},
		{"> string of other case", item.Gt("text", "B"), true},
		{"> smaller", item.Gt("gen", int64(4)), true},
		{"> same", item.Gt("gen", int64(5)), false},
		{"> two digits", item.Gt("gen", int64(10)), false},
		{"> absent", item.Gt("retry_at", int64(-9)), false},
		{"> other type", item.Gt("gen", ""), false},
		{"in", item.In("status", "connecting", "active"), true},
		{"not in", item.In("status", "connecting", "held"), false},
		{"in, absent", item.In("reason", "", "revoked"), false},
		{"in, other types", item.In("gen", "5", true, item.Bytes("5"), item.Map{}, item.List{}), false},
		{"exists", item.Has("attempt"), true},
		{"exists, empty", item.Has("empty"), true},
		{"exists, absent", item.Has("doubt_at"), false},
		{"exists, member", item.Has("attempt.id"), true},
		{"exists, absent member", item.Has("attempt.lease"), false},
		{"lacks, present", item.Lacks("attempt"), false},
		{"lacks, absent", item.Lacks("doubt_at"), true},
		{"lacks, member", item.Lacks("attempt.id"), false},
		{"lacks, absent member", item.Lacks("attempt.lease"), true},
		{"lacks, member of an absent map", item.Lacks("tags.a"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := get(t, tables.Connections, key)
			got := update(t, tables.Connections, key, item.Update{If: []item.Cond{c.cond}})
			want(t, tables.Connections, key, got, item.Result{Applied: c.holds, Item: stored}, stored)
			if item.Hold(stored, []item.Cond{c.cond}) != c.holds {
				t.Errorf("item.Hold says %t", !c.holds)
			}
		})
	}
	t.Run("of an absent item", func(t *testing.T) {
		absent := fresh("conn_")
		for _, c := range []item.Cond{item.Eq("gen", int64(1)), item.Lt("gen", int64(1)), item.Has("gen")} {
			got := update(t, tables.Connections, absent, item.Update{Target: item.Any, If: []item.Cond{c}})
			want(t, tables.Connections, absent, got, item.Result{}, nil)
		}
		got := update(t, tables.Connections, absent, item.Update{Target: item.Any, If: []item.Cond{item.Lacks("gen"), item.Ne("gen", int64(1))}})
		want(t, tables.Connections, absent, got, item.Result{Applied: true, Item: item.Item{}}, item.Item{})
	})
}

func refusals(t *testing.T, tables Tables) {
	old := item.Item{"gen": int64(3), "save_id": "s3", "at": item.Bytes("x"), "attempt": item.Map{"id": "a"}, "owner": "o", "integration_id": "i#c"}
	key := put(t, tables.Connections, old)
	got := update(t, tables.Connections, key, item.Update{
		If:  []item.Cond{item.Eq("save_id", "s3"), item.Eq("gen", int64(2))},
		Set: []item.Assign{item.Put("gen", int64(3)), item.Put("owner", "p")}, Remove: []string{"at"},
	})
	want(t, tables.Connections, key, got, item.Result{Item: old}, old)
	wantKeys(t, tables.Connections, item.Query{Index: item.IndexByOwner, Hash: "p"})
}

func rightSides(t *testing.T, tables Tables) {
	key := put(t, tables.Connections, item.Item{"gen": int64(7), "consent_next": int64(2), "consent_seq": int64(1), "attempt": item.Map{"id": "a"}})
	got := update(t, tables.Connections, key, item.Update{
		If: []item.Cond{item.Lt("consent_seq", int64(2))},
		Set: []item.Assign{
			item.Plus("gen", "gen", 1), item.Plus("disconnect_gen", "gen", 1),
			item.Plus("consent_next", "consent_next", 1), item.Plus("consent_seq", "consent_next", 1),
		},
		Remove: []string{"attempt"},
	})
	wanted := item.Item{"gen": int64(8), "disconnect_gen": int64(8), "consent_next": int64(3), "consent_seq": int64(3)}
	want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)

	got = update(t, tables.Connections, key, item.Update{Set: []item.Assign{item.Plus("before", "gen", 0)}, Remove: []string{"gen"}})
	wanted = item.Item{"before": int64(8), "disconnect_gen": int64(8), "consent_next": int64(3), "consent_seq": int64(3)}
	want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)
}

func sums(t *testing.T, tables Tables) {
	old := item.Item{"status": "active", "gen": int64(1)}
	key := put(t, tables.Connections, old)
	for _, from := range []string{"absent", "status"} {
		got := update(t, tables.Connections, key, item.Update{Set: []item.Assign{item.Put("status", "held"), item.Plus("gen", from, 1)}})
		want(t, tables.Connections, key, got, item.Result{Item: old}, old)
	}
	absent := fresh("conn_")
	got := update(t, tables.Connections, absent, item.Update{Target: item.Any, Set: []item.Assign{item.Plus("gen", "gen", 1)}})
	want(t, tables.Connections, absent, got, item.Result{}, nil)
	got = update(t, tables.Connections, key, item.Update{Set: []item.Assign{item.Plus("gen", "gen", -3)}})
	wanted := item.Item{"status": "active", "gen": int64(-2)}
	want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)
}

func counts(t *testing.T, tables Tables) {
	key := fresh("stats#")
	for n := range int64(2) {
		got := update(t, tables.Connections, key, item.Update{Target: item.Any, Set: []item.Assign{item.Count("saved", 3), item.Count("hour", 0)}})
		wanted := item.Item{"saved": 3 * (n + 1), "hour": int64(0)}
		want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)
	}
	// A number drawn from a counter that another assignment of the same write moves on.
	key = put(t, tables.Connections, item.Item{})
	for n := range int64(3) {
		got := update(t, tables.Connections, key, item.Update{Set: []item.Assign{item.Number("mine", "events", 1), item.Count("events", 1)}})
		wanted := item.Item{"mine": n + 1, "events": n + 1}
		want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)
	}
	old := item.Item{"saved": "many"}
	key = put(t, tables.Connections, old)
	got := update(t, tables.Connections, key, item.Update{Set: []item.Assign{item.Count("saved", 1)}})
	want(t, tables.Connections, key, got, item.Result{Item: old}, old)
}

func keeps(t *testing.T, tables Tables) {
	key := put(t, tables.Connections, item.Item{"doubt_at": int64(100), "empty": ""})
	got := update(t, tables.Connections, key, item.Update{
		Set: []item.Assign{item.Keep("doubt_at", int64(200)), item.Keep("retry_at", int64(300)), item.Keep("empty", "x")},
	})
	wanted := item.Item{"doubt_at": int64(100), "retry_at": int64(300), "empty": ""}
	want(t, tables.Connections, key, got, item.Result{Applied: true, Item: wanted}, wanted)
}

func allOrNothing(t *testing.T, tables Tables) {
	old := item.Item{"gen": int64(1), "at": item.Bytes("a"), "name": "reserved word", "status": "active"}
	key := put(t, tables.Connections, old)
	u := item.Update{
		If: []item.Cond{item.Eq("gen", int64(1)), item.Eq("status", "held")},
		Set: []item.Assign{
			item.Put("gen", int64(2)), item.Put("at", item.Bytes("b")), item.Put("size", int64(3)), item.Put("hash", "x"),
		},
		Remove: []string{"name", "never there"},
	}
	want(t, tables.Connections, key, update(t, tables.Connections, key, u), item.Result{Item: old}, old)
	u.If = u.If[:1]
	wanted := item.Item{"gen": int64(2), "at": item.Bytes("b"), "size": int64(3), "hash": "x", "status": "active"}
	want(t, tables.Connections, key, update(t, tables.Connections, key, u), item.Result{Applied: true, Item: wanted}, wanted)
}

func deletions(t *testing.T, tables Tables) {
	remove := func(key string, conds ...item.Cond) item.Result {
		t.Helper()
		res, err := tables.Authorizations.Delete(contextOf(t), key, conds...)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	old := item.Item{"kind": "state", "expires_at": int64(100), "todo": "todo#1#0"}
	key := put(t, tables.Authorizations, old)
	want(t, tables.Authorizations, key, remove(key, item.Gt("expires_at", int64(100))), item.Result{Item: old}, old)
	want(t, tables.Authorizations, key, remove(key, item.Gt("expires_at", int64(99)), item.Eq("kind", "state")), item.Result{Applied: true, Item: old}, nil)
	want(t, tables.Authorizations, key, remove(key, item.Gt("expires_at", int64(99))), item.Result{}, nil)
	want(t, tables.Authorizations, key, remove(key), item.Result{}, nil)
	want(t, tables.Authorizations, key, remove(key, item.Lacks("kind")), item.Result{}, nil)
	wantKeys(t, tables.Authorizations, item.Query{Index: item.IndexTodo, Hash: "todo#1#0"})
	key = put(t, tables.Authorizations, old)
	want(t, tables.Authorizations, key, remove(key), item.Result{Applied: true, Item: old}, nil)
}
