package faults_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
)

var (
	_ = mutant("F59", "internal/refresh/machine.go", `if r.Failed || r.Left < s.Facts.SendTime+SaveTime+RescueTime+Slack {`, `if r.Left < s.Facts.SendTime+SaveTime+RescueTime+Slack {`)
	_ = mutant("F59", "internal/broker/jobs.go", `case refresh.NotReady, refresh.StoreFailed:
		waits`, `case refresh.StoreFailed:
		waits`)
)

func TestFault_F59_without_a_key_nothing_is_sent_and_warm_processes_go_on(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		warm, service := w.StartUnder(false)
		if _, err := warm.Read(id, 60); err != nil {
			t.Fatal(err)
		}
		service.SetDown(true)
		cold, coldService := w.StartUnder(true)
		_, err := cold.Read(id, 60)
		w.WantCode(err, "provider_unavailable")
		if e, _ := errors.AsType[*broker.Error](err); e.RetryAfter == 0 {
			t.Error("no Retry-After")
		}
		w.ToSlot(id)
		if rep := cold.TickNow(); rep.Owed != 1 {
			t.Errorf("the slot is forgotten: %+v", rep)
		}
		if r := w.Record(id); w.Sent("refresh_token") != 0 || r.Attempt.ID != "" || r.Status != connection.Active {
			t.Fatalf("claimed or sent: %+v", r.Core)
		}
		if _, err := warm.Read(id, 60); err != nil {
			t.Errorf("a warm process: %v", err)
		}
		// It returns: the slot is made good by the next tick.
		coldService.SetDown(false)
		w.Advance(time.Minute)
		cold.TickNow()
		w.WantSent(1)
		w.Check(id)
		w.Must(warm.Force(id)) // the warm one needs no key service at all
		w.WantSent(2)
		w.Check(id)
	})
}

var _ = mutant("F60", "internal/broker/tick.go", `if err := b.Keys.Load(ctx, secret.PurposeToken); err != nil {`, `if err := ctx.Err(); err != nil || secret.PurposeToken == "" {`)

func TestFault_F60_values_under_the_old_and_the_new_data_key_both_open(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		one, two := w.Connect("alice"), w.Connect("bob")
		under := func(id string) int64 {
			_, n, err := w.Keyring().KeyOf([]byte(w.Record(id).Refresh))
			w.Must(err)
			return n
		}
		holder, rotator := w.Start(), w.Start()
		w.Must(holder.Force(one))
		_, err := rotator.Keys.Rotate(t.Context(), secret.PurposeToken)
		w.Must(err)
		w.Must(rotator.Force(one))
		w.Must(holder.Force(two)) // it does not know of the rotation
		if under(one) != 2 || under(two) != 1 {
			t.Fatalf("sealed under %d and %d", under(one), under(two))
		}
		for _, p := range []*brokertest.Process{holder, rotator} {
			for _, id := range []string{one, two} {
				if _, err := p.Read(id, 60); err != nil {
					t.Errorf("%s does not open: %v", id, err)
				}
			}
		}
		w.Advance(time.Minute)
		holder.TickNow() // it loads the new one
		w.Must(holder.Force(two))
		if under(two) != 2 {
			t.Errorf("sealed under %d after a tick", under(two))
		}
		w.Check(one, two)
	})
}

var _ = mutant("F61", "internal/secret/keyring.go", `if known, ok := k.known(p, n); !ok || known.wrapped != string(wrapped) {`, `if _, ok := k.known(p, n); !ok || n > 0 {`)

func TestFault_F61_a_storm_of_cold_starts_asks_for_each_key_once(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.Connect("alice")
	gen := w.Record(id).Gen
	const instances = 500
	var group sync.WaitGroup
	services, processes := make([]*brokertest.KeyService, instances), make([]*brokertest.Process, instances)
	for n := range instances {
		p, service := w.StartUnder(false)
		services[n], processes[n] = service, p
		for range 3 { // as many requests at once as make a race for the key
			group.Go(func() {
				if _, err := p.Read(id, 60); err != nil {
					t.Errorf("token: %v", err)
				}
			})
		}
		group.Go(func() {
			_, err := w.Handed(p.Refresh(t.Context(), brokertest.Caller(), id, gen, ""))
			if err != nil && brokertest.Code(err) != broker.RefreshInProgress {
				t.Errorf("refresh: %v", err)
			}
		})
	}
	group.Wait()
	w.Advance(time.Minute)
	processes[0].TickNow() // it looks whether the key was rotated, by a read of the store
	for _, s := range services {
		if n := s.Unwraps(); n != 1 {
			t.Fatalf("an instance asked %d times for the key", n)
		}
	}
	w.WantSent(1)
	w.Check(id)
}

var _ = mutant("F62", "internal/config/secrets.go", `if !slot.value.IsZero() && s.now().Sub(slot.readAt) < SecretAge {`, `if !slot.value.IsZero() && s.now().Sub(slot.readAt) < 0 {`)

func TestFault_F62_a_client_secret_serves_to_its_age_and_then_nothing_is_sent(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		down := false
		p := w.Start(w.SecretsFrom(&down))
		w.Must(p.Force(id))
		down = true
		w.Advance(10 * time.Minute)
		w.Must(p.Force(id)) // the one that was read is young enough
		w.WantSent(2)
		w.Advance(6 * time.Minute) // past its age, wherever the slot lies
		w.ToSlot(id)
		before := w.Item(id)
		if rep := p.TickNow(); rep.Owed != 1 {
			t.Errorf("the slot is forgotten: %+v", rep)
		}
		w.WantCode(p.Force(id), "provider_unavailable")
		if w.WantSent(2); w.Record(id).UpdatedAt != before.Int("updated_at") {
			t.Error("something was written")
		}
		if _, err := p.Read(id, 60); err != nil {
			t.Errorf("a valid token needs no client secret: %v", err)
		}
		down = false
		w.Settle(id)
	})
}
