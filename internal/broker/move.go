package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// Hold stops the refreshing of an active connection, so that another broker can go on with
// its grant. A refresh that is under way, or whose answer is in doubt, has to be settled
// first. Only held connections move to another deployment: nobody here sends their tokens
// any more.
func (b *Broker) Hold(ctx context.Context, c Caller, id string) (View, error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return View{}, refused
	}
	if rec.Status == connection.Held {
		return b.view(rec), nil
	}
	if rec.Status == connection.Active && !b.Rescue.Holds(id) {
		res, err := b.Store.Write(ctx, id, connection.Hold{ID: id, Gen: rec.Gen, Now: b.now()})
		switch {
		case err != nil:
			return View{}, internal(err)
		case !res.Found:
			return View{}, fail(NotFound, "there is no such connection")
		case res.Applied:
			return b.view(res.Record), nil
		}
		rec = res.Record
	}
	switch rec.Status {
	case connection.Held:
		return b.view(rec), nil
	case connection.Active, connection.Connecting:
		return View{}, &Error{Code: RefreshInProgress, Detail: "a refresh of this connection is under way, or its answer in doubt; ask again when that is settled", RetryAfter: 1, ConnectionID: id}
	case connection.Disconnected:
		return View{}, fail(Disconnected, "the connection is disconnected")
	}
	return View{}, fail(InvalidRequest, "only an active connection can be held; this one needs its user's consent, here or elsewhere")
}

