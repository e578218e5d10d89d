package connection

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

// Status is the lifecycle state of a connection.
type Status string

// The states of a connection.
const (
	Connecting   Status = "connecting"   // an import before its first refresh
	Held         Status = "held"         // imported; another broker still refreshes it
	Active       Status = "active"       // tokens are kept fresh
	NeedsReauth  Status = "needs_reauth" // the user must consent again; the sealed tokens stay
	Disconnected Status = "disconnected" // a receipt, soon without tokens
)

// Reason says why a connection is in needs_reauth or disconnected.
type Reason string

// The reasons of needs_reauth, then those of disconnected.
const (
	Revoked      Reason = "revoked"       // the provider refused a token that was certainly the newest
	LostResponse Reason = "lost_response" // refused after an answer was lost: perhaps ours to blame
	Expired      Reason = "expired"       // the refresh token's own life ended
	RefusedOften Reason = "refused_often"

	ByRequest    Reason = "by_request"
	Superseded   Reason = "superseded"    // the same account was connected anew
	TokenRefused Reason = "token_refused" // an imported token that the provider refused
)

// Attempt is the write-ahead marker of a claim: while it stands, somebody may be
// sending the refresh token of generation BaseGen. The zero Attempt is none.
type Attempt struct {
	ID         string
	BaseGen    int64
	LeaseUntil int64 // unix s
	Since      int64 // unix s: when it was claimed, so before anything was sent
}

// Core is the part of a record on which the protocol decides. It is comparable, so
// that a step machine can hold it in its state. Times are unix seconds, 0 is never.
type Core struct {
	ID          string
	Integration string
	Client      string // the client's name in the configuration
	ClientID    string
	Owner       string
	Grant       string // authorization_code, client_credentials, or refresh_token (imported)

	Status Status
	Reason Reason

	Gen     int64
	TokGen  int64 // the generation under which the tokens were sealed
	Access  item.Bytes
	Refresh item.Bytes // sealed; empty where the provider gave none
	TokenID string
	SaveID  string

	Attempt Attempt
	DoubtAt int64
	// DoubtSent is the earliest moment at which the token in doubt can have been
	// sent, 0 where nobody knows: a provider's grace counts from it.
	DoubtSent int64

	ConsentNext   int64
	ConsentSeq    int64
	DisconnectGen int64
	Rotates       bool
	RestoreEpoch  int64

	IssuedAt  int64 // when the stored access token came
	ExpiresAt int64 // of the access token; 0 unknown
	RetryAt   int64
	Failures  int64
	Sched     string
	Todo      string
	// Proving: a disconnect is about to prove itself, and has not said yet what came of it.
	Proving bool

	AccountID   string
	ConsentedAt int64
}

// Record is one connection as stored.
type Record struct {
	Core

	Provider    string
	AccountName string
	TokenType   string

	RequestedScope string // space-separated
	GrantedScope   string // space-separated; as the provider said, else as requested
	ScopeKnown     bool   // the provider said what it granted

	Tags         map[string]string
	Fields       map[string]string // what the entry keeps besides tokens
	SecretFields item.Bytes        // the same, secret; sealed JSON
	ExternalID   string

	CreatedAt      int64
	UpdatedAt      int64
	DisconnectedAt int64
	Revocation     string // receipt: at_provider, unsupported, pending, none
	Proof          string // receipt: refresh_refused, none
	InFlight       bool   // receipt: a refresh was under way at the disconnect

	// ForcedAt is when a caller last forced a refresh, unix s, and ForcedGen the
	// generation then; 0 for never.
	ForcedAt, ForcedGen int64

	RefreshExpiresAt int64 // of the refresh token, where the provider says so; 0 unknown
	RefreshSlides    bool  // a refresh moved that end once: it is a time of not being used
	Journal          Journal

	Warned int64      // the end of the refresh token of which the owner was told; 0 none
	Outbox outbox.Box // events that wait to be delivered
}

// Life is the whole life of the stored access token in seconds, 0 if unknown.
func (c *Core) Life() int64 {
	if c.ExpiresAt == 0 || c.IssuedAt == 0 || c.ExpiresAt <= c.IssuedAt {
		return 0
	}
	return c.ExpiresAt - c.IssuedAt
}

// Refreshable reports whether a refresh may be sent for this status at all.
func (c *Core) Refreshable() bool { return c.Status == Active || c.Status == Connecting }

// NewID returns a fresh connection id: conn_ and 160 random bits.
func NewID() string { return "conn_" + random(20) }

// NewRandom returns 128 random bits as text, for attempts, saves and takes.
func NewRandom() string { return random(16) }

