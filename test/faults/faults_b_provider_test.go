package faults_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F45", "internal/provider/classify.go", `c.answer.RetryAfter = retryAfter(o.Header.Get("Retry-After"), now)`,
	`c.answer.RetryAfter = min(NoRetryAfter, retryAfter(o.Header.Get("Retry-After"), now))`)

func TestFault_F45_a_busy_provider_is_asked_when_it_says_and_others_are_not_late(t *testing.T) {
	for _, retryAfter := range []int{0, 600} {
		w := newWorld(t, "immediate")
		w.addSecond()
		ids := w.connections(sim, 4)
		unconcerned := w.connections(second, 2)
		w.advance(55 * time.Minute) // all are due
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests, RetryAfterS: retryAfter, Count: -1})
		p := w.start()
		p.tick()
		for _, id := range unconcerned {
			if w.record(id).IssuedAt != w.unix() {
				t.Errorf("%s of another integration is late", id)
			}
		}
		until := w.unix() + int64(retryAfter)
		for range 60 {
			if n := w.sent("refresh_token"); w.unix() < until && n > len(ids) {
				t.Fatalf("%d requests before Retry-After was over", n)
			}
			w.advance(time.Minute)
			p.tick()
		}
		// Each doubles its wait up to a quarter of an hour, with full jitter: a dozen in the
		// hour on the average.
		if limit := 25 * len(ids); w.sent("refresh_token") > limit {
			t.Errorf("%d requests in an hour, want at most %d", w.sent("refresh_token"), limit)
		}
		w.wantActive(ids...)
		w.comesBack(p, 20*time.Minute, ids...)
	}
}

var _ = mutant("F46", "internal/provider/classify.go", `s == http.StatusRequestTimeout || s >= 500 || s < 200`, `s == http.StatusRequestTimeout || s >= 500 && s != 503 || s < 200`)

func TestFault_F46_a_server_error_after_acting_is_a_lost_answer(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		for _, profile := range []string{"on_use", "immediate", "family"} {
			w := newWorld(t, profile)
			id := w.connect("alice")
			w.provider(simprovider.Fault{Kind: "status_after", Status: status})
			p := w.start()
			if p.refresh(id) == nil {
				t.Fatalf("%d: it is taken for an answer", status)
			}
			if r := w.record(id); r.DoubtAt == 0 || r.Status != connection.Active {
				t.Fatalf("%d at %s: %+v", status, profile, r.Core)
			}
			err := p.refresh(id)
			if (err == nil) != (profile == "on_use") {
				t.Errorf("%d at %s: then %v", status, profile, err)
			}
			if want := map[string]int{"family": 1}[profile]; want != 0 && w.sent("refresh_token") != want {
				t.Errorf("%d at %s: replayed where that ends the grant", status, profile)
			}
			if profile == "on_use" {
				w.check(id)
			} else {
				w.check()
			}
		}
	}
}

var _ = mutant("F47", "internal/broker/tick.go", `if status.WalkFrom == 0 || status.PausedUntil > b.now() {`, `if status.WalkFrom >= 0 || status.PausedUntil > b.now() {`)

