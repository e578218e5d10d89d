package connection

import "github.com/evergrant/evergrant/internal/item"

// Write is one conditional write of the protocol. Its Update is the whole truth
// about it: what it demands of the item, and what it changes.
type Write interface{ Update() item.Update }

// The condition that a refresh may be going on for the item.
func refreshable() item.Cond { return item.In("status", string(Active), string(Connecting)) }

// mine is the condition that the attempt is still ours; without a claim (a
// provider that never rotates needs none) that nobody else's stands.
func mine(attempt string) item.Cond {
	if attempt == "" {
		return item.Lacks("attempt")
	}
	return item.Eq("attempt.id", attempt)
}

// Claim takes the right to refresh generation Gen. Over names the expired attempt
// that it takes over; a takeover puts the generation in doubt, since its token may
// have been sent. So does an item written before the deployment was restored.
//
// A crash after it leaves the attempt standing until its lease ends.
type Claim struct {
	Gen     int64
	Attempt Attempt
	Over    string
	Sent    int64 // when Over was claimed, 0 unknown: its token may have been sent since
	Older   bool  // the item was last written in an older epoch of the deployment
	Now     int64
}

// Update implements Write.
func (w Claim) Update() item.Update {
	u := item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), refreshable()},
		Set: []item.Assign{item.Put("attempt", w.Attempt.item())},
	}
	if w.Over == "" {
		u.If = append(u.If, item.Lacks("attempt"))
	} else {
		u.If = append(u.If, item.Eq("attempt.id", w.Over))
	}
	switch {
	case w.Over != "":
		// A doubt anew, also where an older one stands: whoever held the claim may be
		// saving this very moment, and the horizon counts for them.
		u.Set = append(u.Set, item.Put("doubt_at", w.Now))
	case w.Older:
		u.Set = append(u.Set, item.Keep("doubt_at", w.Now))
	}
	if w.Over != "" && w.Sent != 0 {
		u.Set = append(u.Set, item.Keep("doubt_sent", w.Sent))
	}
	return u
}

// Release gives a claim back of which nothing is known: nothing was sent.
type Release struct{ Attempt string }

// Update implements Write.
func (w Release) Update() item.Update {
	return item.Update{If: []item.Cond{item.Eq("attempt.id", w.Attempt)}, Remove: []string{"attempt"}}
}

// Later puts a refresh off, giving the claim back. It is the protocol's PARK,
// NOT_ACTED, DOUBT and HOLD, which differ only in what they add.
type Later struct {
	Gen     int64
	Attempt string // "" without a claim
	RetryAt int64
	Sched   string
	Failed  bool  // counts as a failure
	Doubt   int64 // when the doubt was discovered: set unless one stands already; 0 leaves it as it is
	Sent    int64 // of a doubt of this attempt's own: the earliest moment of its send, 0 unknown
	Journal Journal
}

// Update implements Write.
func (w Later) Update() item.Update {
	u := item.Update{
		If:     []item.Cond{item.Eq("gen", w.Gen), mine(w.Attempt)},
		Set:    []item.Assign{item.Put("retry_at", w.RetryAt)},
		Remove: []string{"attempt"},
	}
	if w.Sched != "" {
		u.Set = append(u.Set, item.Put("sched", w.Sched))
	}
	if w.Failed {
		u.Set = append(u.Set, item.Plus("failures", "failures", 1))
	}
	if w.Doubt != 0 && w.Attempt != "" {
		u.Set = append(u.Set, item.Keep("doubt_at", w.Doubt))
		if w.Sent != 0 {
			u.Set = append(u.Set, item.Keep("doubt_sent", w.Sent))
		}
	}
	return journaled(u, w.Journal)
}

// Tokens are the sealed values and facts that a save or a consent stores together.
type Tokens struct {
	Access           item.Bytes
	Refresh          item.Bytes // "" where the connection has none
	TokenID          string
	TokenType        string
	IssuedAt         int64
	ExpiresAt        int64 // 0 unknown
	RefreshExpiresAt int64 // 0 unknown: what is stored stays
	Scope            string
	ScopeKnown       bool
}

