package refresh

import (
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// Life is how long the refresh token of a connection lasts: unix seconds, 0 where nobody
// knows.
type Life struct {
	// Soon is the earliest end that is known: of what the provider documents and what
	// its answer said. Refreshing does not move it, or it is told anew each time.
	Soon int64
	// Last is when the token has certainly ended: of the two the later.
	Last int64
	// Idle is when it ends if nobody uses it until then. Never certain, since somebody
	// may have used it.
	Idle int64
}

// LifeOf tells what is known of the refresh token of a connection.
func LifeOf(rec connection.Record, p provider.Profile) Life {
	var l Life
	if rec.Refresh == "" {
		return l
	}
	l.Soon, l.Last = rec.RefreshExpiresAt, rec.RefreshExpiresAt
	if rec.RefreshSlides {
		l.Soon, l.Idle = 0, rec.RefreshExpiresAt
	}
	if p.AbsoluteLifetime > 0 && rec.ConsentedAt > 0 {
		end := rec.ConsentedAt + p.AbsoluteLifetime
		l.Last = max(l.Last, end)
		if l.Soon == 0 || end < l.Soon {
			l.Soon = end
		}
	}
	if p.IdleLifetime > 0 && rec.IssuedAt > 0 {
		l.Idle = rec.IssuedAt + p.IdleLifetime
	}
	return l
}
