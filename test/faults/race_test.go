package faults_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// alive is how many of all the tokens that the provider ever gave it would still take.
func (w *world) alive() int {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	n := 0
	for _, s := range w.watch.secrets {
		if info, known := w.sim.Lookup(sim, s); known && info.Live {
			n++
		}
	}
	return n
}

var _ = mutant("F22", "internal/refresh/machine.go", `	case !found:
		return Dropped`, `	case !found:
		return Overtaken`)

func TestFault_F22_a_connection_is_deleted_before_its_save(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		p.store(onSave, 1, after[item.Result](func() { meanwhile()["deleted"](w, id) }))
		w.wantCode(p.refresh(id), "provider_unavailable")
		i, err := w.base.Connections.Get(context.Background(), id)
		w.must(err)
		if i != nil || w.alive() != 0 {
			t.Fatalf("%v came back, %d tokens live", i, w.alive())
		}
		w.check()
		w.settle(w.connect("alice"))
	})
}

var (
	_ = mutant("F23", "internal/refresh/machine.go", `	case c.Status == connection.Disconnected:
		return Dropped`, `	case c.Status == connection.Disconnected:
		return Overtaken`)
	_ = mutant("F23", "internal/refresh/machine.go", `return s.to(stepRevokeRecord), Effect{Kind: EffectRevokeRecord}`, `return s.done(Dropped)`)
)

func TestFault_F23_a_connection_is_disconnected_before_its_save(t *testing.T) {
	for name, down := range map[string]bool{"": false, "and the provider takes no revocation": true} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.connect("alice")
				p := w.start()
				p.store(onSave, 1, after[item.Result](func() { meanwhile()["disconnected"](w, id) }))
				if down {
					p.wire(onRevocation, -1, func(func() (*http.Response, error)) (*http.Response, error) {
						return nil, errors.New("no route to the provider")
					})
				}
				w.wantCode(p.refresh(id), "disconnected")
				if down {
					if w.inRescue() != 1 || w.alive() == 0 {
						t.Fatalf("%d records, %d tokens live", w.inRescue(), w.alive())
					}
					w.start().replay()
				}
				if r := w.record(id); w.alive() != 0 || w.inRescue() != 0 || r.Access != "" || r.Refresh != "" {
					t.Fatalf("%d tokens live, %d records, %+v", w.alive(), w.inRescue(), r.Core)
				}
				w.check()
				w.settle(w.connect("alice"))
			})
		})
	}
}

var _ = mutant("F24", "internal/connection/writes.go", `If: []item.Cond{item.Eq("gen", w.Gen), item.Ne("status", string(Disconnected))},`, `If: []item.Cond{item.Ne("status", string(Disconnected))},`)

func TestFault_F24_a_connection_is_reconnected_before_its_save(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		var access, rt string
		p.store(onSave, 1, after[item.Result](func() {
			meanwhile()["reconnected"](w, id)
			access, rt = w.tokens(id)
		}))
		got, err := p.refreshed(id)
		w.must(err)
		at, kept := w.tokens(id)
		if at != access || kept != rt || got.AccessToken.Reveal() != access || w.sent("revoke") != 0 {
			t.Fatalf("the consent's tokens are not those that count; %d revocations", w.sent("revoke"))
		}
		w.settle(id)
	})
}

var _ = mutant("F25", "internal/refresh/machine.go", `case g < c.DisconnectGen && perToken:`, `case g < c.DisconnectGen:`)

func TestFault_F25_an_answer_arrives_after_a_disconnect_and_a_reconnect(t *testing.T) {
	for name, perToken := range map[string]provider.Tri{"revoking ends more than a token": provider.Unknown, "revoking is per token": provider.Yes} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				w.settings.Integrations[0].Entry.Revocation.PerToken = perToken
				id := w.connect("alice")
				p := w.start()
				revoked := 0
				p.store(onSave, 1, after[item.Result](func() {
					meanwhile()["disconnected and reconnected"](w, id)
					revoked = w.sent("revoke")
				}))
				_ = p.refresh(id)
				if got := w.sent("revoke") > revoked; got != (perToken == provider.Yes) {
					t.Errorf("revoked: %v", got)
				}
				w.settle(id)
			})
		})
	}
}