func (t Tokens) set(u *item.Update) {
	if t.Access != "" {
		u.Set = append(u.Set, item.Put("at", t.Access), item.Put("token_id", t.TokenID), item.Put("token_type", t.TokenType))
	}
	putInt(u, "issued_at", t.IssuedAt)
	if t.Refresh != "" {
		u.Set = append(u.Set, item.Put("rt", t.Refresh))
	}
	putInt(u, "expires_at", t.ExpiresAt)
	if t.RefreshExpiresAt != 0 {
		u.Set = append(u.Set, item.Put("rt_expires_at", t.RefreshExpiresAt))
	}
	if t.ScopeKnown {
		u.Set = append(u.Set, item.Put("scope", t.Scope), item.Put("scope_known", true))
	}
}

// Save stores the answer to a refresh as generation Gen+1. It asks for the
// generation alone: not for the lease, which may have run out, and not for
// status=active, since a late save heals a wrong verdict.
type Save struct {
	ID      string
	Gen     int64 // the generation whose token was sent
	SaveID  string
	Tokens  Tokens
	Rotated bool // the refresh token changed
	Slides  bool // the end of the refresh token moved
	Epoch   int64
	Sched   string // "" for none
	Done    bool   // an import's first refresh: it is no longer unfinished
	// Doubt is when it was discovered that the stored refresh token may be spent
	// although this answer was good: its own refresh token could not be used. Sent is
	// the earliest moment of the send. 0: no doubt.
	Doubt, Sent int64
	// RetryAt is set where the answer brought a refresh token and no access token
	// that can be used: the old access token stands beside the new refresh token, and
	// the refresh is tried again. Failures counts that too.
	RetryAt, Failures int64
	Now               int64
	Journal           Journal
}

// Update implements Write.
func (w Save) Update() item.Update {
	u := item.Update{
		If: []item.Cond{
			item.Eq("gen", w.Gen), item.Ne("status", string(Disconnected)),
			item.Lt("restore_epoch", w.Epoch+1), // a rescue from before a restore proves nothing by its generation
		},
		Set: []item.Assign{
			item.Put("gen", w.Gen+1), item.Put("tok_gen", w.Gen+1), item.Put("save_id", w.SaveID),
			item.Put("status", string(Active)), item.Put("status_id", statusID(Active, w.ID)),
			item.Put("failures", w.Failures), item.Put("restore_epoch", w.Epoch), item.Put("updated_at", w.Now),
		},
		Remove: []string{"attempt", "reason"},
	}
	w.Tokens.set(&u)
	putInt(&u, "doubt_at", w.Doubt)
	putInt(&u, "doubt_sent", w.Sent)
	putInt(&u, "retry_at", w.RetryAt)
	putText(&u, "sched", w.Sched)
	if w.Rotated {
		u.Set = append(u.Set, item.Put("rotates", true))
		if w.Tokens.RefreshExpiresAt == 0 {
			u.Remove = append(u.Remove, "rt_expires_at") // that was the end of the token before
		}
	}
	if w.Slides {
		u.Set = append(u.Set, item.Put("rt_slides", true))
	}
	if w.Done {
		u.Remove = append(u.Remove, "todo")
	}
	return journaled(u, w.Journal)
}

// Verdict says that the user must consent again. It destroys, so generation,
// status and attempt must all be as they were. The sealed tokens stay.
type Verdict struct {
	ID      string
	Gen     int64
	Attempt string // "" without a claim
	Reason  Reason
	Now     int64
	Journal Journal
}

// Update implements Write.
func (w Verdict) Update() item.Update {
	u := item.Update{
		If: []item.Cond{item.Eq("gen", w.Gen), refreshable(), mine(w.Attempt)},
		Set: []item.Assign{
			item.Put("status", string(NeedsReauth)), item.Put("status_id", statusID(NeedsReauth, w.ID)),
			item.Put("reason", string(w.Reason)), item.Put("updated_at", w.Now),
		},
		Remove: []string{"attempt", "sched", "retry_at", "todo"},
	}
	return journaled(u, w.Journal)
}

