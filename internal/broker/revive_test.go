package broker_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
)

// incident has the provider say of all users' grants, slowly enough for no brake, that
// they are gone.
func (w *world) incident(b *broker.Broker, ids []string) {
	w.T.Helper()
	w.a.does(refuse)
	for _, id := range ids {
		w.Advance(3 * time.Minute)
		_, _ = b.Refresh(w.T.Context(), caller(), id, w.Record(id).Gen, "")
		if rec := w.Record(id); rec.Status != connection.NeedsReauth || rec.Reason != connection.Revoked {
			w.T.Fatalf("not judged: %s", rec.Status)
		}
	}
	w.a.requests()
}

// After a provider's incident all of its connections live again, and no user has done
// anything. Those that were judged before it stay as they are.
func TestReviveRecoversAnIncident(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 20)
	b := w.start()
	old := ids[:2]
	w.incident(b, old)
	w.Advance(time.Hour)
	since := w.Unix()
	ids = ids[2:]
	w.incident(b, ids)
	w.a.does(good)
	rep, err := b.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: "one", Since: since})
	w.Must(err)
	if rep.Recovered != 11 || rep.Reopened != 7 || rep.Refused != 0 || rep.More || rep.Stopped != "" || w.a.requests() != 11 {
		t.Fatalf("%+v", rep)
	}
	w.noneLost(ids)
	w.Advance(2 * time.Minute)
	w.tick(b)
	if n := w.refreshed(ids, 3); n != len(ids) {
		t.Errorf("%d of %d were refreshed", n, len(ids))
	}
	for _, id := range old {
		if w.Record(id).Status != connection.NeedsReauth {
			t.Error("an older verdict was taken back")
		}
	}
	entries := w.Record(ids[0]).Journal.Entries()
	n := slices.IndexFunc(entries, func(e connection.Entry) bool { return e.Outcome == connection.OutcomeRevived })
	if n < 0 || n+1 >= len(entries) || entries[n+1].Outcome != connection.OutcomeSaved {
		t.Errorf("journal %+v", entries)
	}
	rep, err = b.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: "one", Since: since})
	if err != nil || rep != (broker.ReviveReport{}) {
		t.Errorf("once more: %+v, %v", rep, err)
	}
}

// While the incident lasts, three are tried and the others left alone.
func TestReviveStopsWhereTheProviderStillRefuses(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 20)
	b := w.start()
	since := w.Unix()
	w.incident(b, ids)
	w.Advance(time.Hour)
	rep, err := b.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: "one", Since: since})
	w.Must(err)
	if rep.Recovered != 0 || rep.Refused != 3 || rep.Stopped == "" || w.a.requests() != 3 {
		t.Errorf("%+v", rep)
	}
	// One user is truly gone; that one does not hold the others up.
	gone := ""
	w.a.does(func(rw http.ResponseWriter, token string) {
		if gone == "" {
			gone = token
		}
		if token == gone {
			refuse(rw, token)
			return
		}
		good(rw, token)
	})
	w.Advance(time.Hour)
	rep, err = b.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: "one", Since: since})
	if w.Must(err); rep.Recovered != 11 || rep.Refused != 1 || rep.Reopened != 8 {
		t.Errorf("%+v", rep)
	}
	w.Advance(3 * time.Minute)
	w.tick(b)
	if n := w.refreshed(ids, 3); n != 19 {
		t.Errorf("%d recovered", n)
	}
}

// The circuit that the incident opened is closed by the first that recovers.
func TestReviveClosesTheCircuit(t *testing.T) {
	w := newWorld(t, "")
	ids := w.connect("one", 12)
	w.allDue()
	b := w.start()
	since := w.Unix()
	w.a.does(refuse)
	w.Must(b.RefreshAll(t.Context(), ids, w.Minute()))
	w.a.does(good)
	judged := 0
	for _, id := range ids {
		if w.Record(id).Status == connection.NeedsReauth {
			judged++
		}
	}
	rep, err := b.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: "one", Since: since})
	if w.Must(err); rep.Recovered != judged || judged == 0 || judged > 5 || rep.Stopped != "" {
		t.Fatalf("%+v of %d", rep, judged)
	}
	w.Advance(time.Hour)
	w.tick(b)
	w.noneLost(ids)
	if n := w.refreshed(ids, 3); n != 12 {
		t.Errorf("%d recovered", n)
	}
}

func TestReviveAsksForWhatItNeeds(t *testing.T) {
	w := newWorld(t, "")
	b := w.start()
	for name, r := range map[string]broker.ReviveRequest{
		"no integration": {Integration: "none", Since: 1}, "no time": {Integration: "one"}, "the future": {Integration: "one", Since: w.Unix() + 60},
	} {
		if _, err := b.Revive(t.Context(), caller(), r); err == nil || strings.Contains(err.Error(), "internal") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
