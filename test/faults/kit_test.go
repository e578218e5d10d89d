// Package faults_test injects every fault that the protocol was made for, each into a
// whole broker over real stores and a provider behind real HTTP, and looks at what is
// left of it. docs/reliability.md lists them; the world in which they happen is that of
// internal/broker/brokertest.
package faults_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/wire"
)

// mutant declares a change that takes the defence of a row out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

// world is a World, with what the rows here do to it.
type world struct{ *brokertest.World }

// newWorld is one whose tables are in a file.
func newWorld(t *testing.T, profile string) *world {
	t.Helper()
	return &world{brokertest.New(t, brokertest.Options{Profile: profile})}
}

// onStores runs a test in a world on every store that is here.
func onStores(t *testing.T, profile string, test func(t *testing.T, w *world)) {
	t.Helper()
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		test(t, &world{brokertest.New(t, brokertest.Options{Profile: profile, Store: store})})
	})
}

// untold is a process with nobody to tell, as serve is without webhooks: its writes carry
// no events.
func untold(c *broker.Config) { c.Events = nil }

// toldInTheEnd ticks until nothing waits to be told, and wants these events of the
// connection: each at least once, and the same however often.
func (w *world) toldInTheEnd(id string, want ...string) {
	w.T.Helper()
	p := w.Start()
	for n := 0; len(w.Record(id).Outbox.Waiting) > 0 || w.Record(id).Todo != ""; n++ {
		if n == 45 {
			w.T.Fatalf("what waits is not delivered: %+v", w.Record(id).Outbox)
		}
		w.Advance(time.Minute)
		p.TickNow()
	}
	if diff := cmp.Diff(want, w.Told(id)); diff != "" {
		w.T.Errorf("events (-want +got):\n%s", diff)
	}
	byID := map[string]wire.Event{}
	for _, e := range w.Deliveries() {
		if known, again := byID[e.ID]; again && !cmp.Equal(known, e) {
			w.T.Errorf("delivered again as another one: %+v, %+v", known, e)
		}
		byID[e.ID] = e
	}
	w.Check()
}
