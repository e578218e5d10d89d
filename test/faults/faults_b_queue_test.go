package faults_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

var _ = mutant("F31", "internal/refresh/machine.go",
	`case s.Core.Attempt.ID != "" && now < s.Core.Attempt.LeaseUntil:`, `case s.Core.Attempt.ID == "no":`)

func TestFault_F31_a_chunk_delivered_twice_at_once_is_sent_once(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.ToSlot(id)
		first, twin := w.Start(), w.Start()
		first.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() { w.Must(twin.WorkOff(id)) }))
		w.Must(first.WorkOff(id))
		w.Must(w.Start().WorkOff(id)) // and once more, when all is done
		w.WantSent(1)
		w.Check(id)
	})
}

var _ = mutant("F32", "internal/refresh/machine.go", `max(now, s.In.Minute*60)`, `s.In.Minute*60`)

func TestFault_F32_a_chunk_that_comes_hours_late_is_judged_by_what_is_stored(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		sentAt := w.Minute() - 240
		w.Advance(55 * time.Minute) // no tick came meanwhile
		p := w.Start()
		w.Must(p.RefreshAll(t.Context(), []string{id}, sentAt))
		w.WantSent(1)
		for _, minute := range []int64{sentAt - 60, sentAt, sentAt + 30} { // out of order, and again
			w.Must(p.RefreshAll(t.Context(), []string{id}, minute))
		}
		w.WantSent(1)
		w.Check(id)
	})
}

var (
	_ = mutant("F33", "internal/broker/jobs.go", `errors.Is(rep.Err, item.ErrCorrupt) || errors.Is(rep.Err, secret.ErrSealed)`,
		`errors.Is(rep.Err, item.ErrCorrupt) && errors.Is(rep.Err, secret.ErrSealed)`)
	_ = mutant("F33", "internal/broker/jobs.go", `if v := recover(); v != nil {`, `if v := any(nil); v != nil {`)
)

func TestFault_F33_a_poisoned_id_is_set_aside_and_the_others_are_done(t *testing.T) {
	w := newWorld(t, "immediate")
	ids := w.ConnectMany(brokertest.Integration, 8)
	unopenable, foreign, corrupt, panics := ids[0], ids[1], ids[2], ids[3]
	good := ids[4:]
	for id, change := range map[string]item.Assign{
		unopenable: item.Put("rt", w.Item(foreign).Bytes("rt")), // sealed for another place
		foreign:    item.Put("integration", "gone"),
		corrupt:    item.Put("tok_gen", int64(7)),
	} {
		_, err := w.Store.Connections.Update(t.Context(), id, item.Update{Set: []item.Assign{change}})
		w.Must(err)
	}
	w.Advance(55 * time.Minute)
	p, _ := w.Watched(nil)
	p.Store.Connections.(*brokertest.Index).Broken = panics
	w.Must(p.RefreshAll(t.Context(), ids, w.Minute()))
	for _, id := range good {
		if w.Record(id).Gen != 2 {
			t.Errorf("%s was held up", id)
		}
	}
	w.WantSent(len(good))
	for _, id := range []string{unopenable, corrupt, panics} {
		if !strings.Contains(w.Log.String(), id) {
			t.Errorf("the log does not say why %s is set aside", id)
		}
	}
	// The schedule goes on too, and is not held up for ever.
	rep, err := p.Tick(t.Context(), w.Minute())
	if err != nil || !rep.Whole {
		t.Errorf("tick: %+v, %v", rep, err)
	}
	// What only failed for now is delivered again.
	p.OnStore(brokertest.OnGet, 1, brokertest.FailBefore)
	if err := p.RefreshAll(t.Context(), good[:1], w.Minute()); err == nil {
		t.Error("a chunk that could not be read is said to be done")
	}
	w.CheckSecrets()
}

var _ = mutant("F34", "internal/broker/tick.go", `rec.ExpiresAt != 0 && rec.ExpiresAt < now`, `rec.ExpiresAt != 0 && rec.ExpiresAt < 0`)

