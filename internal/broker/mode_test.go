package broker_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

const day = 24 * time.Hour

// timeless answers with tokens whose life nobody knows.
func timeless(w http.ResponseWriter, _ string) {
	_, _ = fmt.Fprintf(w, `{"access_token":"at-%s","token_type":"Bearer"}`, connection.NewRandom())
}

// On demand nothing is scheduled, not even the retry of a refresh that was put off; the
// refresh token may then idle out, and the connection says by when.
func TestOnDemandIsNeverScheduled(t *testing.T) {
	w := newWorld(t, `"refresh": "on_demand",`)
	id := w.connect("one", 1)[0]
	b := w.start()
	w.Advance(2 * time.Hour)
	w.tick(b)
	w.a.does(tooMany(""))
	if _, err := b.Token(t.Context(), caller(), id, 60, nil); err == nil {
		t.Error("a token without an answer")
	}
	w.a.does(good)
	w.a.requests()
	for range 5 {
		w.Advance(7 * time.Minute)
		w.tick(b)
	}
	if w.a.requests() != 0 || w.Record(id).Sched != "" {
		t.Errorf("it was scheduled: %q", w.Record(id).Sched)
	}
	w.Advance(30 * time.Hour) // after such a gap a tick looks at every connection
	w.tick(b)
	if w.a.requests() != 0 {
		t.Error("it was refreshed by a tick after a gap")
	}
	v, err := b.Get(t.Context(), caller(), id)
	if rec := w.Record(id); err != nil || v.NextRefreshAt != 0 || v.ReconnectBy != rec.IssuedAt+864000 {
		t.Errorf("reconnect by %d, next refresh %d, %v", v.ReconnectBy, v.NextRefreshAt, err)
	}
	if _, err := b.Token(t.Context(), caller(), id, 60, nil); err != nil || w.a.requests() != 1 {
		t.Errorf("on demand: %v", err)
	}
}

// Keepalive refreshes twice in an idle life and no more often, whatever is known of the
// access token's life.
func TestKeepaliveKeepsTheRefreshTokenAlive(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, string){"an hour": good, "no life known": timeless} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, `"refresh": "keepalive",`)
			w.a.does(answer)
			id := w.connect("one", 1)[0]
			b := w.start()
			if v, err := b.Get(t.Context(), caller(), id); err != nil || v.ReconnectBy != 0 || v.NextRefreshAt > w.Unix()+864000 {
				t.Errorf("reconnect by %d, next refresh %d, %v", v.ReconnectBy, v.NextRefreshAt, err)
			}
			gap := w.Unix()
			for range 60 { // gaps of more than a day look at every connection
				w.Advance(25 * time.Hour)
				w.tick(b)
				if n := w.a.requests(); n > 1 {
					t.Fatalf("%d refreshes at once", n)
				}
				rec := w.Record(id)
				if rec.IssuedAt-gap > 864000 {
					t.Fatalf("idle for %d s", rec.IssuedAt-gap)
				}
				gap = rec.IssuedAt
			}
			if gen := w.Record(id).Gen; gen < 12 || gen > 32 {
				t.Errorf("generation %d after 62 days", gen)
			}
		})
	}
}

// A refresh token whose life has ended is not sent: its user must reconnect, and the
// connection said so before.
func TestRefreshTokenEndsByItself(t *testing.T) {
	w := newWorld(t, "")
	w.Settings.Integrations[0].Entry.Refresh.AbsoluteLifetimeS = 86400
	ids := w.connect("one", 8)
	b := w.start()
	for _, id := range ids {
		_, err := w.Store.Connections.Update(t.Context(), id, item.Update{Set: []item.Assign{item.Put("consented_at", w.Unix())}})
		w.Must(err)
	}
	v, err := b.Get(t.Context(), caller(), ids[0])
	if err != nil || v.ReconnectBy != w.Unix()+86400 {
		t.Fatalf("reconnect by %d, %v", v.ReconnectBy, err)
	}
	w.Advance(day + 30*time.Minute)
	w.a.does(tooMany(""))
	w.tick(b) // shortly after the end the provider is asked: clocks differ
	w.noneLost(ids)
	if w.a.requests() == 0 {
		t.Error("not asked")
	}
	w.Advance(time.Hour)
	w.tick(b)
	for _, id := range ids {
		rec := w.Record(id)
		entries := rec.Journal.Entries()
		if rec.Status != connection.NeedsReauth || rec.Reason != connection.Expired || rec.Refresh == "" || entries[len(entries)-1].Outcome != connection.OutcomeExpired {
			t.Errorf("%s %s", rec.Status, rec.Reason)
		}
	}
	if n := w.a.requests(); n != 0 {
		t.Errorf("%d were sent", n)
	}
	if views, _ := b.Integrations(t.Context(), caller(), ""); views[0].Status != "ok" {
		t.Error("ends of their own suspend the integration")
	}
}
