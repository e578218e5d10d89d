package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/outbox"
	"github.com/evergrant/evergrant/internal/wire"
)

const key = "conn_1"

// bench is one item, a sink and a deliverer between them.
type bench struct {
	item   item.Item
	got    []wire.Event
	accept func(list []wire.Event) (int, error) // nil: all
	fail   func() error                         // of the next write, after it
	log    bytes.Buffer
	now    time.Time
	*events.Deliverer
}

func newBench() *bench {
	b := &bench{item: item.Item{"status": "active", "owner": "alice", "integration": "acme", "client": "main"}, now: time.Unix(10_000, 0)}
	b.Deliverer = &events.Deliverer{Table: b, Sink: b, Now: func() time.Time { return b.now }, Log: slog.New(slog.NewTextHandler(&b.log, nil))}
	return b
}

func (b *bench) Send(_ context.Context, list []wire.Event) (int, error) {
	n, err := len(list), error(nil)
	if b.accept != nil {
		n, err = b.accept(list)
	}
	b.got = append(b.got, list[:n]...)
	return n, err
}

func (b *bench) Get(context.Context, string) (item.Item, error) { return b.item, nil }

func (b *bench) Update(_ context.Context, _ string, u item.Update) (item.Result, error) {
	next, applied := u.Apply(b.item)
	b.item = next
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return item.Result{}, err
		}
	}
	return item.Result{Applied: applied, Item: next}, nil
}

func (*bench) Delete(context.Context, string, ...item.Cond) (item.Result, error) {
	return item.Result{}, errors.New("not of this bench")
}

func (*bench) Query(context.Context, item.Query) (item.Page, error) { return item.Page{}, nil }

func (*bench) Scan(context.Context, string, int) (item.Page, error) { return item.Page{}, nil }

// put puts an event as a write does, and leaves its delivery to somebody else.
func (b *bench) put(t outbox.Type) {
	u := outbox.Add(item.Update{}, outbox.Event{ID: outbox.NewID(), Type: t, At: b.now.Unix()}, "todo#167#0")
	b.item, _ = u.Apply(b.item)
}

func (b *bench) announce() item.Item {
	return b.Announcer().Deliver(context.Background(), key, b.item)
}

func (b *bench) sequence() []int64 {
	var out []int64
	for _, e := range b.got {
		out = append(out, e.Sequence)
	}
	return out
}

