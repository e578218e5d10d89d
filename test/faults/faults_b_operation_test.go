package faults_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F63", "internal/connection/writes.go", `item.Put("todo", w.Todo), item.Put("revocation", "pending")`, `item.Put("revocation", "pending")`)

func TestFault_F63_a_disconnect_while_the_provider_is_down_is_finished_later(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.ProviderFault(simprovider.Fault{On: "revoke", Kind: "status", Status: http.StatusServiceUnavailable, Count: -1})
		p := w.Start(untold) // else its event brings the tick here too
		receipt, err := p.Disconnect(t.Context(), brokertest.Caller(), id)
		if err != nil || receipt.Revoked != "pending" {
			t.Fatalf("receipt %+v, %v", receipt, err)
		}
		_, err = p.Read(id, 60)
		w.WantCode(err, broker.Disconnected)
		for range 5 { // it stays down
			w.Advance(time.Minute)
			p.TickNow()
		}
		if r := w.Record(id); r.Revocation != "pending" || r.Refresh == "" {
			t.Fatalf("given up: %+v", r.Core)
		}
		w.Must(w.Sim.ClearFaults(brokertest.Integration))
		for range 12 {
			w.Advance(time.Minute)
			p.TickNow()
		}
		if r := w.Record(id); r.Revocation != "at_provider" || r.Proof != "refresh_refused" || r.Refresh != "" || r.Access != "" || r.Todo != "" {
			t.Fatalf("not finished: %s %s %+v", r.Revocation, r.Proof, r.Core)
		}
		w.WantAllDead()
		w.Forgive("E1")
		w.Check()
	})
}

var _ = mutant("F64", "internal/connection/writes.go", `case w.Older:`, `case w.Older && w.Over != "":`)

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
				id := w.Connect("alice")
				backup := w.Item(id)
				w.Advance(time.Minute)
				w.Must(w.Start().Force(id))
				w.Advance(time.Minute)
				w.PutItem(id, backup)
				sent := w.Sent("refresh_token")
				p := w.Start(func(c *broker.Config) { c.Epoch = 1 })
				if err := p.Force(id); (err == nil) != c.saved || w.Sent("refresh_token")-sent != c.sends {
					t.Fatalf("refreshed: %v, by %d requests", err, w.Sent("refresh_token")-sent)
				}
				w.WantActive(id)
				// Whoever restored is told how many are in doubt by it, each once.
				if n := strings.Count(w.Log.String(), `"msg":"restored"`); n != 1 && c.profile != "none" || n != 0 && c.profile == "none" {
					t.Errorf("told of %d in doubt", n)
				}
				w.Forgive("S9: a doubt without a cause") // the restore is the cause
				w.Forgive("S6")                          // and it took the tokens back
				for range 130 {
					w.Advance(time.Minute)
					p.TickNow()
				}
				r := w.Record(id)
				if r.Status != c.end || c.end == connection.NeedsReauth && r.Reason != connection.LostResponse {
					t.Fatalf("%s %s: %+v", r.Status, r.Reason, r.Core)
				}
				if n := strings.Count(w.Log.String(), `"msg":"restored"`); n > 1 {
					t.Errorf("told %d times", n)
				}
				if c.saved && (r.RestoreEpoch != 1 || r.DoubtAt != 0) {
					t.Errorf("still doubted: %+v", r.Core)
				}
				w.Forgive("S9: a doubt without a cause")
				w.CheckSecrets()
			})
		})
	}
}

var _ = mutant("F66", "internal/connection/record.go", `if v := i.Int("item_version"); v > itemVersion {`, `if v := i.Int("item_version"); v < 0 {`)

func TestFault_F66_two_versions_at_once_keep_what_they_do_not_know(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		newer := func(assigns ...item.Assign) {
			_, err := w.Store.Connections.Update(t.Context(), id, item.Update{Set: assigns})
			w.Must(err)
		}
		newer(item.Put("of_a_later_version", item.Map{"x": int64(1)}))
		p := w.Start()
		w.Must(p.Force(id))
		_, err := p.SetTags(t.Context(), brokertest.Caller(), id, map[string]string{"a": "b"})
		w.Must(err)
		w.Reconnect(p, "alice", id)
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests})
		w.WantCode(p.Force(id), "provider_unavailable")
		if !item.Equal(w.Item(id)["of_a_later_version"], item.Map{"x": int64(1)}) {
			t.Error("an attribute of a later version is gone")
		}
		w.Must(p.Force(id))
		w.Check(id)

		// An item whose meaning changed is not touched by code that does not know it.
		newer(item.Put("item_version", int64(2)))
		before, sent := w.Item(id), w.Sent("refresh_token")
		w.Advance(55 * time.Minute)
		if p.WorkOff(id) == nil || p.Force(id) == nil {
			t.Error("a newer item was refreshed")
		}
		if _, err := p.Read(id, 60); err == nil {
			t.Error("a newer item was read")
		}
		if w.Sent("refresh_token") != sent || !item.Equal(item.Map(before), item.Map(w.Item(id))) {
			t.Error("a newer item was sent or changed")
		}
		if rep := p.TickNow(); rep.Owed != 1 {
			t.Errorf("the slot is not left to the newer code: %+v", rep)
		}
	})
}

var _ = mutant("F67", "internal/broker/token.go", "\t\tif !configured {\n", "\t\tif !configured && rec.Gen < 0 {\n")

func TestFault_F67_an_integration_taken_out_of_the_configuration_is_suspended(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		without := w.Start(func(c *broker.Config) { c.Settings.Integrations = nil })
		before := w.Item(id)
		_, err := without.Read(id, 60)
		w.WantCode(err, broker.IntegrationSuspended)
		w.WantCode(without.Force(id), broker.IntegrationSuspended)
		w.ToSlot(id)
		without.TickNow()
		w.Must(without.WorkOff(id))
		w.WantSent(0)
		if !item.Equal(item.Map(before), item.Map(w.Item(id))) {
			t.Error("the connection was changed")
		}
		// It returns before the token ends.
		w.Advance(time.Minute)
		if _, err := w.Start().Read(id, 60); err != nil {
			t.Errorf("token: %v", err)
		}
		w.Must(w.Start().WorkOff(id))
		w.WantSent(1)
		w.Check(id)
	})
}
