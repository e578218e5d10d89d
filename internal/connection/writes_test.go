package connection_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

const id = "conn_1"

// standing is an active connection at generation 3 that was once reconnected.
func standing() connection.Record {
	return connection.Record{
		Core: connection.Core{
			ID: id, Integration: "acme", Client: "main", ClientID: "c1", Owner: "o", Grant: "authorization_code", Status: connection.Active,
			Gen: 3, TokGen: 3, Access: "at3", Refresh: "rt3", TokenID: "t3", SaveID: "s3", ConsentNext: 2, ConsentSeq: 2, IssuedAt: 100, ExpiresAt: 3700,
			Sched: "50#1#0", AccountID: "alice", ConsentedAt: 50,
		},
		Provider: "acme", CreatedAt: 10, UpdatedAt: 100,
	}
}

func claimed(r *connection.Record) {
	r.Attempt = connection.Attempt{ID: "mine", BaseGen: 3, LeaseUntil: 200, Since: 150}
}

func tokens() connection.Tokens {
	return connection.Tokens{Access: "new", Refresh: "newrt", TokenID: "tn", TokenType: "Bearer", IssuedAt: 160, ExpiresAt: 3760}
}

func pending(r *connection.Record) {
	r.Status, r.Revocation, r.Todo, r.Gen, r.DisconnectGen, r.Sched = connection.Disconnected, "pending", "todo#1#0", 4, 4, ""
}