func (b *bench) resume(t *testing.T) {
	t.Helper()
	if _, err := b.Resume(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func TestDeliveredInOrderAndTakenOff(t *testing.T) {
	b := newBench()
	b.put(outbox.Created)
	b.put(outbox.NeedsReauth)
	after := b.announce()
	if diff := cmp.Diff([]int64{1, 2}, b.sequence()); diff != "" {
		t.Error(diff)
	}
	want := item.Item{"status": "active", "owner": "alice", "integration": "acme", "client": "main", "events": int64(2), "told": int64(2)}
	if diff := cmp.Diff(want, b.item); diff != "" || !cmp.Equal(after, b.item) {
		t.Error(diff)
	}
	first := b.got[0]
	first.ID = ""
	if diff := cmp.Diff(wire.Event{
		Type: "connection.created", At: time.Unix(10_000, 0).UTC(), Sequence: 1, ConnectionID: key, Owner: "alice", Integration: "acme", Client: "main", Status: "active",
	}, first); diff != "" {
		t.Error(diff)
	}
}

// A crash between delivery and removal: delivered again, under the same id.
func TestDeliveredAgainUnderTheSameID(t *testing.T) {
	b := newBench()
	b.put(outbox.Created)
	before := b.item
	b.fail = func() error { b.item = before; return errors.New("away") }
	b.announce()
	b.fail = nil
	b.resume(t)
	if len(b.got) != 2 || b.got[0] != b.got[1] || b.item["todo"] != nil {
		t.Errorf("%+v %v", b.got, b.item)
	}
}

func TestWhatIsRefusedStaysAndIsFiledForLater(t *testing.T) {
	b := newBench()
	counts := map[metric.Point]float64{}
	b.Observe = func(m metric.Metric, p metric.Point, v float64) {
		if counts[p] += v; m != metric.Events {
			t.Errorf("measured: %s", m.Spec().Name)
		}
	}
	b.put(outbox.Created)
	b.put(outbox.NeedsReauth)
	b.accept = func([]wire.Event) (int, error) { return 1, errors.New("throttled") }
	b.announce()
	if box := outbox.Read(b.item); len(box.Waiting) != 1 || box.Waiting[0].Seq != 2 || b.item.String("todo") != "todo#167#0" {
		t.Errorf("%+v", b.item)
	}
	b.accept = func([]wire.Event) (int, error) { return 0, errors.New("throttled") }
	for _, passed := range []time.Duration{time.Minute, time.Hour, 100 * time.Hour} {
		b.now = b.now.Add(passed)
		if _, err := b.Resume(t.Context(), key); err == nil {
			t.Error("nobody is told that it failed")
		}
	}
	// Half an hour later, and no more. The clock stands at minute 6226.7.
	if todo := b.item.String("todo"); !strings.HasPrefix(todo, "todo#6257#") && !strings.HasPrefix(todo, "todo#6258#") {
		t.Error(todo)
	}
	b.accept = nil
	b.resume(t)
	if diff := cmp.Diff([]int64{1, 2}, b.sequence()); diff != "" || b.item["todo"] != nil {
		t.Error(diff, b.item)
	}
	if diff := cmp.Diff(map[metric.Point]float64{{Integration: "acme", Outcome: "taken"}: 2, {Integration: "acme", Outcome: "refused"}: 4}, counts); diff != "" {
		t.Error(diff)
	}
}

// What is added while others are delivered is not taken off with them.
func TestAddedMeanwhile(t *testing.T) {
	b := newBench()
	b.put(outbox.NeedsReauth)
	once := true
	b.accept = func(list []wire.Event) (int, error) {
		if once {
			once = false
			b.put(outbox.Recovered)
			b.put(outbox.NeedsReauth) // in the place of the one that is being delivered
		}
		return len(list), nil
	}
	b.announce()
	if diff := cmp.Diff([]int64{1, 2, 3}, b.sequence()); diff != "" || len(outbox.Read(b.item).Waiting) != 0 || b.item["todo"] != nil {
		t.Error(diff, b.item)
	}
	if b.log.Len() != 0 {
		t.Errorf("told of a loss that is none: %s", &b.log)
	}
}

// The fifth event, and the fiftieth: the newest of each type is kept, and who runs it is
// told how many gave way.
func TestEventsGiveWayToNewerOnesAndItIsTold(t *testing.T) {
	b := newBench()
	b.accept = func([]wire.Event) (int, error) { return 0, errors.New("away") }
	for range 25 {
		b.put(outbox.NeedsReauth)
		b.put(outbox.Recovered)
		b.announce()
	}
	b.log.Reset()
	b.accept = nil
	b.resume(t)
	if diff := cmp.Diff([]int64{49, 50}, b.sequence()); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(b.log.Bytes(), []byte("events=48")) {
		t.Error(b.log.String())
	}
}

func TestTheListIsLeftOnlyWhereNothingElseIsToBeDone(t *testing.T) {
	for _, c := range []struct {
		status, revocation string
		stays              bool
	}{{"disconnected", "pending", true}, {"connecting", "", true}, {"disconnected", "at_provider", false}, {"active", "", false}} {
		b := newBench()
		b.item["status"], b.item["revocation"] = c.status, c.revocation
		b.put(outbox.Disconnected)
		b.announce()
		if stays := b.item["todo"] != nil; stays != c.stays || len(b.got) != 1 {
			t.Errorf("%+v: on the list %v, %d events", c, stays, len(b.got))
		}
	}
	// What stands there though nothing is to be done is taken off.
	b := newBench()
	b.item["todo"] = "todo#1#0"
	b.resume(t)
	if b.item["todo"] != nil {
		t.Error(b.item)
	}
}

// A receiver that hangs holds the write up for two seconds, and the tick for ten.
func TestAReceiverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.Sink = hanging{}
		b.put(outbox.Created)
		began := time.Now()
		b.announce()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the write is held up for %s", took)
		}
		if _, err := b.Resume(t.Context(), key); err == nil || time.Since(began) != 12*time.Second {
			t.Errorf("the tick is held up for %s, %v", time.Since(began)-2*time.Second, err)
		}
		if len(outbox.Read(b.item).Waiting) != 1 || b.item["todo"] == nil {
			t.Error(b.item)
		}
	})
}

