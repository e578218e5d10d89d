package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/item"
)

const (
	hour      = 3600
	statsKept = 14 * 24 // hours; a row is used again after so many
)

// tallies are the counters of this process since they were last written.
type tallies struct {
	mu   sync.Mutex
	rows map[tallyRow]map[string]int64 // guarded by mu
}

type tallyRow struct {
	hour        int64 // unix hours
	integration string
}

func newTallies() *tallies { return &tallies{rows: map[tallyRow]map[string]int64{}} }

func (t *tallies) count(now int64, integration, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := tallyRow{now / hour, integration}
	if t.rows[row] == nil {
		t.rows[row] = map[string]int64{}
	}
	t.rows[row][name]++
}

// lateness counts one scheduled refresh by how many seconds after its minute it was
// saved, in steps that double.
func (t *tallies) lateness(now int64, integration string, seconds int64) {
	step := int64(1)
	for step < seconds && step < 1<<20 {
		step *= 2
	}
	t.count(now, integration, fmt.Sprintf("late_%d", step))
}

func (t *tallies) take() map[tallyRow]map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.rows
	t.rows = map[tallyRow]map[string]int64{}
	return out
}

func statsKey(row tallyRow) string {
	return fmt.Sprintf("stats#%s#%d", row.integration, row.hour%statsKept)
}

// flushStats adds this process's counters to their rows. Rows are used again after
// two weeks, so that nothing has to delete them. Counters that cannot be written are
// lost: they are figures, not state.
func (b *Broker) flushStats(ctx context.Context) {
	b.circuits.Flush(ctx)
	for row, counts := range b.tallies.take() {
		if err := b.addStats(ctx, row, counts); err != nil {
			b.Log.Warn("statistics", "integration", row.integration, "error", err.Error())
		}
	}
}

func (b *Broker) addStats(ctx context.Context, row tallyRow, counts map[string]int64) error {
	add := item.Update{Target: item.Existing, If: []item.Cond{item.Eq("hour", row.hour)}}
	fresh := item.Update{Target: item.Any, If: []item.Cond{item.Ne("hour", row.hour)}, Set: []item.Assign{item.Put("hour", row.hour)}}
	for name, n := range counts {
		add.Set = append(add.Set, item.Count("n_"+name, n))
		fresh.Set = append(fresh.Set, item.Put("n_"+name, n))
	}
	for range 3 {
		res, err := b.Store.Connections.Update(ctx, statsKey(row), add)
		if err != nil || res.Applied {
			return err
		}
		fresh.Remove = nil
		for name := range res.Item {
			if _, counted := counts[strings.TrimPrefix(name, "n_")]; strings.HasPrefix(name, "n_") && !counted {
				fresh.Remove = append(fresh.Remove, name) // of two weeks ago
			}
		}
		if res, err = b.Store.Connections.Update(ctx, statsKey(row), fresh); err != nil || res.Applied {
			return err
		}
	}
	return nil
}

// Stats reads the counters of the integrations that the caller may see. from and to
// are unix seconds; 0 is the last day.
func (b *Broker) Stats(ctx context.Context, c Caller, from, to int64) (Stats, error) {
	now := b.now()
	if to == 0 {
		to = now
	}
	if from == 0 {
		from = to - 24*hour
	}
	switch {
	case from > to:
		return Stats{}, fail(InvalidRequest, "from must not be after to")
	case to-from > statsKept*hour:
		return Stats{}, fail(InvalidRequest, "at most 14 days")
	}
	b.flushStats(ctx)
	out := Stats{Hours: []HourStats{}}
	for h := max(from/hour, now/hour-statsKept+1); h <= min(to, now)/hour; h++ {
		for n := range b.Settings.Integrations {
			name := b.Settings.Integrations[n].Name
			if !c.MayIntegration(name) {
				continue
			}
			i, err := b.Store.Connections.Get(ctx, statsKey(tallyRow{h, name}))
			if err != nil {
				return Stats{}, internal(err)
			}
			if i.Int("hour") == h && i != nil {
				out.Hours = append(out.Hours, hourStats(h, name, i))
			}
		}
	}
	return out, nil
}

func hourStats(h int64, name string, i item.Item) HourStats {
	s := HourStats{Hour: h * hour, Integration: name, Outcomes: map[string]int64{}}
	late := map[int64]int64{}
	var total int64
	for attr, v := range i {
		n, _ := v.(int64)
		switch counter, ok := strings.CutPrefix(attr, "n_"); {
		case !ok:
		case strings.HasPrefix(counter, "late_"):
			var step int64
			_, _ = fmt.Sscan(strings.TrimPrefix(counter, "late_"), &step)
			late[step] += n
			total += n
		default:
			s.Outcomes[counter] = n
		}
	}
	if total > 0 {
		s.Lateness = percentiles(late, total)
	}
	return s
}

// percentiles reads the upper bound of the step in which each percentile lies.
func percentiles(late map[int64]int64, total int64) map[string]int64 {
	out := map[string]int64{}
	for name, share := range map[string]int64{"p50": 50, "p90": 90, "p99": 99, "max": 100} {
		var seen int64
		for step := int64(1); step <= 1<<20; step *= 2 {
			if seen += late[step]; seen*100 >= total*share {
				out[name] = step
				break
			}
		}
	}
	return out
}
