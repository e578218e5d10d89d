package broker

import (
	"context"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
)

// How long before its end the owner of a refresh token is told, s: a week, or the last
// quarter of a shorter life. It is looked for once a day, so never less than a day.
const (
	warnMost  = 7 * 24 * hour
	warnLeast = 26 * hour
)

// warn tells once of each end of a refresh token that draws near: the user has to
// consent again, and may do so before anything stops working.
func (b *Broker) warn(ctx context.Context, i *config.Integration, rec connection.Record) {
	by := reconnectBy(i, rec, b.nextRefresh(i, rec))
	if by == 0 || by == rec.Warned || b.events == nil {
		return
	}
	from := max(rec.ConsentedAt, rec.CreatedAt)
	if by != refresh.LifeOf(rec, i.Entry.Profile(provider.GrantRefreshToken)).Soon {
		from = rec.IssuedAt // the token would idle out
	}
	now := b.now()
	if lead := min(warnMost, max(warnLeast, (by-from)/4)); now < by-lead || now >= by {
		return
	}
	if _, err := b.Store.Write(ctx, rec.ID, connection.Warn{ConsentSeq: rec.ConsentSeq, End: by, Now: now}); err != nil {
		b.Log.Warn("audit", "connection", rec.ID, "error", err.Error())
	}
}
