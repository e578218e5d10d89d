package refresh_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

func TestRefreshSavesByEveryProfile(t *testing.T) {
	for _, name := range brokertest.Profiles() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, name)
			id := w.connect("alice")
			before := w.record(id)
			w.advance(time.Hour)
			w.expect(w.refresh(id), refresh.Saved)
			after := w.record(id)
			if after.Gen != before.Gen+1 || after.TokenID == before.TokenID || after.Rotates != (name != "none") {
				t.Errorf("gen %d, token id %s, rotates %v", after.Gen, after.TokenID, after.Rotates)
			}
			w.checkLive(id)
			w.checkClean(id)
			w.checkNoSecret(id)
			if w.sent() != 1 {
				t.Errorf("%d requests", w.sent())
			}
		})
	}
}

// A slot sends only what would not outlive the next slot; a read only what would not
// last; a 401 only for the token that it was about.
func TestFreshTokensAreNotSent(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	r := w.record(id)
	minute := w.unix() / 60
	for name, in := range map[string]refresh.Input{
		"slot":           {Why: refresh.Slot, Minute: minute},
		"timer":          {Why: refresh.Timer},
		"read":           {Why: refresh.Read, MinTTL: 60},
		"read for ever":  {Why: refresh.Read, MinTTL: 1 << 40},
		"401 of older":   {Why: refresh.Unauthorized, IfGeneration: r.Gen - 1},
		"401 of another": {Why: refresh.Unauthorized, IfGeneration: r.Gen, IfTokenID: "another"},
	} {
		in.ID = id
		if rep := w.Refresh(context.Background(), in); rep.Outcome != refresh.Fresh || w.sent() != 0 {
			t.Errorf("%s: outcome %d after %d requests", name, rep.Outcome, w.sent())
		}
	}
	w.expect(w.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Unauthorized, IfGeneration: r.Gen, IfTokenID: r.TokenID}), refresh.Saved)
}

func TestLostAnswerIsRecovered(t *testing.T) {
	for _, c := range []struct {
		profile string
		then    refresh.Outcome // of the prompt retry
		sent    int
	}{
		{"none", refresh.Saved, 2},
		{"on_use", refresh.Saved, 2},
		{"immediate", refresh.HeldBack, 2},
		{"family", refresh.Parked, 1},
	} {
		t.Run(c.profile, func(t *testing.T) {
			w := newWorld(t, c.profile)
			id := w.connect("alice")
			w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
			w.expect(w.refresh(id), refresh.Doubted)
			if r := w.record(id); (r.DoubtAt == 0) != (c.profile == "none") || r.Attempt.ID != "" || r.Status != connection.Active {
				t.Fatalf("after the loss: %+v", r.Core)
			}
			w.expect(w.refresh(id), c.then)
			if w.sent() != c.sent {
				t.Errorf("%d requests, want %d", w.sent(), c.sent)
			}
			if c.then == refresh.Saved {
				w.checkLive(id)
				w.checkClean(id)
			}
		})
	}
}

// Within the grace period the answer is asked for again in the same attempt, unless
// the invocation has no time left for it.
func TestGraceResend(t *testing.T) {
	w := newWorld(t, "grace")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	w.expect(w.refresh(id), refresh.Saved)
	if w.sent() != 2 || len(w.paused) != 1 || w.paused[0] != time.Second {
		t.Errorf("%d requests, pauses %v", w.sent(), w.paused)
	}
	w.checkLive(id)
	w.checkClean(id)

	// Both are lost: in grace it is sent again, past it no more.
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer", Count: 2})
	w.expect(w.refresh(id), refresh.Doubted)
	w.advance(20 * time.Second)
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer", Count: 2})
	w.expect(w.refresh(id), refresh.Doubted)
	w.advance(60 * time.Second)
	n := w.sent()
	w.expect(w.refresh(id), refresh.Parked)
	if w.sent() != n {
		t.Error("sent past the grace period")
	}
}

