// Package schedule says when a connection is refreshed.
//
// Refreshes are phase-locked. A connection's period P is the longest step of a
// fixed ladder that leaves a safe margin of its token's life, and its phase is a
// hash of its id, so that it is due at every minute m with m mod P = phase. Its
// partition of the schedule, "P#phase#shard", therefore never changes while the
// life does not: a refresh writes nothing to the index, a million of them are
// spread evenly over the hour, and what is due at a minute is a handful of
// partitions that can be named without looking.
//
// All functions are pure. Times are unix seconds, minutes are unix minutes.
package schedule

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// ladder is the set of periods in minutes. Its steps grow by a third at most up to
// a day, so that at most a third of a token's life is given away; each divides a
// longer one or nearly so, which keeps the number of partitions small.
var ladder = [...]int64{
	5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 180, 240, 300, 360, 480, 600, 720, 960,
	1200, 1440, 2880, 4320, 5760, 8640, 14400, 20160, 28800, 43200,
}

// Ladder returns the periods in minutes, shortest first.
func Ladder() []int64 { return append([]int64(nil), ladder[:]...) }

// ShortLife is the life in seconds under which a connection has no slot of its own:
// serve keeps an exact timer for it, on Lambda it is refreshed on demand.
const ShortLife = 600

// Timer is the partition of the connections that live too short for a slot. No tick
// walks it; serve rebuilds its timers from it at start.
const Timer = "timer"

// retryShards spreads what was put off; phases spread everything else.
const retryShards = 4

// Mode is how eagerly a connection is refreshed.
type Mode string

// The modes.
const (
	Ahead     Mode = "ahead"     // before its token expires
	OnDemand  Mode = "on_demand" // when somebody asks for the token
	KeepAlive Mode = "keepalive" // only often enough that the refresh token does not idle out
)

// Plan is what decides when a connection is refreshed.
type Plan struct {
	Mode     Mode
	Idle     int64 // the refresh token's idle lifetime in seconds, 0 unknown; for KeepAlive
	NoTimers bool  // there is no process that could keep timers (Lambda)
	MinAge   int64 // seconds that a token must be old before the provider refreshes it, 0 any
}

// Margin is the time before its end, in seconds, at which a token of this life
// should have been replaced: a sixth of the life between 5 minutes and a day, for
// short lives a quarter. Lateness, lease and horizon fit into it.
func Margin(life int64) int64 {
	if life < 1800 {
		return life / 4
	}
	return min(max(life/6, 300), 24*3600)
}

// Margin is the package's Margin, less where the provider refuses to refresh so early.
func (p Plan) Margin(life int64) int64 {
	if p.MinAge > 0 {
		return min(Margin(life), max(life-p.MinAge, 0))
	}
	return Margin(life)
}

// Period is the refresh period in minutes for a token life in seconds, 0 where the
// connection has no slot: unknown life, one too short, or a mode that wants none.
func (p Plan) Period(life int64) int64 {
	if p.Mode == OnDemand {
		return 0
	}
	if p.ForIdle() {
		return longest(p.Idle / 2) // two chances in every idle lifetime
	}
	if life < ShortLife {
		return 0
	}
	period := longest(life - p.Margin(life))
	if p.MinAge > 0 && period*60 < p.MinAge+60 {
		return 0 // at the next slot the token would still be too young
	}
	return period
}

// ForIdle reports whether it is the refresh token's idle life that the slots keep.
func (p Plan) ForIdle() bool { return p.Mode == KeepAlive && p.Idle > 0 }

func longest(seconds int64) int64 {
	var out int64
	for _, step := range ladder {
		if step*60 <= seconds {
			out = step
		}
	}
	return out
}

// timed reports whether the connection is kept by an exact timer.
func (p Plan) timed(life int64) bool {
	short := life > 0 && (life < ShortLife || p.MinAge > 0 && p.Period(life) == 0)
	return short && !p.NoTimers && (p.Mode == Ahead || p.Mode == "")
}

// Phase is the minute of its period at which the connection id is due.
func Phase(id string, period int64) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return int64(h.Sum64() % uint64(period))
}

// Partition is where the connection is filed: "P#phase#shard", Timer, or "" for a
// connection without a schedule.
func (p Plan) Partition(id string, life int64) string {
	if p.timed(life) {
		return Timer
	}
	period := p.Period(life)
	if period == 0 {
		return ""
	}
	return slotPartition(period, Phase(id, period))
}

func slotPartition(period, phase int64) string {
	return strconv.FormatInt(period, 10) + "#" + strconv.FormatInt(phase, 10) + "#0"
}

// RetryPartition is where a connection stands that was put off until at: the retry
// minute that holds it, rounded up so that it is not read too early.
func RetryPartition(id string, at int64) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return retryPartition((at+59)/60, int64(h.Sum32()%retryShards))
}

// IsRetry reports whether a partition holds what was put off.
func IsRetry(partition string) bool { return strings.HasPrefix(partition, "retry#") }

func retryPartition(minute, shard int64) string {
	return "retry#" + strconv.FormatInt(minute, 10) + "#" + strconv.FormatInt(shard, 10)
}

// NextSlot is the first slot after now, in unix seconds, 0 without a period.
func NextSlot(id string, period, now int64) int64 {
	if period == 0 {
		return 0
	}
	phase := Phase(id, period)
	minute := now/60 + 1
	return (minute + floorMod(phase-minute, period)) * 60
}

func floorMod(a, b int64) int64 { return ((a % b) + b) % b }

