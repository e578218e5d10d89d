package refresh_test

import (
	"context"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func (w *world) expectConsent(rep refresh.ConsentReport, want refresh.ConsentOutcome, code string) {
	w.t.Helper()
	if rep.Outcome != want || rep.Code != code {
		w.t.Fatalf("outcome %d %q, want %d %q (error %v)", rep.Outcome, rep.Code, want, code, rep.Err)
	}
}

// user tells whose the connection's two tokens are, "" where it has none.
func (w *world) users(id string) (access, refreshToken string) {
	w.t.Helper()
	a, r := w.tokens(w.record(id))
	x, _ := w.sim.Lookup(sim, a)
	y, _ := w.sim.Lookup(sim, r)
	return x.User, y.User
}

func (w *world) stored(sess connection.Session) connection.Session {
	w.t.Helper()
	s, err := w.Store.GetSession(context.Background(), sess.Hash)
	w.must(err)
	return s
}

func TestConnect(t *testing.T) {
	w := newWorld(t, "immediate")
	sess := w.session(nil)
	rep := w.consent("alice", clientOne, sess)
	w.expectConsent(rep, refresh.Connected, "")
	r := w.record(rep.Result)
	if r.AccountID != "1001" || r.AccountName != "Alice" || r.Owner != owner || r.Gen != 1 || r.ConsentedAt != w.unix() || r.Sched == "" {
		t.Errorf("%+v", r)
	}
	s := w.stored(sess)
	if s.State != connection.SessionConnected || s.Result != rep.Result || s.Tokens != "" || s.Todo != "" {
		t.Errorf("session %s, result %s, todo %q", s.State, s.Result, s.Todo)
	}
	w.checkLive(rep.Result)
	w.checkNoSecret(rep.Result)
	w.expectConsent(w.exchange(sess, w.take(clientOne), "again", true), refresh.NotAwaiting, "")
}

func TestReconnectInPlace(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.sim.RevokeUser(sim, "alice")
	w.expect(w.refresh(id), refresh.Verdict)
	rep := w.consent("alice", clientTwo, w.session(w.reconnecting(id)))
	w.expectConsent(rep, refresh.Connected, "")
	r := w.record(id)
	if rep.Result != id || r.Gen != 2 || r.ClientID != clientTwo || r.Reason != "" || r.ConsentSeq != 1 {
		t.Errorf("result %s, %+v", rep.Result, r.Core)
	}
	w.checkLive(id)
	w.checkClean(id)
	w.expect(w.refresh(id), refresh.Saved) // under the client that got the tokens
}

// An answer without a refresh token joins the connection's own only where account and
// client are proved the same.
func TestReconnectWithoutRefreshToken(t *testing.T) {
	for name, c := range map[string]struct {
		user, client string
		prepare      func(w *world, id string)
		want         refresh.ConsentOutcome
		code         string
	}{
		"same account":  {"alice", clientOne, nil, refresh.Connected, ""},
		"other client":  {"alice", clientTwo, nil, refresh.NoRefreshToken, "no_refresh_token"},
		"other account": {"bob", clientOne, nil, refresh.MismatchKept, "account_mismatch"},
		"account unreadable": {"alice", clientOne, func(w *world, _ string) {
			w.fault(simprovider.Fault{On: "identity", Kind: "status", Count: -1})
		}, refresh.IdentityPending, ""},
		"account never known": {"alice", clientOne, func(w *world, id string) {
			delete(w.table.items[id], "account")
		}, refresh.NoRefreshToken, "no_refresh_token"},
		"dead connection": {"alice", clientOne, func(w *world, id string) {
			w.sim.RevokeUser(sim, "alice")
			w.expect(w.refresh(id), refresh.Verdict)
		}, refresh.NoRefreshToken, "no_refresh_token"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			id := w.connect("alice")
			if c.prepare != nil {
				c.prepare(w, id)
			}
			before := w.record(id)
			sess := w.session(w.reconnecting(id))
			w.fault(simprovider.Fault{On: "token", Kind: "no_refresh_token"})
			rep := w.consent(c.user, c.client, sess)
			w.expectConsent(rep, c.want, c.code)
			after := w.record(id)
			if after.Gen != before.Gen || after.Refresh != before.Refresh || after.ClientID != before.ClientID || after.AccountID != before.AccountID {
				t.Errorf("the connection changed: %+v", after.Core)
			}
			if joined := after.TokenID != before.TokenID; joined != (c.want == refresh.Connected) {
				t.Errorf("joined: %v", joined)
			}
			if c.want == refresh.MismatchKept {
				if a, _ := w.users(rep.Result); rep.Result == id || a != "bob" {
					t.Errorf("kept apart as %s of %s", rep.Result, a)
				}
			}
		})
	}
}