// The refusal of a token that may have been spent is held back; only after the
// horizon is it a verdict, and then it blames nobody.
func TestRefusalInDoubtWaitsForTheHorizon(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	w.expect(w.refresh(id), refresh.Doubted)
	discovered := w.record(id).DoubtAt
	w.advance(time.Minute)
	w.expect(w.refresh(id), refresh.HeldBack)
	r := w.record(id)
	if r.DoubtAt != discovered || r.RetryAt != discovered+refresh.Horizon || r.Sched != schedule.RetryPartition(id, r.RetryAt) {
		t.Fatalf("doubt %d, retry %d, sched %s", r.DoubtAt, r.RetryAt, r.Sched)
	}
	w.advance(refresh.Horizon * time.Second)
	w.expect(w.refresh(id), refresh.Verdict)
	r = w.record(id)
	if r.Status != connection.NeedsReauth || r.Reason != connection.LostResponse || r.Refresh == "" || r.Sched != "" {
		t.Fatalf("after the verdict: %+v", r.Core)
	}
}

// At a provider that ends families the token in doubt is not sent before little is
// left to lose; then a user's own revocation and our loss look alike.
func TestFamilyEndingProviderIsReplayedLate(t *testing.T) {
	w := newWorld(t, "family")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "reset_before"})
	w.expect(w.refresh(id), refresh.Doubted) // the request was written, so it may have acted
	r := w.record(id)
	if r.RetryAt != r.ExpiresAt-600 {
		t.Fatalf("retry at %d, token ends at %d", r.RetryAt, r.ExpiresAt)
	}
	w.advance(time.Duration(r.RetryAt-w.unix()) * time.Second)
	w.expect(w.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Slot, Minute: w.unix() / 60}), refresh.Saved)
	w.checkLive(id)
	w.checkClean(id)
}

func TestRevokedUser(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.sim.RevokeUser(sim, "alice")
	w.expect(w.refresh(id), refresh.Verdict)
	r := w.record(id)
	if r.Status != connection.NeedsReauth || r.Reason != connection.Revoked || r.Access == "" || r.Refresh == "" || r.Sched != "" || r.Attempt.ID != "" {
		t.Fatalf("%+v", r.Core)
	}
	w.expect(w.refresh(id), refresh.NotRefreshed)
}

func TestBusyProviderIsAskedLater(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests, RetryAfterS: 90})
	w.expect(w.refresh(id), refresh.NotActed)
	r := w.record(id)
	if r.RetryAt != w.unix()+90 || r.Failures != 1 || r.DoubtAt != 0 || r.Attempt.ID != "" || !schedule.IsRetry(r.Sched) {
		t.Fatalf("%+v", r.Core)
	}
	slot := refresh.Input{ID: id, Why: refresh.Slot, Minute: w.unix() / 60}
	w.expect(w.Refresh(context.Background(), slot), refresh.NotYet)
	// Its token would outlive the next slot, yet it must not be called fresh: it stands
	// in no slot until it is saved.
	w.advance(90 * time.Second)
	slot.Minute = w.unix() / 60
	w.expect(w.Refresh(context.Background(), slot), refresh.Saved)
	w.checkClean(id)
}

// A 429 answers no older doubt.
func TestBusyProviderKeepsTheDoubt(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	w.expect(w.refresh(id), refresh.Doubted)
	doubt := w.record(id).DoubtAt
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests})
	w.advance(time.Second)
	w.expect(w.refresh(id), refresh.NotActed)
	if w.record(id).DoubtAt != doubt {
		t.Error("the doubt is gone")
	}
}

func TestRefusedClientOpensTheCircuitAndOneProbeClosesIt(t *testing.T) {
	w := newWorld(t, "immediate")
	a, b := w.connect("alice"), w.connect("bob")
	w.mu.Lock()
	w.secret = "wrong"
	w.mu.Unlock()
	w.expect(w.refresh(a), refresh.Refused)
	if r := w.record(a); r.Status != connection.Active || r.Failures != 0 || r.Attempt.ID != "" {
		t.Fatalf("%+v", r.Core)
	}
	n := w.sent()
	before := w.record(b)
	w.expect(w.refresh(b), refresh.Suspended)
	if w.sent() != n || w.record(b).UpdatedAt != before.UpdatedAt {
		t.Fatal("something was sent or written")
	}
	w.mu.Lock()
	w.secret = "s3cret"
	w.mu.Unlock()
	w.advance(time.Minute)
	ok, err := w.Circuits.TakeProbe(context.Background(), w.link(clientOne).Client)
	if err != nil || !ok {
		t.Fatalf("probe: %v %v", ok, err)
	}
	w.expect(w.Refresh(context.Background(), refresh.Input{ID: b, Why: refresh.Forced, Probe: true}), refresh.Saved)
	w.expect(w.refresh(a), refresh.Saved)
}

