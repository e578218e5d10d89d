package faults_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F38", "internal/broker/tick.go", `schedule.Walk(min(from, minute-1), minute)`, `schedule.Walk(minute-1, minute)`)

func TestFault_F38_missed_ticks_are_caught_up_each_partition_once(t *testing.T) {
	for _, missed := range []int64{1, 10, 400} {
		w := newWorld(t, "immediate")
		id := w.connect("alice")
		w.toSlot(id)
		slot := w.minute()
		_, err := w.base.MoveCursor(t.Context(), w.cursor(), slot-1)
		w.must(err)
		w.advance(time.Duration(missed) * time.Minute)
		p, x := w.watched(nil)
		if rep := p.tick(); !rep.Whole || w.cursor() != w.minute() {
			t.Errorf("%d missed: %+v", missed, rep)
		}
		w.wantSent(1)
		w.check(id)
		want := schedule.Walk(slot-1, w.minute())
		var asked []string
		for _, q := range x.asked {
			if q.Index == item.IndexDue {
				asked = append(asked, q.Hash)
			}
		}
		slices.Sort(asked)
		if once := slices.Compact(slices.Clone(asked)); len(once) != len(asked) || len(once) != len(want) {
			t.Errorf("%d missed: %d partitions asked for %d times, want %d once", missed, len(once), len(asked), len(want))
		}
		older, newer := schedule.Slots(w.minute() - 1)[30], schedule.Slots(w.minute())[30]
		if missed > 1 && slices.Index(want, older) > slices.Index(want, newer) {
			t.Error("the newest minute comes first")
		}
	}
}

var _ = mutant("F39", "internal/connection/store.go", `u.If = []item.Cond{item.Eq("c", from)}`, `u.If = nil`)

func TestFault_F39_two_ticks_at_once_send_once_and_move_the_cursor_once(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.toSlot(id)
		_, err := w.base.MoveCursor(t.Context(), w.cursor(), w.minute()-1)
		w.must(err)
		first, twin := w.start(), w.start()
		moved := 0
		first.wire(onSend, 1, after[*http.Response](func() {
			if twin.tick().Whole {
				moved++
			}
		}))
		if first.tick().Whole {
			moved++
		}
		if moved != 1 {
			t.Errorf("the cursor was moved %d times", moved)
		}
		w.wantSent(1)
		if w.cursor() != w.minute() {
			t.Errorf("cursor %d, minute %d", w.cursor(), w.minute())
		}
		w.check(id)
	})
}

var _ = mutant("F40", "internal/broker/tick.go", `if cursor > minute+cursorAhead {`, `if cursor < 0 {`)

func TestFault_F40_a_cursor_that_is_lost_or_in_the_future_costs_one_walk(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		old := w.connect("alice")
		w.advance(55 * time.Minute)
		fresh := w.connectAs(sim, "bob", "fresh")
		_, err := w.base.Connections.Delete(t.Context(), "sys#cursor")
		w.must(err)
		p := w.start()
		if rep := p.tick(); !rep.Whole || rep.Reset || w.cursor() != w.minute() {
			t.Errorf("lost: %+v", rep)
		}
		w.wantSent(1) // the fresh one was looked at, and left alone
		w.check(old, fresh)

		w.advance(55 * time.Minute)
		_, err = w.base.MoveCursor(t.Context(), w.cursor(), w.minute()+600)
		w.must(err)
		if rep := p.tick(); !rep.Whole || !rep.Reset || w.cursor() != w.minute() {
			t.Errorf("in the future: %+v, cursor %d", rep, w.cursor()-w.minute())
		}
		w.wantSent(3)
		if !strings.Contains(w.log.String(), `"level":"ERROR"`) {
			t.Error("nobody is told")
		}
		w.check(old, fresh)
	})
}

var _ = mutant("F41", "internal/connection/writes.go", "if w.Over != \"\" || w.Older {", "if w.Older {")

func TestFault_F41_a_worker_whose_clock_is_wrong_ends_nothing(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		right, wrong := w.start(), w.start()
		wrong.setSkew(time.Hour)
		right.wire(onSend, 1, func(call func() (*http.Response, error)) (*http.Response, error) {
			res, err := call()
			if wrong.refresh(id) == nil { // for it the lease has run out: a second sender
				t.Error("a spent token was taken")
			}
			w.wantActive(id)
			return res, err
		})
		w.must(right.refresh(id))
		w.wantSent(2)
		w.forgive("S9: a live claim was taken over") // by a clock that is wrong
		w.check(id)

		wrong.setSkew(-time.Hour)
		right.wire(onSend, 1, after[*http.Response](func() { w.wantCode(wrong.refresh(id), "refresh_in_progress") }))
		w.must(right.refresh(id))
		w.wantSent(3)
		// The schedule goes by the event's minute on any clock.
		w.toSlot(id)
		wrong.tick()
		if w.cursor() != w.minute() {
			t.Errorf("cursor %d, minute %d", w.cursor(), w.minute())
		}
		w.settle(id)
	})
}