var _ = mutant("F26", "internal/connection/writes.go", `			item.Put("consent_seq", w.Seq), item.Put("consented_at", w.ConsentedAt), item.Put("updated_at", w.ConsentedAt),
		},
	}
	w.Tokens.Refresh = ""`, `			item.Put("consent_seq", w.Seq), item.Put("gen", w.Gen+1), item.Put("tok_gen", w.Gen+1),
		},
	}
	w.Tokens.Refresh = ""`)

func TestFault_F26_a_reconnect_without_refresh_token_meets_a_rotation(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		_, old := w.tokens(id)
		p := w.start()
		p.store(onSave, 1, after[item.Result](func() {
			w.provider(simprovider.Fault{Kind: "no_refresh_token", Grant: "authorization_code"})
			if s := w.reconnect(w.home, "alice", id); s.Result != id {
				t.Errorf("the reconnect is %s %s", s.State, s.Error)
			}
		}))
		w.must(p.refresh(id))
		_, rt := w.tokens(id)
		if r := w.record(id); r.Gen != 2 || r.ConsentSeq != 1 || rt == old {
			t.Fatalf("the rotation is not saved: %+v", r.Core)
		}
		w.settle(id)
	})
}

var (
	_ = mutant("F27", "internal/connection/writes.go", `If: []item.Cond{item.Eq("gen", w.Gen), refreshable(), mine(w.Attempt)},`, `If: []item.Cond{item.Eq("gen", w.Gen), refreshable()},`)
	_ = mutant("F27", "internal/connection/writes.go", `If: []item.Cond{item.Eq("gen", w.Gen), item.Ne("status", string(Disconnected))},`, `If: []item.Cond{item.Eq("gen", w.Gen), item.Lacks("doubt_at"), item.Ne("status", string(Disconnected))},`)
)

func TestFault_F27_a_holder_stands_still_for_two_minutes(t *testing.T) {
	const still = 2 * time.Minute
	t.Run("before its send", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p, q := w.start(), w.start()
			p.wire(onSend, 1, after[*http.Response](func() {
				w.advance(still)
				w.must(q.refresh(id))
			}))
			_ = p.refresh(id) // the provider refuses its old token
			if r := w.record(id); r.Gen != 2 || r.Status != connection.Active || w.sent("refresh_token") != 2 {
				t.Fatalf("%+v", r.Core)
			}
			w.settle(id)
		})
	})
	t.Run("before its send, and the other's answer is under way", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p, q := w.start(), w.start()
			answered, judged, saved := make(chan struct{}), make(chan struct{}), make(chan struct{})
			q.store(onSave, 1, after[item.Result](func() {
				close(answered)
				<-judged
			}))
			p.wire(onSend, 1, after[*http.Response](func() {
				w.advance(still)
				go func() {
					defer close(saved)
					_ = q.refresh(id)
				}()
				<-answered
			}))
			_ = p.refresh(id)
			if r := w.record(id); r.Status != connection.Active {
				t.Errorf("a false verdict: %+v", r.Core)
			}
			close(judged)
			<-saved
			w.settle(id)
		})
	})
	t.Run("before its save", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p, q := w.start(), w.start()
			p.store(onSave, 1, after[item.Result](func() {
				w.advance(still)
				w.wantCode(q.refresh(id), "provider_unavailable")
				if r := w.record(id); r.Status != connection.Active || r.DoubtAt == 0 {
					t.Errorf("%+v", r.Core)
				}
			}))
			w.must(p.refresh(id))
			w.settle(id)
		})
	})
}

var (
	_ = mutant("F28", "internal/connection/writes.go", `		u.If = append(u.If, item.Lacks("attempt"))
	} else {`, `		u.If = append(u.If, item.Has("status"))
	} else {`)
	_ = mutant("F28", "internal/refresh/machine.go", `	case s.Core.Attempt.ID != "" && now < s.Core.Attempt.LeaseUntil:
		return s.done(Busy)`, `	case now < 0:
		return s.done(Busy)`)
)