// A probe's refusal proves neither that the grant is gone nor that the client is good.
func TestRefusedProbeIsNoVerdict(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.must(w.Circuits.Trip(context.Background(), w.link(clientOne).Client, "invalid_client"))
	w.sim.RevokeUser(sim, "alice")
	w.expect(w.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Forced, Probe: true}), refresh.Refused)
	if w.record(id).Status != connection.Active {
		t.Fatal("the probe ended a connection")
	}
	if s, err := w.Circuits.Status(context.Background(), w.link(clientOne).Client); err != nil || !s.Open {
		t.Errorf("circuit %+v, %v", s, err)
	}
}

func TestStormBrake(t *testing.T) {
	w := newWorld(t, "immediate")
	var ids []string
	for range 8 {
		w.entry.Identity = provider.Identity{} // nobody supersedes anybody
		ids = append(ids, w.connect("alice"))
	}
	w.sim.RevokeUser(sim, "alice")
	verdicts := 0
	for _, id := range ids {
		if w.refresh(id).Outcome == refresh.Verdict {
			verdicts++
		}
	}
	if verdicts != 5 {
		t.Errorf("%d verdicts, want 5", verdicts)
	}
	if s, err := w.Circuits.Status(context.Background(), w.link(clientOne).Client); err != nil || !s.Open {
		t.Errorf("circuit %+v, %v", s, err)
	}
}

// At a provider that forgives no lost answer each one ends in a refusal. It has its
// cause and is no sign of a storm: nothing is suspended, and each connection is judged.
func TestLostAnswersMakeNoStorm(t *testing.T) {
	w := newWorld(t, "immediate")
	w.entry.Identity = provider.Identity{} // nobody supersedes anybody
	ids := make([]string, 12)
	for n := range ids {
		ids[n] = w.connect("alice")
		w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
		w.expect(w.refresh(ids[n]), refresh.Doubted)
	}
	for _, id := range ids {
		w.expect(w.refresh(id), refresh.HeldBack)
	}
	w.advance(refresh.Horizon * time.Second)
	for _, id := range ids {
		w.expect(w.refresh(id), refresh.Verdict)
		if r := w.record(id); r.Reason != connection.LostResponse {
			t.Errorf("reason %s", r.Reason)
		}
	}
	if s, err := w.Circuits.Status(context.Background(), w.link(clientOne).Client); err != nil || s.Open {
		t.Errorf("circuit %+v, %v", s, err)
	}
}

func TestImport(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	_, token := w.tokens(w.record(id))
	imported := w.imported(token)
	w.expect(w.refresh(imported), refresh.Saved)
	if r := w.record(imported); r.Status != connection.Active || r.Todo != "" {
		t.Errorf("%s, todo %q", r.Status, r.Todo)
	}
	for range 10 { // far more than the storm brake would take
		id := w.imported("no such token")
		w.expect(w.refresh(id), refresh.ImportRefused)
		r := w.record(id)
		if r.Status != connection.Disconnected || r.Reason != connection.TokenRefused || r.Refresh != "" || r.Sched != "" || r.Todo != "" {
			t.Fatalf("%+v", r.Core)
		}
	}
	// And none of them counts: the first real refusal is a verdict.
	w.expect(w.refresh(imported), refresh.Saved)
	w.sim.RevokeUser(sim, "alice")
	w.expect(w.refresh(imported), refresh.Verdict)
}

// imported stores a refresh token as an import does.
func (w *world) imported(token string) string {
	w.t.Helper()
	ctx, id := context.Background(), connection.NewID()
	w.must(w.Keys.Load(ctx, secret.PurposeToken))
	sealed, err := w.Keys.Seal(secret.PurposeToken, secret.Place{Table: "connections", ID: id, Gen: 1, Field: "rt"}, secret.New(token))
	w.must(err)
	_, err = w.Store.Write(ctx, id, connection.Create{Record: connection.Record{Core: connection.Core{
		ID: id, Integration: sim, Client: clientOne, ClientID: clientOne, Owner: owner, Grant: "refresh_token", Status: connection.Connecting,
		Gen: 1, TokGen: 1, Refresh: item.Bytes(sealed), Sched: schedule.RetryPartition(id, w.unix()), Todo: schedule.TodoPartition(id, w.unix()),
	}}})
	w.must(err)
	return id
}