// Revive takes a verdict back: an incident at the provider looked like the users' will.
// It is the verdict that was read, and nobody has consented, disconnected or saved
// since. What stood in doubt still does.
type Revive struct {
	ID      string
	Gen     int64
	Sched   string
	RetryAt int64
	Now     int64
	Journal Journal
}

// Update implements Write.
func (w Revive) Update() item.Update {
	u := item.Update{
		If: []item.Cond{
			item.Eq("gen", w.Gen), item.Eq("status", string(NeedsReauth)), item.In("reason", string(Revoked), string(LostResponse)),
		},
		Set: []item.Assign{
			item.Put("status", string(Active)), item.Put("status_id", statusID(Active, w.ID)), item.Put("sched", w.Sched),
			item.Put("retry_at", w.RetryAt), item.Put("failures", int64(0)), item.Put("updated_at", w.Now),
		},
		Remove: []string{"reason"},
	}
	return journaled(u, w.Journal)
}

// RefuseImport ends an import whose token the provider refused: a receipt without
// tokens. It is an update, not a deletion, since the refresh role may not delete.
type RefuseImport struct {
	ID      string
	Gen     int64
	Attempt string
	Now     int64
}

// Update implements Write.
func (w RefuseImport) Update() item.Update {
	return item.Update{
		If: []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Connecting)), mine(w.Attempt)},
		Set: []item.Assign{
			item.Put("status", string(Disconnected)), item.Put("status_id", statusID(Disconnected, w.ID)),
			item.Put("reason", string(TokenRefused)), item.Put("disconnected_at", w.Now), item.Put("updated_at", w.Now),
			item.Put("revocation", "none"), item.Put("proof", "refresh_refused"),
			item.Plus("gen", "gen", 1), item.Plus("disconnect_gen", "gen", 1),
		},
		Remove: []string{"at", "rt", "secret_fields", "attempt", "sched", "todo", "retry_at", "doubt_at", "doubt_sent"},
	}
}

// ConsentNumber draws the fencing number of a reconnect, unless the connection was
// disconnected since its session noted DisconnectGen. The number is consent_next of
// the item as written. A repeat leaves a harmless gap.
type ConsentNumber struct{ DisconnectGen int64 }

// Update implements Write.
func (w ConsentNumber) Update() item.Update {
	return item.Update{
		If:  []item.Cond{item.Eq("disconnect_gen", w.DisconnectGen)},
		Set: []item.Assign{item.Plus("consent_next", "consent_next", 1)},
	}
}

// Identity is what a consent tells about the connection besides its tokens.
type Identity struct {
	Client, ClientID       string
	AccountID, AccountName string // "" leaves what is stored
	RequestedScope         string
	Fields                 map[string]string
	SecretFields           item.Bytes
}

func (id Identity) set(u *item.Update) {
	u.Set = append(u.Set, item.Put("client", id.Client), item.Put("client_id", id.ClientID))
	if id.AccountID != "" {
		u.Set = append(u.Set, item.Put("account", id.AccountID))
		putText(u, "account_name", id.AccountName)
	}
	if id.RequestedScope != "" {
		u.Set = append(u.Set, item.Put("req_scope", id.RequestedScope))
	}
	if m := item.StringMap(id.Fields); m != nil {
		u.Set = append(u.Set, item.Put("fields", m))
	} else {
		u.Remove = append(u.Remove, "fields")
	}
	putBytes(u, "secret_fields", id.SecretFields)
}

// Consent stores a reconnect that brought a refresh token (or whose connection has
// none) as generation Gen+1, under the fencing number Seq: a later consent or a
// disconnect never loses to it.
type Consent struct {
	ID          string
	Gen         int64
	Seq         int64
	Tokens      Tokens
	Identity    Identity
	DropRefresh bool // neither the answer nor the connection has a refresh token
	ConsentedAt int64
	Epoch       int64
	Sched       string
	Journal     Journal
}

