package faults_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
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
		w.AddSecond()
		ids := w.ConnectMany(brokertest.Integration, 4)
		unconcerned := w.ConnectMany(brokertest.Second, 2)
		w.Advance(55 * time.Minute) // all are due
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusTooManyRequests, RetryAfterS: retryAfter, Count: -1})
		p := w.Start()
		p.TickNow()
		for _, id := range unconcerned {
			if w.Record(id).IssuedAt != w.Unix() {
				t.Errorf("%s of another integration is late", id)
			}
		}
		until := w.Unix() + int64(retryAfter)
		for range 60 {
			if n := w.Sent("refresh_token"); w.Unix() < until && n > len(ids) {
				t.Fatalf("%d requests before Retry-After was over", n)
			}
			w.Advance(time.Minute)
			p.TickNow()
		}
		// Each doubles its wait up to a quarter of an hour, with full jitter: a dozen in the
		// hour on the average.
		if limit := 25 * len(ids); w.Sent("refresh_token") > limit {
			t.Errorf("%d requests in an hour, want at most %d", w.Sent("refresh_token"), limit)
		}
		w.WantActive(ids...)
		w.ComesBack(p, 20*time.Minute, ids...)
	}
}

var _ = mutant("F46", "internal/provider/classify.go", `s == http.StatusRequestTimeout || s >= 500 || s < 200`, `s == http.StatusRequestTimeout || s >= 500 && s != 503 || s < 200`)

func TestFault_F46_a_server_error_after_acting_is_a_lost_answer(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		for _, profile := range []string{"on_use", "immediate", "family"} {
			w := newWorld(t, profile)
			id := w.Connect("alice")
			w.ProviderFault(simprovider.Fault{Kind: "status_after", Status: status})
			p := w.Start()
			if p.Force(id) == nil {
				t.Fatalf("%d: it is taken for an answer", status)
			}
			if r := w.Record(id); r.DoubtAt == 0 || r.Status != connection.Active {
				t.Fatalf("%d at %s: %+v", status, profile, r.Core)
			}
			err := p.Force(id)
			if (err == nil) != (profile == "on_use") {
				t.Errorf("%d at %s: then %v", status, profile, err)
			}
			if want := map[string]int{"family": 1}[profile]; want != 0 && w.Sent("refresh_token") != want {
				t.Errorf("%d at %s: replayed where that ends the grant", status, profile)
			}
			if profile == "on_use" {
				w.Check(id)
			} else {
				w.Check()
			}
		}
	}
}

var _ = mutant("F47", "internal/broker/tick.go", `if status.WalkFrom == 0 || status.PausedUntil > b.now() {`, `if status.WalkFrom >= 0 || status.PausedUntil > b.now() {`)

