package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F12", "internal/refresh/machine.go", `case !r.Applied && (!r.Found || r.Core.Attempt.ID != s.In.Attempt):`, `case !r.Applied:`)

func TestFault_F12_a_claim_is_applied_and_sent_again(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		p.store(onClaim, 1, repeat)
		p.wire(onSend, 1, after[*http.Response](func() {
			if w.record(id).DoubtAt != 0 {
				t.Error("our own claim put us in doubt")
			}
		}))
		w.must(p.refresh(id))
		if w.sent("refresh_token") != 1 || w.record(id).Gen != 2 {
			t.Fatalf("%d requests, %+v", w.sent("refresh_token"), w.record(id).Core)
		}
		w.settle(id)
	})
}

var _ = mutant("F13", "internal/refresh/machine.go", `case c.SaveID == saveID && saveID != "":`, `case c.SaveID == "":`)

func TestFault_F13_a_save_is_applied_and_sent_again(t *testing.T) {
	for name, lost := range map[string]fault[item.Result]{"by the SDK": repeat, "by us": loseAnswer} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.connect("alice")
				w.slot(id)
				p := w.start()
				p.store(onSave, 1, lost)
				if rep := p.tick(); rep.Outcomes[refresh.Saved.String()] != 1 {
					t.Errorf("outcomes %v", rep.Outcomes)
				}
				if w.record(id).Gen != 2 || w.sent("revoke") != 0 || w.inRescue() != 0 {
					t.Fatalf("generation %d, %d revocations, %d rescued", w.record(id).Gen, w.sent("revoke"), w.inRescue())
				}
				w.settle(id)
			})
		})
	}
}

var _ = mutant("F14", "internal/refresh/machine.go", `case g < c.DisconnectGen && perToken:`, `case g < c.Gen:`)

func TestFault_F14_a_save_is_sent_again_after_a_later_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		p.store(onSave, 1, repeatAfter(func() { w.must(w.home.refresh(id)) }))
		got, err := p.refreshed(id)
		w.must(err)
		newest, _ := w.tokens(id)
		if got.Generation != 3 || got.AccessToken.Reveal() != newest || w.sent("revoke") != 0 || w.inRescue() != 0 {
			t.Fatalf("generation %d, %d revocations, %d rescued", got.Generation, w.sent("revoke"), w.inRescue())
		}
		w.settle(id)
	})
}

var _ = mutant("F15", "internal/connection/writes.go", `item.Ne("status", string(Held)), item.Eq("disconnect_gen", w.DisconnectGen))`, `item.Ne("status", string(Held)))`)

var _ = mutant("F15", "internal/refresh/disconnect.go", `case overtaken && c.Status != connection.Disconnected:`, `case overtaken && c.Status == connection.Held:`)

var _ = mutant("F15", "internal/connection/writes.go", `item.Put("tok_gen", w.Gen+1), item.Put("consent_seq", w.Seq),`, `item.Put("tok_gen", w.Gen+1),`)

func TestFault_F15_a_reconnect_is_sent_again_after_a_refresh(t *testing.T) {
	for name, lost := range map[string]func(func()) fault[item.Result]{
		"by the SDK": repeatAfter,
		"by the tick": func(meanwhile func()) fault[item.Result] {
			return func(call func() (item.Result, error)) (item.Result, error) {
				_, _ = call()
				meanwhile()
				return item.Result{}, errStore
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, "immediate", func(t *testing.T, w *world) {
				id := w.connect("alice")
				p := w.start()
				p.store(onConsent, 1, lost(func() { w.must(w.home.refresh(id)) }))
				w.reconnect(p, "alice", id)
				w.advance(2 * time.Minute)
				w.home.tick()
				if r := w.record(id); r.Gen != 3 || r.ConsentSeq != 1 {
					t.Fatalf("%+v", r.Core)
				}
				w.settle(id)
			})
		})
	}
	t.Run("a disconnect", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p := w.start()
			p.store(onTombstone, 1, repeatAfter(func() { w.wantCode(w.home.refresh(id), "disconnected") }))
			rec, err := p.Disconnect(context.Background(), caller(), id)
			w.must(err)
			if rec.Revoked != "at_provider" || w.record(id).Refresh != "" {
				t.Errorf("receipt %+v", rec)
			}
			w.check()
		})
	})
	t.Run("a disconnect, after a reconnect", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p := w.start()
			p.store(onTombstone, 1, repeatAfter(func() { w.reconnect(w.home, "alice", id) }))
			rec, err := p.Disconnect(context.Background(), caller(), id)
			w.must(err)
			if rec.Revoked != "none" || w.sent("revoke") != 0 || w.record(id).Status != connection.Active {
				t.Errorf("receipt %+v, %d revocations, %s", rec, w.sent("revoke"), w.record(id).Status)
			}
			w.settle(id)
		})
	})
}

