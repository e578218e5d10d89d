// Package events delivers what stands in outboxes to whoever is to be told.
//
// A write that puts an event has it delivered at once, as well as that can be done; what
// is left then is found by the tick. An event is taken off its outbox only after it was
// delivered, by a write that cannot take another one. So each is delivered at least once,
// with the same id each time, and the sequence numbers of an item tell which came first.
package events

import (
	"context"
	"log/slog"
	"time"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/outbox"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/wire"
)

// Sink is where events go. It may be used concurrently.
type Sink interface {
	// Send takes events of one item, in their order. taken is how many of them, from the
	// first on, are safe with the sink or with whoever it tells; where it is not all, the
	// error says why, without any secret. An event may come again.
	Send(ctx context.Context, list []wire.Event) (taken int, err error)
}

const (
	// atOnce bounds the delivery by whoever wrote the event, whose caller waits.
	atOnce = 2 * time.Second
	// later bounds the delivery by the tick.
	later = 10 * time.Second

	// Between two tries of the tick, s: a minute at first, half an hour where it has gone
	// on for long.
	retryFirst = 60
	retryMost  = 1800

	// rounds bounds how often a delivery begins anew since more events came meanwhile.
	rounds = 4
)

// Deliverer delivers the events of one table's items. It may be used concurrently.
type Deliverer struct {
	Table item.Table // connections
	Sink  Sink
	Now   func() time.Time
	Log   *slog.Logger
	// Observe, where set, takes what is measured of deliveries. It is called concurrently.
	Observe func(m metric.Metric, p metric.Point, v float64)
}

// Announcer is what the writers of the table need.
func (d *Deliverer) Announcer() *outbox.Announcer {
	return &outbox.Announcer{
		Partition: schedule.TodoPartition,
		Deliver: func(ctx context.Context, key string, i item.Item) item.Item {
			// The write stands, whatever becomes of who asked for it.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atOnce)
			defer cancel()
			i, _ = d.deliver(ctx, key, i)
			return i
		},
	}
}

// Resume delivers what the writers have left, for the tick that finds the item on its
// list. It returns the item as it is then. What cannot be delivered is filed for later;
// what has nothing to be done for it leaves the list.
func (d *Deliverer) Resume(ctx context.Context, key string) (item.Item, error) {
	ctx, cancel := context.WithTimeout(ctx, later)
	defer cancel()
	i, err := d.Table.Get(ctx, key)
	if err != nil || i == nil {
		return nil, err
	}
	i, err = d.deliver(ctx, key, i)
	box, filed := outbox.Read(i), i.String("todo")
	switch {
	case filed == "" || connection.Unfinished(i):
		return i, err // whoever finishes it files it anew
	case len(box.Waiting) > 0:
		now := d.Now().Unix()
		wait := min(max(retryFirst, (now-box.Waiting[0].At)/4), retryMost)
		d.write(ctx, key, box.Postponed(filed, schedule.TodoPartition(key, now+wait)))
	default:
		d.write(ctx, key, box.Taken(0, filed))
	}
	return i, err
}

// measure counts which events of a list the sink took.
func (d *Deliverer) measure(list []wire.Event, taken int) {
	if d.Observe == nil {
		return
	}
	for n, e := range list {
		outcome := "taken"
		if n >= taken {
			outcome = "refused"
		}
		d.Observe(metric.Events, metric.Point{Integration: e.Integration, Outcome: outcome}, 1)
	}
}

// deliver sends what waits in the item and takes it off. It returns the item as it is
// then; the error says why something still waits.
func (d *Deliverer) deliver(ctx context.Context, key string, i item.Item) (item.Item, error) {
	var sent int64 // number of the last event that this call has delivered
	for range rounds {
		box := outbox.Read(i)
		fresh, all := after(box.Waiting, sent), len(box.Waiting)
		if all == 0 {
			return i, nil
		}
		taken, err := len(fresh), error(nil)
		if taken > 0 {
			list := messages(key, i, fresh)
			taken, err = d.Sink.Send(ctx, list)
			d.measure(list, taken)
		}
		if err != nil {
			d.Log.Warn("events", "item", key, "waiting", len(fresh)-taken, "error", err.Error())
		}
		before := sent
		if taken > 0 {
			sent = fresh[taken-1].Seq
		}
		if sent == 0 {
			return i, err
		}
		leave := ""
		if taken == len(fresh) && !connection.Unfinished(i) {
			leave = i.String("todo")
		}
		if n := box.Replaced(before, sent); n > 0 {
			d.Log.Warn("events gave way to newer ones of their type before they could be delivered", "item", key, "events", n)
		}
		res, failed := d.Table.Update(ctx, key, box.Taken(sent, leave))
		if failed != nil || res.Item == nil {
			return i, failed // delivered, and delivered again
		}
		if i = res.Item; err != nil {
			return i, err
		}
	}
	return i, nil
}

// after are the events with a larger number.
func after(list []outbox.Event, seq int64) []outbox.Event {
	for n, e := range list {
		if e.Seq > seq {
			return list[n:]
		}
	}
	return nil
}

// write files an item anew. What it could not write is tried again with the item.
func (d *Deliverer) write(ctx context.Context, key string, u item.Update) {
	if _, err := d.Table.Update(ctx, key, u); err != nil {
		d.Log.Warn("events", "item", key, "error", err.Error())
	}
}

// messages are events of an item as they are told.
func messages(key string, i item.Item, list []outbox.Event) []wire.Event {
	out := make([]wire.Event, len(list))
	for n, e := range list {
		m := wire.Event{ID: e.ID, Type: string(e.Type), At: wire.Time(e.At), Sequence: e.Seq, Status: status(e.Type), Reason: wire.TextOrNull(e.Reason)}
		if c, ok := circuit.ClientOf(key); ok {
			m.Integration, m.Client = c.Integration, c.Name
		} else {
			m.ConnectionID, m.Owner, m.Integration, m.Client = key, i.String("owner"), i.String("integration"), i.String("client")
		}
		out[n] = m
	}
	return out
}

// status is what an event of that type made of its connection or integration.
func status(t outbox.Type) string {
	switch t {
	case outbox.NeedsReauth:
		return string(connection.NeedsReauth)
	case outbox.Disconnected:
		return string(connection.Disconnected)
	case outbox.Suspended:
		return "suspended"
	}
	return string(connection.Active)
}