func (p *process) setSkew(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skew = d
}

var _ = mutant("F42", "internal/broker/lanes.go", `b.now()-j.minute*60)`, `0)`)

func TestFault_F42_a_tick_that_comes_late_is_of_its_own_minute(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.toSlot(id)
		slot := w.minute()
		_, err := w.base.MoveCursor(t.Context(), w.cursor(), slot-1)
		w.must(err)
		w.advance(5 * time.Minute)
		p := w.start()
		if _, err := p.Tick(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
		if w.cursor() != slot {
			t.Errorf("cursor %d, the event's minute %d", w.cursor(), slot)
		}
		w.wantSent(1)
		s, err := p.Stats(t.Context(), caller(), 0, 0)
		w.must(err)
		if len(s.Hours) != 1 || s.Hours[0].Lateness["max"] < 300 {
			t.Errorf("statistics %+v", s)
		}
		w.check(id)
	})
}

var _ = mutant("F43", "internal/schedule/schedule.go", `const retryWalk = 5`, `const retryWalk = 0`)

func TestFault_F43_an_index_that_lags_costs_a_read_or_a_minute(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		// It names one that is fresh.
		p, _ := w.watched(func(q item.Query, page item.Page) item.Page {
			if q.Index == item.IndexDue && !slices.Contains(page.Keys, id) {
				page.Keys = append(page.Keys, id)
			}
			return page
		})
		w.must(p.refresh(id))
		n := w.sent("refresh_token")
		p.tick()
		w.wantSent(n)

		// It lacks one at its slot, just after a save: the next slot is soon enough.
		w.toSlot(id)
		w.advance(-time.Minute)
		w.must(p.refresh(id))
		n = w.sent("refresh_token")
		w.advance(time.Minute)
		blind, _ := w.watched(func(_ item.Query, page item.Page) item.Page { page.Keys = nil; return page })
		blind.tick()
		w.wantSent(n)
		w.advance(50 * time.Minute)
		if r := w.record(id); r.ExpiresAt <= w.unix() {
			t.Fatal("it is over before the next slot")
		}
		seeing := w.start()
		seeing.tick()
		w.wantSent(n + 1)

		// It lacks one at its retry minute: that minute is walked again.
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests, RetryAfterS: 60})
		w.wantCode(seeing.refresh(id), "provider_unavailable")
		w.advance(time.Minute)
		blind.tick()
		w.wantSent(n + 2)
		w.advance(time.Minute)
		w.start().tick()
		w.wantSent(n + 3)
		w.check(id)
	})
}

var _ = mutant("F44", "internal/refresh/driver.go", `run.link.Plan.Partition(run.rec.ID, a.ExpiresIn), connection.OutcomeSaved`, `run.rec.Sched, connection.OutcomeSaved`)

func TestFault_F44_another_life_is_scheduled_by_the_same_write(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		w.settings.Integrations[0].Entry.AccessTokenTTL = 0 // nothing is assumed
		w.must(w.sim.SetTTL(sim, 7*24*time.Hour))
		id := w.connect("alice")
		if r := w.record(id); !strings.HasPrefix(r.Sched, "8640#") {
			t.Fatalf("filed under %s", r.Sched)
		}
		p, x := w.watched(nil)
		for _, c := range []struct {
			expiresIn any
			sched     string
			life      int64
		}{
			{3600, "50#", 3600}, {nil, "", 0}, {"3600.0", "50#", 3600}, {0, "", 0}, {604800, "8640#", 604800},
		} {
			p.wire(onSend, 1, rewrite(func(m map[string]any) {
				if m["expires_in"] = c.expiresIn; c.expiresIn == nil {
					delete(m, "expires_in")
				}
			}))
			before := x.written()
			w.must(p.refresh(id))
			r := w.record(id)
			if !strings.HasPrefix(r.Sched, c.sched) || (c.sched == "") != (r.Sched == "") || r.Life() != c.life {
				t.Errorf("expires_in %v: filed under %q for a life of %d", c.expiresIn, r.Sched, r.Life())
			}
			if n := x.written() - before; n != 2 {
				t.Errorf("%d writes, want the claim and the save", n)
			}
		}
		w.check(id)
	})
}