func TestAbsentHeldAndForeign(t *testing.T) {
	w := newWorld(t, "immediate")
	w.expect(w.refresh("conn_none"), refresh.Absent)
	id := w.connect("alice")
	delete(w.known, clientOne)
	w.expect(w.refresh(id), refresh.ClientChanged)
	w.known[clientOne] = true
	w.table.down = true
	w.expect(w.refresh(id), refresh.StoreFailed)
	w.table.down = false
	w.table.items[id] = w.table.items[id].Clone()
	w.table.items[id]["status"] = string(connection.Held)
	w.expect(w.refresh(id), refresh.NotRefreshed)
	// A generation that its tokens do not belong to is not used.
	w.table.items[id]["status"], w.table.items[id]["gen"] = string(connection.Active), int64(9)
	w.expect(w.refresh(id), refresh.StoreFailed)
	if w.sent() != 0 {
		t.Errorf("%d requests", w.sent())
	}
}

// Without time for the whole attempt nothing is claimed, and nothing sent.
func TestTooLittleTime(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.expect(w.Refresh(ctx, refresh.Input{ID: id, Why: refresh.Forced}), refresh.NotReady)
	if w.sent() != 0 || w.record(id).Attempt.ID != "" {
		t.Error("something was claimed or sent")
	}
}

// A resend needs a whole attempt's time too: an invocation that ended after it would
// be a lost answer.
func TestResendNeedsTime(t *testing.T) {
	w := newWorld(t, "grace")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	ctx, cancel := context.WithTimeout(context.Background(), 29500*time.Millisecond)
	defer cancel()
	w.expect(w.Refresh(ctx, refresh.Input{ID: id, Why: refresh.Forced}), refresh.Doubted)
	if w.sent() != 1 {
		t.Errorf("%d requests", w.sent())
	}
}

func TestClaimFaults(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.strike = once(repeated, isClaim)
	w.expect(w.refresh(id), refresh.Saved) // the repeat met its own claim
	w.checkClean(id)
	for _, f := range []fault{failBefore, failAfter} {
		w.table.strike = once(f, isClaim)
		n := w.sent()
		w.expect(w.refresh(id), refresh.StoreFailed)
		if r := w.record(id); r.Attempt.ID != "" || r.DoubtAt != 0 || w.sent() != n {
			t.Fatalf("after fault %d: %+v", f, r.Core)
		}
	}
	w.table.strike = nil
	w.expect(w.refresh(id), refresh.Saved)
}

func TestLiveClaimIsLeftAlone(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.must(w.claim(id, "other", 30))
	w.expect(w.refresh(id), refresh.Busy)
	if w.sent() != 0 {
		t.Error("two senders")
	}
	// It expires: taken over, in doubt since nobody knows what it sent.
	w.advance(30 * time.Second)
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests})
	w.expect(w.refresh(id), refresh.NotActed)
	if r := w.record(id); r.DoubtAt != w.unix() || r.DoubtSent != w.unix()-30 || r.Attempt.ID != "" {
		t.Fatalf("%+v", r.Core)
	}
	w.expect(w.refresh(id), refresh.Saved)
	w.checkClean(id)
}

// claim writes another worker's claim.
func (w *world) claim(id, attempt string, lease int64) error {
	r := w.record(id)
	_, err := w.Store.Write(context.Background(), id, connection.Claim{
		Gen: r.Gen, Now: w.unix(), Attempt: connection.Attempt{ID: attempt, BaseGen: r.Gen, LeaseUntil: w.unix() + lease, Since: w.unix()},
	})
	return err
}

// A takeover long after the send is no grace, also for the attempts after it.
func TestGraceCountsFromTheFirstClaim(t *testing.T) {
	w := newWorld(t, "grace")
	id := w.connect("alice")
	w.must(w.claim(id, "crashed", 40))
	w.advance(42 * time.Second)
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests})
	w.expect(w.refresh(id), refresh.NotActed) // it arrives at 57 s of 60, at the latest
	w.advance(6 * time.Second)
	w.expect(w.refresh(id), refresh.Parked)
}

