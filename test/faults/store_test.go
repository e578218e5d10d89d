package faults_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F12", "internal/refresh/machine.go", `case !r.Applied && (!r.Found || r.Core.Attempt.ID != s.In.Attempt):`, `case !r.Applied:`)

func TestFault_F12_a_claim_is_applied_and_sent_again(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		p.OnStore(brokertest.OnClaim, 1, brokertest.Repeat)
		p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			if w.Record(id).DoubtAt != 0 {
				t.Error("our own claim put us in doubt")
			}
		}))
		w.Must(p.Force(id))
		if w.Sent("refresh_token") != 1 || w.Record(id).Gen != 2 {
			t.Fatalf("%d requests, %+v", w.Sent("refresh_token"), w.Record(id).Core)
		}
		w.Settle(id)
	})
}

var _ = mutant("F13", "internal/refresh/machine.go", `case c.SaveID == saveID && saveID != "":`, `case c.SaveID == "":`)

func TestFault_F13_a_save_is_applied_and_sent_again(t *testing.T) {
	for name, lost := range map[string]brokertest.Fault[item.Result]{"by the SDK": brokertest.Repeat, "by us": brokertest.LoseAnswer} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.Connect("alice")
				w.NextSlot(id)
				p := w.Start()
				p.OnStore(brokertest.OnSave, 1, lost)
				if rep := p.TickNow(); rep.Outcomes[refresh.Saved.String()] != 1 {
					t.Errorf("outcomes %v", rep.Outcomes)
				}
				if w.Record(id).Gen != 2 || w.Sent("revoke") != 0 || w.InRescue() != 0 {
					t.Fatalf("generation %d, %d revocations, %d rescued", w.Record(id).Gen, w.Sent("revoke"), w.InRescue())
				}
				w.Settle(id)
			})
		})
	}
}

var _ = mutant("F14", "internal/refresh/machine.go", `case g < c.DisconnectGen && perToken:`, `case g < c.Gen:`)

func TestFault_F14_a_save_is_sent_again_after_a_later_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		p.OnStore(brokertest.OnSave, 1, brokertest.RepeatAfter(func() { w.Must(w.Home.Force(id)) }))
		got, err := p.Forced(id)
		w.Must(err)
		newest, _ := w.Tokens(id)
		if got.Generation != 3 || got.AccessToken.Reveal() != newest || w.Sent("revoke") != 0 || w.InRescue() != 0 {
			t.Fatalf("generation %d, %d revocations, %d rescued", got.Generation, w.Sent("revoke"), w.InRescue())
		}
		w.Settle(id)
	})
}

var _ = mutant("F15", "internal/connection/writes.go", `item.Ne("status", string(Held)), item.Eq("disconnect_gen", w.DisconnectGen))`, `item.Ne("status", string(Held)))`)

var _ = mutant("F15", "internal/refresh/disconnect.go", `case overtaken && c.Status != connection.Disconnected:`, `case overtaken && c.Status == connection.Held:`)

var _ = mutant("F15", "internal/connection/writes.go", `item.Put("tok_gen", w.Gen+1), item.Put("consent_seq", w.Seq),`, `item.Put("tok_gen", w.Gen+1),`)

func TestFault_F15_a_reconnect_is_sent_again_after_a_refresh(t *testing.T) {
	for name, lost := range map[string]func(func()) brokertest.Fault[item.Result]{
		"by the SDK": brokertest.RepeatAfter,
		"by the tick": func(meanwhile func()) brokertest.Fault[item.Result] {
			return func(call func() (item.Result, error)) (item.Result, error) {
				_, _ = call()
				meanwhile()
				return item.Result{}, brokertest.ErrStore
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.Connect("alice")
				p := w.Start()
				p.OnStore(brokertest.OnConsent, 1, lost(func() { w.Must(w.Home.Force(id)) }))
				w.Reconnect(p, "alice", id)
				w.Advance(2 * time.Minute)
				w.Home.TickNow()
				if r := w.Record(id); r.Gen != 3 || r.ConsentSeq != 1 {
					t.Fatalf("%+v", r.Core)
				}
				w.Settle(id)
			})
		})
	}
	t.Run("a disconnect", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p := w.Start()
			p.OnStore(brokertest.OnTombstone, 1, brokertest.RepeatAfter(func() { w.WantCode(w.Home.Force(id), "disconnected") }))
			rec, err := p.Disconnect(context.Background(), brokertest.Caller(), id)
			w.Must(err)
			if rec.Revoked != "at_provider" || w.Record(id).Refresh != "" {
				t.Errorf("receipt %+v", rec)
			}
			w.Check()
		})
	})
	t.Run("a disconnect, after a reconnect", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p := w.Start()
			p.OnStore(brokertest.OnTombstone, 1, brokertest.RepeatAfter(func() { w.Reconnect(w.Home, "alice", id) }))
			rec, err := p.Disconnect(context.Background(), brokertest.Caller(), id)
			w.Must(err)
			if rec.Revoked != "none" || w.Sent("revoke") != 0 || w.Record(id).Status != connection.Active {
				t.Errorf("receipt %+v, %d revocations, %s", rec, w.Sent("revoke"), w.Record(id).Status)
			}
			w.Settle(id)
		})
	})
}

