package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/schedule"
)

const minute, hour, day = 60, 3600, 86400

func TestMarginAndPeriod(t *testing.T) {
	for _, c := range []struct{ life, margin, period int64 }{
		{0, 0, 0},
		{120, 30, 0},
		{599, 149, 0},
		{600, 150, 5},
		{1200, 300, 15},
		{1799, 449, 20},
		{1800, 300, 25},
		{hour, 600, 50},
		{2 * hour, 1200, 100},
		{day, 4 * hour, 1200},
		{7 * day, day, 8640},
		{30 * day, day, 28800},
		{3650 * day, day, 43200},
	} {
		if got := schedule.Margin(c.life); got != c.margin {
			t.Errorf("margin of %d s is %d, want %d", c.life, got, c.margin)
		}
		if got := (schedule.Plan{}).Period(c.life); got != c.period {
			t.Errorf("period of %d s is %d min, want %d", c.life, got, c.period)
		}
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		plan   schedule.Plan
		life   int64
		period int64
		timer  bool
	}{
		{schedule.Plan{Mode: schedule.Ahead}, 300, 0, true},
		{schedule.Plan{Mode: schedule.Ahead, NoTimers: true}, 300, 0, false},
		{schedule.Plan{Mode: schedule.Ahead}, 0, 0, false},
		{schedule.Plan{Mode: schedule.OnDemand}, 300, 0, false},
		{schedule.Plan{Mode: schedule.OnDemand}, hour, 0, false},
		{schedule.Plan{Mode: schedule.KeepAlive, Idle: 14 * day}, hour, 8640, false},
		{schedule.Plan{Mode: schedule.KeepAlive}, hour, 50, false}, // idle life unknown: as if it were short
		{schedule.Plan{Mode: schedule.KeepAlive, Idle: 14 * day}, 0, 8640, false},
	} {
		if got := c.plan.Period(c.life); got != c.period {
			t.Errorf("%+v, life %d: period %d, want %d", c.plan, c.life, got, c.period)
		}
		if got := c.plan.Partition("conn_1", c.life); (got == schedule.Timer) != c.timer || (got == "") != (c.period == 0 && !c.timer) {
			t.Errorf("%+v, life %d: partition %q", c.plan, c.life, got)
		}
	}
	keep := schedule.Plan{Mode: schedule.KeepAlive, Idle: 14 * day}
	if keep.SlotSkips("conn_1", hour, 1<<40, 0) {
		t.Error("keepalive skips a slot since the access token lives long")
	}
}

// The ladder gives away at most a third of what a life would allow.
func TestLadder(t *testing.T) {
	l := schedule.Ladder()
	if !slices.IsSorted(l) || l[0] != 5 {
		t.Fatal("not a ladder")
	}
	rapid.Check(t, func(t *rapid.T) {
		life := rapid.Int64Range(schedule.ShortLife, 40*day).Draw(t, "life")
		period, allowed := (schedule.Plan{}).Period(life)*minute, life-schedule.Margin(life)
		if period <= 0 || period > allowed {
			t.Fatalf("period %d s, allowed %d s", period, allowed)
		}
	})
}

// A connection is due at exactly one minute of each period, and the partition that it
// is filed under is the one that is walked then.
func TestDueOncePerPeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		life := rapid.Int64Range(schedule.ShortLife, 40*day).Draw(t, "life")
		from := rapid.Int64Range(1, 1<<26).Draw(t, "minute")
		plan := schedule.Plan{}
		period, filed := plan.Period(life), plan.Partition(id, life)
		if period > 1440 {
			from -= from % period // long ones are looked at around their slot only
		}
		due := 0
		for m := from; m < from+period; m++ {
			if m%period == schedule.Phase(id, period) != slices.Contains(schedule.Slots(m), filed) {
				t.Fatalf("minute %d: the walk and the phase disagree", m)
			}
			if m%period == schedule.Phase(id, period) {
				due++
				if schedule.NextSlot(id, period, (m-1)*minute) != m*minute || schedule.NextSlot(id, period, m*minute) != (m+period)*minute {
					t.Fatalf("minute %d: next slots %d, %d", m, schedule.NextSlot(id, period, (m-1)*minute), schedule.NextSlot(id, period, m*minute))
				}
			}
			if period > 1440 && m > from+100 && m < from+period-100 {
				m = max(m, min(from+period-100, from+schedule.Phase(id, period)-2))
			}
		}
		if due != 1 {
			t.Fatalf("due %d times in a period", due)
		}
	})
}

