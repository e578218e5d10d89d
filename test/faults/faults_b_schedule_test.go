package faults_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F38", "internal/broker/tick.go", `schedule.Walk(min(from, minute-1), minute)`, `schedule.Walk(minute-1, minute)`)

func TestFault_F38_missed_ticks_are_caught_up_each_partition_once(t *testing.T) {
	for _, missed := range []int64{1, 10, 400} {
		w := newWorld(t, "immediate")
		id := w.Connect("alice")
		w.ToSlot(id)
		slot := w.Minute()
		_, err := w.Store.MoveCursor(t.Context(), w.Cursor(), slot-1)
		w.Must(err)
		w.Advance(time.Duration(missed) * time.Minute)
		p, x := w.Watched(nil)
		if rep := p.TickNow(); !rep.Whole || w.Cursor() != w.Minute() {
			t.Errorf("%d missed: %+v", missed, rep)
		}
		w.WantSent(1)
		w.Check(id)
		want := schedule.Walk(slot-1, w.Minute())
		var asked []string
		for _, q := range x.Asked() {
			if q.Index == item.IndexDue {
				asked = append(asked, q.Hash)
			}
		}
		slices.Sort(asked)
		if once := slices.Compact(slices.Clone(asked)); len(once) != len(asked) || len(once) != len(want) {
			t.Errorf("%d missed: %d partitions asked for %d times, want %d once", missed, len(once), len(asked), len(want))
		}
		older, newer := schedule.Slots(w.Minute() - 1)[30], schedule.Slots(w.Minute())[30]
		if missed > 1 && slices.Index(want, older) > slices.Index(want, newer) {
			t.Error("the newest minute comes first")
		}
	}
}

var _ = mutant("F39", "internal/connection/store.go", `u.If = []item.Cond{item.Eq("c", from)}`, `u.If = nil`)

func TestFault_F39_two_ticks_at_once_send_once_and_move_the_cursor_once(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.ToSlot(id)
		_, err := w.Store.MoveCursor(t.Context(), w.Cursor(), w.Minute()-1)
		w.Must(err)
		first, twin := w.Start(), w.Start()
		moved := 0
		first.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			if twin.TickNow().Whole {
				moved++
			}
		}))
		if first.TickNow().Whole {
			moved++
		}
		if moved != 1 {
			t.Errorf("the cursor was moved %d times", moved)
		}
		w.WantSent(1)
		if w.Cursor() != w.Minute() {
			t.Errorf("cursor %d, minute %d", w.Cursor(), w.Minute())
		}
		w.Check(id)
	})
}

var _ = mutant("F40", "internal/broker/tick.go", `if cursor > minute+cursorAhead {`, `if cursor < 0 {`)

func TestFault_F40_a_cursor_that_is_lost_or_in_the_future_costs_one_walk(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		old := w.Connect("alice")
		w.Advance(55 * time.Minute)
		fresh := w.ConnectAs(brokertest.Integration, "bob", "fresh")
		_, err := w.Store.Connections.Delete(t.Context(), "sys#cursor")
		w.Must(err)
		p := w.Start()
		if rep := p.TickNow(); !rep.Whole || rep.Reset || w.Cursor() != w.Minute() {
			t.Errorf("lost: %+v", rep)
		}
		w.WantSent(1) // the fresh one was looked at, and left alone
		w.Check(old, fresh)

		w.Advance(55 * time.Minute)
		_, err = w.Store.MoveCursor(t.Context(), w.Cursor(), w.Minute()+600)
		w.Must(err)
		if rep := p.TickNow(); !rep.Whole || !rep.Reset || w.Cursor() != w.Minute() {
			t.Errorf("in the future: %+v, cursor %d", rep, w.Cursor()-w.Minute())
		}
		w.WantSent(3)
		if !strings.Contains(w.Log.String(), `"level":"ERROR"`) {
			t.Error("nobody is told")
		}
		w.Check(old, fresh)
	})
}

var _ = mutant("F41", "internal/connection/writes.go", "case w.Over != \"\":\n\t\t// A doubt anew", "case w.Over != \"\" && w.Older:\n\t\t// A doubt anew")

func TestFault_F41_a_worker_whose_clock_is_wrong_ends_nothing(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		right, wrong := w.Start(), w.Start()
		wrong.SetSkew(time.Hour)
		right.OnWire(brokertest.OnSend, 1, func(call func() (*http.Response, error)) (*http.Response, error) {
			res, err := call()
			if wrong.Force(id) == nil { // for it the lease has run out: a second sender
				t.Error("a spent token was taken")
			}
			w.WantActive(id)
			return res, err
		})
		w.Must(right.Force(id))
		w.WantSent(2)
		w.Forgive("S9: a live claim was taken over") // by a clock that is wrong
		w.Check(id)

		wrong.SetSkew(-time.Hour)
		right.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() { w.WantCode(wrong.Force(id), "refresh_in_progress") }))
		w.Must(right.Force(id))
		w.WantSent(3)
		// The schedule goes by the event's minute on any clock.
		w.ToSlot(id)
		wrong.TickNow()
		if w.Cursor() != w.Minute() {
			t.Errorf("cursor %d, minute %d", w.Cursor(), w.Minute())
		}
		w.Settle(id)
	})
}

