package faults_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F01", "internal/broker/tick.go", `schedule.Walk(min(from, minute-1), minute)`, `schedule.Walk(minute-1, minute)`)

func TestFault_F01_a_crash_before_the_claim_changes_nothing(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.NextSlot(id)
		before := w.Record(id)
		p := w.Start()
		p.OnStore(brokertest.OnClaim, 1, brokertest.CrashBefore[item.Result](p))
		p.Crashes(func() { _, _ = p.Tick(context.Background(), w.Minute()) })
		if d := cmp.Diff(before, w.Record(id)); d != "" || w.Sent("refresh_token") != 0 {
			t.Fatalf("something was sent or written: %s", d)
		}
		w.Advance(time.Minute) // the next tick finds that the slot's own was never finished
		if w.Start().TickNow(); w.Record(id).Gen != before.Gen+1 {
			t.Fatalf("not refreshed: %+v", w.Record(id).Core)
		}
		w.Settle(id)
	})
}

var (
	_ = mutant("F02", "internal/connection/writes.go", "case w.Over != \"\":\n\t\t// A doubt anew", "case w.Over != \"\" && w.Older:\n\t\t// A doubt anew")
	_ = mutant("F02", "internal/refresh/machine.go", `Over:    s.Core.Attempt.ID,`, `Over:    "",`)
)

func TestFault_F02_a_crash_between_claim_and_send_is_taken_over_in_doubt(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		p.OnWire(brokertest.OnSend, 1, brokertest.CrashBefore[*http.Response](p))
		p.Crashes(func() { _ = p.Force(id) })
		w.WantCode(w.Home.Force(id), "refresh_in_progress") // its lease stands
		w.EndLease()
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
		w.WantCode(w.Home.Force(id), "provider_unavailable")
		if r := w.Record(id); r.DoubtAt == 0 || r.Attempt.ID != "" {
			t.Fatalf("taken over without doubt: %+v", r.Core)
		}
		w.Must(w.Home.Force(id))
		if r := w.Record(id); r.DoubtAt != 0 || r.Status != connection.Active || w.Sent("refresh_token") != 2 {
			t.Fatalf("%+v", r.Core)
		}
		w.Settle(id)
	})
}

var (
	_ = mutant("F03", "internal/refresh/machine.go", `now >= s.Core.DoubtAt+s.Facts.Horizon:`, `now >= s.Core.DoubtAt:`)
	_ = mutant("F03", "internal/refresh/machine.go", `doubt := s.doubted() || s.Doubt`, `doubt := s.Doubt`)
	_ = mutant("F03", "internal/refresh/machine.go", `return policy != provider.Wait || now >= s.replayAt()`, `return true`)
)

func TestFault_F03_an_answer_is_under_way_when_its_sender_crashes(t *testing.T) {
	crash := func(w *world) string {
		id := w.Connect("alice")
		p := w.Start()
		p.OnWire(brokertest.OnSend, 1, brokertest.CrashAfter[*http.Response](p))
		p.Crashes(func() { _ = p.Force(id) })
		w.EndLease()
		return id
	}
	for _, profile := range []string{"none", "on_use", "grace"} {
		t.Run(profile+" recovers", func(t *testing.T) {
			onStores(t, profile, func(t *testing.T, w *world) {
				id := crash(w)
				w.Must(w.Home.Force(id))
				w.Settle(id)
			})
		})
	}
	t.Run("immediate is lost after the horizon", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) { w.Lost(crash(w), "alice") })
	})
	t.Run("family waits until little is left to lose", func(t *testing.T) {
		onStores(t, "family", func(t *testing.T, w *world) {
			id := crash(w)
			p := w.Start()
			w.WantCode(p.Force(id), "provider_unavailable")
			if w.Sent("refresh_token") != 1 {
				t.Fatal("the replay may have ended a family that was not lost")
			}
			if _, err := p.Read(id, 60); err != nil {
				t.Errorf("the access token is good all the while: %v", err)
			}
			r := w.Record(id)
			p.TickUntil(id, 70, func(connection.Record) bool { return w.Sent("refresh_token") > 1 })
			if w.Unix() < r.ExpiresAt-601 {
				t.Errorf("replayed %d s before the end", r.ExpiresAt-w.Unix())
			}
			w.Lost(id, "alice")
		})
	})
}