// SlotSkips reports whether a token that expires at expiresAt outlives the next
// slot by its margin, so that this slot need not refresh it.
func (p Plan) SlotSkips(id string, life, expiresAt, now int64) bool {
	if p.ForIdle() {
		return false // the refresh token's life is at stake, not the access token's
	}
	period := p.Period(life)
	if period == 0 {
		return expiresAt > now+p.Margin(life)
	}
	return expiresAt >= NextSlot(id, period, now)+p.Margin(life)
}

// IdleSkips reports whether a refresh token that was last used at a time, unix s, needs
// no use now: it was used less than half a period ago, and so reaches the slot after
// this one.
func (p Plan) IdleSkips(usedAt, now int64) bool {
	return now-usedAt < p.Period(0)*30
}

// NextRefresh is the moment, in unix seconds, at which the schedule will really
// replace the token: the first slot that does not skip, or the timer. 0: never.
func (p Plan) NextRefresh(id string, life, expiresAt, now int64) int64 {
	if p.timed(life) {
		return max(expiresAt-p.Margin(life), now)
	}
	period := p.Period(life)
	if period == 0 {
		return 0
	}
	slot := NextSlot(id, period, now)
	for i := 0; p.SlotSkips(id, life, expiresAt, slot) && i < 1000; i++ {
		slot = NextSlot(id, period, slot)
	}
	return slot
}

// Slots are the partitions that are due at a minute, one for each period.
func Slots(minute int64) []string {
	out := make([]string, 0, len(ladder))
	for _, period := range ladder {
		out = append(out, slotPartition(period, floorMod(minute, period)))
	}
	return out
}

// retryWalk is how many past retry minutes each tick walks again: an index follows
// its items a little later, and one walk a minute would lose some.
const retryWalk = 5

// lookBack is how many minutes of what was put off are walked once an hour.
const lookBack = 24 * 60

// Retries are the partitions of what was put off, for the tick of a minute: the
// last minutes, and once an hour those of a whole day.
func Retries(minute int64) []string {
	from := minute - retryWalk
	if minute%60 == 0 {
		from = minute - lookBack
	}
	out := make([]string, 0, (minute-from+1)*retryShards)
	for m := from; m <= minute; m++ {
		out = append(out, retryMinute(m)...)
	}
	return out
}

func retryMinute(minute int64) []string {
	out := make([]string, 0, retryShards)
	for shard := range int64(retryShards) {
		out = append(out, retryPartition(minute, shard))
	}
	return out
}

// Walk is what the tick of minute to must look at when the last one done was from
// (0: none is known), oldest first and each partition once: a gap as long as a
// period walks each of its phases once, whatever the gap's length.
func Walk(from, to int64) []string {
	known := from != 0
	if !known || to-from > ladder[len(ladder)-1] {
		from = to - ladder[len(ladder)-1]
	}
	seen := map[string]bool{}
	var out []string
	add := func(partitions []string) {
		for _, p := range partitions {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	for m := from + 1; m <= to; m++ {
		for _, period := range ladder {
			if m > to-period { // an older minute of this phase comes again within the gap
				add([]string{slotPartition(period, floorMod(m, period))})
			}
		}
	}
	for m := putOff(from, to, known); m <= to; m++ {
		add(retryMinute(m))
	}
	return out
}

// putOff is the oldest minute that may hold something put off which a tick must look at.
// It may stand in any minute of the gap, and a full hour in it looks back a whole day.
func putOff(from, to int64, known bool) int64 {
	if !known {
		return to - lookBack
	}
	if hour := from - floorMod(from, 60) + 60; hour <= to {
		return hour - lookBack
	}
	return min(from+1, to) - retryWalk
}

// DueMinute is the last minute up to now, both unix minutes, at which a partition of
// the schedule was due; now where it names none.
func DueMinute(partition string, now int64) int64 {
	if period, phase, ok := ParsePartition(partition); ok && period > 0 {
		return now - floorMod(now-phase, period)
	}
	if rest, ok := strings.CutPrefix(partition, "retry#"); ok {
		minute, _, _ := strings.Cut(rest, "#")
		if m, err := strconv.ParseInt(minute, 10, 64); err == nil {
			return min(m, now)
		}
	}
	return now
}

// ParsePartition takes a slot partition apart; ok is false for any other text.
func ParsePartition(s string) (period, phase int64, ok bool) {
	parts := strings.Split(s, "#")
	if len(parts) != 3 || parts[0] == "retry" {
		return 0, 0, false
	}
	period, err1 := strconv.ParseInt(parts[0], 10, 64)
	phase, err2 := strconv.ParseInt(parts[1], 10, 64)
	return period, phase, err1 == nil && err2 == nil
}

// TodoPartition is where something unfinished is filed that the tick of that minute
// takes up: "todo#minute#shard".
func TodoPartition(id string, at int64) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return fmt.Sprintf("todo#%d#%d", (at+59)/60, h.Sum32()%retryShards)
}

// todoGap bounds in minutes how far back unfinished work is looked for after a pause: each
// minute of it costs a few queries.
const todoGap = 7 * 24 * 60

// Todos are the partitions of unfinished work for the tick of minute to, when the last one
// done was from (0: none is known): walked as what was put off is.
func Todos(from, to int64) []string {
	if from != 0 {
		from = max(from, to-todoGap)
	}
	var out []string
	for m := putOff(min(from, to-1), to, from != 0); m <= to; m++ {
		for _, p := range retryMinute(m) {
			out = append(out, "todo"+strings.TrimPrefix(p, "retry"))
		}
	}
	return out
}