var _ = mutant("F16", "internal/refresh/machine.go", `	case r.Now < s.Until:
		return s.to(stepSavePause)`, `	case s.Tries < 60:
		return s.to(stepSavePause)`)

func TestFault_F16_the_store_throttles(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p := w.Start()
		for _, kind := range []string{brokertest.OnGet, brokertest.OnClaim} {
			p.OnStore(kind, -1, brokertest.Throttle)
			if err := p.Force(id); err == nil || w.Sent("refresh_token") != 0 {
				t.Fatalf("%s throttled: %v, %d sent", kind, err, w.Sent("refresh_token"))
			}
			p.Heal()
		}
		if r := w.Record(id); r.Attempt.ID != "" || r.DoubtAt != 0 {
			t.Fatalf("%+v", r.Core)
		}
		p.OnStore(brokertest.OnSave, 3, brokertest.Throttle)
		begun := w.Now()
		w.Must(p.Force(id))
		if took := w.Now().Sub(begun); took > time.Second {
			t.Errorf("a save throttled three times took %s", took)
		}
		p.OnStore(brokertest.OnSave, -1, brokertest.Throttle)
		begun = w.Now()
		w.WantCode(p.Force(id), "refresh_in_progress")
		if took := w.Now().Sub(begun); w.InRescue() != 1 || took > (refresh.SaveTime+2000)*time.Millisecond {
			t.Errorf("%d rescued after %s", w.InRescue(), took)
		}
		w.Settle(id)
	})
}

// down is a store that does not answer for a while by the clock.
func (w *world) down(d time.Duration) brokertest.Fault[item.Result] {
	var until time.Time
	return func(call func() (item.Result, error)) (item.Result, error) {
		if until.IsZero() {
			until = w.Now().Add(d)
		}
		if w.Now().Before(until) {
			return item.Result{}, brokertest.ErrStore
		}
		return call()
	}
}

var (
	_ = mutant("F17", "internal/refresh/machine.go", `		s.Rescued, s.Until = true, r.Now+RescueTime
		return s.to(stepRescue), Effect{Kind: EffectRescue}`, `		return s.done(LostTokens)`)
	_ = mutant("F17", "internal/refresh/machine.go", `		return s.to(stepSavePause), Effect{Kind: EffectPause, Pause: min(`, `		return s.done(LostTokens)
	case r.Now < 0:
		return s.to(stepSavePause), Effect{Kind: EffectPause, Pause: min(`)
)

func TestFault_F17_the_store_is_down_after_the_exchange(t *testing.T) {
	for name, c := range map[string]struct {
		down    time.Duration
		rescued int
	}{"for 1 s": {time.Second, 0}, "for 10 s": {10 * time.Second, 1}, "for 10 min": {10 * time.Minute, 1}} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.Connect("alice")
				p, q := w.Start(), w.Start()
				down := w.down(c.down)
				p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
					for _, kind := range []string{brokertest.AnyWrite, brokertest.OnGet} {
						p.OnStore(kind, -1, down)
						q.OnStore(kind, -1, down)
					}
				}))
				_ = p.Force(id)
				if w.InRescue() != c.rescued || w.Sent("refresh_token") != 1 {
					t.Fatalf("%d rescued, %d sent", w.InRescue(), w.Sent("refresh_token"))
				}
				// Others try all the while, as soon as they reach the store, and come to no verdict.
				for range 12 {
					w.Advance(time.Minute)
					_ = q.Force(id)
					if r := w.Record(id); r.Status != connection.Active {
						t.Fatalf("a verdict, though the tokens are safe: %+v", r.Core)
					}
					if w.InRescue() > 0 && w.Record(id).DoubtAt != 0 && w.Unix()-w.Record(id).DoubtAt > 120 {
						break // the queue has delivered by now
					}
				}
				w.Settle(id)
			})
		})
	}
}