var (
	_ = mutant("F04", "internal/connection/writes.go", `Set: []item.Assign{item.Put("attempt", w.Attempt.item())},`, `Set: []item.Assign{item.Put("updated_at", w.Now)},`)
	_ = mutant("F04", "internal/refresh/machine.go", `	s.Until = r.Now + SaveTime
	if s.Answer.ResponseLost`, `	if s.Answer.Verdict == provider.VerdictOK {
		return s.done(Saved)
	}
	if s.Answer.ResponseLost`)
)

func TestFault_F04_a_crash_with_the_new_tokens_in_hand(t *testing.T) {
	crash := func(t *testing.T, w *world) string {
		id := w.Connect("alice")
		old, _ := w.Tokens(id)
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.CrashBefore[item.Result](p))
		p.Crashes(func() { _, _ = p.Forced(id) })
		if got, err := w.Home.Read(id, 60); err != nil || got.AccessToken.Reveal() != old {
			t.Fatalf("a reader got another token than the stored one: %v", err)
		}
		if r := w.Record(id); r.Gen != 1 || r.Attempt.ID == "" {
			t.Fatalf("%+v", r.Core)
		}
		w.EndLease()
		return id
	}
	onStores(t, "on_use", func(t *testing.T, w *world) {
		id := crash(t, w)
		w.Must(w.Home.Force(id)) // nobody has used the pair that was lost
		w.Settle(id)
	})
	onStores(t, "immediate", func(t *testing.T, w *world) { w.Lost(crash(t, w), "alice") })
}

var _ = mutant("F05", "internal/refresh/machine.go", `if c.Status != connection.Active || schedule.IsRetry(c.Sched) {`, `if c.Gen > 0 {`)

func TestFault_F05_a_crash_after_the_save_leaves_nothing_to_do(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.NextSlot(id)
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.CrashAfter[item.Result](p))
		p.Crashes(func() { _ = p.WorkOff(id) })
		saved := w.Record(id)
		w.Must(w.Start().WorkOff(id)) // the queue delivers again
		if d := cmp.Diff(saved, w.Record(id)); d != "" || saved.Gen != 2 || w.Sent("refresh_token") != 1 {
			t.Fatalf("%d requests, generation %d: %s", w.Sent("refresh_token"), saved.Gen, d)
		}
		w.Settle(id)
	})
}

var (
	_ = mutant("F06", "internal/connection/announce.go", `return s.update(ctx, id, w.Update(), w.Announces())`, `return s.Connections.Update(ctx, id, w.Update())`)
	_ = mutant("F06", "internal/connection/announce.go", `s.update(ctx, id, u, w.announces(was))`, `s.Connections.Update(ctx, id, u)`)
	_ = mutant("F06", "internal/outbox/outbox.go", `u := b.unchanged()
	if seq > b.Told {`, `u := item.Update{}
	if seq > b.Told {`)
	_ = mutant("F06", "internal/broker/tick.go", `b.events.Resume(t.ctx, key); err != nil {`, `b.Store.Connections.Get(t.ctx, key); err != nil {`)
)