// Another worker's claim lands between the read and ours.
func TestClaimRace(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.between = func(key string, u item.Update) {
		if isClaim(u) {
			w.table.between = nil
			w.must(w.claim(id, "other", 30))
		}
	}
	w.expect(w.refresh(id), refresh.Busy)
	if w.sent() != 0 {
		t.Error("two senders")
	}
}

// The doubt counts that the claim returned, not the one that was read before.
func TestDoubtIsTakenFromTheClaim(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.sim.RevokeUser(sim, "alice")
	w.table.between = func(key string, u item.Update) {
		if isClaim(u) {
			w.table.between = nil
			w.must(w.claim(id, "other", 30))
			_, err := w.Store.Write(context.Background(), id, connection.Later{Gen: 1, Attempt: "other", RetryAt: 1, Sched: "retry#1#0", Doubt: w.unix()})
			w.must(err)
		}
	}
	w.expect(w.refresh(id), refresh.HeldBack)
}

func TestSaveFaults(t *testing.T) {
	for name, strike := range map[string]func(string, item.Update) fault{
		"applied and repeated":     once(repeated, isSave),
		"applied, answer lost":     once(failAfter, isSave),
		"not applied, then it was": once(failBefore, isSave),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			id := w.connect("alice")
			w.table.strike = strike
			w.expect(w.refresh(id), refresh.Saved)
			w.checkLive(id)
			w.checkClean(id)
			if w.record(id).Gen != 2 || len(w.rescue.kept) != 0 || w.sent() != 1 || w.sim.Requests(sim)["revoke"] != 0 {
				t.Errorf("gen %d, %d rescued, %d sent", w.record(id).Gen, len(w.rescue.kept), w.sent())
			}
		})
	}
}

// The store is away after the answer: rescued, and replayed when it is back. In
// between there is no verdict, whatever is tried.
func TestRescueAndReplay(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.strike = always(failBefore, isSave)
	w.expect(w.refresh(id), refresh.Rescued)
	if len(w.rescue.kept) != 1 {
		t.Fatalf("%d rescue records", len(w.rescue.kept))
	}
	w.expect(w.refresh(id), refresh.Busy)
	w.advance(time.Hour)
	w.expect(w.refresh(id), refresh.HeldBack)
	w.advance(refresh.Horizon * 2 * time.Second)
	w.expect(w.refresh(id), refresh.HeldBack) // the rescue is still to come
	w.table.strike = nil
	w.replay()
	if len(w.rescue.kept) != 0 {
		t.Fatal("the record is kept")
	}
	r := w.record(id)
	if r.Gen != 2 || r.DoubtAt != 0 || r.Status != connection.Active {
		t.Fatalf("%+v", r.Core)
	}
	w.expect(w.refresh(id), refresh.Saved)
	w.checkLive(id)
}

func TestStoreAndRescueDown(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.strike, w.rescue.down = always(failBefore, isSave), true
	ctx, cancel := context.WithTimeout(context.Background(), 32*time.Second)
	defer cancel()
	tries := 0
	w.Driver.Pause = func(ctx context.Context, d time.Duration) error {
		if tries++; tries == 400 {
			w.rescue.down = false // it is tried to the end of the invocation
		}
		return w.pause(ctx, d)
	}
	w.expect(w.Refresh(ctx, refresh.Input{ID: id, Why: refresh.Forced}), refresh.Rescued)
}