// invocation is a context that ends by the world's clock.
type invocation struct {
	context.Context
	w   *world
	end time.Time
}

func (w *world) invocation(d time.Duration) context.Context {
	return invocation{context.Background(), w, w.Now().Add(d)}
}

func (i invocation) Deadline() (time.Time, bool) {
	return time.Now().Add(i.end.Sub(i.w.Now())), true
}

var _ = mutant("F18", "internal/refresh/machine.go", `		return s.to(stepRescue), Effect{Kind: EffectRescue} // both are down: in turn, to the end`, `		return s.done(LostTokens)`)

func TestFault_F18_store_and_rescue_are_both_down(t *testing.T) {
	try := func(w *world, down time.Duration) (id string, err error) {
		id = w.Connect("alice")
		p := w.Start()
		p.SetRescueDown(true)
		p.OnStore(brokertest.OnSave, -1, w.down(down))
		_, err = p.Refresh(w.invocation(time.Minute), brokertest.Caller(), id, 1, "")
		return id, err
	}
	t.Run("saved at the end of the invocation", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id, err := try(w, 45*time.Second)
			w.Must(err)
			w.Settle(id)
		})
	})
	t.Run("lost", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			begun := w.Now()
			id, err := try(w, time.Hour)
			w.WantCode(err, "provider_unavailable")
			if took := w.Now().Sub(begun); took < 50*time.Second || took > time.Minute {
				t.Errorf("it was tried for %s of a minute", took)
			}
			if !strings.Contains(w.Log.String(), `"outcome":"lost_tokens"`) {
				t.Errorf("the loss is not in the log\n%s", w.Log)
			}
			w.Lost(id, "alice")
		})
	})
}

var _ = mutant("F19", "internal/refresh/machine.go", `s.Lease = r.Now + s.leaseTime()`, `s.Lease = r.Now + s.Facts.SendTime`)

func TestFault_F19_the_store_is_slow(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		p, q := w.Start(), w.Start()
		second := func() { _ = q.Force(id) }
		p.OnStore(brokertest.OnClaim, 1, w.Slow(3*time.Second))
		p.OnWire(brokertest.OnSend, 1, func(call func() (*http.Response, error)) (*http.Response, error) {
			w.Advance(14 * time.Second)
			return call()
		})
		p.OnStore(brokertest.OnSave, 2, func(func() (item.Result, error)) (item.Result, error) {
			w.Advance(3 * time.Second)
			second()
			return item.Result{}, brokertest.ErrStore
		})
		p.OnStore(brokertest.OnSave, 1, func(call func() (item.Result, error)) (item.Result, error) {
			w.Advance(3 * time.Second)
			second()
			return call()
		})
		w.Must(p.Force(id))
		if w.Sent("refresh_token") != 1 || w.Record(id).Gen != 2 {
			t.Fatalf("%d requests while the first was at work", w.Sent("refresh_token"))
		}
		w.Settle(id)
	})
}

var (
	_ = mutant("F20", "internal/provider/classify.go", `const maxToken = 1 << 16`, `const maxToken = 1 << 20`)
	_ = mutant("F20", "internal/provider/classify.go", `const maxScope = 1 << 14`, `const maxScope = 1 << 20`)
	_ = mutant("F20", "internal/refresh/driver.go", `size+answerRoom > item.MaxSize`, `size > item.MaxSize`)
	_ = mutant("F20", "internal/refresh/machine.go", `		return s.tooLarge(r)`, `		return s.saveFailed(r)`)
)