// The process stops at each step between a write that makes an event true and the write
// that takes it off its outbox. Whatever it had done, the tick of another one delivers it,
// under the same id if it was delivered before.
func TestFault_F06_what_there_is_to_tell_of_a_write_is_in_that_write(t *testing.T) {
	crashes := map[string]func(p *brokertest.Process, write string){
		"after the write": func(p *brokertest.Process, write string) {
			p.OnStore(write, 1, brokertest.CrashAfter[item.Result](p))
		},
		"before the delivery": func(p *brokertest.Process, _ string) { p.OnTell(1, brokertest.CrashBefore[int](p)) },
		"after the delivery":  func(p *brokertest.Process, _ string) { p.OnTell(1, brokertest.CrashAfter[int](p)) },
	}
	// Something to tell, and what makes it true.
	type event struct {
		name, write string
		before      func(w *world, id string)
		act         func(p *brokertest.Process, id string)
	}
	for _, e := range []event{
		{"connection.needs_reauth", brokertest.OnVerdict, func(w *world, _ string) { w.UserEnds("alice") }, func(p *brokertest.Process, id string) { _ = p.Force(id) }},
		{"connection.disconnected", brokertest.OnTombstone, nil, func(p *brokertest.Process, id string) {
			_, _ = p.Disconnect(context.Background(), brokertest.Caller(), id)
		}},
		{"connection.reconnected", brokertest.OnConsent, nil, func(p *brokertest.Process, id string) { p.World.Reconnect(p, "alice", id) }},
	} {
		for at, crash := range crashes {
			t.Run(e.name+" "+at, func(t *testing.T) {
				onStores(t, "immediate", func(t *testing.T, w *world) {
					id := w.Connect("alice")
					if e.before != nil {
						e.before(w, id)
					}
					p := w.Start()
					crash(p, e.write)
					p.Crashes(func() { e.act(p, id) })
					w.toldInTheEnd(id, "connection.created", e.name)
				})
			})
		}
	}
}

// A late answer heals a verdict that nobody had written when the refresh was begun: the
// event belongs to that very save, though it asks nothing of the status before it.
func TestFault_F06_a_save_that_heals_tells_of_it(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
			r := w.Record(id)
			_, err := w.Store.Write(context.Background(), id, connection.Verdict{ID: id, Gen: r.Gen, Attempt: r.Attempt.ID, Reason: connection.LostResponse, Now: w.Unix()})
			w.Must(err)
			p.OnStore(brokertest.OnSave, 1, brokertest.CrashAfter[item.Result](p)) // of the second guess
		}))
		p.Crashes(func() { _ = p.Force(id) })
		w.toldInTheEnd(id, "connection.created", "connection.recovered")
	})
}

// Another event comes while one is delivered: it is not taken off with it.
func TestFault_F06_an_event_comes_while_another_is_delivered(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.UserEnds("alice")
		p := w.Start()
		p.OnTell(1, brokertest.After[int](func() {
			q := w.Start()
			q.OnTell(1, brokertest.CrashBefore[int](q))
			q.Crashes(func() { w.Reconnect(q, "alice", id) })
		}))
		p.OnTell(-1, func(func() (int, error)) (int, error) { return 0, errors.New("away") })
		w.WantCode(p.Force(id), "needs_reauth") // as this write left it
		w.toldInTheEnd(id, "connection.created", "connection.needs_reauth", "connection.reconnected")
	})
}

// Nobody listens for a day. Everything that happened meanwhile is told afterwards, and
// what gave way to newer events leaves its numbers out.
func TestFault_F06_nobody_listens_for_a_day(t *testing.T) {
	w := newWorld(t, "immediate") // one store will do: what it is about are hundreds of ticks
	id := w.Connect("alice")
	w.SetDeaf(true)
	for range 3 {
		if s := w.Reconnect(w.Home, "alice", id); s.State != connection.SessionConnected {
			t.Fatal(s.State)
		}
		w.Advance(time.Minute)
	}
	w.UserEnds("alice")
	_ = w.Home.Force(id)
	for range 24 * 60 / 5 {
		w.Advance(5 * time.Minute)
		w.Home.TickNow()
	}
	w.SetDeaf(false)
	w.toldInTheEnd(id, "connection.created", "connection.reconnected", "connection.needs_reauth")
	all := w.Deliveries()
	if first, last := all[len(all)-2], all[len(all)-1]; first.Sequence != 4 || last.Sequence != 5 {
		t.Errorf("%+v", all)
	}
}

var _ = mutant("F07", "internal/connection/writes.go", `putInt(&u, "doubt_at", w.Doubt)`, `_ = w.Doubt`)