// moved is a connection on its way to another deployment, with its tokens in clear. It
// exists only sealed, and in the memory of those who seal and open it.
type moved struct {
	ID           string `json:"id"`
	Integration  string `json:"integration"`
	Provider     string `json:"provider"`
	Client       string `json:"client"`
	ClientID     string `json:"client_id"`
	Owner        string `json:"owner"`
	Grant        string `json:"grant"`
	Generation   int64  `json:"generation"`
	RefreshToken string `json:"refresh_token,omitempty"`
	AccessToken  string `json:"access_token,omitempty"`
	SecretFields string `json:"secret_fields,omitempty"`
	TokenID      string `json:"token_id,omitempty"`
	TokenType    string `json:"token_type,omitempty"`

	IssuedAt         int64 `json:"issued_at,omitempty"`
	ExpiresAt        int64 `json:"expires_at,omitempty"`
	RefreshExpiresAt int64 `json:"refresh_expires_at,omitempty"`
	RefreshSlides    bool  `json:"refresh_slides,omitempty"`
	Rotates          bool  `json:"rotates,omitempty"`
	ConsentNext      int64 `json:"consent_next"`
	ConsentSeq       int64 `json:"consent_seq"`
	DisconnectGen    int64 `json:"disconnect_gen"`
	ConsentedAt      int64 `json:"consented_at,omitempty"`
	CreatedAt        int64 `json:"created_at"`

	AccountID      string            `json:"account_id,omitempty"`
	AccountName    string            `json:"account_name,omitempty"`
	RequestedScope string            `json:"requested_scope,omitempty"`
	GrantedScope   string            `json:"granted_scope,omitempty"`
	ScopeKnown     bool              `json:"scope_known,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Fields         map[string]string `json:"fields,omitempty"`
	ExternalID     string            `json:"external_id,omitempty"`
}

// MovedOut is one connection, sealed for the holder of a transfer key.
type MovedOut struct {
	ID     string
	Sealed []byte
}

// movePage is how many connections one answer carries.
const movePage = 50

// MoveOut seals held connections of an integration for the holder of a transfer key, a page
// from a cursor on, "" for the first. next is "" after the last.
func (b *Broker) MoveOut(ctx context.Context, c Caller, integration, public, cursor string) (out []MovedOut, next string, err error) {
	if _, refused := b.integration(c, integration); refused != nil {
		return nil, "", refused
	}
	if _, err := secret.SealTransfer(public, "", secret.Text{}); err != nil {
		return nil, "", fail(InvalidRequest, "recipient is not the public half of a transfer key, evgmovepub_…")
	}
	page, err := b.Store.Connections.Query(ctx, item.Query{
		Index: item.IndexByIntegration, Hash: integration, Prefix: string(connection.Held) + "#", After: cursor, Limit: movePage,
	})
	switch {
	case errors.Is(err, item.ErrBadCursor):
		return nil, "", fail(InvalidRequest, "cursor is not one that the page before gave")
	case err != nil:
		return nil, "", internal(err)
	}
	for _, id := range page.Keys {
		rec, err := b.Store.Get(ctx, id)
		if errors.Is(err, connection.ErrNotFound) || err == nil && (rec.Status != connection.Held || !c.MayOwner(rec.Owner)) {
			continue // it went on since the index was written
		}
		if err != nil {
			return nil, "", internal(err)
		}
		sealed, err := b.sealMoved(ctx, rec, public)
		if err != nil {
			return nil, "", internal(err)
		}
		out = append(out, MovedOut{ID: id, Sealed: sealed})
	}
	return out, page.Next, nil
}

func (b *Broker) sealMoved(ctx context.Context, rec connection.Record, public string) ([]byte, error) {
	m := moved{
		ID: rec.ID, Integration: rec.Integration, Provider: rec.Provider, Client: rec.Client, ClientID: rec.ClientID, Owner: rec.Owner, Grant: rec.Grant,
		Generation: rec.Gen, TokenID: rec.TokenID, TokenType: rec.TokenType, IssuedAt: rec.IssuedAt, ExpiresAt: rec.ExpiresAt,
		RefreshExpiresAt: rec.RefreshExpiresAt, RefreshSlides: rec.RefreshSlides, Rotates: rec.Rotates,
		ConsentNext: rec.ConsentNext, ConsentSeq: rec.ConsentSeq, DisconnectGen: rec.DisconnectGen, ConsentedAt: rec.ConsentedAt, CreatedAt: rec.CreatedAt,
		AccountID: rec.AccountID, AccountName: rec.AccountName, RequestedScope: rec.RequestedScope, GrantedScope: rec.GrantedScope, ScopeKnown: rec.ScopeKnown,
		Tags: rec.Tags, Fields: rec.Fields, ExternalID: rec.ExternalID,
	}
	for _, f := range []struct {
		place  secret.Place
		sealed item.Bytes
		text   *string
	}{
		{refresh.RefreshPlace(rec.ID, rec.TokGen), rec.Refresh, &m.RefreshToken},
		{refresh.AccessPlace(rec.ID, rec.TokGen), rec.Access, &m.AccessToken},
		{refresh.FieldsPlace(rec.ID), rec.SecretFields, &m.SecretFields},
	} {
		if f.sealed == "" {
			continue
		}
		text, err := b.Keys.Open(ctx, secret.PurposeToken, f.place, []byte(f.sealed))
		if err != nil {
			return nil, fmt.Errorf("connection %s: %w", rec.ID, err)
		}
		*f.text = text.Reveal()
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", rec.ID, err)
	}
	return secret.SealTransfer(public, rec.ID, secret.New(string(text)))
}

// MoveIn stores a connection that MoveOut sealed and its keeper opened. It keeps its id,
// its generation and its fences, is held until it is activated, and is in doubt until its
// next save, as after a restore: the export may be older than its token. A repeat changes
// nothing, and what is stored here is replaced only while it is held and older.
func (b *Broker) MoveIn(ctx context.Context, c Caller, text secret.Text) (View, error) {
	var m moved
	if err := json.Unmarshal([]byte(text.Reveal()), &m); err != nil || !validID(m.ID, "conn_") || m.Generation < 1 {
		return View{}, fail(InvalidRequest, "connection is not one that was exported")
	}
	i, refused := b.integration(c, m.Integration)
	if refused != nil {
		return View{}, refused
	}
	if refused := b.checkMoved(c, i, m); refused != nil {
		return View{}, refused
	}
	if refused := b.sealingKey(ctx); refused != nil {
		return View{}, refused
	}
	rec, err := b.arrived(m)
	if err != nil {
		return View{}, internal(err)
	}
	old, err := b.Store.Connections.Get(ctx, m.ID)
	if err != nil {
		return View{}, internal(err)
	}
	var w connection.Write = connection.Create{Record: rec}
	if old != nil {
		found, err := connection.FromItem(m.ID, old)
		if err != nil {
			return View{}, internal(err)
		}
		if refused := mayReplace(found, m); refused != nil {
			return View{}, refused
		}
		if found.Gen == m.Generation {
			return b.view(found), nil
		}
		w = connection.Arrive{Gen: found.Gen, Record: rec, Stale: stale(old, rec)}
	}
	if m.ExternalID != "" {
		holder, err := b.Store.ClaimExternal(ctx, m.Integration, m.ExternalID, m.ID, "")
		if err != nil {
			return View{}, internal(err)
		}
		if holder != m.ID {
			return View{}, fail(InvalidRequest, "its external_id belongs to another connection here")
		}
	}
	res, err := b.Store.Write(ctx, m.ID, w)
	switch {
	case err != nil:
		return View{}, internal(err)
	case !res.Applied:
		return View{}, &Error{Code: RefreshInProgress, Detail: "somebody else changes this connection; ask again", RetryAfter: 1, ConnectionID: m.ID}
	}
	return b.view(res.Record), nil
}

func (b *Broker) checkMoved(c Caller, i *config.Integration, m moved) *Error {
	if refused := checkOwner(c, m.Owner); refused != nil {
		return refused
	}
	if _, known := i.ClientByID(m.ClientID); !known {
		return fail(InvalidRequest, "the integration has no client with the id of this connection's: its tokens belong to the client that got them")
	}
	return checkTags(m.Tags)
}

// mayReplace refuses to put a moved connection in place of one that lives here, or that is
// newer.
func mayReplace(found connection.Record, m moved) *Error {
	switch {
	case found.Integration != m.Integration || found.Owner != m.Owner:
		return fail(InvalidRequest, "a connection of this id is here, of another owner or integration")
	case found.Status != connection.Held:
		return fail(InvalidRequest, "a connection of this id is here and is not held: it is %s, and its tokens are newer than the export", found.Status)
	case found.Gen > m.Generation:
		return fail(InvalidRequest, "the connection that is held here is newer than the export")
	}
	return nil
}

// stale are the attributes of an item that a record in its place does not have.
func stale(old item.Item, rec connection.Record) []string {
	var names []string
	next := rec.Item()
	for name := range old {
		if _, ok := next[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// arrived is the record of a moved connection, sealed by this deployment.
func (b *Broker) arrived(m moved) (connection.Record, error) {
	now := b.now()
	rec := connection.Record{
		Core: connection.Core{
			ID: m.ID, Integration: m.Integration, Client: m.Client, ClientID: m.ClientID, Owner: m.Owner, Grant: m.Grant,
			Status: connection.Held, Gen: m.Generation, TokGen: m.Generation, TokenID: m.TokenID, RestoreEpoch: b.Epoch, DoubtAt: now,
			Rotates: m.Rotates, ConsentNext: m.ConsentNext, ConsentSeq: m.ConsentSeq, DisconnectGen: m.DisconnectGen, ConsentedAt: m.ConsentedAt,
			IssuedAt: m.IssuedAt, ExpiresAt: m.ExpiresAt, AccountID: m.AccountID,
		},
		Provider: m.Provider, AccountName: m.AccountName, TokenType: m.TokenType, RequestedScope: m.RequestedScope, GrantedScope: m.GrantedScope, ScopeKnown: m.ScopeKnown,
		Tags: m.Tags, Fields: m.Fields, ExternalID: m.ExternalID, CreatedAt: m.CreatedAt, UpdatedAt: now,
		RefreshExpiresAt: m.RefreshExpiresAt, RefreshSlides: m.RefreshSlides,
	}
	for _, f := range []struct {
		place  secret.Place
		text   string
		sealed *item.Bytes
	}{
		{refresh.RefreshPlace(m.ID, m.Generation), m.RefreshToken, &rec.Refresh},
		{refresh.AccessPlace(m.ID, m.Generation), m.AccessToken, &rec.Access},
		{refresh.FieldsPlace(m.ID), m.SecretFields, &rec.SecretFields},
	} {
		if f.text == "" {
			continue
		}
		sealed, err := b.Keys.Seal(secret.PurposeToken, f.place, secret.New(f.text))
		if err != nil {
			return rec, err
		}
		*f.sealed = item.Bytes(sealed)
	}
	return rec, nil
}
