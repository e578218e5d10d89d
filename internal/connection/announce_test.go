package connection_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

// memory is one table that carries out updates as they mean it.
type memory struct {
	item.Table
	items   map[string]item.Item
	updates int
}

func (m *memory) Get(_ context.Context, key string) (item.Item, error) { return m.items[key], nil }

func (m *memory) Update(_ context.Context, key string, u item.Update) (item.Result, error) {
	if err := u.Check(item.ConnectionIndexes()); err != nil {
		return item.Result{}, err
	}
	m.updates++
	next, applied := u.Apply(m.items[key])
	if applied {
		m.items[key] = next
	}
	return item.Result{Applied: applied, Item: next}, nil
}

// announcing is a store over one item, whose events nobody delivers.
func announcing(i item.Item) (connection.Store, *memory) {
	m := &memory{items: map[string]item.Item{id: i}}
	return connection.Store{Connections: m, Announce: &outbox.Announcer{
		Partition: func(string, int64) string { return "todo#5#0" },
		Deliver:   func(_ context.Context, _ string, i item.Item) item.Item { return i },
	}}, m
}

// expected is the event that a change of an item calls for: "" for none.
func expected(old, now item.Item) outbox.Type {
	was, is := connection.Status(old.String("status")), connection.Status(now.String("status"))
	switch {
	case is == connection.Disconnected && was != is:
		return outbox.Disconnected
	case old != nil && now.Int("consent_seq") != old.Int("consent_seq") && is == connection.Active:
		return outbox.Reconnected
	case is == connection.NeedsReauth && was != is:
		return outbox.NeedsReauth
	case is == connection.Active && was == connection.NeedsReauth:
		return outbox.Recovered
	case is == connection.Active && was != is:
		return outbox.Created
	case now.Int("warned") != old.Int("warned"):
		return outbox.ReconnectSoon
	}
	return ""
}

// An event stands in the outbox in exactly the write that makes it true: each write puts
// the event that its change calls for, and no other one, whatever it finds. It is never
// refused on account of its event, and changes nothing else. A refresh of an active
// connection touches no index.
func TestEachWriteCarriesItsEvent(t *testing.T) {
	status := rapid.SampledFrom([]connection.Status{
		connection.Active, connection.Active, connection.Connecting, connection.Held, connection.NeedsReauth, connection.Disconnected,
	})
	rapid.Check(t, func(t *rapid.T) {
		r := standing()
		if rapid.Bool().Draw(t, "claimed") {
			claimed(&r)
		}
		switch r.Status = status.Draw(t, "status"); r.Status {
		case connection.NeedsReauth:
			r.Reason = connection.Revoked
		case connection.Disconnected:
			pending(&r)
		}
		s, m := announcing(r.Item())
		for range rapid.IntRange(1, 6).Draw(t, "writes") {
			c := cases[rapid.IntRange(0, len(cases)-1).Draw(t, "case")]
			old := m.items[id]
			plain, applies := c.write.Update().Apply(old)
			if save, ok := c.write.(connection.Save); ok {
				save.Done = rapid.Bool().Draw(t, "done")
				c.write = save
				plain, applies = save.Update().Apply(old)
			}
			res, err := s.Write(t.Context(), id, c.write)
			if err != nil || res.Applied != applies {
				t.Fatalf("%s: applied %v, and without events %v: %v", c.name, res.Applied, applies, err)
			}
			now := m.items[id]
			want := expected(old, now)
			if want == "" {
				if diff := cmp.Diff(plain, now); diff != "" {
					t.Fatalf("%s is no event, and leaves (-without +with events):\n%s", c.name, diff)
				}
				continue
			}
			box := outbox.Read(now)
			put := slices.IndexFunc(box.Waiting, func(e outbox.Event) bool { return e.Seq == box.Last })
			if box.Last != old.Int("events")+1 || put < 0 || box.Waiting[put].Type != want {
				t.Fatalf("%s: want %s, got %+v", c.name, want, box)
			}
			if now.String("todo") == "" {
				t.Fatalf("%s: no tick finds its event", c.name)
			}
		}
	})
}

