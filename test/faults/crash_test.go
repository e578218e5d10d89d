package faults_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F01", "internal/broker/tick.go", `schedule.Walk(min(from, minute-1), minute)`, `schedule.Walk(minute-1, minute)`)

func TestFault_F01_a_crash_before_the_claim_changes_nothing(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.slot(id)
		before := w.record(id)
		p := w.start()
		p.store(onClaim, 1, crashBefore[item.Result](p))
		p.crashes(func() { _, _ = p.Tick(context.Background(), w.minute()) })
		if d := cmp.Diff(before, w.record(id)); d != "" || w.sent("refresh_token") != 0 {
			t.Fatalf("something was sent or written: %s", d)
		}
		w.advance(time.Minute) // the next tick finds that the slot's own was never finished
		if w.start().tick(); w.record(id).Gen != before.Gen+1 {
			t.Fatalf("not refreshed: %+v", w.record(id).Core)
		}
		w.settle(id)
	})
}

var (
	_ = mutant("F02", "internal/connection/writes.go", `if w.Over != "" || w.Older {`, `if w.Older {`)
	_ = mutant("F02", "internal/refresh/machine.go", `Over:    s.Core.Attempt.ID,`, `Over:    "",`)
)

func TestFault_F02_a_crash_between_claim_and_send_is_taken_over_in_doubt(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		p.wire(onSend, 1, crashBefore[*http.Response](p))
		p.crashes(func() { _ = p.refresh(id) })
		w.wantCode(w.home.refresh(id), "refresh_in_progress") // its lease stands
		w.lease()
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
		w.wantCode(w.home.refresh(id), "provider_unavailable")
		if r := w.record(id); r.DoubtAt == 0 || r.Attempt.ID != "" {
			t.Fatalf("taken over without doubt: %+v", r.Core)
		}
		w.must(w.home.refresh(id))
		if r := w.record(id); r.DoubtAt != 0 || r.Status != connection.Active || w.sent("refresh_token") != 2 {
			t.Fatalf("%+v", r.Core)
		}
		w.settle(id)
	})
}

var (
	_ = mutant("F03", "internal/refresh/machine.go", `now >= s.Core.DoubtAt+s.Facts.Horizon:`, `now >= s.Core.DoubtAt:`)
	_ = mutant("F03", "internal/refresh/machine.go", `doubt := s.doubted() || s.Doubt`, `doubt := s.Doubt`)
	_ = mutant("F03", "internal/refresh/machine.go", `return policy != provider.Wait || now >= s.replayAt()`, `return true`)
)

func TestFault_F03_an_answer_is_under_way_when_its_sender_crashes(t *testing.T) {
	crash := func(w *world) string {
		id := w.connect("alice")
		p := w.start()
		p.wire(onSend, 1, crashAfter[*http.Response](p))
		p.crashes(func() { _ = p.refresh(id) })
		w.lease()
		return id
	}
	for _, profile := range []string{"none", "on_use", "grace"} {
		t.Run(profile+" recovers", func(t *testing.T) {
			onStores(t, profile, func(t *testing.T, w *world) {
				id := crash(w)
				w.must(w.home.refresh(id))
				w.settle(id)
			})
		})
	}
	t.Run("immediate is lost after the horizon", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) { w.lost(crash(w), "alice") })
	})
	t.Run("family waits until little is left to lose", func(t *testing.T) {
		onStores(t, "family", func(t *testing.T, w *world) {
			id := crash(w)
			p := w.start()
			w.wantCode(p.refresh(id), "provider_unavailable")
			if w.sent("refresh_token") != 1 {
				t.Fatal("the replay may have ended a family that was not lost")
			}
			if _, err := p.token(id, 60); err != nil {
				t.Errorf("the access token is good all the while: %v", err)
			}
			r := w.record(id)
			p.ticks(id, 70, func(connection.Record) bool { return w.sent("refresh_token") > 1 })
			if w.unix() < r.ExpiresAt-601 {
				t.Errorf("replayed %d s before the end", r.ExpiresAt-w.unix())
			}
			w.lost(id, "alice")
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
		id := w.connect("alice")
		old, _ := w.tokens(id)
		p := w.start()
		p.store(onSave, 1, crashBefore[item.Result](p))
		p.crashes(func() { _, _ = p.refreshed(id) })
		if got, err := w.home.token(id, 60); err != nil || got.AccessToken.Reveal() != old {
			t.Fatalf("a reader got another token than the stored one: %v", err)
		}
		if r := w.record(id); r.Gen != 1 || r.Attempt.ID == "" {
			t.Fatalf("%+v", r.Core)
		}
		w.lease()
		return id
	}
	onStores(t, "on_use", func(t *testing.T, w *world) {
		id := crash(t, w)
		w.must(w.home.refresh(id)) // nobody has used the pair that was lost
		w.settle(id)
	})
	onStores(t, "immediate", func(t *testing.T, w *world) { w.lost(crash(t, w), "alice") })
}

var _ = mutant("F05", "internal/refresh/machine.go", `if c.Status != connection.Active || schedule.IsRetry(c.Sched) {`, `if c.Gen > 0 {`)

func TestFault_F05_a_crash_after_the_save_leaves_nothing_to_do(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.slot(id)
		p := w.start()
		p.store(onSave, 1, crashAfter[item.Result](p))
		p.crashes(func() { _ = p.slot(id) })
		saved := w.record(id)
		w.must(w.start().slot(id)) // the queue delivers again
		if d := cmp.Diff(saved, w.record(id)); d != "" || saved.Gen != 2 || w.sent("refresh_token") != 1 {
			t.Fatalf("%d requests, generation %d: %s", w.sent("refresh_token"), saved.Gen, d)
		}
		w.settle(id)
	})
}