// A rotation in flight is saved although the user consented meanwhile without getting
// a refresh token.
func TestConsentWithoutRefreshTokenLeavesARotationInFlight(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	sess := w.session(w.reconnecting(id))
	w.table.between = func(_ string, u item.Update) {
		if isSave(u) {
			w.table.between = nil
			w.fault(simprovider.Fault{On: "token", Kind: "no_refresh_token"})
			w.expectConsent(w.consent("alice", clientOne, sess), refresh.Connected, "")
		}
	}
	w.expect(w.refresh(id), refresh.Saved)
	if _, rt := w.tokens(w.record(id)); rt == "" || w.record(id).Gen != 2 {
		t.Fatal("the rotation was not saved")
	}
	w.expect(w.refresh(id), refresh.Saved)
}

// The same, the other way round: a refresh saves between the look and the write.
func TestConsentSealsAgainWhenOnlyTheGenerationMoved(t *testing.T) {
	for _, without := range []bool{false, true} {
		w := newWorld(t, "on_use")
		id := w.connect("alice")
		sess := w.session(w.reconnecting(id))
		if without {
			w.fault(simprovider.Fault{On: "token", Kind: "no_refresh_token"})
		}
		w.table.between = func(_ string, u item.Update) {
			if sets(u, "consent_seq") {
				w.table.between = nil
				w.expect(w.refresh(id), refresh.Saved)
			}
		}
		w.expectConsent(w.consent("alice", clientOne, sess), refresh.Connected, "")
		w.checkLive(id) // also: what is stored opens under the generation it stands in
		w.expect(w.refresh(id), refresh.Saved)
	}
}

var _ = mutant("T77", "internal/refresh/consent.go", `c.AccountID != "" && !s.Known, c.AccountID != "" && s.Account.ID != c.AccountID:`, `c.AccountID != "" && !s.Known:`)

func TestThreat_T77_another_account_never_takes_a_connection_over(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	before := w.record(id)
	sess := w.session(w.reconnecting(id))
	rep := w.consent("bob", clientOne, sess)
	w.expectConsent(rep, refresh.MismatchKept, "account_mismatch")
	if w.record(id).TokenID != before.TokenID || rep.Result == id {
		t.Fatal("the connection changed")
	}
	w.checkLive(rep.Result)
	if s := w.stored(sess); s.State != connection.SessionFailed || s.Error != "account_mismatch" || s.Result != rep.Result {
		t.Errorf("session %s %s", s.State, s.Error)
	}
	allowed := w.session(func(s *connection.Session) { w.reconnecting(id)(s); s.AllowAccountChange = true })
	w.expectConsent(w.consent("bob", clientOne, allowed), refresh.Connected, "")
	if a, r := w.users(id); a != "bob" || r != "bob" || w.record(id).AccountID != "1002" {
		t.Errorf("tokens of %s and %s", a, r)
	}
}

