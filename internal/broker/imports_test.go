package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/secret"
)

var _ = mutant("T61", "internal/broker/budget.go", `err := b.spendOf(ctx, "import:"+c.Name, most)`, `err := b.spendOf(ctx, "import:"+c.Name, most*100)`)

// A caller may import so many in a minute, in all processes together, and others are not
// held up. What is imported at once is due at many minutes, not at one.
func TestThreat_T61_imports_are_rationed_and_spread(t *testing.T) {
	w := newWorld(t, "")
	first, second := w.start(), w.start()
	c, other := caller(), caller()
	c.ImportsPerMinute, other.Name = 40, "other"
	n := 0
	bring := func(b *broker.Broker, c broker.Caller, hold bool) (string, error) {
		n++
		r, err := b.Import(t.Context(), c, broker.ImportRequest{Integration: "one", Owner: "tenant", Hold: hold, RefreshToken: secret.New(fmt.Sprintf("rt-%d", n))})
		return r.ID, err
	}
	minutes := map[string]bool{}
	var held string
	for k := range 40 {
		id, err := bring([]*broker.Broker{first, second}[k%2], c, k == 0)
		w.Must(err)
		if k == 0 {
			held = id
			continue
		}
		minutes[w.Record(id).Sched] = true // "period#phase#shard"
	}
	if len(minutes) < 15 {
		t.Errorf("39 imports are due at %d minutes of the hour", len(minutes))
	}
	sent := w.a.requests()
	for _, b := range []*broker.Broker{first, second} {
		_, err := bring(b, c, false)
		e, ok := errors.AsType[*broker.Error](err)
		if !ok || e.Code != broker.RateLimited || e.RetryAfter < 1 || e.RetryAfter > 60 {
			t.Fatalf("one more: %v", err)
		}
		if _, err := b.Activate(t.Context(), c, held); codeOf(err) != broker.RateLimited {
			t.Errorf("an activation: %v", err)
		}
	}
	if w.a.requests() != 0 || sent != 39 {
		t.Errorf("%d requests, and then more", sent)
	}
	_, err := bring(second, other, false)
	w.Must(err)
	w.Advance(time.Minute)
	_, err = bring(first, c, false)
	w.Must(err)
	_, err = second.Activate(t.Context(), c, held)
	w.Must(err)
}
