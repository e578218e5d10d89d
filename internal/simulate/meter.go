package simulate

import (
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
)

// meter counts what writes cost, by the item before and after each.
type meter struct {
	indexes []item.Index
	Counts
}

const unit = 1024 // bytes of item that one write unit carries

// write counts one conditional write of the item at key, whose sizes before and after
// it are told. One that was refused costs what one that was applied does.
func (m *meter) write(key string, before, after item.Item, applied bool, sizes ...int) {
	units := int64(slices.Max(sizes)+len(key)+unit-1) / unit
	if !strings.HasPrefix(key, "conn_") {
		m.SystemUnits += units
		return
	}
	m.Writes++
	m.WriteUnits += units
	if !applied {
		return
	}
	rows := m.indexWrites(key, before, after)
	m.IndexWrites += rows
	// An import is proved by its first refresh, which files it under its phase.
	if saved := before != nil && after.Int("gen") > before.Int("gen"); saved && before.String("status") == "active" && !schedule.IsRetry(before.String("sched")) {
		m.PlainIndexWrites += rows
	}
}

// indexWrites is how many rows of indexes a write puts or deletes.
func (m *meter) indexWrites(key string, before, after item.Item) int64 {
	var n int64
	for _, x := range m.indexes {
		oldHash, oldRange, stood := place(x, key, before)
		newHash, newRange, stands := place(x, key, after)
		if stood == stands && oldHash == newHash && oldRange == newRange {
			continue
		}
		if stood {
			n++
		}
		if stands {
			n++
		}
	}
	return n
}

// place is where an item stands in an index; false where it does not.
func place(x item.Index, key string, i item.Item) (hash, rng string, stands bool) {
	hash, stands = i[x.Hash].(string)
	if !stands || x.Range == item.KeyName {
		return hash, key, stands
	}
	if rng, stands = i[x.Range].(string); !stands {
		return "", "", false
	}
	return hash, rng, true
}