// While the account cannot be read nothing is joined; after an hour it is kept apart.
func TestUnreadableAccountWaits(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "identity", Kind: "status", Count: -1})
	sess := w.session(w.reconnecting(id))
	w.expectConsent(w.consent("alice", clientOne, sess), refresh.IdentityPending, "")
	s := w.stored(sess)
	if s.State != connection.SessionExchanged || s.Tokens == "" || s.Todo == "" {
		t.Fatalf("%+v", s)
	}
	finish := func(want refresh.ConsentOutcome, code string) refresh.ConsentReport {
		t.Helper()
		rep, err := w.Finish(context.Background(), w.stored(sess))
		w.must(err)
		w.expectConsent(rep, want, code)
		return rep
	}
	finish(refresh.IdentityPending, "")
	w.advance(time.Hour)
	apart := finish(refresh.MismatchKept, "account_mismatch").Result
	if apart == id || w.record(apart).AccountID != "" {
		t.Errorf("kept as %s of account %q", apart, w.record(apart).AccountID)
	}
}

// A crash at any point after the exchange: the tick finishes it, each step once.
func TestFinishAfterACrash(t *testing.T) {
	for name, strike := range map[string]func(item.Update) bool{
		"before the connection is stored": func(u item.Update) bool { return sets(u, "consented_at") },
		"before the session ends":         func(u item.Update) bool { return sets(u, "result") },
	} {
		for _, reconnect := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, "immediate")
				sess := w.session(nil)
				if reconnect {
					sess = w.session(w.reconnecting(w.connect("alice")))
				}
				connections := len(w.table.items)
				w.table.strike, w.auth.strike = once(failBefore, strike), once(failBefore, strike)
				w.expectConsent(w.consent("alice", clientOne, sess), refresh.Unfinished, "")
				rep, err := w.Finish(context.Background(), w.stored(sess))
				w.must(err)
				w.expectConsent(rep, refresh.Connected, "")
				w.checkLive(rep.Result)
				if s := w.stored(sess); s.State != connection.SessionConnected || s.Todo != "" || s.Tokens != "" {
					t.Errorf("session %s, todo %q", s.State, s.Todo)
				}
				if w.sim.Requests(sim)["authorization_code"] > 2 || reconnect && len(w.table.items) != connections {
					t.Error("something was done twice")
				}
			})
		}
	}
}

// Where the callback may not list, the tick supersedes, long after the tokens have
// left the session.
func TestSupersede(t *testing.T) {
	for _, mayList := range []bool{true, false} {
		w := newWorld(t, "immediate")
		older, other := w.connect("alice"), w.connect("bob")
		w.advance(time.Second)
		sess := w.session(nil)
		rep := w.exchange(sess, w.take(clientOne), w.code("alice", clientOne), mayList)
		w.expectConsent(rep, refresh.Connected, "")
		if s := w.stored(sess); (s.Todo == "") != mayList {
			t.Errorf("todo %q", s.Todo)
		}
		before := len(w.table.items)
		if !mayList {
			_, err := w.Finish(context.Background(), w.stored(sess))
			w.must(err)
		}
		o := w.record(older)
		if o.Status != connection.Disconnected || o.Reason != connection.Superseded || o.Refresh != "" || o.Access != "" || o.Todo != "" {
			t.Errorf("older: %+v", o.Core)
		}
		if w.record(other).Status != connection.Active || len(w.table.items) != before || w.stored(sess).Todo != "" || w.sim.Requests(sim)["revoke"] != 0 {
			t.Error("too much or too little was done")
		}
		w.checkLive(rep.Result)
	}
}

// A session that ended without a connection leaves nothing behind when the tick comes.
func TestFinishOfAFailedSession(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	sess := w.session(w.reconnecting(id))
	w.fault(simprovider.Fault{On: "token", Kind: "no_refresh_token"})
	w.expectConsent(w.exchange(sess, w.take(clientTwo), w.code("alice", clientTwo), false), refresh.NoRefreshToken, "no_refresh_token")
	before := len(w.table.items)
	_, err := w.Finish(context.Background(), w.stored(sess))
	w.must(err)
	if len(w.table.items) != before || w.stored(sess).Todo != "" || w.stored(sess).State != connection.SessionFailed {
		t.Error("something was stored")
	}
	w.checkLive(id)
}

