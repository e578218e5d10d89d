package brokertest

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
	"github.com/evergrant/evergrant/internal/wire"
)

// onTell is the kind of the strikes on a sink.
const onTell = "events"

// sink is one process's way to the one who is told of events.
type sink struct{ p *Process }

var _ events.Sink = sink{}

func (s sink) Send(_ context.Context, list []wire.Event) (int, error) {
	w := s.p.World
	call := func() (int, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.deaf {
			return 0, errors.New("nobody listens")
		}
		w.told = append(w.told, list...)
		return len(list), nil
	}
	s.p.alive()
	s.p.mu.Lock()
	do := next(s.p.onTell, onTell)
	s.p.mu.Unlock()
	if do == nil {
		return call()
	}
	return do(call)
}

// OnTell lays a fault on the next deliveries of events.
func (p *Process) OnTell(times int, do Fault[int]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onTell = append(p.onTell, strikes[int]{onTell, times, do})
}

// SetDeaf has nobody listen to events, or somebody again.
func (w *World) SetDeaf(deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = deaf
}

// Deliveries are all events as they were delivered, some of them perhaps twice.
func (w *World) Deliveries() []wire.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// Told are the types of the events of a connection (by its id) or of an integration, each
// event once, in the order of their numbers.
func (w *World) Told(of string) []string {
	w.T.Helper()
	seen, out := map[string]bool{}, []string{}
	list := w.Deliveries()
	slices.SortStableFunc(list, func(a, b wire.Event) int { return int(a.Sequence - b.Sequence) })
	for _, e := range list {
		if !seen[e.ID] && (e.ConnectionID == of || e.ConnectionID == "" && e.Integration == of) {
			seen[e.ID] = true
			out = append(out, e.Type)
		}
	}
	return out
}

// tells checks that a write put exactly the event that its change calls for.
func (o *watch) tells(id string, old, now item.Item) {
	want, box := EventOf(old, now), outbox.Read(now)
	put := box.Last - old.Int("events")
	last := slices.IndexFunc(box.Waiting, func(e outbox.Event) bool { return e.Seq == box.Last })
	switch {
	case put == 0 && want == "":
	case put != 1:
		o.broken = append(o.broken, "E1: a write with "+string(want)+" to tell put another number of events: "+id)
	case last < 0 || box.Waiting[last].Type != want:
		o.broken = append(o.broken, "E1: a write did not put "+string(want)+": "+id)
	case now.String("todo") == "":
		o.broken = append(o.broken, "E2: an event waits where no tick looks: "+id)
	}
	if want == "" && strings.HasPrefix(now.String("todo"), "todo#") && old.String("todo") != now.String("todo") && !connection.Unfinished(now) && len(box.Waiting) == 0 {
		o.broken = append(o.broken, "E2: filed for nothing: "+id)
	}
}

// EventOf is the event that a change of a connection calls for, "" for none.
func EventOf(old, now item.Item) outbox.Type {
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