// Update implements Write.
func (w Consent) Update() item.Update {
	u := item.Update{
		If: []item.Cond{item.Eq("gen", w.Gen), item.Lt("consent_seq", w.Seq)},
		Set: []item.Assign{
			item.Put("gen", w.Gen+1), item.Put("tok_gen", w.Gen+1), item.Put("consent_seq", w.Seq),
			item.Put("consented_at", w.ConsentedAt), item.Put("grant", "authorization_code"),
			item.Put("status", string(Active)), item.Put("status_id", statusID(Active, w.ID)),
			item.Put("failures", int64(0)), item.Put("restore_epoch", w.Epoch), item.Put("updated_at", w.ConsentedAt),
		},
		Remove: []string{"attempt", "doubt_at", "doubt_sent", "reason", "retry_at", "save_id", "todo", "disconnected_at", "revocation", "proof", "in_flight", "proving"},
	}
	w.Tokens.set(&u)
	w.Identity.set(&u)
	putText(&u, "sched", w.Sched)
	if w.Tokens.RefreshExpiresAt == 0 {
		u.Remove = append(u.Remove, "rt_expires_at")
	}
	if w.DropRefresh {
		u.Remove = append(u.Remove, "rt")
	}
	return journaled(u, w.Journal)
}

// ConsentAccess stores a reconnect of the same account under the same client whose
// answer brought no refresh token: only the access token changes. The generation,
// the refresh token, an attempt and a doubt stay, so that a rotation in flight can
// still be saved.
type ConsentAccess struct {
	Gen         int64
	Seq         int64
	Tokens      Tokens // Refresh is not used
	ConsentedAt int64
}

// Update implements Write.
func (w ConsentAccess) Update() item.Update {
	u := item.Update{
		If: []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Active)), item.Lt("consent_seq", w.Seq)},
		Set: []item.Assign{
			item.Put("consent_seq", w.Seq), item.Put("consented_at", w.ConsentedAt), item.Put("updated_at", w.ConsentedAt),
		},
	}
	w.Tokens.Refresh = ""
	w.Tokens.set(&u)
	return u
}

// Tombstone is the first step of a disconnect. From here on nothing is handed out
// or stored, and the fences refuse every earlier consent. The tokens stay sealed
// until they are revoked at the provider; Todo brings the tick here after a crash.
//
// It asks that nothing was disconnected since the item was read: a repeat on the wire
// that comes after the connection was connected anew must not end that consent.
type Tombstone struct {
	ID     string
	Reason Reason

	// DisconnectGen is the item's as it was read.
	DisconnectGen int64

	Todo    string
	Quiet   bool // demands that no refresh is under way, so that InFlight may be said to be false
	Now     int64
	Journal Journal
}

// Update implements Write.
func (w Tombstone) Update() item.Update {
	u := tombstone(w.ID, w.Reason, w.Now)
	u.If = append(u.If, item.Ne("status", string(Held)), item.Eq("disconnect_gen", w.DisconnectGen))
	u.Set = append(u.Set, item.Put("todo", w.Todo), item.Put("revocation", "pending"))
	if w.Quiet {
		u.If = append(u.If, item.Lacks("attempt"), item.Lacks("doubt_at"))
	} else {
		u.Set = append(u.Set, item.Put("in_flight", true))
	}
	return journaled(u, w.Journal)
}

func tombstone(id string, reason Reason, now int64) item.Update {
	return item.Update{
		If: []item.Cond{item.Ne("status", string(Disconnected))},
		Set: []item.Assign{
			item.Put("status", string(Disconnected)), item.Put("status_id", statusID(Disconnected, id)),
			item.Put("reason", string(reason)), item.Put("disconnected_at", now), item.Put("updated_at", now),
			item.Plus("gen", "gen", 1), item.Plus("disconnect_gen", "gen", 1),
			item.Plus("consent_next", "consent_next", 1), item.Plus("consent_seq", "consent_next", 1),
		},
		Remove: []string{"attempt", "sched", "doubt_at", "doubt_sent", "retry_at"},
	}
}

// TombstoneHeld ends a held connection at once: another broker lives on its grant,
// so nothing is sent and the tokens go.
type TombstoneHeld struct {
	ID  string
	Now int64
}