var _ = mutant("F42", "internal/broker/jobs.go", `late := b.now() - j.minute*60`, `late := int64(0)`)

func TestFault_F42_a_tick_that_comes_late_is_of_its_own_minute(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.ToSlot(id)
		slot := w.Minute()
		_, err := w.Store.MoveCursor(t.Context(), w.Cursor(), slot-1)
		w.Must(err)
		w.Advance(5 * time.Minute)
		p := w.Start()
		if _, err := p.Tick(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
		if w.Cursor() != slot {
			t.Errorf("cursor %d, the event's minute %d", w.Cursor(), slot)
		}
		w.WantSent(1)
		s, err := p.Stats(t.Context(), brokertest.Caller(), 0, 0)
		w.Must(err)
		if len(s.Hours) != 1 || s.Hours[0].Lateness["max"] < 300 {
			t.Errorf("statistics %+v", s)
		}
		w.Check(id)
	})
}

var _ = mutant("F43", "internal/schedule/schedule.go", `const retryWalk = 5`, `const retryWalk = 0`)

func TestFault_F43_an_index_that_lags_costs_a_read_or_a_minute(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		// It names one that is fresh.
		p, _ := w.Watched(func(q item.Query, page item.Page) item.Page {
			if q.Index == item.IndexDue && !slices.Contains(page.Keys, id) {
				page.Keys = append(page.Keys, id)
			}
			return page
		})
		w.Must(p.Force(id))
		n := w.Sent("refresh_token")
		p.TickNow()
		w.WantSent(n)

		// It lacks one at its slot, just after a save: the next slot is soon enough.
		w.ToSlot(id)
		w.Advance(-time.Minute)
		w.Must(p.Force(id))
		n = w.Sent("refresh_token")
		w.Advance(time.Minute)
		blind, _ := w.Watched(func(_ item.Query, page item.Page) item.Page { page.Keys = nil; return page })
		blind.TickNow()
		w.WantSent(n)
		w.Advance(50 * time.Minute)
		if r := w.Record(id); r.ExpiresAt <= w.Unix() {
			t.Fatal("it is over before the next slot")
		}
		seeing := w.Start()
		seeing.TickNow()
		w.WantSent(n + 1)

		// It lacks one at its retry minute: that minute is walked again.
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests, RetryAfterS: 60})
		w.WantCode(seeing.Force(id), "provider_unavailable")
		w.Advance(time.Minute)
		blind.TickNow()
		w.WantSent(n + 2)
		w.Advance(time.Minute)
		w.Start().TickNow()
		w.WantSent(n + 3)
		w.Check(id)
	})
}

var _ = mutant("F44", "internal/refresh/driver.go", `run.link.Plan.Partition(run.rec.ID, a.ExpiresIn), connection.OutcomeSaved`, `run.rec.Sched, connection.OutcomeSaved`)

func TestFault_F44_another_life_is_scheduled_by_the_same_write(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		w.Settings.Integrations[0].Entry.AccessTokenTTL = 0 // nothing is assumed
		w.Must(w.Sim.SetTTL(brokertest.Integration, 7*24*time.Hour))
		id := w.Connect("alice")
		if r := w.Record(id); !strings.HasPrefix(r.Sched, "8640#") {
			t.Fatalf("filed under %s", r.Sched)
		}
		p, x := w.Watched(nil)
		for _, c := range []struct {
			expiresIn any
			sched     string
			life      int64
		}{
			{3600, "50#", 3600}, {nil, "", 0}, {"3600.0", "50#", 3600}, {0, "", 0}, {604800, "8640#", 604800},
		} {
			p.OnWire(brokertest.OnSend, 1, brokertest.Rewrite(func(m map[string]any) {
				if m["expires_in"] = c.expiresIn; c.expiresIn == nil {
					delete(m, "expires_in")
				}
			}))
			before := x.Written()
			w.Must(p.Force(id))
			r := w.Record(id)
			if !strings.HasPrefix(r.Sched, c.sched) || (c.sched == "") != (r.Sched == "") || r.Life() != c.life {
				t.Errorf("expires_in %v: filed under %q for a life of %d", c.expiresIn, r.Sched, r.Life())
			}
			if n := x.Written() - before; n != 2 {
				t.Errorf("%d writes, want the claim and the save", n)
			}
		}
		w.Check(id)
	})
}