func TestFault_F07_a_crash_before_a_refusal_to_act_is_written(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
		p := w.Start()
		p.OnStore(brokertest.OnLater, 1, brokertest.CrashBefore[item.Result](p))
		p.Crashes(func() { _ = p.Force(id) })
		w.EndLease()
		q := w.Start()
		q.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			if w.Record(id).DoubtAt == 0 {
				t.Error("nobody knows what was spent, and there is no doubt")
			}
		}))
		w.Must(q.Force(id))
		if r := w.Record(id); r.DoubtAt != 0 || r.Gen != 2 {
			t.Fatalf("%+v", r.Core)
		}
		w.Settle(id)
	})
}

var _ = mutant("F08", "internal/refresh/machine.go", `		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted() &&`, `		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted():
		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted() &&`)

func TestFault_F08_a_crash_before_a_verdict_is_written(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		w.UserEnds("alice")
		p := w.Start()
		p.OnStore(brokertest.OnVerdict, 1, brokertest.CrashBefore[item.Result](p))
		p.Crashes(func() { _ = p.Force(id) })
		if r := w.Record(id); r.Status != connection.Active || r.Attempt.ID == "" {
			t.Fatalf("%+v", r.Core)
		}
		w.EndLease()
		w.WantCode(w.Home.Force(id), "provider_unavailable") // asked again; held, since in doubt
		if w.Sent("refresh_token") != 2 {
			t.Fatalf("%d requests", w.Sent("refresh_token"))
		}
		w.Lost(id, "alice")
	})
}

var _ = mutant("F09", "internal/connection/session.go", `return s.State == SessionExchanging && now >= s.Take.Until`, `return s.State == SessionExchanging && now < 0`)

func TestFault_F09_a_crash_of_the_callback_before_the_exchange(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		f := w.Begin("alice", "")
		back := w.Allow("alice", f)
		p := w.Start()
		p.OnWire(brokertest.OnExchange, 1, brokertest.CrashBefore[*http.Response](p))
		p.Crashes(func() { _, _ = p.Callback(context.Background(), back) })
		w.EndLease()
		if v, err := w.Home.Session(context.Background(), brokertest.Caller(), f.Session); err != nil || v.Status != "failed" || v.Error != "restart_connect" {
			t.Fatalf("the session reads as %+v, %v", v, err)
		}
		_, err := w.Home.Callback(context.Background(), w.Allow("alice", w.Open(f.Session))) // the same link again
		w.Must(err)
		id := w.SessionOf(f).Result
		before := w.Record(id)
		f = w.Begin("alice", id)
		back = w.Allow("alice", f)
		p = w.Start()
		p.OnWire(brokertest.OnExchange, 1, brokertest.CrashBefore[*http.Response](p))
		p.Crashes(func() { _, _ = p.Callback(context.Background(), back) })
		if r := w.Record(id); r.ConsentNext != before.ConsentNext+1 || r.ConsentSeq != before.ConsentSeq || r.Gen != before.Gen {
			t.Fatalf("%+v", r.Core)
		}
		if s := w.Reconnect(w.Home, "alice", id); s.Result != id || s.State != connection.SessionConnected {
			t.Fatalf("after the gap: %s %s", s.State, s.Error)
		}
		w.Settle(id)
	})
}

var _ = mutant("F10", "internal/broker/begin.go", `v.Status, v.Error = string(connection.SessionFailed), RestartConnect`, `v.Status = string(connection.SessionExchanging)`)