// What a refused save means is read from the item as found.
func TestRefusedSave(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(w *world, id string)
		want      refresh.Outcome
		revokes   bool
		perToken  provider.Tri
	}{
		"deleted":      {func(w *world, id string) { delete(w.table.items, id) }, refresh.Dropped, true, provider.Unknown},
		"disconnected": {func(w *world, id string) { w.tombstone(id, connection.ByRequest) }, refresh.Dropped, true, provider.Unknown},
		"superseded":   {func(w *world, id string) { w.tombstone(id, connection.Superseded) }, refresh.Overtaken, false, provider.Unknown},
		"saved by another": {func(w *world, id string) {
			_, err := w.Store.Write(context.Background(), id, connection.Save{ID: id, Gen: 1, SaveID: "other", Tokens: connection.Tokens{Access: "a", Refresh: "b"}})
			w.must(err)
		}, refresh.Overtaken, false, provider.Yes},
		"disconnected, then reconnected": {func(w *world, id string) {
			w.tombstone(id, connection.ByRequest)
			w.reconsent(id)
		}, refresh.Overtaken, false, provider.Unknown},
		"disconnected, then reconnected, revoking per token": {func(w *world, id string) {
			w.tombstone(id, connection.ByRequest)
			w.reconsent(id)
		}, refresh.Dropped, true, provider.Yes},
	} {
		for _, late := range []bool{false, true} {
			mode := " at once"
			if late {
				mode = " by the replay"
			}
			t.Run(name+mode, func(t *testing.T) {
				w := newWorld(t, "immediate")
				w.entry.Revocation.PerToken = c.perToken
				id := w.connect("alice")
				w.table.between = func(key string, u item.Update) {
					if key == id && isSave(u) && !late {
						w.table.between = nil
						c.meanwhile(w, id)
					}
				}
				want := c.want
				if late {
					want, w.table.strike = refresh.Rescued, always(failBefore, isSave)
				}
				w.expect(w.refresh(id), want)
				if late {
					w.table.strike = nil
					c.meanwhile(w, id)
					w.replay()
				}
				if got := w.sim.Requests(sim)["revoke"] > 0; got != c.revokes || len(w.rescue.kept) != 0 {
					t.Errorf("revoked: %v, want %v; %d rescue records", got, c.revokes, len(w.rescue.kept))
				}
				if name == "deleted" && w.table.items[id] != nil {
					t.Error("a deleted connection came back")
				}
			})
		}
	}
}

func (w *world) tombstone(id string, reason connection.Reason) {
	var write connection.Write = connection.Tombstone{
		ID: id, Reason: reason, DisconnectGen: w.record(id).DisconnectGen, Todo: "todo#1#0", Now: w.unix(),
	}
	if reason == connection.Superseded {
		write = connection.Supersede{ID: id, ConsentedAt: w.unix() + 1, Now: w.unix()}
	}
	res, err := w.Store.Write(context.Background(), id, write)
	if err != nil || !res.Applied {
		w.t.Fatalf("tombstone: %v %v", res.Applied, err)
	}
}

// reconsent stores tokens of no account, as a consent would.
func (w *world) reconsent(id string) {
	r := w.record(id)
	res, err := w.Store.Write(context.Background(), id, connection.Consent{
		ID: id, Gen: r.Gen, Seq: r.ConsentNext + 1, Tokens: connection.Tokens{Access: "a", Refresh: "b"}, ConsentedAt: w.unix(),
		Identity: connection.Identity{Client: clientOne, ClientID: clientOne},
	})
	if err != nil || !res.Applied {
		w.t.Fatalf("consent: %v %v", res.Applied, err)
	}
}

// The new tokens of a connection that was ended cannot be revoked now: a sealed order
// is left behind.
func TestRevocationIsRescued(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.between = func(_ string, u item.Update) {
		if isSave(u) {
			w.table.between = nil
			w.tombstone(id, connection.ByRequest)
		}
	}
	w.fault(simprovider.Fault{On: "revoke", Kind: "status", Count: 1})
	w.expect(w.refresh(id), refresh.Dropped)
	if len(w.rescue.kept) != 1 {
		t.Fatalf("%d rescue records", len(w.rescue.kept))
	}
	w.replay()
	if len(w.rescue.kept) != 0 {
		t.Error("the order is kept")
	}
}

// A late save heals a verdict that came too early.
func TestLateSaveHealsAVerdict(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.table.strike = always(failBefore, isSave)
	w.expect(w.refresh(id), refresh.Rescued)
	w.table.strike = nil
	w.table.items[id]["status"] = string(connection.NeedsReauth)
	w.replay()
	w.checkLive(id)
}

