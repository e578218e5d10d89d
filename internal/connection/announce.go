package connection

import (
	"context"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

// Announcement is what a write makes true: an event that is part of it. The zero
// Announcement is none.
type Announcement struct {
	Type   outbox.Type
	Reason Reason
	At     int64 // unix s
}

// Announcing is a write that makes an event true whatever the item was before, as long
// as its condition holds.
type Announcing interface {
	Write
	Announces() Announcement
}

// Each Announcing write.
var _ = []Announcing{
	Create{}, Verdict{}, Revive{}, RefuseImport{}, Consent{}, ConsentAccess{}, Tombstone{}, TombstoneHeld{}, Supersede{}, Warn{}, Activate{},
}

// Announces implements Announcing. An import is announced once its token is proved.
func (w Create) Announces() Announcement {
	if w.Record.Status != Active {
		return Announcement{}
	}
	return Announcement{Type: outbox.Created, At: w.Record.CreatedAt}
}

// Announces implements Announcing. What is still to be proved is announced by its save,
// and what had been active was announced then.
func (w Activate) Announces() Announcement {
	if w.Todo != "" || w.Proved {
		return Announcement{}
	}
	return Announcement{Type: outbox.Created, At: w.Now}
}

// Announces implements Announcing.
func (w Verdict) Announces() Announcement {
	return Announcement{outbox.NeedsReauth, w.Reason, w.Now}
}

// Announces implements Announcing. Should the provider refuse the token again, that is
// a verdict again.
func (w Revive) Announces() Announcement {
	return Announcement{Type: outbox.Recovered, At: w.Now}
}

// Announces implements Announcing.
func (w RefuseImport) Announces() Announcement {
	return Announcement{outbox.Disconnected, TokenRefused, w.Now}
}

// Announces implements Announcing.
func (w Consent) Announces() Announcement {
	return Announcement{Type: outbox.Reconnected, At: w.ConsentedAt}
}

// Announces implements Announcing.
func (w ConsentAccess) Announces() Announcement {
	return Announcement{Type: outbox.Reconnected, At: w.ConsentedAt}
}

// Announces implements Announcing.
func (w Tombstone) Announces() Announcement {
	return Announcement{outbox.Disconnected, w.Reason, w.Now}
}

// Announces implements Announcing.
func (w TombstoneHeld) Announces() Announcement {
	return Announcement{outbox.Disconnected, ByRequest, w.Now}
}

// Announces implements Announcing.
func (w Supersede) Announces() Announcement {
	return Announcement{outbox.Disconnected, Superseded, w.Now}
}

// Announces implements Announcing.
func (w Warn) Announces() Announcement {
	return Announcement{Type: outbox.ReconnectSoon, At: w.Now}
}

// announces is what a save makes true of a connection that had a status: nothing, if it
// was active.
func (w Save) announces(was Status) Announcement {
	switch was {
	case Connecting, Held:
		return Announcement{Type: outbox.Created, At: w.Now}
	case NeedsReauth:
		return Announcement{Type: outbox.Recovered, At: w.Now}
	}
	return Announcement{}
}

// announced carries out a write with the event that it makes true.
func (s Store) announced(ctx context.Context, id string, w Write) (item.Result, error) {
	switch w := w.(type) {
	case Save:
		return s.save(ctx, id, w)
	case Announcing:
		return s.update(ctx, id, w.Update(), w.Announces())
	}
	return s.Connections.Update(ctx, id, w.Update())
}

func (s Store) update(ctx context.Context, id string, u item.Update, a Announcement) (item.Result, error) {
	return s.Announce.Update(ctx, s.Connections, id, u, a.Type, string(a.Reason), a.At)
}

// guesses bounds how often a save guesses: a status changes once or twice at most within
// one generation.
const guesses = 5

// save carries out a save. What it makes true depends on the status before it, of which
// a save asks nothing: it heals a wrong verdict that nobody had written when the item was
// read. So the status is guessed, the guess is a condition, and where it was wrong the
// item as found has the right one. To who saves it is one write.
func (s Store) save(ctx context.Context, id string, w Save) (res item.Result, err error) {
	if s.Announce == nil {
		return s.Connections.Update(ctx, id, w.Update())
	}
	was := Active
	if w.Done {
		was = Connecting
	}
	for range guesses {
		u := w.Update()
		u.If = append(u.If, item.Eq("status", string(was)))
		res, err = s.update(ctx, id, u, w.announces(was))
		found := Status(res.Item.String("status"))
		if err != nil || res.Applied || res.Item.Int("gen") != w.Gen || found == was || found == Disconnected {
			break
		}
		was = found
	}
	return res, err
}

// Unfinished reports whether the tick has something to do for a stored connection
// besides delivering its events: an import that is not proved, or a revocation.
func Unfinished(i item.Item) bool {
	switch Status(i.String("status")) {
	case Connecting:
		return true
	case Disconnected:
		return i.String("revocation") == "pending"
	}
	return false
}
