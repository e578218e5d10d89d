package faults_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F22", "internal/refresh/machine.go", `	case !found:
		return Dropped`, `	case !found:
		return Overtaken`)

func TestFault_F22_a_connection_is_deleted_before_its_save(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() { meanwhile()["deleted"](w, id) }))
		w.WantCode(p.Force(id), "provider_unavailable")
		i, err := w.Store.Connections.Get(context.Background(), id)
		w.Must(err)
		if i != nil || w.LiveTokens() != 0 {
			t.Fatalf("%v came back, %d tokens live", i, w.LiveTokens())
		}
		w.Check()
		w.Settle(w.Connect("alice"))
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
				id := w.Connect("alice")
				p := w.Start()
				p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() { meanwhile()["disconnected"](w, id) }))
				if down {
					p.OnWire(brokertest.OnRevocation, -1, func(func() (*http.Response, error)) (*http.Response, error) {
						return nil, errors.New("no route to the provider")
					})
				}
				w.WantCode(p.Force(id), "disconnected")
				if down {
					if w.InRescue() != 1 || w.LiveTokens() == 0 {
						t.Fatalf("%d records, %d tokens live", w.InRescue(), w.LiveTokens())
					}
					w.Start().Replay()
				}
				if r := w.Record(id); w.LiveTokens() != 0 || w.InRescue() != 0 || r.Access != "" || r.Refresh != "" {
					t.Fatalf("%d tokens live, %d records, %+v", w.LiveTokens(), w.InRescue(), r.Core)
				}
				w.Check()
				w.Settle(w.Connect("alice"))
			})
		})
	}
}

var _ = mutant("F24", "internal/connection/writes.go", `item.Eq("gen", w.Gen), item.Ne("status", string(Disconnected)),`, `item.Ne("status", string(Disconnected)),`)

func TestFault_F24_a_connection_is_reconnected_before_its_save(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		var access, rt string
		p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
			meanwhile()["reconnected"](w, id)
			access, rt = w.Tokens(id)
		}))
		got, err := p.Forced(id)
		w.Must(err)
		at, kept := w.Tokens(id)
		if at != access || kept != rt || got.AccessToken.Reveal() != access || w.Sent("revoke") != 0 {
			t.Fatalf("the consent's tokens are not those that count; %d revocations", w.Sent("revoke"))
		}
		w.Settle(id)
	})
}

var _ = mutant("F25", "internal/refresh/machine.go", `case g < c.DisconnectGen && perToken:`, `case g < c.DisconnectGen:`)

func TestFault_F25_an_answer_arrives_after_a_disconnect_and_a_reconnect(t *testing.T) {
	for name, perToken := range map[string]provider.Tri{"revoking ends more than a token": provider.Unknown, "revoking is per token": provider.Yes} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				w.Settings.Integrations[0].Entry.Revocation.PerToken = perToken
				id := w.Connect("alice")
				p := w.Start()
				revoked := 0
				p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
					meanwhile()["disconnected and reconnected"](w, id)
					revoked = w.Sent("revoke")
				}))
				_ = p.Force(id)
				if got := w.Sent("revoke") > revoked; got != (perToken == provider.Yes) {
					t.Errorf("revoked: %v", got)
				}
				w.Settle(id)
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
		id := w.Connect("alice")
		_, old := w.Tokens(id)
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
			w.ProviderFault(simprovider.Fault{Kind: "no_refresh_token", Grant: "authorization_code"})
			if s := w.Reconnect(w.Home, "alice", id); s.Result != id {
				t.Errorf("the reconnect is %s %s", s.State, s.Error)
			}
		}))
		w.Must(p.Force(id))
		_, rt := w.Tokens(id)
		if r := w.Record(id); r.Gen != 2 || r.ConsentSeq != 1 || rt == old {
			t.Fatalf("the rotation is not saved: %+v", r.Core)
		}
		w.Settle(id)
	})
}

var (
	_ = mutant("F27", "internal/connection/writes.go", `If: []item.Cond{item.Eq("gen", w.Gen), refreshable(), mine(w.Attempt)},`, `If: []item.Cond{item.Eq("gen", w.Gen), refreshable()},`)
	_ = mutant("F27", "internal/connection/writes.go", `item.Eq("gen", w.Gen), item.Ne("status", string(Disconnected)),`, `item.Eq("gen", w.Gen), item.Lacks("doubt_at"), item.Ne("status", string(Disconnected)),`)
)

func TestFault_F27_a_holder_stands_still_for_two_minutes(t *testing.T) {
	const still = 2 * time.Minute
	t.Run("before its send", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p, q := w.Start(), w.Start()
			p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
				w.Advance(still)
				w.Must(q.Force(id))
			}))
			_ = p.Force(id) // the provider refuses its old token
			if r := w.Record(id); r.Gen != 2 || r.Status != connection.Active || w.Sent("refresh_token") != 2 {
				t.Fatalf("%+v", r.Core)
			}
			w.Settle(id)
		})
	})
	t.Run("before its send, and the other's answer is under way", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p, q := w.Start(), w.Start()
			answered, judged, saved := make(chan struct{}), make(chan struct{}), make(chan struct{})
			q.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
				close(answered)
				<-judged
			}))
			p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
				w.Advance(still)
				go func() {
					defer close(saved)
					_ = q.Force(id)
				}()
				<-answered
			}))
			_ = p.Force(id)
			if r := w.Record(id); r.Status != connection.Active {
				t.Errorf("a false verdict: %+v", r.Core)
			}
			close(judged)
			<-saved
			w.Settle(id)
		})
	})
	t.Run("before its save", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p, q := w.Start(), w.Start()
			p.OnStore(brokertest.OnSave, 1, brokertest.After[item.Result](func() {
				w.Advance(still)
				w.WantCode(q.Force(id), "provider_unavailable")
				if r := w.Record(id); r.Status != connection.Active || r.DoubtAt == 0 {
					t.Errorf("%+v", r.Core)
				}
			}))
			w.Must(p.Force(id))
			w.Settle(id)
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
		id := w.Connect("alice")
		w.NextSlot(id)
		first := w.Record(id)
		p, q, late := w.Start(), w.Start(), w.Start()
		sending, others := make(chan struct{}), make(chan struct{})
		p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			close(sending)
			<-others // so nobody may wait for this send
		}))
		// The third worker read the connection before the first one claimed it.
		read, done := make(chan struct{}), make(chan struct{})
		late.OnStore(brokertest.OnClaim, 1, brokertest.After[item.Result](func() {
			close(read)
			<-sending
		}))
		go func() {
			defer close(done)
			_ = late.WorkOff(id)
		}()
		<-read
		var holder sync.WaitGroup
		holder.Go(func() { _ = p.WorkOff(id) })
		<-sending
		<-done
		var callers sync.WaitGroup
		for n := range 64 {
			worker := []*brokertest.Process{p, q}[n%2]
			callers.Go(func() {
				switch n % 4 {
				case 0, 1:
					if v, err := worker.Read(id, 60); err != nil || v.Generation != first.Gen {
						t.Errorf("a read: generation %d, %v", v.Generation, err)
					}
				default:
					if _, err := worker.World.Handed(worker.Refresh(context.Background(), brokertest.Caller(), id, first.Gen, "")); brokertest.Code(err) != "refresh_in_progress" {
						t.Errorf("a report of a 401: %v", err)
					}
				}
			})
		}
		callers.Go(func() { q.TickNow() })
		callers.Wait()
		close(others)
		holder.Wait()
		if w.Sent("refresh_token") != 1 || w.Record(id).Gen != first.Gen+1 {
			t.Fatalf("%d requests for one generation, now at %d", w.Sent("refresh_token"), w.Record(id).Gen)
		}
		v, err := w.Handed(q.Refresh(context.Background(), brokertest.Caller(), id, first.Gen, ""))
		if err != nil || v.Generation != first.Gen+1 || w.Sent("refresh_token") != 1 {
			t.Errorf("the report of an old token's 401: generation %d, %v", v.Generation, err)
		}
		w.Settle(id)
	})
}

var _ = mutant("F29", "internal/refresh/machine.go", `r.Left < s.Facts.SendTime+SaveTime+RescueTime+Slack {`, `r.Left < 0 {`)

func TestFault_F29_an_invocation_ends_too_soon_for_a_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		_, err := p.Refresh(w.invocation(28*time.Second), brokertest.Caller(), id, 1, "")
		w.WantCode(err, "provider_unavailable")
		if r := w.Record(id); r.Attempt.ID != "" || w.Sent("refresh_token") != 0 {
			t.Fatalf("%d sent with 28 s left: %+v", w.Sent("refresh_token"), r.Core)
		}
		// With just enough time the whole of it fits, however the store behaves.
		p.OnStore(brokertest.OnSave, -1, brokertest.FailBefore)
		begun := w.Now()
		_, err = p.Refresh(w.invocation(30*time.Second), brokertest.Caller(), id, 1, "")
		w.WantCode(err, "refresh_in_progress")
		if took := w.Now().Sub(begun); took > 30*time.Second || w.InRescue() != 1 {
			t.Errorf("after %s of 30 s %d records are safe", took, w.InRescue())
		}
		w.Settle(id)
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
		ids := []string{w.Connect("alice"), w.Connect("bob")}
		for _, id := range ids {
			w.NextSlot(id)
		}
		before, sent := w.Conns.Load(), w.Sent("refresh_token")
		p := w.Start()
		var under atomic.Int64
		arrived, release, done := make(chan struct{}, len(ids)), make(chan struct{}), make(chan error, 1)
		p.OnWire(brokertest.OnSend, -1, func(call func() (*http.Response, error)) (*http.Response, error) {
			under.Add(1)
			defer under.Add(-1)
			arrived <- struct{}{}
			<-release
			return call()
		})
		go func() { done <- p.RefreshAll(context.Background(), ids, w.Minute()) }()
		<-arrived
		select {
		case <-done:
			t.Error("the handler returned with a request under way")
			done <- nil
		default:
		}
		close(release)
		w.Must(<-done)
		if n := under.Load(); n != 0 {
			t.Errorf("%d requests outlive the handler", n)
		}
		p.Heal()
		// Frozen for an hour: a connection kept open would be dead by now.
		w.Advance(refresh.Horizon * time.Second)
		w.Must(p.Force(ids[0]))
		if n, requests := w.Conns.Load()-before, w.Sent("refresh_token")-sent; int(n) != requests || requests == 0 {
			t.Errorf("%d connections for %d requests", n, requests)
		}
		w.Settle(ids...)
	})
}