var _ = mutant("F16", "internal/refresh/machine.go", `	case r.Now < s.Until:
		return s.to(stepSavePause)`, `	case s.Tries < 60:
		return s.to(stepSavePause)`)

func TestFault_F16_the_store_throttles(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p := w.start()
		for _, kind := range []string{onGet, onClaim} {
			p.store(kind, -1, throttle)
			if err := p.refresh(id); err == nil || w.sent("refresh_token") != 0 {
				t.Fatalf("%s throttled: %v, %d sent", kind, err, w.sent("refresh_token"))
			}
			p.heal()
		}
		if r := w.record(id); r.Attempt.ID != "" || r.DoubtAt != 0 {
			t.Fatalf("%+v", r.Core)
		}
		p.store(onSave, 3, throttle)
		begun := w.clock()
		w.must(p.refresh(id))
		if took := w.clock().Sub(begun); took > time.Second {
			t.Errorf("a save throttled three times took %s", took)
		}
		p.store(onSave, -1, throttle)
		begun = w.clock()
		w.wantCode(p.refresh(id), "refresh_in_progress")
		if took := w.clock().Sub(begun); w.inRescue() != 1 || took > (refresh.SaveTime+2000)*time.Millisecond {
			t.Errorf("%d rescued after %s", w.inRescue(), took)
		}
		w.settle(id)
	})
}

// down is a store that does not answer for a while by the clock.
func (w *world) down(d time.Duration) fault[item.Result] {
	var until time.Time
	return func(call func() (item.Result, error)) (item.Result, error) {
		if until.IsZero() {
			until = w.clock().Add(d)
		}
		if w.clock().Before(until) {
			return item.Result{}, errStore
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
				id := w.connect("alice")
				p, q := w.start(), w.start()
				down := w.down(c.down)
				p.wire(onSend, 1, after[*http.Response](func() {
					for _, kind := range []string{anyWrite, onGet} {
						p.store(kind, -1, down)
						q.store(kind, -1, down)
					}
				}))
				_ = p.refresh(id)
				if w.inRescue() != c.rescued || w.sent("refresh_token") != 1 {
					t.Fatalf("%d rescued, %d sent", w.inRescue(), w.sent("refresh_token"))
				}
				// Others try all the while, as soon as they reach the store, and come to no verdict.
				for range 12 {
					w.advance(time.Minute)
					_ = q.refresh(id)
					if r := w.record(id); r.Status != connection.Active {
						t.Fatalf("a verdict, though the tokens are safe: %+v", r.Core)
					}
					if w.inRescue() > 0 && w.record(id).DoubtAt != 0 && w.unix()-w.record(id).DoubtAt > 120 {
						break // the queue has delivered by now
					}
				}
				w.settle(id)
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
	return invocation{context.Background(), w, w.clock().Add(d)}
}

func (i invocation) Deadline() (time.Time, bool) {
	return time.Now().Add(i.end.Sub(i.w.clock())), true
}

var _ = mutant("F18", "internal/refresh/machine.go", `		return s.to(stepRescue), Effect{Kind: EffectRescue} // both are down: in turn, to the end`, `		return s.done(LostTokens)`)

func TestFault_F18_store_and_rescue_are_both_down(t *testing.T) {
	try := func(w *world, down time.Duration) (id string, err error) {
		id = w.connect("alice")
		p := w.start()
		p.rescueDown = true
		p.store(onSave, -1, w.down(down))
		_, err = p.Refresh(w.invocation(time.Minute), caller(), id, 1, "")
		return id, err
	}
	t.Run("saved at the end of the invocation", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id, err := try(w, 45*time.Second)
			w.must(err)
			w.settle(id)
		})
	})
	t.Run("lost", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			begun := w.clock()
			id, err := try(w, time.Hour)
			w.wantCode(err, "provider_unavailable")
			if took := w.clock().Sub(begun); took < 50*time.Second || took > time.Minute {
				t.Errorf("it was tried for %s of a minute", took)
			}
			if !strings.Contains(w.log.String(), `"outcome":"lost_tokens"`) {
				t.Errorf("the loss is not in the log\n%s", w.log)
			}
			w.lost(id, "alice")
		})
	})
}

var _ = mutant("F19", "internal/refresh/machine.go", `s.Lease = r.Now + s.leaseTime()`, `s.Lease = r.Now + s.Facts.SendTime`)