// Of an answer that cannot be used, a refresh token is kept all the same.
func TestRefreshTokenOfAMalformedAnswer(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	other := w.connect("bob")
	_, fresh := w.tokens(w.record(other)) // any other legal refresh token
	before := w.record(id)
	w.fault(simprovider.Fault{On: "token", Kind: "status_after", Status: 200, Body: `{"refresh_token":"` + fresh + `"}`})
	w.expect(w.refresh(id), refresh.Doubted)
	r := w.record(id)
	access, got := w.tokens(r)
	oldAccess, _ := w.tokens(before)
	if got != fresh || access != oldAccess || r.TokenID != before.TokenID || r.ExpiresAt != before.ExpiresAt {
		t.Fatalf("refresh token kept: %v, access token kept: %v", got == fresh, access == oldAccess)
	}
	if r.Gen != 2 || r.RetryAt == 0 || r.Failures != 1 || !schedule.IsRetry(r.Sched) || r.DoubtAt != 0 || r.Attempt.ID != "" {
		t.Errorf("%+v", r.Core)
	}
}

// A good answer whose refresh token is not legal leaves the old one in doubt.
func TestIllegalRefreshTokenIsADoubt(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	_, old := w.tokens(w.record(id))
	w.fault(simprovider.Fault{On: "token", Kind: "status_after", Status: 200, Body: `{"access_token":"new","token_type":"bearer","expires_in":3600,"refresh_token":"a\nb"}`})
	w.expect(w.refresh(id), refresh.Saved)
	r := w.record(id)
	access, kept := w.tokens(r)
	if access != "new" || kept != old || r.DoubtAt != w.unix() || r.Gen != 2 {
		t.Fatalf("access %q, kept %v, doubt %d", access, kept == old, r.DoubtAt)
	}
	w.expect(w.refresh(id), refresh.HeldBack) // spent by the answer before, not revoked by the user
}

// A refused client after a lost answer does not make the loss undone.
func TestRefusedClientKeepsTheDoubtOfItsOwnAttempt(t *testing.T) {
	w := newWorld(t, "grace")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: 401, Body: `{"error":"invalid_client"}`})
	w.expect(w.refresh(id), refresh.Refused)
	if r := w.record(id); r.DoubtAt == 0 || r.Failures != 0 {
		t.Errorf("%+v", r.Core)
	}
}

// After a restore every claim puts its connection in doubt.
func TestRestoredConnectionIsInDoubt(t *testing.T) {
	for profile, want := range map[string]refresh.Outcome{"immediate": refresh.HeldBack, "family": refresh.Parked, "grace": refresh.Parked} {
		w := newWorld(t, profile)
		id := w.connect("alice")
		w.sim.RevokeUser(sim, "alice")
		w.Epoch = 1
		if rep := w.refresh(id); rep.Outcome != want {
			t.Errorf("%s: outcome %d, want %d", profile, rep.Outcome, want)
		}
		if w.record(id).DoubtAt == 0 {
			t.Errorf("%s: no doubt", profile)
		}
	}
}

func TestClientCredentials(t *testing.T) {
	w := newWorld(t, "immediate")
	id := connection.NewID()
	_, err := w.Store.Write(context.Background(), id, connection.Create{Record: connection.Record{Core: connection.Core{
		ID: id, Integration: sim, Client: clientOne, ClientID: clientOne, Owner: owner, Grant: "client_credentials", Status: connection.Active, Gen: 1, TokGen: 1,
	}}})
	w.must(err)
	w.expect(w.refresh(id), refresh.Refused) // this service does not offer the grant
	body := `{"access_token":"machine","token_type":"bearer","expires_in":3600}`
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: 200, Body: body})
	w.expect(w.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Forced, Probe: true}), refresh.Saved)
	r := w.record(id)
	if access, _ := w.tokens(r); access != "machine" || r.Refresh != "" || r.Rotates || w.sim.Requests(sim)["client_credentials"] != 2 {
		t.Errorf("%+v", r.Core)
	}
	delete(w.known, clientOne)
	w.expect(w.refresh(id), refresh.ClientChanged)
}

// An attempt left from when the profile was another does not refuse every write.
func TestStaleAttemptUnderANonRotatingProfile(t *testing.T) {
	w := newWorld(t, "none")
	id := w.connect("alice")
	w.must(w.claim(id, "crashed", 1))
	w.advance(2 * time.Second)
	w.fault(simprovider.Fault{On: "token", Kind: "status", Status: http.StatusTooManyRequests})
	w.expect(w.refresh(id), refresh.NotActed)
	if r := w.record(id); r.Attempt.ID != "" || r.RetryAt == 0 {
		t.Errorf("%+v", r.Core)
	}
}
