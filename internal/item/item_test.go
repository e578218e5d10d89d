package item_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/item"
)

func TestApplyNeverChangesTheOldItem(t *testing.T) {
	old := item.Item{"gen": int64(1), "attempt": item.Map{"id": "a"}, "at": item.Bytes("x")}
	before := old.Clone()
	next, ok := item.Update{
		Set: []item.Assign{item.Plus("gen", "gen", 1), item.Put("attempt", item.Map{"id": "b"})}, Remove: []string{"at"},
	}.Apply(old)
	if diff := cmp.Diff(item.Item{"gen": int64(2), "attempt": item.Map{"id": "b"}}, next); !ok || diff != "" {
		t.Errorf("applied %t (-want +got):\n%s", ok, diff)
	}
	if diff := cmp.Diff(before, old); diff != "" {
		t.Errorf("old item (-before +after):\n%s", diff)
	}
}

func TestEqualIsOfSameTypes(t *testing.T) {
	values := []item.Value{
		"", "1", int64(0), int64(1), false, true, item.Bytes(""), item.Bytes("1"),
		item.Map{},
		item.Map{"a": "1"},
		item.Map{"a": int64(1)},
		item.Map{"b": "1"},
		item.List{},
		item.List{"1"},
		item.List{"1", "1"},
	}
	for n, a := range values {
		for m, b := range values {
			if item.Equal(a, b) != (n == m) {
				t.Errorf("Equal(%#v, %#v) is %t", a, b, n != m)
			}
		}
		if item.Equal(a, nil) || item.Equal(nil, a) {
			t.Errorf("%#v equals an absent value", a)
		}
	}
	if item.Equal(nil, nil) {
		t.Error("absent equals absent")
	}
}

func TestSizeCountsNamesAndValues(t *testing.T) {
	i := item.Item{"ab": "cde", "n": int64(7), "b": item.Bytes("xy"), "t": true, "m": item.Map{"k": "v"}, "l": item.List{"v"}}
	if got, wanted := i.Size(), 5+9+3+2+(1+3+3)+(1+3+2); got != wanted {
		t.Errorf("size %d, want %d", got, wanted)
	}
}

func TestAccessorsOfAnotherTypeAreZero(t *testing.T) {
	i := item.Item{"s": "x", "n": int64(1), "t": true, "b": item.Bytes("y"), "m": item.Map{"s": "x", "n": int64(2)}, "l": item.List{"x"}}
	if i.String("n") != "" || i.Int("s") != 0 || i.Bool("s") || i.Bytes("s") != "" || i.Map("s") != nil || i.List("s") != nil {
		t.Error("a value was read as another type")
	}
	if i.String("s") != "x" || i.Int("n") != 1 || !i.Bool("t") || i.Bytes("b") != "y" || len(i.List("l")) != 1 {
		t.Error("a value was not read")
	}
	if m := i.Map("m"); m.String("s") != "x" || m.Int("n") != 2 || len(m.Strings()) != 1 {
		t.Error("a member was not read")
	}
	if diff := cmp.Diff(item.Map{"a": "b"}, item.StringMap(map[string]string{"a": "b"})); diff != "" || item.StringMap(nil) != nil {
		t.Errorf("map of strings (-want +got):\n%s", diff)
	}
}

func TestCheckTakesWhatStoresTake(t *testing.T) {
	u := item.Update{
		Target: item.Any,
		If: []item.Cond{
			item.Eq("attempt.id", "a"), item.Ne("at", item.Bytes("")), item.Lt("gen", int64(1)), item.Gt("name", ""),
			item.In("status", "a", int64(1), true, item.Map{}, item.List{}), item.Has("a"), item.Lacks("b.c"),
		},
		Set: []item.Assign{
			item.Put("a", ""), item.Keep("b", item.Map{"x.y": item.List{item.Bytes("")}}), item.Plus("c", "d", -1), item.Count("e", 1),
			item.Put("owner", strings.Repeat("o", item.MaxHash)), item.Put("integration_id", strings.Repeat("i", item.MaxRange)),
		},
		Remove: []string{"sched", "todo"},
	}
	if err := u.Check(item.ConnectionIndexes()); err != nil {
		t.Error(err)
	}
}

func TestCursorsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := item.Query{Index: rapid.String().Draw(t, "index"), Hash: rapid.String().Draw(t, "hash"), Prefix: rapid.String().Draw(t, "prefix")}
		place := rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "place")
		q.After = q.Cursor(place...)
		got, err := q.Place(len(place))
		if diff := cmp.Diff(place, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		if _, err := q.Place(len(place) + 1); !errors.Is(err, item.ErrBadCursor) {
			t.Fatalf("another number of parts: %v", err)
		}
		q.Hash += "x"
		if _, err := q.Place(len(place)); !errors.Is(err, item.ErrBadCursor) {
			t.Fatalf("another query: %v", err)
		}
	})
}

func FuzzPlace(f *testing.F) {
	q := item.Query{Index: item.IndexDue, Hash: "50#7#0"}
	f.Add("")
	f.Add(q.Cursor("askfred#1", "conn_1"))
	f.Add(q.Cursor("a"))
	f.Add(q.Cursor("a", "\xff") + "=")
	f.Fuzz(func(t *testing.T, after string) {
		q.After = after
		place, err := q.Place(2)
		switch {
		case err != nil:
			if !errors.Is(err, item.ErrBadCursor) || place != nil {
				t.Fatalf("%q, %v", place, err)
			}
		case after == "":
			if place != nil {
				t.Fatalf("a place without a cursor: %q", place)
			}
		case q.Cursor(place...) != after:
			t.Fatalf("%q is read as %q, which is %q", after, place, q.Cursor(place...))
		}
	})
}