// Update implements Write.
func (w TombstoneHeld) Update() item.Update {
	u := tombstone(w.ID, ByRequest, w.Now)
	u.If = append(u.If, item.Eq("status", string(Held)))
	u.Set = append(u.Set, item.Put("revocation", "none"), item.Put("proof", "none"))
	u.Remove = append(u.Remove, "at", "rt", "secret_fields", "todo")
	return u
}

// Supersede ends an older connection of an account that was connected anew. It is
// never revoked: at many providers that would end the new grant too. Two at once
// never end each other, since each asks for an older consent than its own.
type Supersede struct {
	ID          string
	ConsentedAt int64 // of the newer connection
	Now         int64
}

// Update implements Write.
func (w Supersede) Update() item.Update {
	u := tombstone(w.ID, Superseded, w.Now)
	u.If = append(u.If, item.Lt("consented_at", w.ConsentedAt))
	u.Set = append(u.Set, item.Put("revocation", "none"), item.Put("proof", "none"))
	u.Remove = append(u.Remove, "at", "rt", "secret_fields", "todo")
	return u
}

// Proved stores the pair that a proof brought in place of the one that it spent: the
// proof of a disconnect is a refresh, and a provider that did not revoke answers it.
// A crash before it leaves a live token that nobody holds; the mark of Proving tells.
type Proved struct {
	Gen     int64
	Access  item.Bytes // sealed for the generation of the old pair; "" for none
	Refresh item.Bytes
}

// Update implements Write.
func (w Proved) Update() item.Update {
	u := item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Disconnected)), item.Eq("revocation", "pending")},
		Set: []item.Assign{item.Put("rt", w.Refresh)},
	}
	if w.Access == "" {
		u.Remove = []string{"at"}
	} else {
		u.Set = append(u.Set, item.Put("at", w.Access))
	}
	return u
}

// Proving is written before the proof of a disconnect is sent. Who finds it standing
// knows that somebody may have died with the answer: a provider that did not revoke
// gives a live pair.
type Proving struct{ Gen int64 }

// Update implements Write.
func (w Proving) Update() item.Update {
	return item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Disconnected)), item.Eq("revocation", "pending")},
		Set: []item.Assign{item.Put("proving", true)},
	}
}

// Erase is the last step of a disconnect: the tokens go, the receipt stays. It is
// done once: a receipt is never overwritten.
type Erase struct {
	Gen        int64
	Revocation string
	Proof      string
	InFlight   bool // what an earlier proof brought may live on
	// Untold: the disconnect's event waits to be delivered, so that the receipt stays on
	// the tick's list. None is added to a receipt, so what was read last holds.
	Untold bool
}

// Update implements Write.
func (w Erase) Update() item.Update {
	u := item.Update{
		If: []item.Cond{
			item.Eq("gen", w.Gen), item.Eq("status", string(Disconnected)), item.Eq("revocation", "pending"),
		},
		Set:    []item.Assign{item.Put("revocation", w.Revocation), item.Put("proof", w.Proof)},
		Remove: []string{"at", "rt", "secret_fields", "proving"},
	}
	if w.InFlight {
		u.Set = append(u.Set, item.Put("in_flight", true))
	}
	if !w.Untold {
		u.Remove = append(u.Remove, "todo")
	}
	return u
}

// Reseal stores the same tokens and secret fields under a newer data key, unless anything
// moved.
type Reseal struct {
	Gen                int64
	OldAccess, OldRT   item.Bytes
	Access, RefreshTok item.Bytes
	OldFields, Fields  item.Bytes
}

// Update implements Write.
func (w Reseal) Update() item.Update {
	u := item.Update{If: []item.Cond{item.Eq("gen", w.Gen), item.Eq("tok_gen", w.Gen), item.Lacks("attempt")}}
	for _, f := range []struct {
		name     string
		old, new item.Bytes
	}{{"at", w.OldAccess, w.Access}, {"rt", w.OldRT, w.RefreshTok}, {"secret_fields", w.OldFields, w.Fields}} {
		if f.old != "" {
			u.If = append(u.If, item.Eq(f.name, f.old))
			u.Set = append(u.Set, item.Put(f.name, f.new))
		}
	}
	return u
}