func TestFault_F34_ids_of_a_chunk_that_was_given_up_are_found_by_the_audit(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		const day = 24 * 60
		midnight := (w.Minute()/day + 1) * day
		for schedule.Phase(id, 50) == midnight%50 { // its own slot would find it
			id = w.ConnectAs(brokertest.Integration, "alice", connection.NewID())
		}
		// Its slot's chunk went to the dead letters, and every slot since.
		w.AdvanceTo(midnight * 60)
		_, err := w.Store.MoveCursor(t.Context(), w.Cursor(), midnight-1)
		w.Must(err)
		p := w.Start()
		if _, err := p.Tick(t.Context(), midnight); err != nil {
			t.Fatal(err)
		}
		w.WantSent(1)
		w.Check(id)
		w.Must(p.RefreshAll(t.Context(), []string{id}, midnight-600)) // redriven: harmless
		w.WantSent(1)
		w.Check(id)
	})
}

// longTable is a table of many pages; the last one holds what the real table does.
type longTable struct {
	item.Table
	pages int
}

func (l longTable) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	at, _ := strconv.Atoi(after)
	if at < l.pages {
		return item.Page{Keys: []string{connection.NewID()}, Next: strconv.Itoa(at + 1)}, nil
	}
	return l.Table.Scan(ctx, "", limit)
}

var (
	_ = mutant("F34", "internal/broker/tick.go", `before = connection.Audit{Day: at.Day, After: page.Next}`, `before = connection.Audit{Day: at.Day}`)
	_ = mutant("F34", "internal/broker/tick.go", "if audited != progress.Audit && ctx.Err() == nil {", "if false {")
)

func TestFault_F34_an_audit_that_is_longer_than_a_tick_goes_on_in_the_next(t *testing.T) {
	w := newWorld(t, "immediate")
	id, midnight := w.Connect("alice"), (w.Minute()/1440+1)*1440
	for (midnight-schedule.Phase(id, 50)+52)%50 < 3 { // its own slot would find it
		id = w.ConnectAs(brokertest.Integration, "alice", connection.NewID())
	}
	w.AdvanceTo(midnight * 60)
	for tick := 1; tick <= 3; tick++ {
		_, err := w.Store.MoveCursor(t.Context(), w.Cursor(), w.Minute()-1)
		w.Must(err)
		// A process of its own each time: where it goes on stands in the store.
		p := w.Start(func(c *broker.Config) { c.Store.Connections = longTable{c.Store.Connections, 500} })
		p.TickNow()
		progress, err := w.Store.Progress(t.Context())
		w.Must(err)
		want := connection.Audit{Day: w.Minute() / 1440}
		if tick < 3 {
			want.After = strconv.Itoa(200 * tick)
		}
		if progress.Audit != want {
			t.Fatalf("after tick %d: %+v, not %+v", tick, progress.Audit, want)
		}
		w.WantSent(tick / 3)
		w.Advance(time.Minute)
	}
	w.Check(id)
}

// lateSave has a refresh whose answer reaches the rescue queue alone.
func (w *world) lateSave(id string) {
	w.T.Helper()
	p := w.Start()
	p.OnStore(brokertest.OnSave, -1, brokertest.FailBefore)
	w.WantCode(p.Force(id), "refresh_in_progress")
	if n := w.InRescue(); n != 1 {
		w.T.Fatalf("%d rescue records", n)
	}
	w.Advance(time.Minute) // its lease is over
}

var (
	_ = mutant("F35", "internal/refresh/machine.go", "case !found:\n\t\treturn Dropped", "case !found:\n\t\treturn Overtaken")
	_ = mutant("F35", "internal/refresh/machine.go", "case c.Status == connection.Disconnected:\n\t\treturn Dropped", "case c.Status == connection.Disconnected:\n\t\treturn Overtaken")
)

