package circuit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/item"
)

// table holds circuits in memory; its other methods are not called.
type table struct {
	item.Table
	mu    sync.Mutex // guards items
	items map[string]item.Item
	down  bool
	reads int
}

var errDown = errors.New("store is down")

func (t *table) Get(_ context.Context, key string) (item.Item, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads++
	if t.down {
		return nil, errDown
	}
	return t.items[key].Clone(), nil
}

func (t *table) Update(_ context.Context, key string, u item.Update) (item.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return item.Result{}, errDown
	}
	next, applied := u.Apply(t.items[key])
	if applied {
		t.items[key] = next
	}
	return item.Result{Applied: applied, Item: next.Clone()}, nil
}

// bench is two processes over one table and one clock.
type bench struct {
	*testing.T
	table *table
	now   time.Time
	a, b  *circuit.Breaker
}

func newBench(t *testing.T) *bench {
	x := &bench{T: t, table: &table{items: map[string]item.Item{}}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return x.now }
	x.a, x.b = circuit.New(x.table, clock), circuit.New(x.table, clock)
	return x
}

func (x *bench) later(d time.Duration) { x.now = x.now.Add(d) }

func (x *bench) status(b *circuit.Breaker, c circuit.Client) circuit.Status {
	x.Helper()
	s, err := b.Status(context.Background(), c)
	x.must(err)
	return s
}

func (x *bench) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *bench) probe(b *circuit.Breaker, c circuit.Client) bool {
	x.Helper()
	ok, err := b.TakeProbe(context.Background(), c)
	x.must(err)
	return ok
}

var (
	client = circuit.Client{Integration: "acme", Name: "main", Generation: "1"}
	ctx    = context.Background()
)

func TestCircuitIsSharedByProcesses(t *testing.T) {
	x := newBench(t)
	if x.status(x.a, client).Open || x.status(x.b, client).Open {
		t.Fatal("open from the start")
	}
	x.must(x.a.Trip(ctx, client, "invalid_client"))
	since := x.now.Unix()
	x.later(6 * time.Second)
	s := x.status(x.b, client)
	if !s.Open || s.Since != since || s.Reason != "invalid_client" || s.WalkFrom != since/60 || s.NextProbe != since+60 {
		t.Fatalf("%+v", s)
	}
	x.later(time.Minute)
	x.must(x.b.Trip(ctx, client, "another"))
	if s := x.status(x.b, client); s.Since != since || s.Reason != "invalid_client" {
		t.Errorf("opened anew: %+v", s)
	}
	other := circuit.Client{Integration: "acme", Name: "draining", Generation: "1"}
	if x.status(x.a, other).Open {
		t.Error("another client's circuit is open")
	}
	x.must(x.b.Worked(ctx, client))
	x.later(6 * time.Second)
	if s := x.status(x.a, client); s.Open || s.WalkFrom != since/60 || s.Reason != "" {
		t.Fatalf("%+v", s)
	}
}

// One probe an interval, whoever asks, and the intervals grow to a quarter of an hour.
func TestOneProbeAnInterval(t *testing.T) {
	x := newBench(t)
	if x.probe(x.a, client) {
		t.Fatal("a closed circuit needs no probe")
	}
	x.must(x.a.Trip(ctx, client, "invalid_client"))
	if x.probe(x.a, client) || x.probe(x.b, client) {
		t.Fatal("probed at once")
	}
	var taken []int
	for minute := 1; minute <= 60; minute++ {
		x.later(time.Minute)
		a, b := x.probe(x.a, client), x.probe(x.b, client)
		if a && b {
			t.Fatalf("two probes in minute %d", minute)
		}
		if a || b {
			taken = append(taken, minute)
		}
	}
	for i := range taken {
		if i > 1 && (taken[i]-taken[i-1] < taken[i-1]-taken[i-2] || taken[i]-taken[i-1] > 15) {
			t.Errorf("probes at minutes %v", taken)
			break
		}
	}
	if len(taken) < 5 || taken[0] != 1 {
		t.Errorf("probes at minutes %v", taken)
	}
}

