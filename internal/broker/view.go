package broker

import (
	"context"
	"errors"
	"strings"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// clientChanged is a computed reason: it is never stored, so that putting the client
// back into the configuration heals its connections.
const clientChanged = "client_changed"

// shown is the status that callers see.
func (b *Broker) shown(rec connection.Record) (connection.Status, string) {
	switch rec.Status {
	case connection.Active, connection.Connecting:
		i, ok := b.Settings.Integration(rec.Integration)
		if !ok {
			return rec.Status, "integration_suspended"
		}
		if _, ok := i.ClientByID(rec.ClientID); !ok {
			return connection.NeedsReauth, clientChanged
		}
	}
	return rec.Status, string(rec.Reason)
}

func (b *Broker) view(rec connection.Record) View {
	v := View{Record: rec}
	v.ShownStatus, v.ShownReason = b.shown(rec)
	if rec.Status == connection.Disconnected {
		v.ExpiresAt = 0 // there is no token that could expire
	}
	v.MissingScope = missingScopes(rec, strings.Fields(rec.RequestedScope))
	if i, ok := b.Settings.Integration(rec.Integration); ok {
		v.NextRefreshAt = b.nextRefresh(i, rec)
		v.ReconnectBy = reconnectBy(i, rec, v.NextRefreshAt)
		if b.Settings.PublicURL != "" {
			v.RedirectURI = i.RegisteredURI(b.Settings.PublicURL)
		}
	}
	return v
}

// reconnectBy is when the user must have consented again, 0 where nobody knows. That
// the token may idle out matters only where the schedule would not use it before.
func reconnectBy(i *config.Integration, rec connection.Record, next int64) int64 {
	if !rec.Refreshable() || rec.Grant == string(provider.GrantClientCredentials) {
		return 0
	}
	l := refresh.LifeOf(rec, i.Entry.Profile(provider.GrantRefreshToken))
	by := l.Soon
	if l.Idle != 0 && (next == 0 || next > l.Idle) && (by == 0 || l.Idle < by) {
		by = l.Idle
	}
	return by
}

// Get shows a connection.
func (b *Broker) Get(ctx context.Context, c Caller, id string) (View, error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return View{}, refused
	}
	return b.view(rec), nil
}

// SetTags replaces the tags of a connection.
func (b *Broker) SetTags(ctx context.Context, c Caller, id string, tags map[string]string) (View, error) {
	if refused := checkTags(tags); refused != nil {
		return View{}, refused
	}
	if _, refused := b.record(ctx, c, id); refused != nil {
		return View{}, refused
	}
	res, err := b.Store.Write(ctx, id, connection.SetTags{Tags: tags, Now: b.now()})
	switch {
	case err != nil:
		return View{}, internal(err)
	case !res.Applied:
		return View{}, fail(NotFound, "there is no such connection")
	}
	return b.view(res.Record), nil
}

const (
	listDefault = 20
	listMax     = 100
)

// List shows connections of an owner or an integration.
func (b *Broker) List(ctx context.Context, c Caller, r ListRequest) (ListPage, error) {
	q, refused := b.listQuery(c, &r)
	if refused != nil {
		return ListPage{}, refused
	}
	at := listPlace(c, r)
	if r.Cursor != "" {
		after, err := b.openCursor(ctx, at, r.Cursor)
		if err != nil {
			return ListPage{}, fail(InvalidRequest, "cursor is not one of this list: begin again without it")
		}
		q.After = after
	}
	page := ListPage{Items: []View{}}
	for len(page.Items) < r.Limit {
		q.Limit = r.Limit - len(page.Items)
		keys, err := b.Store.Connections.Query(ctx, q)
		if err != nil {
			return ListPage{}, internal(err)
		}
		for _, id := range keys.Keys {
			rec, err := b.Store.Get(ctx, id)
			switch {
			case errors.Is(err, connection.ErrNotFound), errors.Is(err, item.ErrCorrupt): // the index follows its items
			case err != nil:
				return ListPage{}, internal(err)
			case b.listed(c, r, rec):
				page.Items = append(page.Items, b.view(rec))
			}
		}
		if q.After = keys.Next; q.After == "" {
			return page, nil
		}
	}
	next, err := b.sealCursor(ctx, at, q.After)
	if err != nil {
		return ListPage{}, internal(err)
	}
	page.Next = next
	return page, nil
}

func (b *Broker) listQuery(c Caller, r *ListRequest) (item.Query, *Error) {
	if r.Limit == 0 {
		r.Limit = listDefault
	}
	switch {
	case r.Owner == "" && r.Integration == "":
		return item.Query{}, fail(InvalidRequest, "owner or integration is needed")
	case r.Limit < 1 || r.Limit > listMax:
		return item.Query{}, fail(InvalidRequest, "limit must be 1 to %d", listMax)
	case r.Integration != "" && !c.MayIntegration(r.Integration):
		return item.Query{}, fail(NotFound, "there is no integration of that name, or this key may not use it")
	case r.Owner != "" && !c.MayOwner(r.Owner):
		return item.Query{}, fail(Forbidden, "this key may not act for that owner")
	}
	if r.Owner == "" {
		q := item.Query{Index: item.IndexByIntegration, Hash: r.Integration}
		if r.Status != "" {
			q.Prefix = string(r.Status) + "#"
		}
		return q, nil
	}
	q := item.Query{Index: item.IndexByOwner, Hash: r.Owner}
	if r.Integration != "" {
		q.Prefix = r.Integration + "#"
	}
	return q, nil
}

func (b *Broker) listed(c Caller, r ListRequest, rec connection.Record) bool {
	if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) || (r.Integration != "" && rec.Integration != r.Integration) ||
		(r.Owner != "" && rec.Owner != r.Owner) || (r.Status != "" && rec.Status != r.Status) {
		return false
	}
	for k, v := range r.Tags {
		if rec.Tags[k] != v {
			return false
		}
	}
	return true
}

// listPlace binds a cursor to its caller and filter, so that it serves no other list.
func listPlace(c Caller, r ListRequest) secret.Place {
	parts := []string{c.Name, r.Owner, r.Integration, string(r.Status)}
	for _, k := range sortedKeys(r.Tags) {
		parts = append(parts, k, r.Tags[k])
	}
	return secret.Place{Table: "cursor", ID: connection.Hash(strings.Join(parts, "\x00")), Field: "after"}
}