func TestFault_F35_a_rescue_record_replayed_too_late_spoils_nothing(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(w *world, p *brokertest.Process, id string)
		revoked   bool
	}{
		{"refresh", func(w *world, p *brokertest.Process, id string) { w.Must(p.Force(id)) }, false},
		{"reconnect", func(w *world, p *brokertest.Process, id string) { w.Reconnect(p, "alice", id) }, false},
		{"disconnect", func(w *world, p *brokertest.Process, id string) {
			_, err := p.Disconnect(context.Background(), brokertest.Caller(), id)
			w.Must(err)
		}, true},
		{"erase", func(w *world, p *brokertest.Process, id string) {
			_, err := p.Disconnect(context.Background(), brokertest.Caller(), id)
			w.Must(err)
			_, err = w.Store.Connections.Delete(context.Background(), id)
			w.Must(err)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStores(t, "on_use", func(t *testing.T, w *world) {
				id := w.Connect("alice")
				w.lateSave(id)
				p := w.Start()
				c.meanwhile(w, p, id)
				before, revocations := w.Item(id), w.Sent("revoke")
				p.Replay()
				if w.InRescue() != 0 {
					t.Fatalf("the record stays\n%s", w.Log)
				}
				if !item.Equal(item.Map(before), item.Map(w.Item(id))) {
					t.Errorf("the replay changed %+v to %+v", before, w.Item(id))
				}
				if c.revoked {
					w.WantAllDead()
					w.Check()
					return
				}
				if w.Sent("revoke") != revocations {
					t.Error("the replay revoked what superseded it")
				}
				w.Check(id)
			})
		})
	}
}

var (
	_ = mutant("F36", "internal/refresh/machine.go", `case s.doubted() && now >= s.Core.DoubtAt+s.Facts.Horizon:`, `case s.doubted():`)
	_ = mutant("F36", "internal/refresh/machine.go", `if s.doubted() && !s.replayDue(r.Now/1000) {`, `if s.doubted() && r.Now < 0 {`)
)

func TestFault_F36_a_rescue_that_comes_after_the_resend_still_heals(t *testing.T) {
	for _, c := range []struct {
		profile string
		sent    int
	}{{"immediate", 3}, {"family", 1}} {
		t.Run(c.profile, func(t *testing.T) {
			onStores(t, c.profile, func(t *testing.T, w *world) {
				id := w.Connect("alice")
				w.lateSave(id)
				p := w.Start()
				for range 2 { // a resend at once, and one more within the horizon
					if err := p.Force(id); err == nil {
						t.Fatal("a spent token was taken")
					}
					w.WantActive(id)
					w.Advance(time.Minute)
				}
				w.WantSent(c.sent)
				p.Replay()
				if r := w.Record(id); r.Gen != 2 || r.DoubtAt != 0 || w.InRescue() != 0 {
					t.Fatalf("after the replay: %+v", r.Core)
				}
				w.Check(id)
				w.settleAtSlot(id)
			})
		})
	}
}

// settleAtSlot goes on to the connection's slot, and settles there.
func (w *world) settleAtSlot(id string) {
	w.T.Helper()
	w.ToSlot(id)
	w.Settle(id)
}

var _ = mutant("F37", "internal/secret/seal.go", `key, err := k.key(ctx, p, n)`, `key, err := k.key(ctx, p, max(n, k.Primary(p)))`)

func TestFault_F37_a_rescue_record_opens_after_its_data_key_was_rotated(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.lateSave(id)
		if n, err := w.Start().Keys.Rotate(t.Context(), secret.PurposeToken); n != 2 || err != nil {
			t.Fatalf("rotation: %d, %v", n, err)
		}
		p := w.Start() // it has never held the old key
		w.Must(p.Keys.Load(t.Context(), secret.PurposeToken))
		p.Replay()
		if _, err := p.Read(id, 60); err != nil || w.InRescue() != 0 {
			t.Fatalf("token after the replay: %v\n%s", err, w.Log)
		}
		w.Check(id)
		w.Must(p.Force(id))
		if _, n, err := p.Keys.KeyOf([]byte(w.Record(id).Refresh)); n != 2 || err != nil {
			t.Errorf("saved under key %d, %v", n, err)
		}
		w.Check(id)
	})
}