func TestFault_F20_an_answer_is_too_large_to_be_stored(t *testing.T) {
	huge := strings.Repeat("x", 400<<10)
	t.Run("its access token", func(t *testing.T) {
		onStores(t, "on_use", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			access, _ := w.Tokens(id)
			p := w.Start()
			p.OnWire(brokertest.OnSend, 1, brokertest.Rewrite(func(m map[string]any) { m["access_token"] = huge }))
			err := p.Force(id)
			w.WantCode(err, "provider_unavailable")
			got, rt := w.Tokens(id)
			info, _ := w.Sim.Lookup(brokertest.Integration, rt)
			if r := w.Record(id); got != access || !info.Live || r.RetryAt == 0 || r.Attempt.ID != "" || w.InRescue() != 0 {
				t.Fatalf("refresh token live: %v, %+v", info.Live, r.Core)
			}
			w.Settle(id)
		})
	})
	t.Run("its refresh token", func(t *testing.T) {
		onStores(t, "on_use", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			_, rt := w.Tokens(id)
			p := w.Start()
			p.OnWire(brokertest.OnSend, 1, brokertest.Rewrite(func(m map[string]any) { m["refresh_token"] = huge }))
			_ = p.Force(id)
			if _, kept := w.Tokens(id); kept != rt || w.Record(id).DoubtAt == 0 || w.InRescue() != 0 {
				t.Fatalf("%+v", w.Record(id).Core)
			}
			w.Settle(id)
		})
	})
	t.Run("what stands beside it leaves no room", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			access, rt := w.Tokens(id)
			fill := func(n int) {
				_, err := w.Store.Connections.Update(t.Context(), id, item.Update{Set: []item.Assign{item.Put("fields", item.Map{"blob": huge[:n]})}})
				w.Must(err)
			}
			fill(200 << 10)
			p := w.Start()
			w.WantCode(p.Force(id), "internal")
			w.Advance(55 * time.Minute)
			if rep := p.TickNow(); rep.Owed != 0 || !rep.Whole {
				t.Errorf("%+v", rep)
			}
			w.WantSent(0)
			if at, kept := w.Tokens(id); at != access || kept != rt || !strings.Contains(w.Log.String(), "no room for a refreshed token") {
				t.Fatalf("touched, or the operator is not told\n%s", w.Log)
			}
			fill(1)
			w.Must(p.Force(id))
			w.Settle(id)
		})
	})
	for profile, records := range map[string]int{"immediate": 1, "none": 0} {
		t.Run("nobody knew before, "+profile, func(t *testing.T) {
			onStores(t, profile, func(t *testing.T, w *world) {
				id := w.Connect("alice")
				access, rt := w.Tokens(id)
				p := w.Start()
				p.OnStore(brokertest.OnSave, -1, func(func() (item.Result, error)) (item.Result, error) { return item.Result{}, item.ErrTooLarge })
				began := w.Unix()
				w.WantCode(p.Force(id), "internal")
				p.Replay()
				if at, kept := w.Tokens(id); at != access || kept != rt || w.InRescue() != records || w.Unix() != began {
					t.Fatalf("%d records after %d s; the stored tokens stay: %v", w.InRescue(), w.Unix()-began, kept == rt)
				}
				if !strings.Contains(w.Log.String(), `"level":"ERROR"`) {
					t.Errorf("the operator is not told\n%s", w.Log)
				}
				w.WantSent(1)
				p.Heal() // the operator has made it smaller
				w.Settle(id)
			})
		})
	}
	t.Run("its scope", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.Connect("alice")
			p := w.Start()
			p.OnWire(brokertest.OnSend, 1, brokertest.Rewrite(func(m map[string]any) { m["scope"] = huge }))
			w.Must(p.Force(id))
			w.Settle(id)
		})
	})
}

// meanwhile is what another process may do to a connection just before a write of ours
// arrives: every shape that a refused write can find.
func meanwhile() map[string]func(w *world, id string) {
	do := func(w *world, f func(p *brokertest.Process)) { f(w.Start()) }
	return map[string]func(w *world, id string){
		"deleted": func(w *world, id string) {
			_, err := w.Store.Connections.Delete(context.Background(), id)
			w.Must(err)
		},
		"disconnected": func(w *world, id string) {
			do(w, func(p *brokertest.Process) { _, _ = p.Disconnect(context.Background(), brokertest.Caller(), id) })
		},
		"superseded": func(w *world, id string) {
			_, err := w.Store.Write(context.Background(), id, connection.Supersede{ID: id, ConsentedAt: w.Unix() + 1, Now: w.Unix()})
			w.Must(err)
		},
		"reconnected": func(w *world, id string) { w.Reconnect(w.Home, "alice", id) },
		"disconnected and reconnected": func(w *world, id string) {
			do(w, func(p *brokertest.Process) { _, _ = p.Disconnect(context.Background(), brokertest.Caller(), id) })
			w.Reconnect(w.Home, "alice", id)
		},
		"claimed by another": func(w *world, id string) {
			r := w.Record(id)
			_, err := w.Store.Write(context.Background(), id, connection.Claim{Gen: r.Gen, Now: w.Unix(), Over: r.Attempt.ID, Attempt: connection.Attempt{
				ID: "other", BaseGen: r.Gen, LeaseUntil: w.Unix() + 35, Since: w.Unix(),
			}})
			w.Must(err)
		},
		"saved by another": func(w *world, id string) {
			w.EndLease()
			_ = w.Start().Force(id)
		},
		"judged by another": func(w *world, id string) {
			r := w.Record(id)
			_, err := w.Store.Write(context.Background(), id, connection.Verdict{ID: id, Gen: r.Gen, Attempt: r.Attempt.ID, Reason: connection.LostResponse, Now: w.Unix()})
			w.Must(err)
		},
	}
}