// hanging takes nothing as long as it is let.
type hanging struct{}

func (hanging) Send(ctx context.Context, _ []wire.Event) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestEventsOfIntegrations(t *testing.T) {
	b := newBench()
	b.item = item.Item{"state": "open"}
	u := outbox.Add(item.Update{}, outbox.Event{ID: "evt_1", Type: outbox.Suspended, At: 5, Reason: "invalid_client"}, "todo#1#0")
	b.item, _ = u.Apply(b.item)
	b.Announcer().Deliver(t.Context(), "circuit#acme#main", b.item)
	reason := "invalid_client"
	want := []wire.Event{{
		ID: "evt_1", Type: "integration.suspended", At: time.Unix(5, 0).UTC(), Sequence: 1, Integration: "acme", Client: "main", Status: "suspended", Reason: &reason,
	}}
	if diff := cmp.Diff(want, b.got); diff != "" || b.item["todo"] != nil {
		t.Error(diff, b.item)
	}
}

// An event holds what is listed here and nothing else of its item.
func TestEventsCarryNoToken(t *testing.T) {
	b := newBench()
	for _, name := range []string{"at", "rt", "secret_fields"} {
		b.item[name] = item.Bytes("CANARY-sealed")
	}
	b.item["token_id"], b.item["account"], b.item["fields"] = "CANARY-id", "CANARY-account", item.Map{"a": "CANARY-field"}
	for _, typ := range outbox.Types() {
		b.put(typ)
	}
	b.announce()
	text, err := json.Marshal(b.got)
	if err != nil || len(b.got) != len(outbox.Types()) || bytes.Contains(text, []byte("CANARY")) {
		t.Errorf("%s %v", text, err)
	}
}

// Whatever fails and whoever writes meanwhile: once the sink is back and the tick has
// come, each event was delivered or gave way to a newer one of its type, and nothing
// waits.
func TestEverythingIsDeliveredInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		kinds := rapid.SampledFrom([]outbox.Type{outbox.NeedsReauth, outbox.Recovered, outbox.Reconnected, outbox.ReconnectSoon})
		var put []outbox.Event
		add := func() {
			b.put(kinds.Draw(t, "type"))
			box := outbox.Read(b.item)
			put = append(put, box.Waiting[slices.IndexFunc(box.Waiting, func(e outbox.Event) bool { return e.Seq == box.Last })])
		}
		b.accept = func(list []wire.Event) (int, error) {
			if rapid.Bool().Draw(t, "meanwhile") {
				add()
			}
			if n := rapid.IntRange(0, len(list)).Draw(t, "taken"); n < len(list) {
				return n, errors.New("away")
			}
			return len(list), nil
		}
		b.fail = func() error {
			if rapid.IntRange(0, 3).Draw(t, "store") == 0 {
				return errors.New("no answer") // to a write that was applied
			}
			return nil
		}
		for range rapid.IntRange(1, 8).Draw(t, "writes") {
			add()
			if rapid.Bool().Draw(t, "crash") {
				continue
			}
			b.announce()
		}
		b.accept, b.fail = nil, nil
		if _, err := b.Resume(context.Background(), key); err != nil {
			t.Fatal(err)
		}
		box := outbox.Read(b.item)
		if len(box.Waiting) != 0 || b.item["todo"] != nil || box.Told != box.Last {
			t.Fatalf("%+v", b.item)
		}
		for n, e := range put {
			told := slices.ContainsFunc(b.got, func(g wire.Event) bool { return g.ID == e.ID && g.Sequence == e.Seq })
			newer := slices.ContainsFunc(put[n+1:], func(o outbox.Event) bool { return o.Type == e.Type })
			if !told && !newer {
				t.Fatalf("event %d was never delivered", e.Seq)
			}
		}
	})
}
