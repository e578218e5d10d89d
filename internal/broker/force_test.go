package broker_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func codeOf(err error) broker.Code {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return e.Code
	}
	return ""
}

var _ = mutant("T60", "internal/broker/token.go", `rec.ForcedAt != 0 && wait > 0 {`, `rec.ForcedAt != 0 && wait > 3600 {`)

// A caller who always names the newest token gets one refresh in ten seconds, whichever
// process it asks.
func TestThreat_T60_forced_refreshes_are_rationed(t *testing.T) {
	w := newWorld(t, "")
	id := w.connect("one", 1)[0]
	first, second := w.start(), w.start()
	force := func(b *broker.Broker) (int64, error) {
		v, err := b.Refresh(t.Context(), caller(), id, w.Record(id).Gen, "")
		return v.Generation, err
	}
	gen, err := force(first)
	if w.Must(err); w.a.requests() != 1 {
		t.Fatal("the first was not sent")
	}
	for n := range 10 {
		_, err := force([]*broker.Broker{first, second}[n%2])
		e, ok := errors.AsType[*broker.Error](err)
		if !ok || e.Code != broker.RateLimited || e.RetryAfter < 1 || e.RetryAfter > 10 {
			t.Fatalf("after %d s: %v", n, err)
		}
		w.Advance(time.Second)
	}
	if w.a.requests() != 0 {
		t.Error("something was sent")
	}
	// Whoever names an older token is given the newest at once, and reads are free.
	if v, err := second.Refresh(t.Context(), caller(), id, gen-1, ""); err != nil || v.Generation != gen {
		t.Errorf("%+v, %v", v, err)
	}
	if next, err := force(second); err != nil || next != gen+1 || w.a.requests() != 1 {
		t.Errorf("after ten seconds: generation %d, %v", next, err)
	}
}

// Refreshes that fail are rationed too, at once and later; those for which nothing is
// sent are not.
func TestForcedRefreshesThatFailAreRationed(t *testing.T) {
	w := newWorld(t, "")
	id := w.connect("one", 1)[0]
	b := w.start()
	w.a.does(func(rw http.ResponseWriter, _ string) { rw.WriteHeader(http.StatusBadGateway) })
	gen := w.Record(id).Gen
	force := func() broker.Code {
		_, err := b.Refresh(t.Context(), caller(), id, gen, "")
		return codeOf(err)
	}
	if code := force(); code != broker.ProviderUnavailable {
		t.Fatalf("%s", code)
	}
	w.a.requests()
	if code := force(); code != broker.RefreshInProgress {
		t.Errorf("at once: %s", code)
	}
	w.Advance(2 * time.Second)
	if code := force(); code != broker.RateLimited || w.a.requests() != 0 {
		t.Errorf("after 2 s: %s", code)
	}
	w.Advance(8 * time.Second)
	w.a.does(func(rw http.ResponseWriter, _ string) {
		rw.WriteHeader(http.StatusUnauthorized)
		_, _ = rw.Write([]byte(`{"error":"invalid_client"}`))
	})
	for _, want := range []broker.Code{broker.IntegrationSuspended, broker.RefreshInProgress} {
		if code := force(); code != want {
			t.Errorf("%s, want %s", code, want)
		}
	}
	w.Advance(10 * time.Second)
	for range 3 { // the circuit is open: nothing is sent, and everybody is told so
		if code := force(); code != broker.IntegrationSuspended {
			t.Errorf("while suspended: %s", code)
		}
	}
}

// Many at once, in several processes: one refresh, and the others are told to ask again.
func TestForcedRefreshesAtOnceAreOne(t *testing.T) {
	w := newWorld(t, "")
	id := w.connect("one", 1)[0]
	gen := w.Record(id).Gen
	var group sync.WaitGroup
	for range 8 {
		b := w.start()
		for range 4 {
			group.Go(func() {
				if v, err := b.Refresh(t.Context(), caller(), id, gen, ""); err != nil && codeOf(err) != broker.RefreshInProgress || err == nil && v.Generation != gen+1 {
					t.Errorf("generation %d, %v", v.Generation, err)
				}
			})
		}
	}
	group.Wait()
	if n := w.a.requests(); n != 1 {
		t.Errorf("%d requests", n)
	}
	if rec := w.Record(id); rec.Gen != gen+1 || rec.Status != connection.Active {
		t.Errorf("%+v", rec.Core)
	}
}

func TestNoIntervalNoLimit(t *testing.T) {
	w := newWorld(t, `"min_interval_s": 0,`)
	id := w.connect("one", 1)[0]
	b := w.start()
	for range 3 {
		_, err := b.Refresh(t.Context(), caller(), id, w.Record(id).Gen, "")
		w.Must(err)
	}
	if n := w.a.requests(); n != 3 {
		t.Errorf("%d requests", n)
	}
}