// A changed secret is tried at once; until then nothing else of the circuit changes.
func TestNewConfigurationStartsHalfOpen(t *testing.T) {
	x := newBench(t)
	x.must(x.a.Trip(ctx, client, "invalid_client"))
	changed := client
	changed.Generation = "2"
	if s := x.status(x.b, changed); !s.Open || s.NextProbe != x.now.Unix() || !s.Young {
		t.Fatalf("%+v", s)
	}
	if !x.probe(x.b, changed) || x.probe(x.b, changed) {
		t.Fatal("not one probe at once")
	}
	// A process of the old configuration cannot trip or close the new one's circuit
	// without first adopting its own.
	x.must(x.b.Worked(ctx, changed))
	x.later(6 * time.Second)
	if s := x.status(x.b, changed); s.Open || !s.Young {
		t.Errorf("%+v", s)
	}
	x.later(time.Hour)
	if x.status(x.b, changed).Young {
		t.Error("young for ever")
	}
	if first := newBench(t); first.status(first.a, client).Young {
		t.Error("a fresh deployment is taken for a changed configuration")
	}
}

// Missed slots are remembered from the first minute until they were walked.
func TestMissedSlotsAreRemembered(t *testing.T) {
	x := newBench(t)
	x.must(x.a.Trip(ctx, client, "invalid_client"))
	first := x.now.Unix() / 60
	x.must(x.a.Walked(ctx, client, x.status(x.a, client))) // open: too early
	if x.status(x.a, client).WalkFrom != first {
		t.Fatal("forgotten while open")
	}
	x.later(3 * time.Hour)
	x.must(x.a.Worked(ctx, client))
	x.later(time.Minute)
	x.must(x.a.Trip(ctx, client, "again"))
	x.later(time.Minute)
	x.must(x.a.Worked(ctx, client))
	if s := x.status(x.a, client); s.WalkFrom != first || s.Open {
		t.Fatalf("%+v, first %d", s, first)
	}
	x.must(x.a.Walked(ctx, client, circuit.Status{WalkFrom: first + 1})) // of another walk
	if x.status(x.a, client).WalkFrom != first {
		t.Fatal("forgotten by another walk")
	}
	x.must(x.a.Walked(ctx, client, x.status(x.a, client)))
	if x.status(x.a, client).WalkFrom != 0 {
		t.Error("walked, and not forgotten")
	}
}

func TestStatusIsReadSeldom(t *testing.T) {
	x := newBench(t)
	for range 100 {
		x.status(x.a, client)
	}
	if x.table.reads != 1 {
		t.Errorf("%d reads", x.table.reads)
	}
	x.later(6 * time.Second)
	x.table.down = true
	if _, err := x.a.Status(ctx, client); !errors.Is(err, errDown) {
		t.Errorf("error %v", err)
	}
	for _, err := range []error{x.a.Trip(ctx, client, "x"), x.a.Worked(ctx, client)} {
		if !errors.Is(err, errDown) {
			t.Errorf("error %v", err)
		}
	}
}

func TestStormBrake(t *testing.T) {
	for name, c := range map[string]struct {
		good, bad int
		apart     time.Duration
		brake     int // the first refusal that brakes, 0 for none
	}{
		"few":                     {0, 5, 0, 0},
		"a storm":                 {0, 20, 0, 6},
		"one in six":              {100, 20, 0, 0},
		"more than one in five":   {30, 20, 0, 8},
		"slowly, over many hours": {0, 20, 3 * time.Minute, 0},
	} {
		x := newBench(t)
		for range c.good {
			if x.a.Judge(ctx, client, circuit.Spoke) {
				t.Errorf("%s: a success brakes", name)
			}
		}
		first := 0
		for i := range c.bad {
			if x.a.Judge(ctx, client, circuit.Refused) && first == 0 {
				first = i + 1
			}
			x.later(c.apart)
		}
		if first != c.brake {
			t.Errorf("%s: braked at refusal %d, want %d", name, first, c.brake)
		}
	}
	x := newBench(t)
	for range 10 {
		x.a.Judge(ctx, client, circuit.Refused)
	}
	if other := (circuit.Client{Integration: "other", Name: "main"}); x.a.Judge(ctx, other, circuit.Refused) {
		t.Error("another integration's storm brakes")
	}
	x.later(11 * time.Minute)
	if x.a.Judge(ctx, client, circuit.Refused) {
		t.Error("a storm that is over brakes")
	}
}

// What a lost answer explains is no sign of a storm, however often it is refused. In a
// storm of others it is braked.
func TestRefusalsInDoubtMakeNoStorm(t *testing.T) {
	x := newBench(t)
	for range 50 {
		if x.a.Judge(ctx, client, circuit.RefusedInDoubt) {
			t.Fatal("refusals in doubt brake")
		}
	}
	for n := range 20 {
		if x.a.Judge(ctx, client, circuit.Refused) != (n >= 5) {
			t.Fatalf("refusal %d without doubt: refusals in doubt were counted", n+1)
		}
	}
	for name, b := range map[string]*circuit.Breaker{"here": x.a, "elsewhere": x.b} {
		if !b.Judge(ctx, client, circuit.RefusedInDoubt) {
			t.Errorf("%s a refusal in doubt is a verdict in the midst of a storm", name)
		}
	}
	x.table.down = true
	if !x.a.Judge(ctx, client, circuit.RefusedInDoubt) {
		t.Error("what this process saw does not count where the store is away")
	}
}

