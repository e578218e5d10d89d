package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// readSlack is what an access token handed out must have left, s.
const readSlack = 5

// Token hands out an access token that lasts min(minTTL, half its life). It is one
// read of the store, but where the token would not last: then it is refreshed here,
// unless somebody else is at it. Nobody waits for another's refresh.
func (b *Broker) Token(ctx context.Context, c Caller, id string, minTTL int64, need []string) (TokenView, error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return TokenView{}, refused
	}
	return b.token(ctx, rec, minTTL, need)
}

// token is Token for whoever may see the connection.
func (b *Broker) token(ctx context.Context, rec connection.Record, minTTL int64, need []string) (view TokenView, err error) {
	defer func() { b.measureRead(rec.Integration, err) }()
	if refused := b.readable(rec); refused != nil {
		return TokenView{}, refused
	}
	if missing := missingScopes(rec, need); len(missing) > 0 {
		return TokenView{}, &Error{
			Code: MissingScope, Missing: missing, ConnectionID: rec.ID,
			Detail: "the connection was not granted all the scopes that need asks for; reconnect it asking for them",
		}
	}
	now := b.now()
	if rec.Access != "" && (rec.ExpiresAt == 0 || now+min(minTTL, rec.Life()/2) <= rec.ExpiresAt-readSlack) {
		return b.handOut(ctx, rec)
	}
	if rec.Status == connection.Held {
		if valid(rec, now) {
			return b.handOut(ctx, rec)
		}
		return TokenView{}, fail(HeldConnection, "the connection is held for another broker and has no access token that is still good; activate it when the other one has let go")
	}
	rep := b.refreshOne(ctx, refresh.Input{ID: rec.ID, Why: refresh.Read, MinTTL: minTTL})
	return b.afterRefresh(ctx, rec, rep)
}

// measureRead counts one token that was asked for.
func (b *Broker) measureRead(integration string, err error) {
	outcome := "ok"
	if e, ok := errors.AsType[*Error](err); ok {
		outcome = string(e.Code)
	} else if err != nil {
		outcome = string(Internal)
	}
	b.measure(metric.TokenReads, integration, outcome, 1)
}

// Refresh is compare-and-refresh: a caller whose token got a 401 tells which one it
// was. If another is stored, nothing is sent and that one is returned.
func (b *Broker) Refresh(ctx context.Context, c Caller, id string, ifGeneration int64, ifTokenID string) (view TokenView, err error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return TokenView{}, refused
	}
	defer func() { b.measureRead(rec.Integration, err) }()
	if refused := b.readable(rec); refused != nil {
		return TokenView{}, refused
	}
	if rec.Status == connection.Held {
		return TokenView{}, fail(HeldConnection, "the connection is held for another broker, which alone refreshes it")
	}
	if valid(rec, b.now()) && (rec.Gen != ifGeneration || ifTokenID != "" && ifTokenID != rec.TokenID) {
		// Asked for before the refresh, so that no caller is put off by another one's
		// refresh of a token that this one has not seen yet.
		return b.handOut(ctx, rec)
	}
	rec, refused = b.mayForce(ctx, rec)
	if refused != nil {
		return TokenView{}, refused
	}
	rep := b.refreshOne(ctx, refresh.Input{ID: id, Why: refresh.Unauthorized, IfGeneration: ifGeneration, IfTokenID: ifTokenID})
	if rep.Sent == 0 {
		b.notForced(ctx, rec)
	}
	stored := rep.Outcome == refresh.Saved || rep.Outcome == refresh.Overtaken || rep.Outcome == refresh.Fresh
	if stored && b.readable(rep.Record) == nil {
		return b.handOut(ctx, rep.Record)
	}
	return TokenView{}, b.refreshError(rec, rep)
}