// NewTokenID returns the 8 random bytes in hex that name one stored access token.
func NewTokenID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // crypto/rand.Read never fails
	return fmt.Sprintf("%x", b)
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Item is r as attributes. Absent values take no attribute; the fences are always
// present, since a comparison with an absent attribute holds of nothing.
func (r *Record) Item() item.Item {
	i := item.Item{
		"integration": r.Integration, "owner": r.Owner, "status": string(r.Status), "gen": r.Gen, "tok_gen": r.TokGen,
		"consent_next": r.ConsentNext, "consent_seq": r.ConsentSeq, "disconnect_gen": r.DisconnectGen,
		"restore_epoch": r.RestoreEpoch, "failures": r.Failures,
		"integration_id": r.Integration + "#" + r.ID, "status_id": statusID(r.Status, r.ID),
	}
	for name, v := range map[string]string{
		"client": r.Client, "client_id": r.ClientID, "grant": r.Grant, "reason": string(r.Reason), "token_id": r.TokenID,
		"save_id": r.SaveID, "sched": r.Sched, "todo": r.Todo, "account": r.AccountID, "account_name": r.AccountName,
		"provider": r.Provider, "token_type": r.TokenType, "req_scope": r.RequestedScope, "scope": r.GrantedScope,
		"external_id": r.ExternalID, "revocation": r.Revocation, "proof": r.Proof,
	} {
		if v != "" {
			i[name] = v
		}
	}
	for name, v := range map[string]int64{
		"doubt_at": r.DoubtAt, "doubt_sent": r.DoubtSent, "issued_at": r.IssuedAt, "expires_at": r.ExpiresAt, "retry_at": r.RetryAt, "consented_at": r.ConsentedAt,
		"created_at": r.CreatedAt, "updated_at": r.UpdatedAt, "disconnected_at": r.DisconnectedAt, "rt_expires_at": r.RefreshExpiresAt,
		"warned":    r.Warned,
		"forced_at": r.ForcedAt, "forced_gen": r.ForcedGen,
	} {
		if v != 0 {
			i[name] = v
		}
	}
	for name, v := range map[string]item.Bytes{"at": r.Access, "rt": r.Refresh, "secret_fields": r.SecretFields, "journal": item.Bytes(r.Journal)} {
		if v != "" {
			i[name] = v
		}
	}
	for name, v := range map[string]bool{"rotates": r.Rotates, "in_flight": r.InFlight, "proving": r.Proving, "scope_known": r.ScopeKnown, "rt_slides": r.RefreshSlides} {
		if v {
			i[name] = true
		}
	}
	if r.Attempt.ID != "" {
		i["attempt"] = r.Attempt.item()
	}
	if m := item.StringMap(r.Tags); m != nil {
		i["tags"] = m
	}
	if m := item.StringMap(r.Fields); m != nil {
		i["fields"] = m
	}
	r.Outbox.Store(i)
	return i
}

func statusID(s Status, id string) string { return string(s) + "#" + id }

func (a Attempt) item() item.Map {
	return item.Map{"id": a.ID, "base_gen": a.BaseGen, "lease_until": a.LeaseUntil, "since": a.Since}
}

// itemVersion is the version of the meaning of an item's attributes that this code
// knows. It rises only when older code would misread an item, never for an attribute
// more: those that are unknown stay as they are. Absent is 1.
const itemVersion = 1

// ErrNewer says that an item was written by a later version, in a form that this one
// does not know. The later version refreshes it.
var ErrNewer = errors.New("written by a later version of evergrant")

// FromItem reads a stored item. An item of a later version is ErrNewer. An item whose tokens stand under another
// generation than its own is refused (unless it is a receipt): sealed values that
// do not belong together must not be used, whatever brought them there.
func FromItem(id string, i item.Item) (Record, error) {
	if v := i.Int("item_version"); v > itemVersion {
		return Record{}, fmt.Errorf("connection %s: version %d: %w", id, v, ErrNewer)
	}
	att := i.Map("attempt")
	r := Record{
		Core: Core{
			ID: id, Integration: i.String("integration"), Client: i.String("client"), ClientID: i.String("client_id"),
			Owner: i.String("owner"), Grant: i.String("grant"),
			Status: Status(i.String("status")), Reason: Reason(i.String("reason")),
			Gen: i.Int("gen"), TokGen: i.Int("tok_gen"), Access: i.Bytes("at"), Refresh: i.Bytes("rt"),
			TokenID: i.String("token_id"), SaveID: i.String("save_id"),
			Attempt: Attempt{ID: att.String("id"), BaseGen: att.Int("base_gen"), LeaseUntil: att.Int("lease_until"), Since: att.Int("since")},
			DoubtAt: i.Int("doubt_at"), DoubtSent: i.Int("doubt_sent"),
			ConsentNext: i.Int("consent_next"), ConsentSeq: i.Int("consent_seq"), DisconnectGen: i.Int("disconnect_gen"),
			Rotates: i.Bool("rotates"), RestoreEpoch: i.Int("restore_epoch"),
			IssuedAt: i.Int("issued_at"), ExpiresAt: i.Int("expires_at"), RetryAt: i.Int("retry_at"), Failures: i.Int("failures"),
			Sched: i.String("sched"), Todo: i.String("todo"), Proving: i.Bool("proving"),
			AccountID: i.String("account"), ConsentedAt: i.Int("consented_at"),
		},
		Provider: i.String("provider"), AccountName: i.String("account_name"), TokenType: i.String("token_type"),
		RequestedScope: i.String("req_scope"), GrantedScope: i.String("scope"), ScopeKnown: i.Bool("scope_known"),
		Tags: i.Map("tags").Strings(), Fields: i.Map("fields").Strings(), SecretFields: i.Bytes("secret_fields"),
		ExternalID: i.String("external_id"),
		CreatedAt:  i.Int("created_at"), UpdatedAt: i.Int("updated_at"), DisconnectedAt: i.Int("disconnected_at"),
		Revocation: i.String("revocation"), Proof: i.String("proof"), InFlight: i.Bool("in_flight"),
		RefreshExpiresAt: i.Int("rt_expires_at"), RefreshSlides: i.Bool("rt_slides"), Journal: Journal(i.Bytes("journal")),
		Warned: i.Int("warned"), Outbox: outbox.Read(i), ForcedAt: i.Int("forced_at"), ForcedGen: i.Int("forced_gen"),
	}
	if r.Status == "" || r.Integration == "" || r.Gen == 0 {
		return Record{}, fmt.Errorf("connection %s: %w", id, item.ErrCorrupt)
	}
	if r.Status != Disconnected && r.TokGen != r.Gen {
		return Record{}, fmt.Errorf("connection %s: tokens of generation %d under generation %d: %w", id, r.TokGen, r.Gen, item.ErrCorrupt)
	}
	return r, nil
}