// each write, the item that it is meant for, and the items that refuse it.
var cases = []struct {
	name    string
	write   connection.Write
	found   func(*connection.Record)
	refused map[string]func(*connection.Record)
	// again: a repeat is applied too, since it does no harm.
	again bool
}{
	{
		"claim",
		connection.Claim{Gen: 3, Attempt: connection.Attempt{ID: "mine"}, Now: 150},
		nil,
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "status": func(r *connection.Record) { r.Status = connection.NeedsReauth },
			"held": func(r *connection.Record) { r.Status = connection.Held }, "attempt": claimed,
		},
		false,
	},
	{
		"revive",
		connection.Revive{ID: id, Gen: 3, Sched: "retry#9#0", RetryAt: 500, Now: 450},
		func(r *connection.Record) {
			r.Status, r.Reason, r.Sched = connection.NeedsReauth, connection.Revoked, ""
		},
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "active": func(r *connection.Record) { r.Status, r.Reason = connection.Active, "" },
			"ended": func(r *connection.Record) { r.Status, r.Reason = connection.Disconnected, connection.ByRequest },
			"over":  func(r *connection.Record) { r.Reason = connection.Expired },
		},
		false,
	},
	{
		"takeover",
		connection.Claim{Gen: 3, Attempt: connection.Attempt{ID: "later"}, Over: "mine", Sent: 150, Now: 300},
		claimed,
		map[string]func(*connection.Record){
			"released": func(r *connection.Record) { r.Attempt = connection.Attempt{} },
			"another":  func(r *connection.Record) { r.Attempt.ID = "other" }, "generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
		},
		false,
	},
	{
		"release",
		connection.Release{Attempt: "mine"},
		claimed,
		map[string]func(*connection.Record){"another": func(r *connection.Record) { r.Attempt.ID = "other" }},
		false,
	},
	{
		"later",
		connection.Later{Gen: 3, Attempt: "mine", RetryAt: 500, Sched: "retry#9#0", Failed: true, Doubt: 160, Sent: 150},
		claimed,
		map[string]func(*connection.Record){
			"another": func(r *connection.Record) { r.Attempt.ID = "other" }, "generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
		},
		false,
	},
	{
		"later without a claim",
		connection.Later{Gen: 3, RetryAt: 500, Sched: "retry#9#0"},
		nil,
		map[string]func(*connection.Record){"attempt": claimed},
		true,
	},
	{
		"save",
		connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens(), Rotated: true, Sched: "50#1#0", Now: 160},
		claimed,
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "disconnected": pending,
		},
		false,
	},
	{
		"verdict",
		connection.Verdict{ID: id, Gen: 3, Attempt: "mine", Reason: connection.Revoked, Now: 160},
		claimed,
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "another": func(r *connection.Record) { r.Attempt.ID = "other" },
			"status": func(r *connection.Record) { r.Status = connection.NeedsReauth },
		},
		false,
	},
	{
		"refuse import",
		connection.RefuseImport{ID: id, Gen: 3, Attempt: "mine", Now: 160},
		func(r *connection.Record) { claimed(r); r.Status = connection.Connecting },
		map[string]func(*connection.Record){
			"active": func(r *connection.Record) { r.Status = connection.Active }, "another": func(r *connection.Record) { r.Attempt.ID = "other" },
		},
		false,
	},
	{
		"consent number",
		connection.ConsentNumber{},
		nil,
		map[string]func(*connection.Record){"disconnected since": func(r *connection.Record) { r.DisconnectGen = 3 }},
		true,
	},
	{
		"consent",
		connection.Consent{ID: id, Gen: 3, Seq: 3, Tokens: tokens(), Identity: connection.Identity{Client: "main", ClientID: "c1", AccountID: "bob"}, ConsentedAt: 160},
		nil,
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "later consent": func(r *connection.Record) { r.ConsentSeq = 4 },
			"same consent": func(r *connection.Record) { r.ConsentSeq = 3 },
		},
		false,
	},
	{
		"consent, access token only",
		connection.ConsentAccess{Gen: 3, Seq: 3, Tokens: tokens(), ConsentedAt: 160},
		claimed,
		map[string]func(*connection.Record){
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 }, "later consent": func(r *connection.Record) { r.ConsentSeq = 4 },
			"dead": func(r *connection.Record) { r.Status = connection.NeedsReauth },
		},
		false,
	},
	{
		"tombstone",
		connection.Tombstone{ID: id, Reason: connection.ByRequest, Todo: "todo#1#0", Now: 160},
		claimed,
		map[string]func(*connection.Record){
			"done": pending, "held": func(r *connection.Record) { r.Status = connection.Held },
			"connected anew since": func(r *connection.Record) { r.DisconnectGen = 2 },
		},
		false,
	},
	{
		"quiet tombstone",
		connection.Tombstone{ID: id, Reason: connection.ByRequest, Todo: "todo#1#0", Quiet: true, Now: 160},
		nil,
		map[string]func(*connection.Record){"attempt": claimed, "doubt": func(r *connection.Record) { r.DoubtAt = 1 }},
		false,
	},
	{
		"tombstone of a held one",
		connection.TombstoneHeld{ID: id, Now: 160},
		func(r *connection.Record) { r.Status = connection.Held },
		map[string]func(*connection.Record){"activated": func(r *connection.Record) { r.Status = connection.Connecting }},
		false,
	},
	{
		"supersede",
		connection.Supersede{ID: id, ConsentedAt: 51, Now: 160},
		nil,
		map[string]func(*connection.Record){
			"as old": func(r *connection.Record) { r.ConsentedAt = 51 }, "newer": func(r *connection.Record) { r.ConsentedAt = 52 },
			"imported": func(r *connection.Record) { r.ConsentedAt = 0 }, "done": pending,
		},
		false,
	},
	{
		"proved",
		connection.Proved{Gen: 4, Access: "pa", Refresh: "pr"},
		pending,
		map[string]func(*connection.Record){
			"reconnected": func(r *connection.Record) { r.Status, r.Gen, r.TokGen = connection.Active, 5, 5 }, "erased": func(r *connection.Record) { r.Revocation = "at_provider" },
		},
		true,
	},
	{
		"proving",
		connection.Proving{Gen: 4},
		pending,
		map[string]func(*connection.Record){
			"reconnected": func(r *connection.Record) { r.Status, r.Gen, r.TokGen = connection.Active, 5, 5 }, "erased": func(r *connection.Record) { r.Revocation = "at_provider" },
		},
		true,
	},
	{
		"erase",
		connection.Erase{Gen: 4, Revocation: "at_provider", Proof: "refresh_refused"},
		pending,
		map[string]func(*connection.Record){
			"reconnected": func(r *connection.Record) { r.Status, r.Gen, r.TokGen = connection.Active, 5, 5 }, "erased": func(r *connection.Record) { r.Revocation = "unsupported" },
		},
		false,
	},
	{
		"postpone",
		connection.Postpone{Gen: 4, Todo: "todo#9#0", InFlight: true, Proven: true},
		pending,
		map[string]func(*connection.Record){"finished": func(r *connection.Record) { r.Todo = "" }},
		true,
	},
	{
		"reseal",
		connection.Reseal{Gen: 3, OldAccess: "at3", OldRT: "rt3", Access: "at3b", RefreshTok: "rt3b"},
		nil,
		map[string]func(*connection.Record){
			"access token": func(r *connection.Record) { r.Access = "other" }, "refresh token": func(r *connection.Record) { r.Refresh = "other" },
			"attempt": claimed, "generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
		},
		false,
	},
	{
		"activate",
		connection.Activate{ID: id, Todo: "todo#1#0", Now: 160},
		func(r *connection.Record) { r.Status = connection.Held },
		map[string]func(*connection.Record){"active": func(r *connection.Record) { r.Status = connection.Active }},
		false,
	},
	{
		"activate without a refresh token",
		connection.Activate{ID: id, Now: 160},
		func(r *connection.Record) { r.Status = connection.Held },
		map[string]func(*connection.Record){"active": func(r *connection.Record) { r.Status = connection.Active }},
		false,
	},
	{
		"hold",
		connection.Hold{ID: id, Gen: 3, Now: 160},
		nil,
		map[string]func(*connection.Record){
			"attempt": claimed, "doubt": func(r *connection.Record) { r.DoubtAt = 50 }, "generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
			"status": func(r *connection.Record) { r.Status = connection.NeedsReauth },
		},
		false,
	},
	{
		"arrive",
		connection.Arrive{Gen: 3, Record: connection.Record{Core: connection.Core{
			ID: id, Integration: "one", Owner: "tenant", Status: connection.Held, Gen: 7, TokGen: 7,
		}}, Stale: []string{"sched"}},
		func(r *connection.Record) { r.Status = connection.Held },
		map[string]func(*connection.Record){
			"activated": func(r *connection.Record) { r.Status = connection.Active }, "newer": func(r *connection.Record) { r.Gen, r.TokGen = 8, 8 },
		},
		false,
	},
	{
		"renew",
		connection.Renew{Gen: 3, OldRT: "rt3", Access: "at3b", RefreshTok: "rt3b", TokenID: "t2", IssuedAt: 160, ExpiresAt: 260, Now: 160},
		func(r *connection.Record) { r.Status = connection.Held },
		map[string]func(*connection.Record){
			"activated": func(r *connection.Record) { r.Status = connection.Connecting }, "renewed by another": func(r *connection.Record) { r.Refresh = "other" },
			"generation": func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
		},
		false,
	},
	{
		"reschedule",
		connection.Reschedule{Gen: 3, Old: "50#1#0", Sched: "100#1#0"},
		nil,
		map[string]func(*connection.Record){"moved": func(r *connection.Record) { r.Sched = "retry#1#0" }},
		false,
	},
	{
		"take off the schedule",
		connection.Reschedule{Gen: 3, Old: "50#1#0"},
		nil,
		map[string]func(*connection.Record){"lost": func(r *connection.Record) { r.Sched = "" }},
		false,
	},
	{
		"tags", connection.SetTags{Tags: map[string]string{"a": "b"}, Now: 160}, nil, nil, true,
	},
	{
		"warn",
		connection.Warn{ConsentSeq: 2, End: 900, Now: 160},
		nil,
		map[string]func(*connection.Record){
			"consent": func(r *connection.Record) { r.ConsentSeq = 3 }, "status": func(r *connection.Record) { r.Status = connection.NeedsReauth },
			"told": func(r *connection.Record) { r.Warned = 900 },
		},
		false,
	},
	{
		"force",
		connection.Force{Gen: 3, Now: 160},
		nil,
		map[string]func(*connection.Record){"forced since": func(r *connection.Record) { r.ForcedAt, r.ForcedGen = 155, 3 }},
		false,
	},
	{
		"force again",
		connection.Force{Gen: 3, Last: 120, Now: 160},
		func(r *connection.Record) { r.ForcedAt, r.ForcedGen = 120, 2 },
		map[string]func(*connection.Record){
			"forced since": func(r *connection.Record) { r.ForcedAt, r.ForcedGen = 155, 3 },
			"saved since":  func(r *connection.Record) { r.Gen, r.TokGen = 4, 4 },
		},
		false,
	},
	{
		"take a force back",
		connection.Force{Gen: 3, Last: 160},
		func(r *connection.Record) { r.ForcedAt, r.ForcedGen = 160, 3 },
		map[string]func(*connection.Record){"forced since": func(r *connection.Record) { r.ForcedAt = 165 }},
		false,
	},
}