// Activate begins to refresh a held connection. An import's token is proved by its first
// refresh (connecting). Where the provider has no refresh tokens nothing is left to prove,
// and a connection that had been active before it was held is active again: should its
// token be refused, that is a verdict, and the tokens stay.
type Activate struct {
	ID    string
	Sched string
	Todo  string // "" where there is nothing to prove
	// Proved: it had been active before it was held. Whoever it was held for may have used
	// its token since, so that it is in doubt.
	Proved bool
	Now    int64
}

// Update implements Write.
func (w Activate) Update() item.Update {
	status := Connecting
	if w.Todo == "" {
		status = Active
	}
	u := item.Update{
		If: []item.Cond{item.Eq("status", string(Held))},
		Set: []item.Assign{
			item.Put("status", string(status)), item.Put("status_id", statusID(status, w.ID)), item.Put("updated_at", w.Now),
		},
	}
	if w.Todo != "" {
		u.Set = append(u.Set, item.Put("todo", w.Todo))
	}
	if w.Proved && w.Sched != "" {
		u.Set = append(u.Set, item.Keep("doubt_at", w.Now))
	}
	putText(&u, "sched", w.Sched)
	return u
}

// Hold stops the refreshing of an active connection: another broker is to go on with its
// grant. It asks that nothing is under way or in doubt, since what came of that would be
// stored under a token that is somebody else's by then. What waits to be delivered still
// does.
type Hold struct {
	ID  string
	Gen int64
	Now int64
}

// Update implements Write.
func (w Hold) Update() item.Update {
	return item.Update{
		If:     []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Active)), item.Lacks("attempt"), item.Lacks("doubt_at")},
		Set:    []item.Assign{item.Put("status", string(Held)), item.Put("status_id", statusID(Held, w.ID)), item.Put("updated_at", w.Now)},
		Remove: []string{"sched", "retry_at"},
	}
}

// Arrive puts a connection that comes from another deployment in place of a held one of
// the same id, which went there before and is older. Stale names the attributes of the
// item as read that the newer one lacks.
type Arrive struct {
	Gen    int64 // of the item as read, below the record's
	Record Record
	Stale  []string
}

// Update implements Write.
func (w Arrive) Update() item.Update {
	u := item.Update{If: []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Held))}, Remove: w.Stale}
	for name, v := range w.Record.Item() {
		u.Set = append(u.Set, item.Put(name, v))
	}
	return u
}

// Renew replaces the tokens of a held connection by newer ones of the same grant: the
// broker that still refreshes it has gone on. Nobody here sends the tokens of a held
// connection, so the generation stays.
type Renew struct {
	Gen   int64
	OldRT item.Bytes // the sealed refresh token as read, "" for none

	Access, RefreshTok  item.Bytes // sealed; an absent one is removed
	TokenID, TokenType  string
	IssuedAt, ExpiresAt int64
	Other               bool // the tokens are others than those stored, of whose end something may have been told
	Now                 int64
}

// Update implements Write.
func (w Renew) Update() item.Update {
	u := item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Held))},
		Set: []item.Assign{item.Put("updated_at", w.Now)},
	}
	if w.OldRT == "" {
		u.If = append(u.If, item.Lacks("rt"))
	} else {
		u.If = append(u.If, item.Eq("rt", w.OldRT))
	}
	putBytes(&u, "rt", w.RefreshTok)
	putBytes(&u, "at", w.Access)
	putText(&u, "token_id", w.TokenID)
	putText(&u, "token_type", w.TokenType)
	putInt(&u, "issued_at", w.IssuedAt)
	putInt(&u, "expires_at", w.ExpiresAt)
	if w.Other {
		u.Remove = append(u.Remove, "rt_expires_at")
	}
	return u
}

// SetTags replaces the tags of a connection.
type SetTags struct {
	Tags map[string]string
	Now  int64
}