func TestFault_F47_an_outage_over_a_slot_is_made_good_without_a_storm(t *testing.T) {
	t.Run("unreachable", func(t *testing.T) {
		w := newWorld(t, "immediate")
		ids := w.ConnectMany(brokertest.Integration, 4)
		down, x := w.Watched(nil)
		down.Settings.Integrations[0].Entry.TokenEndpoint = "http://127.0.0.1:1/oauth/token"
		w.Advance(55 * time.Minute)
		for range 60 {
			down.TickNow()
			w.Advance(3 * time.Minute)
		}
		w.WantActive(ids...)
		w.WantSent(0)
		if limit := 2 * 45 * len(ids); x.Written() > limit {
			t.Errorf("%d writes in three hours, want at most %d", x.Written(), limit)
		}
		w.ComesBack(w.Start(), 20*time.Minute, ids...)
		if n := w.Sent("refresh_token"); n > 2*len(ids) { // a slot may have come meanwhile
			t.Errorf("%d requests to make good %d", n, len(ids))
		}
	})
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t, "immediate")
		ids := w.ConnectMany(brokertest.Integration, 4)
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`, Count: -1})
		p, x := w.Watched(nil)
		if p.Force(ids[0]) == nil || w.Circuit(p) != "suspended" {
			t.Fatal("the circuit is closed")
		}
		p.TickNow() // the cursor follows the clock from here on
		for range 180 {
			w.Advance(time.Minute)
			p.TickNow()
		}
		probes := w.Sent("refresh_token")
		if probes > 20 || x.Written() > 2*probes {
			t.Errorf("%d requests and %d writes while the circuit was open", probes, x.Written())
		}
		w.WantActive(ids...)
		w.ComesBack(p, 20*time.Minute, ids...)
		if n := w.Sent("refresh_token") - probes; n > len(ids)+2 {
			t.Errorf("%d requests to make good %d", n, len(ids))
		}
	})
}

var _ = mutant("F48", "internal/refresh/machine.go", `case s.Facts.CircuitOpen && !s.In.Probe:`, `case s.Facts.CircuitOpen && s.In.MinTTL < 0:`)

func TestFault_F48_a_wrong_client_secret_costs_probes_and_no_connection(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.ConnectMany(brokertest.Integration, 4)
		w.SetSecret("wrong")
		w.Secret("wrong!!")
		p := w.Start()
		w.Advance(55 * time.Minute)
		for range 12 {
			w.Advance(5 * time.Minute)
			p.TickNow()
		}
		if n := w.Sent("refresh_token"); n > 12 {
			t.Errorf("%d requests in an hour", n)
		}
		for _, id := range ids {
			if r := w.Record(id); r.Status != connection.Active || r.Gen != 1 || r.Failures != 0 || r.Attempt.ID != "" || r.DoubtAt != 0 {
				t.Errorf("touched: %+v", r.Core)
			}
		}
		if w.Circuit(p) != "suspended" {
			t.Error("the operator is not told")
		}
		w.SetSecret(brokertest.ClientSecret)
		w.ComesBack(p, 40*time.Minute, ids...) // the secret is read anew with the next probe
		if w.Circuit(p) != "ok" {
			t.Error("still suspended")
		}
	})
}

var _ = mutant("F49", "internal/broker/broker.go", "\t\tb.forgetSecret(r.Record.Integration, r.Record.ClientID)\n", "")

func TestFault_F49_a_secret_rotated_just_before_the_send_costs_one_retry(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		const rotated = "CANARY-rotated-secret"
		id := w.Connect("alice")
		p := w.Start()
		p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			w.Must(w.Sim.Register(brokertest.Integration, simprovider.Client{ID: brokertest.ClientID, Secret: rotated, RedirectURIs: []string{w.Origin + "/callback/" + brokertest.Integration}}))
			w.SetSecret(rotated)
			w.Secret(rotated)
		}))
		w.WantCode(p.Force(id), "integration_suspended")
		w.Must(p.Force(id))
		w.WantSent(2)
		if w.Circuit(p) != "ok" {
			t.Error("still suspended")
		}
		if r := w.Record(id); r.Failures != 0 || r.RetryAt != 0 {
			t.Errorf("left over: %+v", r.Core)
		}
		w.Check(id)
	})
}

var _ = mutant("F50", "internal/refresh/machine.go", `case (r.Brake || s.Facts.CircuitOpen) && s.Core.Status != connection.Connecting:`,
	`case s.Facts.CircuitOpen && s.Core.Status != connection.Connecting:`)

func TestFault_F50_a_storm_of_refusals_ends_five_at_most(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.ConnectMany(brokertest.Integration, 12)
		w.Advance(55 * time.Minute)
		began := w.Unix()
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusBadRequest, Body: `{"error":"invalid_grant"}`, Count: -1})
		p := w.Start()
		p.TickNow()
		for range 10 {
			w.Advance(2 * time.Minute)
			p.TickNow()
		}
		var ended, kept []string
		for _, id := range ids {
			if w.Record(id).Status == connection.NeedsReauth {
				ended = append(ended, id)
			} else {
				kept = append(kept, id)
			}
		}
		if len(ended) > 5 || w.Circuit(p) != "suspended" {
			t.Errorf("%d verdicts, the circuit is %s", len(ended), w.Circuit(p))
		}
		for _, id := range ended {
			if !w.Live(id) {
				t.Error("a verdict took the token with it")
			}
		}
		w.UserEnded() // as far as anybody could tell
		w.ComesBack(p, 40*time.Minute, kept...)
		rep, err := p.Revive(t.Context(), brokertest.Caller(), broker.ReviveRequest{Integration: brokertest.Integration, Since: began})
		if err != nil || rep.Recovered+rep.Reopened != len(ended) {
			t.Errorf("revived: %+v, %v", rep, err)
		}
		for range 3 { // those that are reopened are refreshed by the schedule
			w.Advance(time.Minute)
			p.TickNow()
		}
		w.Check(ids...)
	})
}

var _ = mutant("F50", "internal/circuit/storm.go", "	case Refused:\n\t\tcount = 1", "	case Refused, RefusedInDoubt:\n\t\tcount = 1")

// What a lost answer explains is no storm: the integration is not suspended for it.
func TestFault_F50_lost_answers_make_no_storm(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.ConnectMany(brokertest.Integration, 12)
		w.Advance(55 * time.Minute)
		p := w.Start()
		w.ProviderFault(simprovider.Fault{Kind: "lost_answer", Count: len(ids)})
		for range 12 {
			p.TickNow()
			w.Advance(time.Minute)
			if w.Circuit(p) != "ok" {
				t.Fatalf("suspended\n%s", w.Log)
			}
		}
		for _, id := range ids {
			if r := w.Record(id); r.Status != connection.NeedsReauth || r.Reason != connection.LostResponse {
				t.Errorf("%s %s", r.Status, r.Reason)
			}
		}
		w.Check()
	})
}

var _ = mutant("F51", "internal/broker/tick.go", `for _, n := range rand.Perm(len(page.Keys)) {`, "_ = rand.Int()\n\tfor n := range page.Keys {")

func TestFault_F51_a_dead_token_does_not_take_every_probe(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		ids := w.ConnectMany(brokertest.Integration, 4)
		w.ProviderFault(simprovider.Fault{Kind: "status", Status: http.StatusUnauthorized, Body: `{"error":"invalid_client"}`})
		p := w.Start()
		if p.Force(ids[0]) == nil {
			t.Fatal("the client was to be refused")
		}
		first := ids[0] // the one that comes first wherever ids are sorted
		for _, id := range ids {
			first = min(first, id)
		}
		w.EndGrant(first)
		for n := 0; w.Circuit(p) != "ok"; n++ {
			if n == 120 {
				t.Fatalf("the circuit stays open\n%s", w.Log)
			}
			w.Advance(time.Minute)
			p.TickNow()
			if w.Circuit(p) == "suspended" {
				w.WantActive(first) // what is said to a probe is no verdict
			}
		}
		w.Check()
	})
}

var (
	_ = mutant("F52", "internal/refresh/driver.go", `context.WithTimeout(whole, time.Duration(run.sendTime())*time.Millisecond)`, `context.WithCancel(whole)`)
	_ = mutant("F52", "internal/broker/lanes.go", `	l := t.lanes[j.integration]
	if l == nil {
		l = &lane{integration: j.integration}
		t.lanes[j.integration] = l`, `	l := t.lanes[""]
	if l == nil {
		l = &lane{integration: j.integration}
		t.lanes[""] = l`)
)

func TestFault_F52_a_provider_that_trickles_holds_up_nobody_but_itself(t *testing.T) {
	w := newWorld(t, "on_use")
	w.AddSecond()
	ids := w.ConnectMany(brokertest.Integration, 64)
	unconcerned := w.ConnectMany(brokertest.Second, 2)
	release := make(chan struct{})
	trickling := newRawServer(t, func(c net.Conn, _ *http.Request, _ int) bool {
		_, _ = io.WriteString(c, "H") // a byte now and then would not keep the request alive either
		<-release
		return false
	})
	deadlines := &bounded{base: provider.NewTransport(provider.TransportOptions{AllowLoopback: true})}
	p := w.Start(w.OverTransport(deadlines), brokertest.AtEndpoint(trickling.url))
	w.Advance(55 * time.Minute) // all are due
	saved := make(chan struct{}, len(ids))
	p.OnStore(brokertest.OnSave, -1, func(call func() (item.Result, error)) (item.Result, error) {
		defer func() { saved <- struct{}{} }()
		return call()
	})
	ended := make(chan broker.TickReport)
	go func() { ended <- p.TickNow() }()
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
	w.WantActive(ids...)
	w.ComesBack(w.Start(), 20*time.Minute, ids...)
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

var _ = mutant("F58", "internal/broker/token.go", `(rec.Gen != ifGeneration || ifTokenID != "" && ifTokenID != rec.TokenID)`, `rec.Gen > ifGeneration+9`)

func TestFault_F58_a_storm_of_401s_leads_to_one_refresh(t *testing.T) {
	onStores(t, "immediate", func(t *testing.T, w *world) {
		id := w.Connect("alice")
		gen := w.Record(id).Gen
		storm := func() (newest, busy int) {
			var group sync.WaitGroup
			var mu sync.Mutex
			for range 4 {
				p := w.Start()
				for range 50 {
					group.Go(func() {
						v, err := w.Handed(p.Refresh(t.Context(), brokertest.Caller(), id, gen, ""))
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && v.Generation == gen+1:
							newest++
						case brokertest.Code(err) == broker.RefreshInProgress:
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
		w.WantSent(1)
		// The same callers ask once more for what they saw refused.
		if newest, busy := storm(); newest != 200 || busy != 0 {
			t.Errorf("%d got the newest token, %d were put off", newest, busy)
		}
		w.WantSent(1)
		// And while their process replaces the newest one too.
		p := w.Start()
		p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() {
			if v, err := p.Refresh(t.Context(), brokertest.Caller(), id, gen, ""); err != nil || v.Generation != gen+1 {
				t.Errorf("generation %d, %v", v.Generation, err)
			}
		}))
		w.Must(p.Force(id))
		w.WantSent(2)
		w.Check(id)
	})
}