// A disconnect after the exchange: what arrived is revoked, now or by the tick.
func TestDisconnectedWhileConsenting(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	sess := w.session(w.reconnecting(id))
	w.auth.between = func(_ string, u item.Update) {
		if sets(u, "tokens") {
			w.auth.between = nil
			w.tombstone(id, connection.ByRequest)
		}
	}
	w.fault(simprovider.Fault{On: "revoke", Kind: "status", Count: 1})
	w.expectConsent(w.consent("alice", clientOne, sess), refresh.Unfinished, "disconnected")
	rep, err := w.Finish(context.Background(), w.stored(sess))
	w.must(err)
	w.expectConsent(rep, refresh.ConsentGone, "disconnected")
	if w.record(id).Status != connection.Disconnected {
		t.Error("the connection came back")
	}
	// One that was disconnected before the exchange spends no code.
	w.expectConsent(w.consent("alice", clientOne, w.session(func(s *connection.Session) { s.ConnectionID = id })), refresh.ConsentGone, "disconnected")
	if w.sim.Requests(sim)["authorization_code"] != 2 {
		t.Error("the code was sent")
	}
	// And it can be reconnected by a session that knows of the disconnect.
	w.expectConsent(w.consent("alice", clientOne, w.session(w.reconnecting(id))), refresh.Connected, "")
	w.checkLive(id)
}

// Two reconnects at once: the later number wins, whatever the order of the writes.
func TestLaterConsentWins(t *testing.T) {
	w := newWorld(t, "on_use")
	id := w.connect("alice")
	first := w.session(func(s *connection.Session) { w.reconnecting(id)(s); s.AllowAccountChange = true })
	second := w.session(func(s *connection.Session) { w.reconnecting(id)(s); s.AllowAccountChange = true })
	w.table.between = func(_ string, u item.Update) {
		if sets(u, "consent_seq") {
			w.table.between = nil
			w.expectConsent(w.consent("bob", clientOne, second), refresh.Connected, "")
		}
	}
	w.expectConsent(w.consent("alice", clientOne, first), refresh.ConsentOvertaken, "")
	if a, r := w.users(id); a != "bob" || r != "bob" || w.sim.Requests(sim)["revoke"] != 0 {
		t.Errorf("tokens of %s and %s", a, r)
	}
}

// A repeated consent write after a refresh does not bring spent tokens back.
func TestRepeatedConsent(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	sess := w.session(w.reconnecting(id))
	w.table.strike = once(repeated, func(u item.Update) bool { return sets(u, "consent_seq") })
	w.expectConsent(w.consent("alice", clientOne, sess), refresh.Connected, "")
	if w.record(id).Gen != 2 {
		t.Errorf("generation %d", w.record(id).Gen)
	}
	w.checkLive(id)
}

func TestRefusedAndLostExchanges(t *testing.T) {
	for name, c := range map[string]struct {
		fault simprovider.Fault
		want  refresh.ConsentOutcome
		code  string
	}{
		"lost":      {simprovider.Fault{On: "token", Kind: "lost_answer"}, refresh.ExchangeLost, "restart_connect"},
		"malformed": {simprovider.Fault{On: "token", Kind: "malformed"}, refresh.ExchangeLost, "restart_connect"},
		"refused":   {simprovider.Fault{On: "token", Kind: "status", Status: 400, Body: `{"error":"invalid_grant"}`}, refresh.ExchangeRefused, "restart_connect"},
		"client":    {simprovider.Fault{On: "token", Kind: "status", Status: 401, Body: `{"error":"invalid_client"}`}, refresh.ExchangeRefused, "integration_suspended"},
		"busy":      {simprovider.Fault{On: "token", Kind: "status", Status: 429}, refresh.ExchangeLost, "restart_connect"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			w.fault(c.fault)
			sess := w.session(nil)
			w.expectConsent(w.consent("alice", clientOne, sess), c.want, c.code)
			s := w.stored(sess)
			if s.State != connection.SessionFailed || s.Error != c.code || w.sim.Requests(sim)["authorization_code"] != 1 {
				t.Errorf("session %s %s", s.State, s.Error)
			}
			w.expectConsent(w.consent("alice", clientOne, sess), refresh.Connected, "") // the link still serves
		})
	}
}

