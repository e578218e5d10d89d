package outbox_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

func apply(t interface{ Fatalf(string, ...any) }, u item.Update, i item.Item) item.Item {
	if err := u.Check(item.ConnectionIndexes()); err != nil {
		t.Fatalf("%v", err)
	}
	next, applied := u.Apply(i)
	if !applied {
		t.Fatalf("refused: %+v", u.If)
	}
	return next
}

func TestEventsAreCountedAndFiled(t *testing.T) {
	i := item.Item{"status": "active"}
	for n, typ := range []outbox.Type{outbox.Created, outbox.NeedsReauth, outbox.Recovered} {
		u := item.Update{Set: []item.Assign{item.Put("n", int64(n))}, Remove: []string{"todo"}}
		i = apply(t, outbox.Add(u, outbox.Event{ID: string(typ), Type: typ, At: int64(10 + n), Reason: "why"}, "todo#1#0"), i)
	}
	want := outbox.Box{Last: 3, Waiting: []outbox.Event{
		{ID: "connection.created", Type: outbox.Created, At: 10, Seq: 1, Reason: "why"},
		{ID: "connection.needs_reauth", Type: outbox.NeedsReauth, At: 11, Seq: 2, Reason: "why"},
		{ID: "connection.recovered", Type: outbox.Recovered, At: 12, Seq: 3, Reason: "why"},
	}}
	if diff := cmp.Diff(want, outbox.Read(i)); diff != "" || i.String("todo") != "todo#1#0" {
		t.Errorf("filed under %q (-want +got):\n%s", i.String("todo"), diff)
	}
	again := item.Item{}
	want.Told = 0
	outbox.Read(i).Store(again)
	if diff := cmp.Diff(want, outbox.Read(again)); diff != "" {
		t.Error(diff)
	}
}

// A write that files the item for something else leaves it there: the tick comes by.
func TestAnotherFilingStays(t *testing.T) {
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("todo", "todo#9#1")}}
	if i := apply(t, outbox.Add(u, outbox.Event{ID: "a", Type: outbox.Disconnected}, "todo#1#0"), nil); i.String("todo") != "todo#9#1" {
		t.Error(i)
	}
}

func TestNamesOfAttributesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, typ := range outbox.Types() {
		for _, a := range outbox.Add(item.Update{}, outbox.Event{ID: "a", Type: typ}, "x").Set {
			if name := a.Name; name != "events" && name != "todo" {
				if seen[name] {
					t.Errorf("%s is used twice", name)
				}
				seen[name] = true
			}
		}
	}
}

// What is taken off is what was delivered, whatever was put meanwhile: everything that
// was ever put is delivered, or gave way to a newer event of its type, which is counted.
func TestNoEventIsLostUnseen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := item.Item{"status": "active"}
		put := map[int64]outbox.Event{}
		delivered := map[int64]string{}
		gaveWay := int64(0)
		types := rapid.SampledFrom(outbox.Types())
		var read []item.Item // of deliverers that have not yet taken off what they sent
		add := func() {
			e := outbox.Event{ID: outbox.NewID(), Type: types.Draw(t, "type"), At: 5}
			i = apply(t, outbox.Add(item.Update{}, e, "todo#1#0"), i)
			e.Seq = i.Int("events")
			put[e.Seq] = e
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				add()
			case 2:
				read = append(read, i)
				for _, e := range outbox.Read(i).Waiting {
					delivered[e.Seq] = e.ID
				}
			case 3:
				if len(read) == 0 {
					continue
				}
				n := rapid.IntRange(0, len(read)-1).Draw(t, "deliverer")
				box, before := outbox.Read(read[n]), i
				read = slices.Delete(read, n, n+1)
				upTo := rapid.Int64Range(box.Told, box.Last).Draw(t, "up to")
				next, applied := box.Taken(upTo, rapid.SampledFrom([]string{"", "todo#1#0"}).Draw(t, "leaves")).Apply(i)
				if applied {
					gaveWay += box.Replaced(0, upTo)
					i = next
				}
				for _, e := range outbox.Read(before).Waiting {
					if e.Seq > upTo && !slices.Contains(outbox.Read(i).Waiting, e) {
						t.Fatalf("event %d was taken off by who sent up to %d", e.Seq, upTo)
					}
				}
			}
		}
		waiting := map[int64]bool{}
		for _, e := range outbox.Read(i).Waiting {
			waiting[e.Seq] = true
		}
		lost := int64(0)
		for seq, e := range put {
			if delivered[seq] == "" && !waiting[seq] {
				lost++
				newer := false
				for other, o := range put {
					newer = newer || other > seq && o.Type == e.Type
				}
				if !newer {
					t.Fatalf("event %d is gone", seq)
				}
			}
		}
		box := outbox.Read(i)
		if all := gaveWay + box.Replaced(0, box.Last); lost > all {
			t.Fatalf("%d events were replaced, and %d are told of", lost, all)
		}
		if len(box.Waiting) > len(outbox.Types()) {
			t.Fatal("the outbox grows")
		}
	})
}