func TestFault_F10_a_crash_of_the_callback_with_tokens_in_hand(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		f := w.Begin("alice", "")
		back := w.Allow("alice", f)
		p := w.Start()
		p.OnStore(brokertest.OnExchanged, 1, brokertest.CrashBefore[item.Result](p))
		p.Crashes(func() { _, _ = p.Callback(context.Background(), back) })
		w.EndLease()
		if v, err := w.Home.Session(context.Background(), brokertest.Caller(), f.Session); err != nil || v.Status != "failed" || v.Error != "restart_connect" || v.ConnectionID != "" {
			t.Fatalf("the session reads as %+v, %v", v, err)
		}
		_, err := w.Home.Callback(context.Background(), back)
		w.WantCode(err, "restart_connect") // the code is sent once
		w.Home.TickNow()
		if w.Sent("authorization_code") != 1 || w.Sent("revoke") != 0 {
			t.Fatalf("requests: %v", w.Sim.Requests(brokertest.Integration))
		}
		w.Settle(w.Connect("alice"))
	})
}

var (
	_ = mutant("F11", "internal/connection/writes.go", `item.Put("todo", w.Todo), item.Put("revocation", "pending")`, `item.Put("revocation", "pending")`)
	_ = mutant("F11", "internal/broker/token.go", `	case connection.Disconnected:
		return &Error`, `	case "":
		return &Error`)
)

var _ = mutant("F11", "internal/refresh/disconnect.go", `s.Stray = c.Proving`, `s.Stray = false`)

// A provider that says that it revoked, and did not, answers the proof with a live pair.
// Who dies with it in hand leaves a receipt that says so.
func TestFault_F11_a_disconnect_crashed_with_what_its_proof_brought(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start(untold)
		p.OnWire(brokertest.OnRevocation, -1, func(func() (*http.Response, error)) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}, nil
		})
		p.OnWire(brokertest.OnSend, 1, brokertest.CrashAfter[*http.Response](p))
		p.Crashes(func() { _, _ = p.Disconnect(context.Background(), brokertest.Caller(), id) })
		r := w.Start().TickUntil(id, 3, func(r connection.Record) bool { return r.Todo == "" })
		if !r.InFlight || r.Proof != "refresh_refused" || r.Refresh != "" || r.Proving {
			t.Errorf("the receipt: %+v", r)
		}
		quiet := w.Connect("bob")
		rec, err := w.Home.Disconnect(context.Background(), brokertest.Caller(), quiet)
		if err != nil || rec.InFlight || rec.Proof != "refresh_refused" || w.Record(quiet).Proving {
			t.Errorf("of one that nothing befell: %+v, %v", rec, err)
		}
	})
}

func TestFault_F11_a_disconnect_goes_on_from_wherever_it_crashed(t *testing.T) {
	for name, lay := range map[string]func(p *brokertest.Process){
		"after the tombstone": func(p *brokertest.Process) {
			p.OnStore(brokertest.OnTombstone, 1, brokertest.CrashAfter[item.Result](p))
		},
		"after the revocation": func(p *brokertest.Process) {
			p.OnWire(brokertest.OnRevocation, 1, brokertest.CrashAfter[*http.Response](p))
		},
		"before the erasure": func(p *brokertest.Process) { p.OnStore(brokertest.OnErase, 1, brokertest.CrashBefore[item.Result](p)) },
		"after the erasure":  func(p *brokertest.Process) { p.OnStore(brokertest.OnErase, 1, brokertest.CrashAfter[item.Result](p)) },
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.Connect("alice")
				access, rt := w.Tokens(id)
				p := w.Start(untold) // else its event brings the tick here too
				lay(p)
				p.Crashes(func() { _, _ = p.Disconnect(context.Background(), brokertest.Caller(), id) })
				_, err := w.Home.Read(id, 60)
				w.WantCode(err, "disconnected")
				w.WantCode(w.Home.Force(id), "disconnected")
				r := w.Start().TickUntil(id, 3, func(r connection.Record) bool { return r.Todo == "" })
				if r.Access != "" || r.Refresh != "" || r.Revocation != "at_provider" || r.Status != connection.Disconnected {
					t.Fatalf("the receipt: %+v", r)
				}
				for _, token := range []string{access, rt} {
					if info, _ := w.Sim.Lookup(brokertest.Integration, token); info.Live {
						t.Error("a token lives on")
					}
				}
				w.Forgive("E1")
				w.Check()
			})
		})
	}
}