func TestReasonsAndTimesOfEvents(t *testing.T) {
	waiting := func(status connection.Status) connection.Record {
		r := standing()
		claimed(&r)
		r.Status = status
		return r
	}
	for _, c := range []struct {
		write connection.Write
		found connection.Record
		want  outbox.Event
	}{
		{connection.Verdict{ID: id, Gen: 3, Attempt: "mine", Reason: connection.LostResponse, Now: 160}, waiting(connection.Active), outbox.Event{Type: outbox.NeedsReauth, Reason: "lost_response", At: 160}},
		{connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens(), Now: 161}, waiting(connection.NeedsReauth), outbox.Event{Type: outbox.Recovered, At: 161}},
		{connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens(), Now: 162}, waiting(connection.Connecting), outbox.Event{Type: outbox.Created, At: 162}},
		{connection.RefuseImport{ID: id, Gen: 3, Attempt: "mine", Now: 163}, waiting(connection.Connecting), outbox.Event{Type: outbox.Disconnected, Reason: "token_refused", At: 163}},
		{connection.Supersede{ID: id, ConsentedAt: 51, Now: 164}, waiting(connection.Active), outbox.Event{Type: outbox.Disconnected, Reason: "superseded", At: 164}},
		{connection.Warn{ConsentSeq: 2, End: 900, Now: 165}, waiting(connection.Active), outbox.Event{Type: outbox.ReconnectSoon, At: 165}},
	} {
		s, m := announcing(c.found.Item())
		res, err := s.Write(t.Context(), id, c.write)
		if err != nil || !res.Applied {
			t.Fatalf("%T: %+v, %v", c.write, res, err)
		}
		got := outbox.Read(m.items[id]).Waiting
		if len(got) != 1 || got[0].ID == "" {
			t.Fatalf("%T: %+v", c.write, got)
		}
		c.want.ID, c.want.Seq = got[0].ID, 1
		if diff := cmp.Diff(c.want, got[0]); diff != "" {
			t.Errorf("%T: %s", c.write, diff)
		}
		if len(res.Record.Outbox.Waiting) != 1 {
			t.Errorf("%T: the result does not tell of its event", c.write)
		}
	}
}

// A save is one write where nothing has happened, and one more where a verdict or an
// import stood in its way.
func TestSavesGuessTheStatus(t *testing.T) {
	for _, c := range []struct {
		status  connection.Status
		done    bool
		updates int
	}{
		{connection.Active, false, 1}, {connection.Connecting, true, 1}, {connection.NeedsReauth, false, 2}, {connection.Connecting, false, 2}, {connection.NeedsReauth, true, 2},
	} {
		r := standing()
		claimed(&r)
		r.Status = c.status
		s, m := announcing(r.Item())
		res, err := s.Write(t.Context(), id, connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens(), Done: c.done})
		if err != nil || !res.Applied || m.updates != c.updates || res.Record.Status != connection.Active {
			t.Errorf("%s: %d updates, %+v, %v", c.status, m.updates, res, err)
		}
	}
	r := standing()
	pending(&r)
	s, m := announcing(r.Item())
	if res, err := s.Write(t.Context(), id, connection.Save{ID: id, Gen: 4, SaveID: "mine", Tokens: tokens()}); err != nil || res.Applied || m.updates != 1 {
		t.Errorf("after a disconnect: %d updates, %+v, %v", m.updates, res, err)
	}
}

func TestNewConnectionsAreAnnounced(t *testing.T) {
	for status, want := range map[connection.Status]int{connection.Active: 1, connection.Connecting: 0, connection.Held: 0} {
		s, m := announcing(nil)
		r := standing()
		r.Status = status
		if _, err := s.Write(t.Context(), id, connection.Create{Record: r}); err != nil {
			t.Fatal(err)
		}
		if got := outbox.Read(m.items[id]).Waiting; len(got) != want {
			t.Errorf("%s: %v", status, got)
		}
	}
}

// A receipt whose event waits stays on the tick's list.
func TestErasureLeavesWhatIsToBeTold(t *testing.T) {
	r := standing()
	pending(&r)
	for untold, todo := range map[bool]string{true: "todo#1#0", false: ""} {
		if got := after(t, connection.Erase{Gen: 4, Revocation: "none", Proof: "none", Untold: untold}, r); got.Todo != todo || got.Refresh != "" {
			t.Errorf("untold %v: %q", untold, got.Todo)
		}
	}
}