func TestFault_F47_an_outage_over_a_slot_is_made_good_without_a_storm(t *testing.T) {
	t.Run("unreachable", func(t *testing.T) {
		w := newWorld(t, "immediate")
		ids := w.connections(sim, 4)
		down, x := w.watched(nil)
		down.Settings.Integrations[0].Entry.TokenEndpoint = "http://127.0.0.1:1/oauth/token"
		w.advance(55 * time.Minute)
		for range 60 {
			down.tick()
			w.advance(3 * time.Minute)
		}
		w.wantActive(ids...)
		w.wantSent(0)
		if limit := 2 * 45 * len(ids); x.written() > limit {
			t.Errorf("%d writes in three hours, want at most %d", x.written(), limit)
		}
		w.comesBack(w.start(), 20*time.Minute, ids...)
		if n := w.sent("refresh_token"); n > 2*len(ids) { // a slot may have come meanwhile
			t.Errorf("%d requests to make good %d", n, len(ids))
		}
	})
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t, "immediate")
		ids := w.connections(sim, 4)
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`, Count: -1})
		p, x := w.watched(nil)
		if p.refresh(ids[0]) == nil || w.circuit(p) != "suspended" {
			t.Fatal("the circuit is closed")
		}
		p.tick() // the cursor follows the clock from here on
		for range 180 {
			w.advance(time.Minute)
			p.tick()
		}
		probes := w.sent("refresh_token")
		if probes > 20 || x.written() > 2*probes {
			t.Errorf("%d requests and %d writes while the circuit was open", probes, x.written())
		}
		w.wantActive(ids...)
		w.comesBack(p, 20*time.Minute, ids...)
		if n := w.sent("refresh_token") - probes; n > len(ids)+2 {
			t.Errorf("%d requests to make good %d", n, len(ids))
		}
	})
}

var _ = mutant("F48", "internal/refresh/machine.go", `case s.Facts.CircuitOpen && !s.In.Probe:`, `case s.Facts.CircuitOpen && s.In.MinTTL < 0:`)

func TestFault_F48_a_wrong_client_secret_costs_probes_and_no_connection(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.connections(sim, 4)
		w.setSecret("wrong")
		w.watch.secret("wrong!!")
		p := w.start()
		w.advance(55 * time.Minute)
		for range 12 {
			w.advance(5 * time.Minute)
			p.tick()
		}
		if n := w.sent("refresh_token"); n > 12 {
			t.Errorf("%d requests in an hour", n)
		}
		for _, id := range ids {
			if r := w.record(id); r.Status != connection.Active || r.Gen != 1 || r.Failures != 0 || r.Attempt.ID != "" || r.DoubtAt != 0 {
				t.Errorf("touched: %+v", r.Core)
			}
		}
		if w.circuit(p) != "suspended" {
			t.Error("the operator is not told")
		}
		w.setSecret(clientSecret)
		w.comesBack(p, 40*time.Minute, ids...) // the secret is read anew with the next probe
		if w.circuit(p) != "ok" {
			t.Error("still suspended")
		}
	})
}

var _ = mutant("F49", "internal/broker/broker.go", "\t\tb.forgetSecret(r.Record.Integration, r.Record.ClientID)\n", "")

func TestFault_F49_a_secret_rotated_just_before_the_send_costs_one_retry(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		const rotated = "CANARY-rotated-secret"
		id := w.connect("alice")
		p := w.start()
		p.wire(onSend, 1, after[*http.Response](func() {
			w.must(w.sim.Register(sim, simprovider.Client{ID: clientID, Secret: rotated, RedirectURIs: []string{origin + "/callback/" + sim}}))
			w.setSecret(rotated)
			w.watch.secret(rotated)
		}))
		w.wantCode(p.refresh(id), "integration_suspended")
		w.must(p.refresh(id))
		w.wantSent(2)
		if w.circuit(p) != "ok" {
			t.Error("still suspended")
		}
		if r := w.record(id); r.Failures != 0 || r.RetryAt != 0 {
			t.Errorf("left over: %+v", r.Core)
		}
		w.check(id)
	})
}

var _ = mutant("F50", "internal/refresh/machine.go", `case (r.Brake || s.Facts.CircuitOpen) && s.Core.Status != connection.Connecting:`,
	`case s.Facts.CircuitOpen && s.Core.Status != connection.Connecting:`)

func TestFault_F50_a_storm_of_refusals_ends_five_at_most(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.connections(sim, 12)
		w.advance(55 * time.Minute)
		began := w.unix()
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusBadRequest, Body: `{"error":"invalid_grant"}`, Count: -1})
		p := w.start()
		p.tick()
		for range 10 {
			w.advance(2 * time.Minute)
			p.tick()
		}
		var ended, kept []string
		for _, id := range ids {
			if w.record(id).Status == connection.NeedsReauth {
				ended = append(ended, id)
			} else {
				kept = append(kept, id)
			}
		}
		if len(ended) > 5 || w.circuit(p) != "suspended" {
			t.Errorf("%d verdicts, the circuit is %s", len(ended), w.circuit(p))
		}
		for _, id := range ended {
			if !w.live(id) {
				t.Error("a verdict took the token with it")
			}
		}
		w.userEnded() // as far as anybody could tell
		w.comesBack(p, 40*time.Minute, kept...)
		rep, err := p.Revive(t.Context(), caller(), broker.ReviveRequest{Integration: sim, Since: began})
		if err != nil || rep.Recovered+rep.Reopened != len(ended) {
			t.Errorf("revived: %+v, %v", rep, err)
		}
		for range 3 { // those that are reopened are refreshed by the schedule
			w.advance(time.Minute)
			p.tick()
		}
		w.check(ids...)
	})
}

var _ = mutant("F50", "internal/circuit/storm.go", "	case Refused:\n\t\tcount = 1", "	case Refused, RefusedInDoubt:\n\t\tcount = 1")

// What a lost answer explains is no storm: the integration is not suspended for it.
func TestFault_F50_lost_answers_make_no_storm(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.connections(sim, 12)
		w.advance(55 * time.Minute)
		p := w.start()
		w.provider(simprovider.Fault{Kind: "lost_answer", Count: len(ids)})
		for range 12 {
			p.tick()
			w.advance(time.Minute)
			if w.circuit(p) != "ok" {
				t.Fatalf("suspended\n%s", w.log)
			}
		}
		for _, id := range ids {
			if r := w.record(id); r.Status != connection.NeedsReauth || r.Reason != connection.LostResponse {
				t.Errorf("%s %s", r.Status, r.Reason)
			}
		}
		w.check()
	})
}

var _ = mutant("F51", "internal/broker/tick.go", `for _, n := range rand.Perm(len(page.Keys)) {`, "_ = rand.Int()\n\tfor n := range page.Keys {")

func TestFault_F51_a_dead_token_does_not_take_every_probe(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.connections(sim, 4)
		w.provider(simprovider.Fault{Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`})
		p := w.start()
		if p.refresh(ids[0]) == nil {
			t.Fatal("the client was to be refused")
		}
		first := ids[0] // the one that comes first wherever ids are sorted
		for _, id := range ids {
			first = min(first, id)
		}
		w.endGrant(first)
		for n := 0; w.circuit(p) != "ok"; n++ {
			if n == 120 {
				t.Fatalf("the circuit stays open\n%s", w.log)
			}
			w.advance(time.Minute)
			p.tick()
			if w.circuit(p) == "suspended" {
				w.wantActive(first) // what is said to a probe is no verdict
			}
		}
		w.check()
	})
}

