package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
)

var errNoSpace = errors.New("no space left on device")

// TestFullDiskSendsNothing: where the store takes no write of a record's size, a refresh
// is put off before anything is sent, and goes on once there is room.
func TestFullDiskSendsNothing(t *testing.T) {
	st := openStage(t)
	s := integrationOf(t, "redbooth")
	who, err := newPerson("alice")
	if err != nil {
		t.Fatal(err)
	}
	l := &life{stage: st, s: s, who: who}
	if _, err := l.connect(); err != nil {
		t.Fatal(err)
	}
	full := true
	st.node.broker.Ready = (&probe{now: st.clock.Now, writable: func(context.Context) error {
		if full {
			return errNoSpace
		}
		return nil
	}}).ready
	sent := st.sims.Requests(s.provider)["refresh_token"]
	var problem apiError
	if err := l.refreshNow(); !errors.As(err, &problem) || problem.Code != string(broker.ProviderUnavailable) {
		t.Errorf("on a full disk: %v", err)
	}
	if n := st.sims.Requests(s.provider)["refresh_token"]; n != sent {
		t.Errorf("%d requests on a full disk", n-sent)
	}
	full = false
	st.clock.set(st.clock.Now().Add(time.Minute))
	if err := l.refreshNow(); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestProbeIsSeldom while there is room, and at once again where there was none.
func TestProbeIsSeldom(t *testing.T) {
	now, probes := time.Unix(1_700_000_000, 0), 0
	var err error
	p := &probe{now: func() time.Time { return now }, writable: func(context.Context) error { probes++; return err }}
	for _, c := range []struct {
		pass   time.Duration
		err    error
		probes int
	}{{0, nil, 1}, {9 * time.Second, nil, 1}, {time.Second, errNoSpace, 2}, {0, errNoSpace, 3}, {0, nil, 4}, {0, errNoSpace, 4}, {-time.Hour, nil, 5}} {
		now, err = now.Add(c.pass), c.err
		if got := p.ready(t.Context()); probes != c.probes || got != nil && c.err == nil {
			t.Errorf("%+v: %d probes, %v", c, probes, got)
		}
	}
}