// mayForce lets one forced refresh of a connection through in MinInterval seconds, all
// processes together: else one caller could use a provider's quota up, or keep tokens
// from others by killing each as it is made. It is noted before anything is sent, so
// that refreshes that fail count as well. It returns the record with the note.
func (b *Broker) mayForce(ctx context.Context, rec connection.Record) (connection.Record, *Error) {
	i, ok := b.Settings.Integration(rec.Integration)
	if !ok || i.MinInterval == 0 {
		return rec, nil
	}
	now := b.now()
	underWay := &Error{Code: RefreshInProgress, Detail: "a refresh of this connection is under way; ask again", RetryAfter: 1, ConnectionID: rec.ID}
	if wait := rec.ForcedAt + int64(i.MinInterval) - now; rec.ForcedAt != 0 && wait > 0 {
		if rec.ForcedGen == rec.Gen && (now <= rec.ForcedAt+1 || rec.Attempt.ID != "" && now < rec.Attempt.LeaseUntil) {
			return rec, underWay
		}
		return rec, &Error{
			Code: RateLimited, RetryAfter: min(wait, int64(i.MinInterval)), ConnectionID: rec.ID,
			Detail: "this connection's token was forced to be refreshed a moment ago. If your request got a 401 with the newest token as well, refreshing it again will not help",
		}
	}
	res, err := b.Store.Write(ctx, rec.ID, connection.Force{Gen: rec.Gen, Last: rec.ForcedAt, Now: now})
	switch {
	case err != nil:
		return rec, internal(err)
	case !res.Applied:
		return rec, underWay // another caller was faster, or a refresh was saved meanwhile
	}
	rec.ForcedAt, rec.ForcedGen = now, rec.Gen
	return rec, nil
}

// notForced takes the note of a refresh back for which nothing was sent: whoever asks
// next is to be told why, not to wait.
func (b *Broker) notForced(ctx context.Context, rec connection.Record) {
	if rec.ForcedAt == 0 {
		return
	}
	if _, err := b.Store.Write(ctx, rec.ID, connection.Force{Gen: rec.Gen, Last: rec.ForcedAt}); err != nil {
		b.Log.Warn("refresh", "connection", rec.ID, "error", err.Error()) // it runs out in seconds
	}
}

// valid reports whether the stored access token can still be handed out.
func valid(rec connection.Record, now int64) bool {
	return rec.Access != "" && (rec.ExpiresAt == 0 || rec.ExpiresAt-readSlack > now)
}

// readable refuses the states that have no token to give.
func (b *Broker) readable(rec connection.Record) *Error {
	_, configured := b.Settings.Integration(rec.Integration)
	switch status, reason := b.shown(rec); status {
	case connection.Active, connection.Connecting:
		if !configured {
			return fail(IntegrationSuspended, "the integration of this connection is not in the configuration; put it back and the connection goes on")
		}
	case connection.Disconnected:
		return &Error{Code: Disconnected, Detail: "the connection was ended; its tokens are gone", Reason: reason, ConnectionID: rec.ID}
	case connection.NeedsReauth:
		return needsReauth(rec, reason)
	}
	return nil
}

func needsReauth(rec connection.Record, reason string) *Error {
	detail := "the user must consent again: POST /v1/connect-sessions with this connection_id, and send the user to its authorize_url"
	if reason == clientChanged {
		detail = "the client that got these tokens is not in the configuration: put it back, or let the user consent again: POST /v1/connect-sessions with this connection_id"
	}
	return &Error{Code: NeedsReauth, Detail: detail, Reason: reason, ConnectionID: rec.ID}
}

// afterRefresh hands out what is stored now if it is valid, whatever the refresh came
// to; else it says what is wrong.
func (b *Broker) afterRefresh(ctx context.Context, before connection.Record, rep refresh.Report) (TokenView, error) {
	rec := rep.Record
	if rec.Status == "" {
		rec = before // nothing was read: the refresh is another's
	}
	if rep.Outcome != refresh.Verdict && rep.Outcome != refresh.Dropped && rep.Outcome != refresh.Rescued &&
		valid(rec, b.now()) && b.readable(rec) == nil {
		return b.handOut(ctx, rec)
	}
	return TokenView{}, b.refreshError(rec, rep)
}

// refreshError says why there is no token to hand out.
func (b *Broker) refreshError(rec connection.Record, rep refresh.Report) *Error {
	if rep.Record.Status != "" {
		rec = rep.Record
		if refused := b.readable(rec); refused != nil {
			return refused
		}
	}
	switch rep.Outcome {
	case refresh.Busy, refresh.Rescued:
		return &Error{Code: RefreshInProgress, Detail: "a refresh of this connection is under way; ask again", RetryAfter: 1, ConnectionID: rec.ID}
	case refresh.Suspended, refresh.Refused:
		return &Error{Code: IntegrationSuspended, Detail: "the provider refuses this integration's client configuration; its operator must mend it. The connection itself is not lost", RetryAfter: 60}
	case refresh.NotRefreshed:
		if rec.Status == connection.Connecting {
			return &Error{Code: RefreshInProgress, Detail: "the import's first refresh is not done; ask again", RetryAfter: 1}
		}
		return needsReauth(rec, string(connection.Expired))
	case refresh.Absent:
		return fail(NotFound, "there is no such connection")
	}
	if errors.Is(rep.Err, item.ErrTooLarge) {
		return &Error{Code: Internal, Detail: "what is stored for this connection is too large to be refreshed; tell the operator the request id", Err: rep.Err}
	}
	after := int64(15)
	if wait := rec.RetryAt - b.now(); wait > 0 {
		after = min(wait, 3600)
	}
	return notNow(rep.Err, after, "no valid token can be had now; the connection is kept and tried again")
}