var (
	_ = mutant("F52", "internal/refresh/driver.go", `context.WithTimeout(whole, time.Duration(run.sendTime())*time.Millisecond)`, `context.WithCancel(whole)`)
	_ = mutant("F52", "internal/broker/lanes.go", `l := t.lanes[j.integration]
	if l == nil {`, `l := t.lanes[""]
	t.lanes[j.integration] = l
	if l == nil {`)
)

func TestFault_F52_a_provider_that_trickles_holds_up_nobody_but_itself(t *testing.T) {
	w := newWorld(t, "on_use")
	w.addSecond()
	ids := w.connections(sim, 64)
	unconcerned := w.connections(second, 2)
	release := make(chan struct{})
	trickling := newRawServer(t, func(c net.Conn, _ *http.Request, _ int) bool {
		_, _ = io.WriteString(c, "H") // a byte now and then would not keep the request alive either
		<-release
		return false
	})
	deadlines := &bounded{base: provider.NewTransport(provider.TransportOptions{AllowLoopback: true})}
	p := w.start(over(w, deadlines), at(trickling.url))
	w.advance(55 * time.Minute) // all are due
	saved := make(chan struct{}, len(ids))
	p.store(onSave, -1, func(call func() (item.Result, error)) (item.Result, error) {
		defer func() { saved <- struct{}{} }()
		return call()
	})
	ended := make(chan broker.TickReport)
	go func() { ended <- p.tick() }()
	for range unconcerned {
		select {
		case <-saved:
		case rep := <-ended:
			t.Errorf("the tick ended first: %+v", rep)
		case <-time.After(10 * time.Second):
			close(release)
			t.Fatal("another integration waits for the one that trickles")
		}
	}
	if n := trickling.count(); n > 32 {
		t.Errorf("%d requests at once, more than half of the workers", n)
	}
	close(release)
	<-ended
	if longest := deadlines.longest(); longest <= 0 || longest > 15*time.Second {
		t.Errorf("a request may take %s", longest)
	}
	w.wantActive(ids...)
	w.comesBack(w.start(), 20*time.Minute, ids...)
}

// bounded notes how much time requests are given.
type bounded struct {
	base http.RoundTripper

	mu  sync.Mutex
	max time.Duration // guarded by mu
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	end, ok := r.Context().Deadline()
	b.mu.Lock()
	if b.max = max(b.max, time.Until(end)); !ok {
		b.max = 1 << 62
	}
	b.mu.Unlock()
	return b.base.RoundTrip(r)
}

func (b *bounded) longest() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.max
}

var _ = mutant("F58", "internal/broker/token.go", `(rec.Gen > ifGeneration || ifTokenID != "" && ifTokenID != rec.TokenID)`, `rec.Gen > ifGeneration+9`)

func TestFault_F58_a_storm_of_401s_leads_to_one_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.connect("alice")
		gen := w.record(id).Gen
		storm := func() (newest, busy int) {
			var group sync.WaitGroup
			var mu sync.Mutex
			for range 4 {
				p := w.start()
				for range 50 {
					group.Go(func() {
						v, err := w.handed(p.Refresh(t.Context(), caller(), id, gen, ""))
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && v.Generation == gen+1:
							newest++
						case code(err) == broker.RefreshInProgress:
							busy++
						default:
							t.Errorf("generation %d, %v", v.Generation, err)
						}
					})
				}
			}
			group.Wait()
			return newest, busy
		}
		if newest, _ := storm(); newest == 0 {
			t.Error("nobody got the new token")
		}
		w.wantSent(1)
		// The same callers ask once more for what they saw refused.
		if newest, busy := storm(); newest != 200 || busy != 0 {
			t.Errorf("%d got the newest token, %d were put off", newest, busy)
		}
		w.wantSent(1)
		// And while their process replaces the newest one too.
		p := w.start()
		p.wire(onSend, 1, after[*http.Response](func() {
			if v, err := p.Refresh(t.Context(), caller(), id, gen, ""); err != nil || v.Generation != gen+1 {
				t.Errorf("generation %d, %v", v.Generation, err)
			}
		}))
		w.must(p.refresh(id))
		w.wantSent(2)
		w.check(id)
	})
}