// By slots alone, no token ever expires unreplaced, each is replaced in its margin, and
// what NextRefresh foretells is the slot that does not skip.
func TestSlotsReplaceEveryTokenInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 20, -1).Draw(t, "id")
		life := rapid.Int64Range(schedule.ShortLife, 10*day).Draw(t, "life")
		now := rapid.Int64Range(0, 1<<31).Draw(t, "now")
		plan := schedule.Plan{}
		period := plan.Period(life)
		expires := now + life
		for range 20 {
			foretold := plan.NextRefresh(id, life, expires, now)
			slot := schedule.NextSlot(id, period, now)
			skips := 0
			for plan.SlotSkips(id, life, expires, slot) {
				slot = schedule.NextSlot(id, period, slot)
				skips++
			}
			if slot != foretold {
				t.Fatalf("refreshed at %d, foretold %d", slot, foretold)
			}
			if left := expires - slot; left < schedule.Margin(life) {
				t.Fatalf("%d s left at the slot, margin %d", left, schedule.Margin(life))
			}
			if skips > 0 && slot+period*minute+schedule.Margin(life) <= expires {
				t.Fatal("replaced a slot too early")
			}
			now = slot + rapid.Int64Range(0, minute).Draw(t, "late")
			expires = now + life
		}
	})
}

func TestNextRefreshWithoutSlots(t *testing.T) {
	timer := schedule.Plan{Mode: schedule.Ahead}
	if got := timer.NextRefresh("conn_1", 120, 1000, 900); got != 970 {
		t.Errorf("timer at %d", got)
	}
	if got := timer.NextRefresh("conn_1", 120, 1000, 990); got != 990 {
		t.Errorf("a timer that is late is due now, not at %d", got)
	}
	if got := (schedule.Plan{Mode: schedule.OnDemand}).NextRefresh("conn_1", hour, 1000, 900); got != 0 {
		t.Errorf("on demand at %d", got)
	}
}

// A tick after a gap walks what each missed tick would have walked, each partition once.
func TestWalkMissesNothing(t *testing.T) {
	check := func(t interface {
		Fatalf(string, ...any)
	}, from, to int64,
	) {
		walked := schedule.Walk(from, to)
		seen := map[string]bool{}
		for _, p := range walked {
			if seen[p] {
				t.Fatalf("%s is walked twice", p)
			}
			seen[p] = true
		}
		for m := max(from+1, to-3000); m <= to; m++ {
			for _, p := range append(schedule.Slots(m), schedule.Retries(m)...) {
				if !seen[p] {
					t.Fatalf("from %d to %d: %s of minute %d is missed", from, to, p, m)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(100_000, 1<<26).Draw(t, "from")
		check(t, from, from+rapid.Int64Range(1, 500).Draw(t, "gap"))
	})
	check(t, 1_000_000, 1_000_000+2*1440) // longer than a day: what was put off then is found too
}

func TestWalkOfOneMinuteIsItsOwn(t *testing.T) {
	want := append(schedule.Slots(1_000_001), schedule.Retries(1_000_001)...)
	if got := schedule.Walk(1_000_000, 1_000_001); !slices.Equal(got, want) {
		t.Errorf("%d partitions, want %d", len(got), len(want))
	}
	if got := schedule.Walk(1_000_001, 1_000_001); !slices.Equal(got, schedule.Retries(1_000_001)) {
		t.Error("a doubled tick walks slots again")
	}
}

func TestWalkWithoutCursorWalksEachPhaseOnce(t *testing.T) {
	slots := 0
	seen := map[string]bool{}
	for _, p := range schedule.Walk(0, 29_000_001) {
		if seen[p] {
			t.Fatalf("%s is walked twice", p)
		}
		seen[p] = true
		if !schedule.IsRetry(p) {
			slots++
		}
	}
	want := 0
	for _, p := range schedule.Ladder() {
		want += int(p)
	}
	if slots != want || !seen[schedule.Retries(29_000_001)[0]] {
		t.Errorf("%d phases, want %d", slots, want)
	}
}

// What is put off is found not before its time, and by several ticks.
func TestRetryPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		at := rapid.Int64Range(1, 1<<31).Draw(t, "at")
		p := schedule.RetryPartition(id, at)
		first := (at + 59) / minute
		if first*minute < at || !schedule.IsRetry(p) {
			t.Fatalf("filed under %s", p)
		}
		for m := first; m <= first+5; m++ {
			if !slices.Contains(schedule.Retries(m), p) {
				t.Fatalf("not walked at minute %d", m)
			}
		}
		if slices.Contains(schedule.Retries(first-1), p) {
			t.Fatal("walked too early")
		}
		if nextHour := (first/60 + 1) * 60; !slices.Contains(schedule.Retries(nextHour), p) {
			t.Fatal("not walked at the full hour")
		}
		if todo := schedule.TodoPartition(id, at); !slices.Contains(schedule.Todos(first-1, first), todo) || !strings.HasPrefix(todo, fmt.Sprintf("todo#%d#", first)) {
			t.Fatalf("todo filed under %s", todo)
		}
	})
}