func TestSessionFaults(t *testing.T) {
	kept := func(u item.Update) bool { return sets(u, "tokens") }
	for name, c := range map[string]struct {
		strike func(string, item.Update) fault
		want   refresh.ConsentOutcome
	}{
		"take repeated":           {once(repeated, func(u item.Update) bool { return sets(u, "take") }), refresh.Connected},
		"take unknown":            {once(failAfter, func(u item.Update) bool { return sets(u, "take") }), refresh.ConsentUnknown},
		"answer kept, repeated":   {once(repeated, kept), refresh.Connected},
		"answer kept, lost":       {once(failAfter, kept), refresh.Connected},
		"answer not kept at once": {once(failBefore, kept), refresh.Connected},
		"answer never kept":       {always(failBefore, kept), refresh.AnswerUnsaved},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			w.auth.strike = c.strike
			rep := w.consent("alice", clientOne, w.session(nil))
			w.expectConsent(rep, c.want, "")
			if c.want == refresh.Connected {
				w.checkLive(rep.Result)
			}
		})
	}
}

func TestDisconnect(t *testing.T) {
	for name, c := range map[string]struct {
		profile        string
		prepare        func(w *world)
		want           refresh.DisconnectOutcome
		revoked, proof string
	}{
		"proved":               {"immediate", nil, refresh.DisconnectDone, "at_provider", "refresh_refused"},
		"no proof is safe":     {"grace_unknown", nil, refresh.DisconnectDone, "at_provider", "none"},
		"no revocation at all": {"immediate", func(w *world) { w.entry.RevocationEndpoint = "" }, refresh.DisconnectDone, "unsupported", "none"},
		// Doorkeeper's 200 to an expired access token's row revokes nothing; the proof
		// brings a fresh pair, which is revoked at once.
		"expired":       {"immediate", func(w *world) { w.advance(2 * time.Hour) }, refresh.DisconnectDone, "at_provider", "refresh_refused"},
		"provider down": {"immediate", func(w *world) { w.fault(simprovider.Fault{On: "revoke", Kind: "status", Count: -1}) }, refresh.DisconnectPending, "pending", ""},
		"client gone":   {"immediate", func(w *world) { delete(w.known, clientOne) }, refresh.DisconnectPending, "pending", ""},
		"only the access token can be revoked": {
			"immediate", func(w *world) { w.entry.Revocation.Accepts = []string{"access_token"} }, refresh.DisconnectDone, "at_provider", "refresh_refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			profile := c.profile
			if profile == "grace_unknown" {
				profile = "immediate"
			}
			w := newWorld(t, profile)
			if c.profile == "grace_unknown" {
				w.entry.Refresh = provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once"}
			}
			id := w.connect("alice")
			access, rt := w.tokens(w.record(id))
			if c.prepare != nil {
				c.prepare(w)
			}
			rep := w.Disconnect(context.Background(), id, time.Minute)
			r := w.record(id)
			if rep.Outcome != c.want || r.Revocation != c.revoked || r.Proof != c.proof || r.Status != connection.Disconnected || r.InFlight {
				t.Fatalf("outcome %d, %s, %q, %s (%v)", rep.Outcome, r.Revocation, r.Proof, r.Status, rep.Err)
			}
			if gone := r.Access == "" && r.Refresh == ""; gone != (c.want == refresh.DisconnectDone) || (r.Todo == "") != gone {
				t.Errorf("tokens gone: %v, todo %q", gone, r.Todo)
			}
			if c.revoked == "at_provider" {
				a, _ := w.sim.Lookup(sim, access)
				b, _ := w.sim.Lookup(sim, rt)
				if a.Live || b.Live {
					t.Error("a token lives on")
				}
			}
			// Whatever was left is done by the next try.
			w.must(w.sim.ClearFaults(sim))
			w.known[clientOne] = true
			if rep := w.Disconnect(context.Background(), id, time.Minute); rep.Outcome != refresh.DisconnectDone || w.record(id).Refresh != "" {
				t.Errorf("again: outcome %d", rep.Outcome)
			}
		})
	}
}