func TestFault_F19_the_store_is_slow(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		p, q := w.start(), w.start()
		second := func() { _ = q.refresh(id) }
		p.store(onClaim, 1, w.slow(3*time.Second))
		p.wire(onSend, 1, func(call func() (*http.Response, error)) (*http.Response, error) {
			w.advance(14 * time.Second)
			return call()
		})
		p.store(onSave, 2, func(func() (item.Result, error)) (item.Result, error) {
			w.advance(3 * time.Second)
			second()
			return item.Result{}, errStore
		})
		p.store(onSave, 1, func(call func() (item.Result, error)) (item.Result, error) {
			w.advance(3 * time.Second)
			second()
			return call()
		})
		w.must(p.refresh(id))
		if w.sent("refresh_token") != 1 || w.record(id).Gen != 2 {
			t.Fatalf("%d requests while the first was at work", w.sent("refresh_token"))
		}
		w.settle(id)
	})
}

// answers changes the provider's next token answer.
func answers(change func(map[string]any)) fault[*http.Response] {
	return func(call func() (*http.Response, error)) (*http.Response, error) {
		res, err := call()
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		change(m)
		if body, err = json.Marshal(m); err != nil {
			return nil, err
		}
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		res.Header.Del("Content-Length")
		return res, nil
	}
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
			id := w.connect("alice")
			access, _ := w.tokens(id)
			p := w.start()
			p.wire(onSend, 1, answers(func(m map[string]any) { m["access_token"] = huge }))
			err := p.refresh(id)
			w.wantCode(err, "provider_unavailable")
			got, rt := w.tokens(id)
			info, _ := w.sim.Lookup(sim, rt)
			if r := w.record(id); got != access || !info.Live || r.RetryAt == 0 || r.Attempt.ID != "" || w.inRescue() != 0 {
				t.Fatalf("refresh token live: %v, %+v", info.Live, r.Core)
			}
			w.settle(id)
		})
	})
	t.Run("its refresh token", func(t *testing.T) {
		onStores(t, "on_use", func(t *testing.T, w *world) {
			id := w.connect("alice")
			_, rt := w.tokens(id)
			p := w.start()
			p.wire(onSend, 1, answers(func(m map[string]any) { m["refresh_token"] = huge }))
			_ = p.refresh(id)
			if _, kept := w.tokens(id); kept != rt || w.record(id).DoubtAt == 0 || w.inRescue() != 0 {
				t.Fatalf("%+v", w.record(id).Core)
			}
			w.settle(id)
		})
	})
	t.Run("what stands beside it leaves no room", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			access, rt := w.tokens(id)
			fill := func(n int) {
				_, err := w.base.Connections.Update(t.Context(), id, item.Update{Set: []item.Assign{item.Put("fields", item.Map{"blob": huge[:n]})}})
				w.must(err)
			}
			fill(200 << 10)
			p := w.start()
			w.wantCode(p.refresh(id), "internal")
			w.advance(55 * time.Minute)
			if rep := p.tick(); rep.Owed != 0 || !rep.Whole {
				t.Errorf("%+v", rep)
			}
			w.wantSent(0)
			if at, kept := w.tokens(id); at != access || kept != rt || !strings.Contains(w.log.String(), "no room for a refreshed token") {
				t.Fatalf("touched, or the operator is not told\n%s", w.log)
			}
			fill(1)
			w.must(p.refresh(id))
			w.settle(id)
		})
	})
	for profile, records := range map[string]int{"immediate": 1, "none": 0} {
		t.Run("nobody knew before, "+profile, func(t *testing.T) {
			onStores(t, profile, func(t *testing.T, w *world) {
				id := w.connect("alice")
				access, rt := w.tokens(id)
				p := w.start()
				p.store(onSave, -1, func(func() (item.Result, error)) (item.Result, error) { return item.Result{}, item.ErrTooLarge })
				began := w.unix()
				w.wantCode(p.refresh(id), "internal")
				p.replay()
				if at, kept := w.tokens(id); at != access || kept != rt || w.inRescue() != records || w.unix() != began {
					t.Fatalf("%d records after %d s; the stored tokens stay: %v", w.inRescue(), w.unix()-began, kept == rt)
				}
				if !strings.Contains(w.log.String(), `"level":"ERROR"`) {
					t.Errorf("the operator is not told\n%s", w.log)
				}
				w.wantSent(1)
				p.heal() // the operator has made it smaller
				w.settle(id)
			})
		})
	}
	t.Run("its scope", func(t *testing.T) {
		onStores(t, "immediate", func(t *testing.T, w *world) {
			id := w.connect("alice")
			p := w.start()
			p.wire(onSend, 1, answers(func(m map[string]any) { m["scope"] = huge }))
			w.must(p.refresh(id))
			w.settle(id)
		})
	})
}