var _ = mutant("F06", "internal/refresh/driver.go", `		Journal: run.journal(note),`, `		Journal: run.journal(note)[:0],`)

func TestFault_F06_what_there_is_to_tell_of_a_save_is_in_its_write(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		p.store(onSave, 1, crashAfter[item.Result](p))
		p.crashes(func() { _ = p.refresh(id) })
		all := w.record(id).Journal.Entries()
		if len(all) == 0 || all[len(all)-1].Outcome != connection.OutcomeSaved || all[len(all)-1].At != w.unix() {
			t.Fatalf("the save is not told of: %+v", all)
		}
		w.settle(id)
	})
}

var _ = mutant("F07", "internal/connection/writes.go", `putInt(&u, "doubt_at", w.Doubt)`, `_ = w.Doubt`)

func TestFault_F07_a_crash_before_a_refusal_to_act_is_written(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
		p := w.start()
		p.store(onLater, 1, crashBefore[item.Result](p))
		p.crashes(func() { _ = p.refresh(id) })
		w.lease()
		q := w.start()
		q.wire(onSend, 1, after[*http.Response](func() {
			if w.record(id).DoubtAt == 0 {
				t.Error("nobody knows what was spent, and there is no doubt")
			}
		}))
		w.must(q.refresh(id))
		if r := w.record(id); r.DoubtAt != 0 || r.Gen != 2 {
			t.Fatalf("%+v", r.Core)
		}
		w.settle(id)
	})
}

var _ = mutant("F08", "internal/refresh/machine.go", `		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted() &&`, `		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted():
		return s.verdict(connection.Revoked, connection.OutcomeRevoked, now)
	case s.doubted() &&`)

func TestFault_F08_a_crash_before_a_verdict_is_written(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.userEnds("alice")
		p := w.start()
		p.store(onVerdict, 1, crashBefore[item.Result](p))
		p.crashes(func() { _ = p.refresh(id) })
		if r := w.record(id); r.Status != connection.Active || r.Attempt.ID == "" {
			t.Fatalf("%+v", r.Core)
		}
		w.lease()
		w.wantCode(w.home.refresh(id), "provider_unavailable") // asked again; held, since in doubt
		if w.sent("refresh_token") != 2 {
			t.Fatalf("%d requests", w.sent("refresh_token"))
		}
		w.lost(id, "alice")
	})
}

var _ = mutant("F09", "internal/connection/session.go", `return s.State == SessionExchanging && now >= s.Take.Until`, `return s.State == SessionExchanging && now < 0`)