// After a pause everything that was left unfinished is found again, be it days old.
func TestTodosOfAPause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		to := rapid.Int64Range(30_000_000, 30_010_000).Draw(t, "minute")
		from := to - rapid.Int64Range(1, 7*24*60).Draw(t, "pause")
		filed := rapid.Int64Range(from, to).Draw(t, "filed")
		if p := schedule.TodoPartition("conn_1", filed*60); !slices.Contains(schedule.Todos(from, to), p) {
			t.Fatalf("%s is not looked for after a pause from %d to %d", p, from, to)
		}
	})
	if n := len(schedule.Todos(1, 30_000_000)); n > 4*9*24*60 {
		t.Errorf("%d partitions after a pause of years", n)
	}
	if n := len(schedule.Todos(0, 30_000_000)); n > 4*(24*60+10) {
		t.Errorf("%d partitions at the first tick", n)
	}
}

func TestParsePartition(t *testing.T) {
	for p, want := range map[string]bool{"50#7#0": true, "retry#1#0": false, "timer": false, "": false, "50#x#0": false, "50#7": false} {
		period, phase, ok := schedule.ParsePartition(p)
		if ok != want || ok && (period != 50 || phase != 7) {
			t.Errorf("%q: %d %d %v", p, period, phase, ok)
		}
	}
}

func TestDueMinute(t *testing.T) {
	for _, c := range []struct {
		partition string
		want      int64
	}{{"50#7#0", 957}, {"50#0#0", 1000}, {"50#1#0", 951}, {"retry#998#2", 998}, {"retry#1003#0", 1000}, {"timer", 1000}, {"", 1000}} {
		if got := schedule.DueMinute(c.partition, 1000); got != c.want {
			t.Errorf("%s: %d, want %d", c.partition, got, c.want)
		}
	}
}

// A refresh token kept alive is used twice in its idle life, and not again right after
// somebody used it.
func TestIdleSkips(t *testing.T) {
	p := schedule.Plan{Mode: schedule.KeepAlive, Idle: 10 * day}
	period := p.Period(hour) * minute
	if period != 4*day || !p.ForIdle() || p.Period(0)*minute != period {
		t.Fatalf("period %d", period)
	}
	if !p.IdleSkips(0, period/2-1) || p.IdleSkips(0, period/2) || p.IdleSkips(0, period) {
		t.Error("a token is not used once in each period")
	}
	if (schedule.Plan{Mode: schedule.KeepAlive}).ForIdle() {
		t.Error("an unknown idle life")
	}
}

// Where a provider refuses to refresh a young token, no slot and no timer asks it to.
func TestMinAge(t *testing.T) {
	eager := schedule.Plan{MinAge: 570}
	if got := eager.Partition("conn_1", 600); got != schedule.Timer {
		t.Errorf("ten minutes, of which 570 s are closed: %q", got)
	}
	if got := (schedule.Plan{MinAge: 570, NoTimers: true}).Partition("conn_1", 600); got != "" {
		t.Errorf("without timers: %q", got)
	}
	if got := eager.NextRefresh("conn_1", 600, 10_600, 10_001); got != 10_570 {
		t.Errorf("refreshed at %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		life := rapid.Int64Range(60, 90*day).Draw(t, "life")
		plan := schedule.Plan{MinAge: rapid.Int64Range(1, life-1).Draw(t, "age")}
		issued := rapid.Int64Range(1<<30, 1<<31).Draw(t, "issued")
		next := plan.NextRefresh("conn_1", life, issued+life, issued)
		if plan.Partition("conn_1", life) == schedule.Timer && (next < issued+plan.MinAge || next > issued+life) {
			t.Fatalf("life %d, age %d: timer after %d s", life, plan.MinAge, next-issued)
		}
		if period := plan.Period(life); period > 0 && period*minute < plan.MinAge {
			t.Fatalf("life %d, age %d: every %d min", life, plan.MinAge, period)
		}
	})
}