// meanwhile is what another process may do to a connection just before a write of ours
// arrives: every shape that a refused write can find.
func meanwhile() map[string]func(w *world, id string) {
	do := func(w *world, f func(p *process)) { f(w.start()) }
	return map[string]func(w *world, id string){
		"deleted": func(w *world, id string) {
			_, err := w.base.Connections.Delete(context.Background(), id)
			w.must(err)
		},
		"disconnected": func(w *world, id string) {
			do(w, func(p *process) { _, _ = p.Disconnect(context.Background(), caller(), id) })
		},
		"superseded": func(w *world, id string) {
			_, err := w.base.Write(context.Background(), id, connection.Supersede{ID: id, ConsentedAt: w.unix() + 1, Now: w.unix()})
			w.must(err)
		},
		"reconnected": func(w *world, id string) { w.reconnect(w.home, "alice", id) },
		"disconnected and reconnected": func(w *world, id string) {
			do(w, func(p *process) { _, _ = p.Disconnect(context.Background(), caller(), id) })
			w.reconnect(w.home, "alice", id)
		},
		"claimed by another": func(w *world, id string) {
			r := w.record(id)
			_, err := w.base.Write(context.Background(), id, connection.Claim{Gen: r.Gen, Now: w.unix(), Over: r.Attempt.ID, Attempt: connection.Attempt{
				ID: "other", BaseGen: r.Gen, LeaseUntil: w.unix() + 35, Since: w.unix(),
			}})
			w.must(err)
		},
		"saved by another": func(w *world, id string) {
			w.lease()
			_ = w.start().refresh(id)
		},
		"judged by another": func(w *world, id string) {
			r := w.record(id)
			_, err := w.base.Write(context.Background(), id, connection.Verdict{ID: id, Gen: r.Gen, Attempt: r.Attempt.ID, Reason: connection.LostResponse, Now: w.unix()})
			w.must(err)
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
	refreshing := func(w *world, p *process, id string) { _ = p.refresh(id) }
	writes := map[string]func(w *world, p *process, id string){
		onClaim: refreshing,
		onSave:  refreshing,
		onLater: func(w *world, p *process, id string) {
			w.provider(simprovider.Fault{Kind: "status", Status: http.StatusConflict})
			_ = p.refresh(id)
		},
		onVerdict: func(w *world, p *process, id string) {
			p.wire(onSend, 1, after[*http.Response](func() { w.userEnds("alice") }))
			_ = p.refresh(id)
		},
		onNumber:    func(w *world, p *process, id string) { w.reconnect(p, "alice", id) },
		onConsent:   func(w *world, p *process, id string) { w.reconnect(p, "alice", id) },
		onTombstone: func(w *world, p *process, id string) { _, _ = p.Disconnect(context.Background(), caller(), id) },
		onErase:     func(w *world, p *process, id string) { _, _ = p.Disconnect(context.Background(), caller(), id) },
	}
	for write, run := range writes {
		for state, before := range meanwhile() {
			if write == onErase && slices.Contains([]string{"judged by another", "claimed by another", "saved by another"}, state) {
				continue // nobody refreshes what is disconnected
			}
			t.Run(write+" "+state, func(t *testing.T) {
				profile := "immediate"
				if state == "saved by another" {
					profile = "on_use" // the other's send must be answered too
				}
				onStores(t, profile, func(t *testing.T, w *world) {
					id := w.connect("alice")
					p := w.start()
					met := false
					var found item.Item
					p.store(write, 1, after[item.Result](func() {
						before(w, id)
						met = true
						found, _ = w.base.Connections.Get(context.Background(), id)
					}))
					run(w, p, id)
					if !met {
						t.Fatal("the write was not made")
					}
					w.stands(write, state, id, found)
					w.check()
				})
			})
		}
	}
}

// stands fails where a write undid what it found.
func (w *world) stands(write, state, id string, found item.Item) {
	w.t.Helper()
	now, err := w.base.Connections.Get(context.Background(), id)
	w.must(err)
	consents := write == onNumber || write == onConsent
	switch state {
	case "deleted":
		if now != nil {
			w.t.Error("a deleted connection came back")
		}
	case "disconnected", "superseded":
		if now.String("status") != string(connection.Disconnected) || now.String("reason") != found.String("reason") {
			w.t.Errorf("it is %s %s", now.String("status"), now.String("reason"))
		}
	case "reconnected", "disconnected and reconnected", "saved by another":
		ends := write == onTombstone || consents
		if !ends && (now.Int("gen") != found.Int("gen") || now.Bytes("rt") != found.Bytes("rt") || now.String("status") != found.String("status")) {
			w.t.Errorf("what was stored meanwhile is gone: generation %d, then %d %s", found.Int("gen"), now.Int("gen"), now.String("status"))
		}
	case "claimed by another":
		if write != onSave && write != onTombstone && !consents && now.Map("attempt").String("id") != "other" {
			w.t.Errorf("the other's claim is gone")
		}
	case "judged by another":
		if (write == onSave || write == onConsent) != (now.String("status") == string(connection.Active)) && write != onTombstone && write != onNumber {
			w.t.Errorf("it is %s", now.String("status"))
		}
	}
}