func TestPostponedAsksForWhatWasRead(t *testing.T) {
	i := apply(t, outbox.Add(item.Update{}, outbox.Event{ID: "a", Type: outbox.Created}, "todo#1#0"), item.Item{})
	u := outbox.Read(i).Postponed("todo#1#0", "todo#2#0")
	if next := apply(t, u, i); next.String("todo") != "todo#2#0" {
		t.Error(next)
	}
	for _, other := range []item.Item{
		apply(t, outbox.Add(item.Update{}, outbox.Event{ID: "b", Type: outbox.Created}, "todo#1#0"), i),
		apply(t, item.Update{Set: []item.Assign{item.Put("todo", "todo#7#0")}}, i),
	} {
		if _, applied := u.Apply(other); applied {
			t.Errorf("filed anew over %v", other)
		}
	}
}

// table is one item.
type table struct {
	item.Table
	i item.Item
}

func (b *table) Update(_ context.Context, _ string, u item.Update) (item.Result, error) {
	next, applied := u.Apply(b.i)
	b.i = next
	return item.Result{Applied: applied, Item: next}, nil
}

func TestWhatWasAppliedIsDelivered(t *testing.T) {
	calls := 0
	b := &table{i: item.Item{"n": int64(1)}}
	a := &outbox.Announcer{
		Partition: func(key string, at int64) string { return "todo#" + key },
		Deliver: func(_ context.Context, _ string, i item.Item) item.Item {
			calls++
			b.i = apply(t, outbox.Read(i).Taken(outbox.Read(i).Last, "todo#k"), i)
			now := b.i.Clone()
			now["n"] = int64(77) // somebody else's write, which is no result of ours
			return now
		},
	}
	u := item.Update{If: []item.Cond{item.Eq("n", int64(1))}, Set: []item.Assign{item.Put("n", int64(2))}}
	again := item.Update{Set: []item.Assign{item.Put("n", int64(1))}}
	for _, c := range []struct {
		a         *outbox.Announcer
		u         item.Update
		t         outbox.Type
		delivered int
		events    int64
	}{
		{nil, u, outbox.Created, 0, 0},
		{nil, again, "", 0, 0},
		{a, u, outbox.Created, 1, 1},
		{a, u, outbox.Created, 1, 1}, // refused
		{a, again, "", 1, 1},         // no event
	} {
		res, err := c.a.Update(t.Context(), b, "k", c.u, c.t, "", 100)
		if err != nil || calls != c.delivered || b.i.Int("events") != c.events || b.i.String("todo") != "" || !cmp.Equal(res.Item, b.i) {
			t.Errorf("%+v: %d deliveries, %v, %v", c, calls, b.i, err)
		}
	}
}
