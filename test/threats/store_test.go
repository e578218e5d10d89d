package threats_test

import (
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

var _ = noMutant("T50", "a known limit: nothing within one table can show that a record is an old one; the row holds what is promised instead")

func TestThreat_T50_a_record_put_back_is_shown_by_a_refused_refresh(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	old := w.Item(id)
	w.Must(w.Home.Force(id))
	w.PutItem(id, old)
	w.Advance(time.Minute)
	w.WantCode(w.Home.Force(id), "needs_reauth")
	if r := w.Record(id); r.Status != connection.NeedsReauth {
		t.Errorf("it is %s", r.Status)
	}
	if s := w.Reconnect(w.Home, "alice", id); s.Result != id {
		t.Errorf("the consent ended %s", s.State)
	}
	w.Must(w.Home.Force(id))
}