// Update implements Write.
func (w SetTags) Update() item.Update {
	u := item.Update{If: []item.Cond{item.Has("status")}, Set: []item.Assign{item.Put("updated_at", w.Now)}}
	if m := item.StringMap(w.Tags); m != nil {
		u.Set = append(u.Set, item.Put("tags", m))
	} else {
		u.Remove = append(u.Remove, "tags")
	}
	return u
}

// Force notes that a caller forces a refresh, unless another one did so since the item
// was read with ForcedAt Last. Now 0 takes a note back.
type Force struct {
	Gen  int64
	Last int64 // 0 for never
	Now  int64
}

// Update implements Write.
func (w Force) Update() item.Update {
	u := item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), item.Lacks("forced_at")},
		Set: []item.Assign{item.Put("forced_at", w.Now), item.Put("forced_gen", w.Gen)},
	}
	if w.Last != 0 {
		u.If[1] = item.Eq("forced_at", w.Last)
	}
	if w.Now == 0 {
		u.Set, u.Remove = nil, []string{"forced_at", "forced_gen"}
	}
	return u
}

// Reschedule files a connection under another partition of the schedule, if nothing
// has moved since it was read. The audit uses it.
type Reschedule struct {
	Gen   int64
	Old   string
	Sched string
}

// Update implements Write.
func (w Reschedule) Update() item.Update {
	u := item.Update{If: []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Active))}}
	putText(&u, "sched", w.Sched)
	if w.Old == "" {
		u.If = append(u.If, item.Lacks("sched"))
	} else {
		u.If = append(u.If, item.Eq("sched", w.Old))
	}
	return u
}

// Warn notes that the owner is told when the refresh token ends by itself: once for each
// end, as long as the connection is active and nobody has consented since it was read. A
// refresh may have saved meanwhile: it moves no end that is certain.
type Warn struct {
	ConsentSeq int64
	End        int64 // unix s
	Now        int64
}

// Update implements Write.
func (w Warn) Update() item.Update {
	return item.Update{
		If:  []item.Cond{item.Eq("consent_seq", w.ConsentSeq), item.Eq("status", string(Active)), item.Ne("warned", w.End)},
		Set: []item.Assign{item.Put("warned", w.End)},
	}
}

// Create puts a new connection, unless its id exists.
type Create struct{ Record Record }

// Update implements Write.
func (w Create) Update() item.Update {
	u := item.Update{Target: item.Absent}
	for name, v := range w.Record.Item() {
		u.Set = append(u.Set, item.Put(name, v))
	}
	return u
}

func journaled(u item.Update, j Journal) item.Update {
	if j != "" {
		u.Set = append(u.Set, item.Put("journal", item.Bytes(j)))
	}
	return u
}

func putText(u *item.Update, name, v string) {
	if v == "" {
		u.Remove = append(u.Remove, name)
		return
	}
	u.Set = append(u.Set, item.Put(name, v))
}

func putBytes(u *item.Update, name string, v item.Bytes) {
	if v == "" {
		u.Remove = append(u.Remove, name)
		return
	}
	u.Set = append(u.Set, item.Put(name, v))
}

func putInt(u *item.Update, name string, v int64) {
	if v == 0 {
		u.Remove = append(u.Remove, name)
		return
	}
	u.Set = append(u.Set, item.Put(name, v))
}

// Postpone files the next try of a disconnect that is pending.
type Postpone struct {
	Gen  int64
	Todo string
	// InFlight: the answer to a proof was lost, and with it perhaps a live token.
	InFlight bool
	// Proven: the mark of Proving was this try's own, and its proof was answered or the
	// loss is told by InFlight.
	Proven bool
}

// Update implements Write.
func (w Postpone) Update() item.Update {
	u := item.Update{
		If:  []item.Cond{item.Eq("gen", w.Gen), item.Eq("status", string(Disconnected)), item.Has("todo")},
		Set: []item.Assign{item.Put("todo", w.Todo)},
	}
	if w.InFlight {
		u.Set = append(u.Set, item.Put("in_flight", true))
	}
	if w.Proven {
		u.Remove = []string{"proving"}
	}
	return u
}