// The proof of a disconnect is a refresh: what it brings is stored before anything else,
// so that a provider that goes away just then leaves no live token that is forgotten,
// and no false proof.
func TestProofThatBringsAPairIsNotForgotten(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.advance(2 * time.Hour) // Doorkeeper revokes nothing of an expired row
	w.fault(simprovider.Fault{On: "revoke", Kind: "delay", Count: 2})
	w.fault(simprovider.Fault{On: "revoke", Kind: "status", Count: -1})
	if rep := w.Disconnect(context.Background(), id, time.Minute); rep.Outcome != refresh.DisconnectPending {
		t.Fatalf("outcome %d", rep.Outcome)
	}
	_, fresh := w.tokens(w.record(id))
	if info, _ := w.sim.Lookup(sim, fresh); !info.Live {
		t.Fatal("the fresh pair is not stored")
	}
	w.must(w.sim.ClearFaults(sim))
	w.Disconnect(context.Background(), id, time.Minute)
	if info, _ := w.sim.Lookup(sim, fresh); info.Live || w.record(id).Proof != "refresh_refused" {
		t.Errorf("live: %v, proof %q", info.Live, w.record(id).Proof)
	}
}

// A provider that never revokes: the disconnect stays pending.
func TestProviderThatRevokesNothing(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.must(w.sim.Break(sim, simprovider.RevokeDoesNothing))
	if rep := w.Disconnect(context.Background(), id, time.Minute); rep.Outcome != refresh.DisconnectPending || w.record(id).Revocation != "pending" {
		t.Errorf("outcome %d, %s", rep.Outcome, w.record(id).Revocation)
	}
	if w.sent() != 3 {
		t.Errorf("%d proofs", w.sent())
	}
}

// A proof whose answer is lost may leave a live token: the receipt says so.
func TestLostProof(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.connect("alice")
	w.fault(simprovider.Fault{On: "token", Kind: "lost_answer"})
	if rep := w.Disconnect(context.Background(), id, time.Minute); rep.Outcome != refresh.DisconnectPending || !w.record(id).InFlight {
		t.Errorf("outcome %d, in flight %v", rep.Outcome, w.record(id).InFlight)
	}
}

func TestDisconnectOfOthers(t *testing.T) {
	w := newWorld(t, "immediate")
	ctx := context.Background()
	if rep := w.Disconnect(ctx, "conn_none", time.Minute); rep.Outcome != refresh.DisconnectAbsent {
		t.Errorf("absent: %d", rep.Outcome)
	}
	id := w.connect("alice")
	w.must(w.claim(id, "other", 60))
	if w.Disconnect(ctx, id, time.Minute); !w.record(id).InFlight {
		t.Error("a refresh was under way")
	}
	held := w.connect("bob")
	w.table.items[held]["status"] = string(connection.Held)
	n := w.sim.Requests(sim)["revoke"]
	if rep := w.Disconnect(ctx, held, time.Minute); rep.Outcome != refresh.DisconnectDone || rep.Record.Revocation != "none" || w.sim.Requests(sim)["revoke"] != n {
		t.Errorf("held: %d, %s", rep.Outcome, rep.Record.Revocation)
	}
	if a, r := w.record(held).Access, w.record(held).Refresh; a != "" || r != "" {
		t.Error("a held connection keeps its tokens")
	}
	w.must(w.Keys.Load(ctx, secret.PurposeToken))
	empty := connection.NewID()
	_, err := w.Store.Write(ctx, empty, connection.Create{Record: connection.Record{Core: connection.Core{
		ID: empty, Integration: sim, ClientID: clientOne, Owner: owner, Grant: "client_credentials", Status: connection.Active, Gen: 1, TokGen: 1,
	}}})
	w.must(err)
	if rep := w.Disconnect(ctx, empty, time.Minute); rep.Outcome != refresh.DisconnectDone || rep.Record.Revocation != "none" || rep.Record.Todo != "" {
		t.Errorf("without tokens: %d, %s, todo %q", rep.Outcome, rep.Record.Revocation, rep.Record.Todo)
	}
}