// Each write is applied to what it is meant for, refused by each other shape of the
// item, never creates, and repeated it does nothing more. What it leaves can be read.
func TestWrites(t *testing.T) {
	for _, c := range cases {
		u := c.write.Update()
		if err := u.Check(item.ConnectionIndexes()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		meant := standing()
		if c.found != nil {
			c.found(&meant)
		}
		next, applied := u.Apply(meant.Item())
		if !applied {
			t.Errorf("%s: refused by what it is meant for", c.name)
			continue
		}
		if _, err := connection.FromItem(id, next); err != nil {
			t.Errorf("%s: leaves %v", c.name, err)
		}
		if _, applied := u.Apply(next); applied != c.again {
			t.Errorf("%s: a repeat is applied: %v", c.name, applied)
		}
		if _, applied := u.Apply(nil); applied {
			t.Errorf("%s: creates", c.name)
		}
		for why, change := range c.refused {
			r := meant
			change(&r)
			if _, applied := u.Apply(r.Item()); applied {
				t.Errorf("%s: applied in spite of %s", c.name, why)
			}
		}
	}
}

func after(t *testing.T, w connection.Write, r connection.Record) connection.Record {
	t.Helper()
	next, applied := w.Update().Apply(r.Item())
	if !applied {
		t.Fatalf("%T refused", w)
	}
	got, err := connection.FromItem(r.ID, next)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSaveLeavesNoMarker(t *testing.T) {
	r := standing()
	claimed(&r)
	r.DoubtAt, r.DoubtSent, r.RetryAt, r.Failures, r.Status, r.Reason = 1, 1, 1, 4, connection.NeedsReauth, connection.LostResponse
	got := after(t, connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens(), Rotated: true, Epoch: 2, Sched: "50#1#0", Now: 160}, r)
	want := standing()
	want.Gen, want.TokGen, want.SaveID, want.Rotates, want.RestoreEpoch, want.UpdatedAt = 4, 4, "mine", true, 2, 160
	want.Access, want.Refresh, want.TokenID, want.TokenType, want.IssuedAt, want.ExpiresAt = "new", "newrt", "tn", "Bearer", 160, 3760
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// No refresh token in hand: what is stored stays.
	w := connection.Save{ID: id, Gen: 3, SaveID: "mine", Tokens: tokens()}
	w.Tokens.Refresh = ""
	if got := after(t, w, r); got.Refresh != "rt3" {
		t.Errorf("refresh token %q", got.Refresh)
	}
}

func TestFirstDoubtStands(t *testing.T) {
	r := standing()
	claimed(&r)
	r.DoubtAt, r.DoubtSent = 120, 110
	for _, c := range []struct {
		write connection.Write
		at    int64
	}{
		{connection.Later{Gen: 3, Attempt: "mine", Doubt: 160, Sent: 150}, 120},
		// Whoever is taken over may be saving now: the horizon begins anew.
		{connection.Claim{Gen: 3, Attempt: connection.Attempt{ID: "x"}, Over: "mine", Sent: 150, Now: 300}, 300},
	} {
		if got := after(t, c.write, r); got.DoubtAt != c.at || got.DoubtSent != 110 {
			t.Errorf("%T: doubt %d, sent %d", c.write, got.DoubtAt, got.DoubtSent)
		}
	}
	// An older doubt of which nobody knows the send keeps it so.
	r.DoubtSent = 0
	if got := after(t, connection.Later{Gen: 3, Attempt: "mine", Doubt: 160}, r); got.DoubtSent != 0 {
		t.Errorf("sent %d", got.DoubtSent)
	}
}

// A disconnect fences every consent whose number was drawn before it.
func TestDisconnectFencesConsents(t *testing.T) {
	r := after(t, connection.ConsentNumber{}, standing())
	n := r.ConsentNext
	for _, w := range []connection.Write{
		connection.Tombstone{ID: id, Reason: connection.ByRequest, Todo: "todo#1#0"}, connection.Supersede{ID: id, ConsentedAt: 60},
	} {
		gone := after(t, w, r)
		if gone.ConsentSeq <= n || gone.DisconnectGen != gone.Gen || gone.TokGen != 3 {
			t.Fatalf("%T: %+v", w, gone.Core)
		}
		if _, applied := (connection.Consent{ID: id, Gen: gone.Gen, Seq: n}).Update().Apply(gone.Item()); applied {
			t.Errorf("%T: an earlier consent is stored after it", w)
		}
		if _, applied := (connection.ConsentNumber{}).Update().Apply(gone.Item()); applied {
			t.Errorf("%T: an earlier session draws a number", w)
		}
		next := after(t, connection.ConsentNumber{DisconnectGen: gone.DisconnectGen}, gone)
		back := after(t, connection.Consent{ID: id, Gen: gone.Gen, Seq: next.ConsentNext, Tokens: tokens(), Identity: connection.Identity{Client: "m", ClientID: "c"}}, next)
		if back.Status != connection.Active || back.Todo != "" || back.Revocation != "" || back.DisconnectedAt != 0 {
			t.Errorf("reconnected: %+v", back)
		}
	}
}

func TestConsentWithoutRefreshTokenTouchesLittle(t *testing.T) {
	r := standing()
	claimed(&r)
	r.DoubtAt = 120
	got := after(t, connection.ConsentAccess{Gen: 3, Seq: 3, Tokens: tokens(), ConsentedAt: 160}, r)
	want := r
	want.Access, want.TokenID, want.TokenType, want.IssuedAt, want.ExpiresAt = "new", "tn", "Bearer", 160, 3760
	want.ConsentSeq, want.ConsentedAt, want.UpdatedAt = 3, 160, 160
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	r := standing()
	claimed(&r)
	r.Reason, r.DoubtAt, r.DoubtSent, r.Rotates, r.RestoreEpoch, r.RetryAt, r.Failures, r.Todo = connection.Expired, 1, 2, true, 3, 4, 5, "todo#1#0"
	r.DisconnectGen, r.AccountName, r.TokenType, r.RequestedScope, r.GrantedScope, r.ScopeKnown = 2, "Alice", "Bearer", "a b", "a", true
	r.Tags, r.Fields, r.SecretFields, r.ExternalID = map[string]string{"k": "v"}, map[string]string{"realm": "1"}, "sealed", "ext"
	r.DisconnectedAt, r.Revocation, r.Proof, r.InFlight, r.RefreshExpiresAt = 7, "none", "none", true, 8
	r.RefreshSlides, r.Warned = true, 8
	r.Outbox = outbox.Box{Last: 2, Told: 1, Waiting: []outbox.Event{{ID: "evt_1", Type: outbox.NeedsReauth, At: 9, Seq: 2, Reason: "expired"}}}
	r.Journal = r.Journal.Add(connection.Entry{At: 9, Outcome: connection.OutcomeSaved, Gen: 3})
	got, err := connection.FromItem(id, r.Item())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
	if size := r.Item().Size(); size > 1024 {
		t.Errorf("a small record has %d bytes", size)
	}
}

// Tokens that were sealed for another generation than the record's are not used.
func TestTokensOfAnotherGenerationAreRefused(t *testing.T) {
	for _, status := range []connection.Status{connection.Active, connection.Connecting, connection.Held, connection.NeedsReauth, connection.Disconnected} {
		r := standing()
		r.Status, r.TokGen = status, 2
		if _, err := connection.FromItem(id, r.Item()); (err == nil) != (status == connection.Disconnected) {
			t.Errorf("%s: %v", status, err)
		}
	}
	if _, err := connection.FromItem(id, item.Item{}); err == nil {
		t.Error("an empty item is read")
	}
}

func TestJournal(t *testing.T) {
	var j connection.Journal
	for i := range int64(40) {
		j = j.Add(connection.Entry{At: 1000 + i, Outcome: connection.OutcomeSaved, Gen: i, Millis: 10 * i})
	}
	got := j.Entries()
	if len(got) != connection.JournalSize || got[0].Gen != 24 || got[15] != (connection.Entry{At: 1039, Outcome: connection.OutcomeSaved, Gen: 39, Millis: 390}) {
		t.Errorf("%d entries, %+v", len(got), got)
	}
	if n := len(connection.Journal("torn").Entries()); n != 0 {
		t.Errorf("%d entries of a torn journal", n)
	}
	if s := fmt.Sprint(connection.OutcomeCreated, " ", connection.Outcome(200)); s != "created unknown" {
		t.Error(s)
	}
}

// What is kept of a consent is its own: a field that the new answer does not name is not
// the one of the account before.
func TestAReconnectKeepsNoFieldOfTheConsentBefore(t *testing.T) {
	rec := connection.Record{Core: connection.Core{ID: "conn_x", Status: connection.Active, Gen: 1, TokGen: 1, AccountID: "a"}, SecretFields: "sealed-of-a", Fields: map[string]string{"patient": "p-of-a"}}
	old := rec.Item()
	old["consent_seq"] = int64(0)
	u := connection.Consent{ID: "conn_x", Gen: 1, Seq: 1, Tokens: connection.Tokens{Access: "at-b", Refresh: "rt-b"}, Identity: connection.Identity{AccountID: "b"}}.Update()
	now, applied := u.Apply(old)
	if !applied || now["secret_fields"] != nil || now["fields"] != nil {
		t.Errorf("applied %v: account %v, secret fields %v, fields %v", applied, now["account"], now["secret_fields"], now["fields"])
	}
}

// The told end of a refresh token is not that of the one which an import puts in its place.
func TestOtherTokensOfAHeldConnectionHaveTheirOwnEnd(t *testing.T) {
	for _, other := range []bool{false, true} {
		rec := connection.Record{Core: connection.Core{ID: "conn_x", Status: connection.Held, Gen: 3, TokGen: 3, Refresh: "old"}, RefreshExpiresAt: 1000}
		now, applied := connection.Renew{Gen: 3, OldRT: "old", RefreshTok: "new", Other: other}.Update().Apply(rec.Item())
		if _, told := now["rt_expires_at"]; !applied || told == other {
			t.Errorf("other tokens %v: applied %v, end told %v", other, applied, told)
		}
	}
}