// While a changed configuration is young, a refusal is more likely its fault.
func TestYoungConfigurationBrakes(t *testing.T) {
	x := newBench(t)
	x.status(x.a, client)
	changed := client
	changed.Generation = "2"
	x.status(x.a, changed)
	if !x.a.Judge(ctx, changed, circuit.Refused) || x.a.Judge(ctx, changed, circuit.Spoke) {
		t.Error("a young configuration does not brake")
	}
}

// Two processes that see half of a storm each pass five verdicts together; a fleet in
// which few are refused brakes none of them.
func TestStormIsCountedByAllProcesses(t *testing.T) {
	x := newBench(t)
	passed := 0
	for n := range 40 {
		b := []*circuit.Breaker{x.a, x.b, circuit.New(x.table, func() time.Time { return x.now })}[n%3]
		if !b.Judge(ctx, client, circuit.Refused) {
			passed++
		}
	}
	if passed != 5 {
		t.Errorf("%d verdicts", passed)
	}
	x.later(20 * time.Minute)
	for n := range 60 {
		b := circuit.New(x.table, func() time.Time { return x.now })
		for range 9 {
			b.Judge(ctx, client, circuit.Spoke)
		}
		b.Flush(ctx)
		if b.Judge(ctx, client, circuit.Refused) {
			t.Fatalf("one in ten brakes at refusal %d", n+1)
		}
	}
}

// A pause is known to all, grows and never shrinks, and what was due meanwhile is owed.
func TestPauseIsSharedByProcesses(t *testing.T) {
	x := newBench(t)
	x.status(x.b, client)
	until := x.now.Unix() + 90
	x.must(x.a.Pause(ctx, client, until))
	x.must(x.a.Pause(ctx, client, until-30))
	x.must(x.a.Pause(ctx, client, x.now.Unix()-5))
	x.later(6 * time.Second)
	s := x.status(x.b, client)
	if s.Open || s.PausedUntil != until || s.WalkFrom != (until-90)/60 {
		t.Fatalf("%+v", s)
	}
	x.must(x.b.Pause(ctx, client, until+60))
	x.later(6 * time.Second)
	if s := x.status(x.a, client); s.PausedUntil != until+60 {
		t.Errorf("%+v", s)
	}
}

// What is owed while a walk is under way is walked again; the oldest minute counts.
func TestOwedSlotsSurviveAWalk(t *testing.T) {
	x := newBench(t)
	x.must(x.a.Owe(ctx, client, 100)) // before any generation was seen
	x.must(x.b.Owe(ctx, client, 90))
	x.must(x.a.Owe(ctx, client, 95))
	s := x.status(x.a, client)
	if s.WalkFrom != 90 || s.Open {
		t.Fatalf("%+v", s)
	}
	x.must(x.b.Owe(ctx, client, 100))
	x.must(x.a.Walked(ctx, client, s))
	s = x.status(x.a, client)
	if s.WalkFrom != 90 {
		t.Fatal("forgotten, though more was owed during the walk")
	}
	x.must(x.a.Walked(ctx, client, s))
	if s := x.status(x.a, client); s.WalkFrom != 0 {
		t.Errorf("%+v", s)
	}
	x.table.down = true
	for _, err := range []error{x.a.Owe(ctx, client, 1), x.a.Pause(ctx, client, x.now.Unix()+60)} {
		if !errors.Is(err, errDown) && err != nil {
			t.Errorf("error %v", err)
		}
	}
}

func TestAProbeThatWasNotUsedIsGivenBack(t *testing.T) {
	x := newBench(t)
	x.must(x.a.Trip(ctx, client, "invalid_client"))
	x.later(2 * time.Minute)
	if !x.probe(x.a, client) || x.probe(x.a, client) {
		t.Fatal("one probe an interval")
	}
	x.must(x.a.GiveBack(ctx, client))
	x.later(6 * time.Second)
	if !x.probe(x.b, client) {
		t.Error("the probe that was given back is not to be had")
	}
	x.must(x.b.Worked(ctx, client))
	x.must(x.b.GiveBack(ctx, client)) // of a closed circuit there is nothing to give back
	if s := x.status(x.b, client); s.Open || s.NextProbe != 0 {
		t.Errorf("%+v", s)
	}
}