func TestFault_F09_a_crash_of_the_callback_before_the_exchange(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		f := w.begin("alice", "")
		back := w.allow("alice", f)
		p := w.start()
		p.wire(onExchange, 1, crashBefore[*http.Response](p))
		p.crashes(func() { _, _ = p.Callback(context.Background(), back) })
		w.lease()
		if v, err := w.home.Session(context.Background(), caller(), f.session); err != nil || v.Status != "failed" || v.Error != "restart_connect" {
			t.Fatalf("the session reads as %+v, %v", v, err)
		}
		_, err := w.home.Callback(context.Background(), w.allow("alice", w.open(f.session))) // the same link again
		w.must(err)
		id := w.sessionOf(f).Result
		before := w.record(id)
		f = w.begin("alice", id)
		back = w.allow("alice", f)
		p = w.start()
		p.wire(onExchange, 1, crashBefore[*http.Response](p))
		p.crashes(func() { _, _ = p.Callback(context.Background(), back) })
		if r := w.record(id); r.ConsentNext != before.ConsentNext+1 || r.ConsentSeq != before.ConsentSeq || r.Gen != before.Gen {
			t.Fatalf("%+v", r.Core)
		}
		if s := w.reconnect(w.home, "alice", id); s.Result != id || s.State != connection.SessionConnected {
			t.Fatalf("after the gap: %s %s", s.State, s.Error)
		}
		w.settle(id)
	})
}

var _ = mutant("F10", "internal/broker/begin.go", `v.Status, v.Error = string(connection.SessionFailed), RestartConnect`, `v.Status = string(connection.SessionExchanging)`)

func TestFault_F10_a_crash_of_the_callback_with_tokens_in_hand(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		f := w.begin("alice", "")
		back := w.allow("alice", f)
		p := w.start()
		p.store(onExchanged, 1, crashBefore[item.Result](p))
		p.crashes(func() { _, _ = p.Callback(context.Background(), back) })
		w.lease()
		if v, err := w.home.Session(context.Background(), caller(), f.session); err != nil || v.Status != "failed" || v.Error != "restart_connect" || v.ConnectionID != "" {
			t.Fatalf("the session reads as %+v, %v", v, err)
		}
		_, err := w.home.Callback(context.Background(), back)
		w.wantCode(err, "restart_connect") // the code is sent once
		w.home.tick()
		if w.sent("authorization_code") != 1 || w.sent("revoke") != 0 {
			t.Fatalf("requests: %v", w.sim.Requests(sim))
		}
		w.settle(w.connect("alice"))
	})
}

var (
	_ = mutant("F11", "internal/connection/writes.go", `item.Put("todo", w.Todo), item.Put("revocation", "pending")`, `item.Put("revocation", "pending")`)
	_ = mutant("F11", "internal/broker/token.go", `	case connection.Disconnected:
		return &Error`, `	case "":
		return &Error`)
)

func TestFault_F11_a_disconnect_goes_on_from_wherever_it_crashed(t *testing.T) {
	for name, lay := range map[string]func(p *process){
		"after the tombstone":  func(p *process) { p.store(onTombstone, 1, crashAfter[item.Result](p)) },
		"after the revocation": func(p *process) { p.wire(onRevocation, 1, crashAfter[*http.Response](p)) },
		"before the erasure":   func(p *process) { p.store(onErase, 1, crashBefore[item.Result](p)) },
		"after the erasure":    func(p *process) { p.store(onErase, 1, crashAfter[item.Result](p)) },
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.connect("alice")
				access, rt := w.tokens(id)
				p := w.start()
				lay(p)
				p.crashes(func() { _, _ = p.Disconnect(context.Background(), caller(), id) })
				_, err := w.home.token(id, 60)
				w.wantCode(err, "disconnected")
				w.wantCode(w.home.refresh(id), "disconnected")
				r := w.start().ticks(id, 3, func(r connection.Record) bool { return r.Todo == "" })
				if r.Access != "" || r.Refresh != "" || r.Revocation != "at_provider" || r.Status != connection.Disconnected {
					t.Fatalf("the receipt: %+v", r)
				}
				for _, token := range []string{access, rt} {
					if info, _ := w.sim.Lookup(sim, token); info.Live {
						t.Error("a token lives on")
					}
				}
				w.check()
			})
		})
	}
}