func TestFault_F28_everybody_wants_the_same_token_at_once(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		w.slot(id)
		first := w.record(id)
		p, q, late := w.start(), w.start(), w.start()
		sending, others := make(chan struct{}), make(chan struct{})
		p.wire(onSend, 1, after[*http.Response](func() {
			close(sending)
			<-others // so nobody may wait for this send
		}))
		// The third worker read the connection before the first one claimed it.
		read, done := make(chan struct{}), make(chan struct{})
		late.store(onClaim, 1, after[item.Result](func() {
			close(read)
			<-sending
		}))
		go func() {
			defer close(done)
			_ = late.slot(id)
		}()
		<-read
		var holder sync.WaitGroup
		holder.Go(func() { _ = p.slot(id) })
		<-sending
		<-done
		var callers sync.WaitGroup
		for n := range 64 {
			worker := []*process{p, q}[n%2]
			callers.Go(func() {
				switch n % 4 {
				case 0, 1:
					if v, err := worker.token(id, 60); err != nil || v.Generation != first.Gen {
						t.Errorf("a read: generation %d, %v", v.Generation, err)
					}
				default:
					if _, err := worker.w.handed(worker.Refresh(context.Background(), caller(), id, first.Gen, "")); code(err) != "refresh_in_progress" {
						t.Errorf("a report of a 401: %v", err)
					}
				}
			})
		}
		callers.Go(func() { q.tick() })
		callers.Wait()
		close(others)
		holder.Wait()
		if w.sent("refresh_token") != 1 || w.record(id).Gen != first.Gen+1 {
			t.Fatalf("%d requests for one generation, now at %d", w.sent("refresh_token"), w.record(id).Gen)
		}
		v, err := w.handed(q.Refresh(context.Background(), caller(), id, first.Gen, ""))
		if err != nil || v.Generation != first.Gen+1 || w.sent("refresh_token") != 1 {
			t.Errorf("the report of an old token's 401: generation %d, %v", v.Generation, err)
		}
		w.settle(id)
	})
}

var _ = mutant("F29", "internal/refresh/machine.go", `r.Left < s.Facts.SendTime+SaveTime+RescueTime+Slack {`, `r.Left < 0 {`)

func TestFault_F29_an_invocation_ends_too_soon_for_a_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		_, err := p.Refresh(w.invocation(28*time.Second), caller(), id, 1, "")
		w.wantCode(err, "provider_unavailable")
		if r := w.record(id); r.Attempt.ID != "" || w.sent("refresh_token") != 0 {
			t.Fatalf("%d sent with 28 s left: %+v", w.sent("refresh_token"), r.Core)
		}
		// With just enough time the whole of it fits, however the store behaves.
		p.store(onSave, -1, failBefore)
		begun := w.clock()
		_, err = p.Refresh(w.invocation(30*time.Second), caller(), id, 1, "")
		w.wantCode(err, "refresh_in_progress")
		if took := w.clock().Sub(begun); took > 30*time.Second || w.inRescue() != 1 {
			t.Errorf("after %s of 30 s %d records are safe", took, w.inRescue())
		}
		w.settle(id)
	})
}

var (
	_ = mutant("F30", "internal/broker/tick.go", `	run.group.Wait()
	b.flushStats(ctx)
	return`, `	b.flushStats(ctx)
	return`)
	_ = mutant("F30", "internal/provider/transport.go", `DisableKeepAlives:      true,`, `DisableKeepAlives:      false,`)
)

func TestFault_F30_an_invocation_is_frozen_when_it_has_answered(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := []string{w.connect("alice"), w.connect("bob")}
		for _, id := range ids {
			w.slot(id)
		}
		before, sent := w.conns.Load(), w.sent("refresh_token")
		p := w.start()
		var under atomic.Int64
		arrived, release, done := make(chan struct{}, len(ids)), make(chan struct{}), make(chan error, 1)
		p.wire(onSend, -1, func(call func() (*http.Response, error)) (*http.Response, error) {
			under.Add(1)
			defer under.Add(-1)
			arrived <- struct{}{}
			<-release
			return call()
		})
		go func() { done <- p.RefreshAll(context.Background(), ids, w.minute()) }()
		<-arrived
		select {
		case <-done:
			t.Error("the handler returned with a request under way")
			done <- nil
		default:
		}
		close(release)
		w.must(<-done)
		if n := under.Load(); n != 0 {
			t.Errorf("%d requests outlive the handler", n)
		}
		p.heal()
		// Frozen for an hour: a connection kept open would be dead by now.
		w.advance(refresh.Horizon * time.Second)
		w.must(p.refresh(ids[0]))
		if n, requests := w.conns.Load()-before, w.sent("refresh_token")-sent; int(n) != requests || requests == 0 {
			t.Errorf("%d connections for %d requests", n, requests)
		}
		w.settle(ids...)
	})
}