// handOut opens the stored access token.
func (b *Broker) handOut(ctx context.Context, rec connection.Record) (TokenView, error) {
	if err := b.loadKey(ctx); err != nil {
		return TokenView{}, &Error{Code: ProviderUnavailable, Detail: "the key that opens the tokens cannot be had now; ask again", RetryAfter: 5, Err: err}
	}
	at, err := b.Keys.Open(ctx, secret.PurposeToken, refresh.AccessPlace(rec.ID, rec.TokGen), []byte(rec.Access))
	if err != nil {
		return TokenView{}, internal(err)
	}
	fields, err := b.allFields(ctx, rec)
	if err != nil {
		return TokenView{}, internal(err)
	}
	v := TokenView{
		AccessToken: at, TokenType: rec.TokenType, TokenID: rec.TokenID, ExpiresAt: rec.ExpiresAt, UseUntil: b.useUntil(rec),
		Generation: rec.Gen, Scope: grantedScope(rec), Fields: fields,
	}
	if i, ok := b.Settings.Integration(rec.Integration); ok {
		v.API = apiOf(i, rec)
	}
	return v, nil
}

// apiOf is how the provider's API is called for this connection: some have hosts of
// their own.
func apiOf(i *config.Integration, rec connection.Record) provider.API {
	if !slices.ContainsFunc(i.Entry.API.BaseURLs, func(u string) bool { return strings.Contains(u, "{") }) {
		return i.Entry.API
	}
	if e, err := i.Entry.Resolve(variables(i, rec.ClientID, rec.Fields)); err == nil {
		return e.API
	}
	return i.Entry.API // its names in braces say what is not known
}

// loadKey has the key of the tokens in memory: no read for a warm process.
func (b *Broker) loadKey(ctx context.Context) error {
	if b.Keys.Ready(secret.PurposeToken) {
		return nil
	}
	return b.Keys.Load(ctx, secret.PurposeToken)
}

func (b *Broker) allFields(ctx context.Context, rec connection.Record) (map[string]string, error) {
	if rec.SecretFields == "" {
		return rec.Fields, nil
	}
	text, err := b.Keys.Open(ctx, secret.PurposeToken, refresh.FieldsPlace(rec.ID), []byte(rec.SecretFields))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	if err := json.Unmarshal([]byte(text.Reveal()), &all); err != nil {
		return nil, err
	}
	for k, v := range rec.Fields {
		all[k] = v
	}
	return all, nil
}

// useUntil is when a caller must ask again: before the token expires and, where a
// refresh kills the old token, before the slot at which one will really be sent. It is
// a promise about our schedule, not a lock.
func (b *Broker) useUntil(rec connection.Record) int64 {
	if rec.ExpiresAt == 0 {
		return 0
	}
	until := rec.ExpiresAt
	i, ok := b.Settings.Integration(rec.Integration)
	if ok && rec.Grant != string(provider.GrantClientCredentials) && i.Entry.Profile(provider.GrantRefreshToken).OldAccessDies {
		if next := b.nextRefresh(i, rec); next != 0 {
			until = min(until, next)
		}
	}
	return until - readSlack
}

// nextRefresh is when the schedule will really refresh the connection, 0 for never.
func (b *Broker) nextRefresh(i *config.Integration, rec connection.Record) int64 {
	if !rec.Refreshable() || rec.Sched == "" {
		return 0
	}
	next := b.plan(i).NextRefresh(rec.ID, rec.Life(), rec.ExpiresAt, b.now())
	if rec.RetryAt > b.now() && (next == 0 || rec.RetryAt < next || strings.HasPrefix(rec.Sched, "retry#")) {
		next = rec.RetryAt
	}
	return next
}

// grantedScope is what the provider said, else what was asked for.
func grantedScope(rec connection.Record) string {
	if rec.ScopeKnown {
		return rec.GrantedScope
	}
	return rec.RequestedScope
}

// missingScopes are those of need that were not granted.
func missingScopes(rec connection.Record, need []string) []string {
	granted := strings.Fields(grantedScope(rec))
	var out []string
	for _, s := range need {
		if !slices.Contains(granted, s) {
			out = append(out, s)
		}
	}
	return out
}