var (
	_ = mutant("F21", "internal/connection/writes.go", `If: []item.Cond{item.Eq("gen", w.Gen), refreshable(), mine(w.Attempt)},`, `If: nil,`)
	_ = mutant("F21", "internal/connection/writes.go", `If:     []item.Cond{item.Eq("gen", w.Gen), mine(w.Attempt)},`, `If:     nil,`)
)

// Whatever another process did just before a write arrives, the write comes to an end
// that suits it: what was decided meanwhile stands, nothing is lost and nobody waits.
func TestFault_F21_every_write_meets_every_state(t *testing.T) {
	refreshing := func(w *world, p *brokertest.Process, id string) { _ = p.Force(id) }
	writes := map[string]func(w *world, p *brokertest.Process, id string){
		brokertest.OnClaim: refreshing,
		brokertest.OnSave:  refreshing,
		brokertest.OnLater: func(w *world, p *brokertest.Process, id string) {
			w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
			_ = p.Force(id)
		},
		brokertest.OnVerdict: func(w *world, p *brokertest.Process, id string) {
			p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() { w.UserEnds("alice") }))
			_ = p.Force(id)
		},
		brokertest.OnNumber:  func(w *world, p *brokertest.Process, id string) { w.Reconnect(p, "alice", id) },
		brokertest.OnConsent: func(w *world, p *brokertest.Process, id string) { w.Reconnect(p, "alice", id) },
		brokertest.OnTombstone: func(w *world, p *brokertest.Process, id string) {
			_, _ = p.Disconnect(context.Background(), brokertest.Caller(), id)
		},
		brokertest.OnErase: func(w *world, p *brokertest.Process, id string) {
			_, _ = p.Disconnect(context.Background(), brokertest.Caller(), id)
		},
	}
	for write, run := range writes {
		for state, before := range meanwhile() {
			if write == brokertest.OnErase && slices.Contains([]string{"judged by another", "claimed by another", "saved by another"}, state) {
				continue // nobody refreshes what is disconnected
			}
			t.Run(write+" "+state, func(t *testing.T) {
				profile := "immediate"
				if state == "saved by another" {
					profile = "on_use" // the other's send must be answered too
				}
				onStores(t, profile, func(t *testing.T, w *world) {
					id := w.Connect("alice")
					p := w.Start()
					met := false
					var found item.Item
					p.OnStore(write, 1, brokertest.After[item.Result](func() {
						before(w, id)
						met = true
						found, _ = w.Store.Connections.Get(context.Background(), id)
					}))
					run(w, p, id)
					if !met {
						t.Fatal("the write was not made")
					}
					w.stands(write, state, id, found)
					w.Check()
				})
			})
		}
	}
}

// stands fails where a write undid what it found.
func (w *world) stands(write, state, id string, found item.Item) {
	w.T.Helper()
	now, err := w.Store.Connections.Get(context.Background(), id)
	w.Must(err)
	consents := write == brokertest.OnNumber || write == brokertest.OnConsent
	switch state {
	case "deleted":
		if now != nil {
			w.T.Error("a deleted connection came back")
		}
	case "disconnected", "superseded":
		if now.String("status") != string(connection.Disconnected) || now.String("reason") != found.String("reason") {
			w.T.Errorf("it is %s %s", now.String("status"), now.String("reason"))
		}
	case "reconnected", "disconnected and reconnected", "saved by another":
		ends := write == brokertest.OnTombstone || consents
		if !ends && (now.Int("gen") != found.Int("gen") || now.Bytes("rt") != found.Bytes("rt") || now.String("status") != found.String("status")) {
			w.T.Errorf("what was stored meanwhile is gone: generation %d, then %d %s", found.Int("gen"), now.Int("gen"), now.String("status"))
		}
	case "claimed by another":
		if write != brokertest.OnSave && write != brokertest.OnTombstone && !consents && now.Map("attempt").String("id") != "other" {
			w.T.Errorf("the other's claim is gone")
		}
	case "judged by another":
		if (write == brokertest.OnSave || write == brokertest.OnConsent) != (now.String("status") == string(connection.Active)) && write != brokertest.OnTombstone && write != brokertest.OnNumber {
			w.T.Errorf("it is %s", now.String("status"))
		}
	}
}
