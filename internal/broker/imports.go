package broker

import (
	"context"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

const maxToken = 64 << 10

// Import stores a connection whose tokens were got elsewhere, and refreshes it by the
// protocol: stored first, so that a rotated token cannot be lost. A client that only
// has its own credentials gets its first token the same way.
func (b *Broker) Import(ctx context.Context, c Caller, r ImportRequest) (ImportResult, error) {
	i, refused := b.integration(c, r.Integration)
	if refused != nil {
		return ImportResult{}, refused
	}
	client, refused := b.checkImport(c, i, r)
	if refused != nil {
		return ImportResult{}, refused
	}
	// A repeat is answered before it counts: an import that goes on where it stopped is
	// not to spend its minute on what it has brought in already.
	if existing, refused := b.importedBefore(ctx, c, r); refused != nil || existing != nil {
		return b.existed(ctx, existing, r, refused)
	}
	if refused := b.mayImport(ctx, c); refused != nil {
		return ImportResult{}, refused
	}
	if refused := b.sealingKey(ctx); refused != nil {
		return ImportResult{}, refused
	}
	id, existing, refused := b.claimExternal(ctx, c, r)
	if refused != nil || existing != nil {
		return b.existed(ctx, existing, r, refused)
	}
	rec, err := b.imported(i, client, id, r)
	if err != nil {
		return ImportResult{}, internal(err)
	}
	res, err := b.Store.Write(ctx, id, connection.Create{Record: rec})
	if err != nil {
		return ImportResult{}, internal(err)
	}
	if !res.Applied && res.Record.Owner != r.Owner {
		return ImportResult{}, fail(InvalidRequest, "external_id belongs to a connection of another owner")
	}
	if !res.Applied || rec.Status != connection.Connecting {
		return ImportResult{View: b.view(res.Record), Existed: !res.Applied}, nil
	}
	return b.firstRefresh(ctx, id)
}

// sealingKey has at hand what an import is sealed with.
func (b *Broker) sealingKey(ctx context.Context) *Error {
	if err := b.loadKey(ctx); err != nil {
		return &Error{Code: ProviderUnavailable, Detail: "the key that seals the tokens cannot be had now; ask again", RetryAfter: 5, Err: err}
	}
	return nil
}

// importedBefore is the connection that an earlier import of the same external id made,
// nil where there is none that still lives.
func (b *Broker) importedBefore(ctx context.Context, c Caller, r ImportRequest) (*connection.Record, *Error) {
	if r.ExternalID == "" {
		return nil, nil
	}
	holder, err := b.Store.External(ctx, r.Integration, r.ExternalID)
	if err != nil {
		return nil, internal(err)
	}
	if holder == "" {
		return nil, nil
	}
	rec, err := b.Store.Get(ctx, holder)
	switch {
	case err != nil && readError(err, "").Code == NotFound:
		return nil, nil // its import stopped between the two writes
	case err != nil:
		return nil, internal(err)
	case rec.Status == connection.Disconnected:
		return nil, nil
	case rec.Owner != r.Owner || !c.MayOwner(rec.Owner):
		return nil, fail(InvalidRequest, "external_id belongs to a connection of another owner")
	}
	return &rec, nil
}

// existed answers a repeated import. A held connection takes the tokens of the repeat:
// the broker that still refreshes it may have got newer ones since. Any other one has
// gone on by itself, and what was imported then is old.
func (b *Broker) existed(ctx context.Context, rec *connection.Record, r ImportRequest, refused *Error) (ImportResult, error) {
	switch {
	case refused != nil:
		return ImportResult{}, refused
	case rec.Status != connection.Held || r.ClientCredentials:
		return ImportResult{View: b.view(*rec), Existed: true}, nil
	}
	if r.Client != "" && r.Client != rec.Client {
		return ImportResult{}, fail(InvalidRequest, "the connection is held with the tokens of the client %s: disconnect it first", rec.Client)
	}
	if refused := b.sealingKey(ctx); refused != nil {
		return ImportResult{}, refused
	}
	other := b.otherTokens(ctx, *rec, r)
	next := *rec
	if err := b.sealImport(&next, r); err != nil {
		return ImportResult{}, internal(err)
	}
	res, err := b.Store.Write(ctx, rec.ID, connection.Renew{
		Gen: rec.Gen, OldRT: rec.Refresh, Access: next.Access, RefreshTok: next.Refresh, TokenID: next.TokenID, TokenType: next.TokenType,
		IssuedAt: next.IssuedAt, ExpiresAt: next.ExpiresAt, Other: other, Now: b.now(),
	})
	if err != nil {
		return ImportResult{}, internal(err)
	}
	// Not applied: it was activated or ended meanwhile.
	return ImportResult{View: b.view(res.Record), Existed: true, TookTokens: other && res.Applied}, nil
}

// otherTokens reports whether an import's tokens are others than rec holds: the refresh
// token, or where neither has one the access token. Tokens that cannot be opened are
// replaced as others.
func (b *Broker) otherTokens(ctx context.Context, rec connection.Record, r ImportRequest) bool {
	sealed, place, came := rec.Refresh, refresh.RefreshPlace(rec.ID, rec.TokGen), r.RefreshToken
	if sealed == "" && came.IsZero() {
		sealed, place, came = rec.Access, refresh.AccessPlace(rec.ID, rec.TokGen), r.AccessToken
	}
	if sealed == "" {
		return !came.IsZero()
	}
	had, err := b.Keys.Open(ctx, secret.PurposeToken, place, []byte(sealed))
	return err != nil || !had.Equal(came)
}

// firstRefresh proves an import. Where that cannot be done now, the schedule goes on.
func (b *Broker) firstRefresh(ctx context.Context, id string) (ImportResult, error) {
	rep := b.refreshOne(ctx, refresh.Input{ID: id, Why: refresh.Forced})
	rec := rep.Record
	if rec.Status == "" {
		var err error
		if rec, err = b.Store.Get(ctx, id); err != nil {
			return ImportResult{}, internal(err)
		}
	}
	switch {
	case rep.Outcome == refresh.ImportRefused:
		return ImportResult{}, &Error{Code: TokenRefused, Detail: "the provider refused the token, so nothing was kept", ConnectionID: id}
	case rec.Status == connection.Active:
		return ImportResult{View: b.view(rec)}, nil
	}
	return ImportResult{View: b.view(rec), Pending: true}, nil
}

func (b *Broker) checkImport(c Caller, i *config.Integration, r ImportRequest) (*config.Client, *Error) {
	if refused := checkOwner(c, r.Owner); refused != nil {
		return nil, refused
	}
	client := i.Current()
	if r.Client != "" {
		client = nil
		for n := range i.Clients {
			if i.Clients[n].Name == r.Client {
				client = &i.Clients[n]
			}
		}
	}
	switch {
	case client == nil:
		return nil, fail(InvalidRequest, "the integration has no client of that name")
	case r.ClientCredentials && !i.Entry.Offers(provider.GrantClientCredentials):
		return nil, fail(InvalidRequest, "the provider of %s does not offer client credentials", i.Name)
	case r.ClientCredentials && client.Public():
		return nil, fail(InvalidRequest, "client credentials need a client secret in the configuration of %s", i.Name)
	case r.ClientCredentials && (!r.RefreshToken.IsZero() || r.Hold):
		return nil, fail(InvalidRequest, "client credentials go without refresh_token and hold")
	case !r.ClientCredentials && i.Entry.Refresh.Supported == provider.No && (r.AccessToken.IsZero() || !r.RefreshToken.IsZero()):
		return nil, fail(InvalidRequest, "%s has no refresh tokens: import access_token alone, with its expires_at if it has an end", i.Provider)
	case !r.ClientCredentials && i.Entry.Refresh.Supported != provider.No && !legalToken(r.RefreshToken, true):
		return nil, fail(InvalidRequest, "refresh_token must be 1 to %d visible ASCII characters", maxToken)
	case !r.AccessToken.IsZero() && !legalToken(r.AccessToken, false):
		return nil, fail(InvalidRequest, "access_token must be at most %d visible ASCII characters", maxToken)
	case len(r.ExternalID) > 256 || hasControl(r.ExternalID):
		return nil, fail(InvalidRequest, "external_id must have at most 256 bytes and no control characters")
	case len(r.Scope) > 4096 || hasControl(r.Scope):
		return nil, fail(InvalidRequest, "scope must have at most 4096 bytes and no control characters")
	}
	if refused := checkVariables(i, r.Variables); refused != nil {
		return nil, refused
	}
	return client, checkTags(r.Tags)
}

// legalToken is RFC 6749 appendix A: visible ASCII, in a refresh token blanks too.
func legalToken(t secret.Text, blanks bool) bool {
	if t.Len() == 0 || t.Len() > maxToken {
		return false
	}
	for _, c := range []byte(t.Reveal()) {
		if c > 0x7e || c < 0x20 || (c == 0x20 && !blanks) {
			return false
		}
	}
	return true
}

// claimExternal makes an import repeatable: the row that holds the external id comes
// before the connection, so that a repeat finds it. It returns the id to create, or
// the connection that exists already.
func (b *Broker) claimExternal(ctx context.Context, c Caller, r ImportRequest) (string, *connection.Record, *Error) {
	id := connection.NewID()
	if r.ExternalID == "" {
		return id, nil, nil
	}
	for over := ""; ; {
		holder, err := b.Store.ClaimExternal(ctx, r.Integration, r.ExternalID, id, over)
		switch {
		case err != nil:
			return "", nil, internal(err)
		case holder == id:
			return id, nil, nil
		}
		rec, err := b.Store.Get(ctx, holder)
		switch {
		case err != nil && readError(err, "").Code == NotFound:
			return holder, nil, nil // its import stopped between the two writes: go on with it
		case err != nil:
			return "", nil, internal(err)
		case rec.Status == connection.Disconnected && over != holder:
			over = holder
			continue
		case rec.Owner != r.Owner || !c.MayOwner(rec.Owner):
			return "", nil, fail(InvalidRequest, "external_id belongs to a connection of another owner")
		}
		return "", &rec, nil
	}
}

// imported is the record of an import, sealed.
func (b *Broker) imported(i *config.Integration, client *config.Client, id string, r ImportRequest) (connection.Record, error) {
	now := b.now()
	soon := now + 60
	rec := connection.Record{
		Core: connection.Core{
			ID: id, Integration: i.Name, Client: client.Name, ClientID: client.ClientID, Owner: r.Owner,
			Grant: string(provider.GrantRefreshToken), Status: connection.Connecting, Gen: 1, TokGen: 1, RestoreEpoch: b.Epoch,
			Sched: schedule.RetryPartition(id, soon), Todo: schedule.TodoPartition(id, soon),
		},
		Provider: i.Provider, RequestedScope: r.Scope, ExternalID: r.ExternalID, Tags: r.Tags, Fields: r.Variables, CreatedAt: now, UpdatedAt: now,
	}
	switch {
	case r.Hold:
		rec.Status, rec.Sched, rec.Todo = connection.Held, "", ""
	case !r.ClientCredentials && r.RefreshToken.IsZero():
		// There is nothing that could be sent, and so nothing to prove.
		rec.Status, rec.Sched, rec.Todo = connection.Active, "", ""
	}
	if r.ClientCredentials {
		rec.Grant = string(provider.GrantClientCredentials)
		if r.Scope == "" {
			rec.RequestedScope = connection.JoinScopes(i.Scopes)
		}
		return rec, nil
	}
	return rec, b.sealImport(&rec, r)
}

// sealImport puts the tokens of an import into rec, sealed, in place of those it has.
func (b *Broker) sealImport(rec *connection.Record, r ImportRequest) error {
	rec.Access, rec.Refresh, rec.TokenID, rec.TokenType, rec.IssuedAt, rec.ExpiresAt = "", "", "", "", 0, 0
	if !r.RefreshToken.IsZero() {
		sealed, err := b.Keys.Seal(secret.PurposeToken, refresh.RefreshPlace(rec.ID, rec.TokGen), r.RefreshToken)
		if err != nil {
			return err
		}
		rec.Refresh = item.Bytes(sealed)
	}
	if !r.AccessToken.IsZero() {
		sealed, err := b.Keys.Seal(secret.PurposeToken, refresh.AccessPlace(rec.ID, rec.TokGen), r.AccessToken)
		if err != nil {
			return err
		}
		rec.Access, rec.TokenID, rec.TokenType = item.Bytes(sealed), connection.NewTokenID(), "Bearer"
		rec.IssuedAt, rec.ExpiresAt = b.now(), r.ExpiresAt
	}
	return nil
}

// Activate begins to refresh a held connection, at once.
func (b *Broker) Activate(ctx context.Context, c Caller, id string) (View, error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return View{}, refused
	}
	if rec.Status != connection.Held {
		return b.view(rec), nil // active already, or ended: its status says which
	}
	if refused := b.mayImport(ctx, c); refused != nil {
		return View{}, refused
	}
	w := connection.Activate{ID: id, Now: b.now(), Proved: rec.Gen > 1 || rec.ConsentedAt != 0}
	if rec.Refresh != "" || rec.Grant == string(provider.GrantClientCredentials) {
		w.Sched = schedule.RetryPartition(id, w.Now+60)
		if !w.Proved {
			w.Todo = schedule.TodoPartition(id, w.Now+60)
		}
	}
	res, err := b.Store.Write(ctx, id, w)
	switch {
	case err != nil:
		return View{}, internal(err)
	case !res.Found:
		return View{}, fail(NotFound, "there is no such connection")
	case !res.Applied:
		return b.view(res.Record), nil // active already, or ended: its status says which
	case w.Sched == "":
		return b.view(res.Record), nil // there is nothing to send
	}
	done, err := b.firstRefresh(ctx, id)
	return done.View, err
}
