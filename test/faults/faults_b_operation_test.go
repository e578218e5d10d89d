package faults_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F63", "internal/connection/writes.go", `item.Put("todo", w.Todo), item.Put("revocation", "pending")`, `item.Put("revocation", "pending")`)

func TestFault_F63_a_disconnect_while_the_provider_is_down_is_finished_later(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.provider(simprovider.Fault{On: "revoke", Kind: "status", Status: http.StatusServiceUnavailable, Count: -1})
		p := w.start()
		receipt, err := p.Disconnect(t.Context(), caller(), id)
		if err != nil || receipt.Revoked != "pending" {
			t.Fatalf("receipt %+v, %v", receipt, err)
		}
		_, err = p.token(id, 60)
		w.wantCode(err, broker.Disconnected)
		for range 5 { // it stays down
			w.advance(time.Minute)
			p.tick()
		}
		if r := w.record(id); r.Revocation != "pending" || r.Refresh == "" {
			t.Fatalf("given up: %+v", r.Core)
		}
		w.must(w.sim.ClearFaults(sim))
		for range 12 {
			w.advance(time.Minute)
			p.tick()
		}
		if r := w.record(id); r.Revocation != "at_provider" || r.Proof != "refresh_refused" || r.Refresh != "" || r.Access != "" || r.Todo != "" {
			t.Fatalf("not finished: %s %s %+v", r.Revocation, r.Proof, r.Core)
		}
		w.allDead()
		w.check()
	})
}

var _ = mutant("F64", "internal/connection/writes.go", `if w.Over != "" || w.Older {`, `if w.Over != "" {`)

func TestFault_F64_a_restored_table_is_doubted_once_and_by_profile(t *testing.T) {
	for _, c := range []struct {
		profile string
		saved   bool // by the first refresh
		sends   int  // by the first refresh
		end     connection.Status
	}{
		{"none", true, 1, connection.Active},
		{"on_use", true, 1, connection.Active},
		{"immediate", false, 1, connection.NeedsReauth},
		{"family", false, 0, connection.NeedsReauth},
	} {
		t.Run(c.profile, func(t *testing.T) {
			onStores(t, c.profile, func(t *testing.T, w *world) {
				id := w.connect("alice")
				backup := w.item(id)
				w.advance(time.Minute)
				w.must(w.start().refresh(id))
				w.advance(time.Minute)
				w.put(id, backup)
				sent := w.sent("refresh_token")
				p := w.start(func(c *broker.Config) { c.Epoch = 1 })
				if err := p.refresh(id); (err == nil) != c.saved || w.sent("refresh_token")-sent != c.sends {
					t.Fatalf("refreshed: %v, by %d requests", err, w.sent("refresh_token")-sent)
				}
				w.wantActive(id)
				w.forgive("S9: a doubt without a cause") // the restore is the cause
				w.forgive("S6")                          // and it took the tokens back
				for range 130 {
					w.advance(time.Minute)
					p.tick()
				}
				r := w.record(id)
				if r.Status != c.end || c.end == connection.NeedsReauth && r.Reason != connection.LostResponse {
					t.Fatalf("%s %s: %+v", r.Status, r.Reason, r.Core)
				}
				if c.saved && (r.RestoreEpoch != 1 || r.DoubtAt != 0) {
					t.Errorf("still doubted: %+v", r.Core)
				}
				w.forgive("S9: a doubt without a cause")
				w.checkSecrets()
			})
		})
	}
}

var _ = mutant("F66", "internal/connection/record.go", `if v := i.Int("item_version"); v > itemVersion {`, `if v := i.Int("item_version"); v < 0 {`)

func TestFault_F66_two_versions_at_once_keep_what_they_do_not_know(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		newer := func(assigns ...item.Assign) {
			_, err := w.base.Connections.Update(t.Context(), id, item.Update{Set: assigns})
			w.must(err)
		}
		newer(item.Put("of_a_later_version", item.Map{"x": int64(1)}))
		p := w.start()
		w.must(p.refresh(id))
		_, err := p.SetTags(t.Context(), caller(), id, map[string]string{"a": "b"})
		w.must(err)
		w.reconnect(p, "alice", id)
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests})
		w.wantCode(p.refresh(id), "provider_unavailable")
		if !item.Equal(w.item(id)["of_a_later_version"], item.Map{"x": int64(1)}) {
			t.Error("an attribute of a later version is gone")
		}
		w.must(p.refresh(id))
		w.check(id)

		// An item whose meaning changed is not touched by code that does not know it.
		newer(item.Put("item_version", int64(2)))
		before, sent := w.item(id), w.sent("refresh_token")
		w.advance(55 * time.Minute)
		if p.slot(id) == nil || p.refresh(id) == nil {
			t.Error("a newer item was refreshed")
		}
		if _, err := p.token(id, 60); err == nil {
			t.Error("a newer item was read")
		}
		if w.sent("refresh_token") != sent || !item.Equal(item.Map(before), item.Map(w.item(id))) {
			t.Error("a newer item was sent or changed")
		}
		if rep := p.tick(); rep.Owed != 1 {
			t.Errorf("the slot is not left to the newer code: %+v", rep)
		}
	})
}

var _ = mutant("F67", "internal/broker/token.go", "\t\tif !configured {\n", "\t\tif !configured && rec.Gen < 0 {\n")

func TestFault_F67_an_integration_taken_out_of_the_configuration_is_suspended(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		without := w.start(func(c *broker.Config) { c.Settings.Integrations = nil })
		before := w.item(id)
		_, err := without.token(id, 60)
		w.wantCode(err, broker.IntegrationSuspended)
		w.wantCode(without.refresh(id), broker.IntegrationSuspended)
		w.toSlot(id)
		without.tick()
		w.must(without.slot(id))
		w.wantSent(0)
		if !item.Equal(item.Map(before), item.Map(w.item(id))) {
			t.Error("the connection was changed")
		}
		// It returns before the token ends.
		w.advance(time.Minute)
		if _, err := w.start().token(id, 60); err != nil {
			t.Errorf("token: %v", err)
		}
		w.must(w.start().slot(id))
		w.wantSent(1)
		w.check(id)
	})
}
