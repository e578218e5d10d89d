package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

func wantTold(t *testing.T, w *brokertest.World, of string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.Told(of)); diff != "" {
		t.Errorf("events of %s (-want +got):\n%s", of, diff)
	}
}

// An outage of an integration is one event when it begins and one when it ends, however
// many connections it concerns and however long it lasts.
func TestAnOutageIsToldTwice(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	var ids []string
	for _, user := range []string{"alice", "bob"} {
		ids = append(ids, w.Connect(user))
	}
	w.SetSecret("another one than the provider knows")
	p := w.Start()
	for range 3 {
		w.Advance(time.Minute)
		for _, id := range ids {
			_ = p.Force(id)
		}
		p.TickNow()
	}
	wantTold(t, w, brokertest.Integration, "integration.suspended")
	w.SetSecret(brokertest.ClientSecret)
	w.Advance(20 * time.Minute)
	p = w.Start()
	for range 3 {
		p.TickNow()
		w.Advance(time.Minute)
	}
	wantTold(t, w, brokertest.Integration, "integration.suspended", "integration.resumed")
	for _, id := range ids {
		wantTold(t, w, id, "connection.created")
	}
	all := w.Deliveries()
	if e := all[2]; e.Client != "default" || e.Status != "suspended" || e.Reason == nil || *e.Reason != "invalid_client" || e.ConnectionID != "" {
		t.Errorf("%+v", e)
	}
}

// An import is told of once its token is proved, or when it is refused.
func TestImportsAreToldOfWhenTheyAreProved(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	_, rt := w.Tokens(w.Connect("alice"))
	good := broker.ImportRequest{Integration: brokertest.Integration, Owner: "o", RefreshToken: secret.New(rt), Hold: true}
	held, err := w.Home.Import(t.Context(), brokertest.Caller(), good)
	w.Must(err)
	if told := w.Told(held.View.ID); len(told) != 0 {
		t.Errorf("told %v of what is held", told)
	}
	_, err = w.Home.Activate(t.Context(), brokertest.Caller(), held.View.ID)
	w.Must(err)
	wantTold(t, w, held.View.ID, "connection.created")

	bad := good
	bad.RefreshToken, bad.Hold = secret.New("made-up"), false
	_, err = w.Home.Import(t.Context(), brokertest.Caller(), bad)
	w.WantCode(err, broker.TokenRefused)
	last := w.Deliveries()[2]
	if last.Type != "connection.disconnected" || last.Reason == nil || *last.Reason != "token_refused" {
		t.Errorf("%+v", last)
	}
}

// What an operator takes back is told of, and so is what is refused again.
func TestRevivedConnectionsAreToldOf(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	since := w.Unix()
	w.Advance(time.Minute)
	w.ProviderFault(simprovider.Fault{Kind: "status", Status: 400, Body: `{"error":"invalid_grant"}`})
	w.WantCode(w.Home.Force(id), "needs_reauth")
	w.Advance(time.Minute)
	_, err := w.Home.Revive(context.Background(), brokertest.Caller(), broker.ReviveRequest{Integration: brokertest.Integration, Since: since})
	w.Must(err)
	wantTold(t, w, id, "connection.created", "connection.needs_reauth", "connection.recovered")
}

// The owner of a refresh token that ends by itself is told once, a week before, or in the
// last quarter of a shorter life.
func TestAnEndThatDrawsNearIsToldOnce(t *testing.T) {
	for lifetime, last := range map[int64]int64{30: 22, 8: 5} { // days; the last day that is too early
		w := brokertest.New(t, brokertest.Options{Profile: "none", Start: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)})
		w.Settings.Integrations[0].Entry.Refresh.AbsoluteLifetimeS = lifetime * 86400
		p := w.Start()
		id := w.Connect("alice")
		want := []string{"connection.created"}
		began := w.Unix()
		for _, step := range []struct {
			day   int64
			event string
		}{{last, ""}, {last + 1, "connection.reconnect_soon"}, {last + 2, ""}} {
			w.AdvanceTo(began + step.day*86400)
			_, err := p.Tick(t.Context(), w.Minute())
			w.Must(err)
			if step.event != "" {
				want = append(want, step.event)
			}
			wantTold(t, w, id, want...)
		}
		if s := w.Reconnect(p, "alice", id); s.State != connection.SessionConnected {
			t.Fatal(s.State)
		}
		w.Advance(24 * time.Hour)
		_, err := p.Tick(t.Context(), w.Minute())
		w.Must(err)
		wantTold(t, w, id, append(want, "connection.reconnected")...)
	}
}

// A plain refresh puts no event, and changes no attribute of an index.
func TestAPlainRefreshTellsNothing(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	before, told := w.Item(id), len(w.Deliveries())
	w.Must(w.Home.Force(id))
	after := w.Item(id)
	for _, name := range []string{"todo", "sched", "owner", "integration_id", "integration", "status_id", "events", "told"} {
		if !cmp.Equal(before[name], after[name]) {
			t.Errorf("%s: %v, then %v", name, before[name], after[name])
		}
	}
	if w.Record(id).Gen != 2 || len(w.Deliveries()) != told {
		t.Errorf("generation %d, %d events", w.Record(id).Gen, len(w.Deliveries()))
	}
}
