package modelcheck

import (
	"context"
	"fmt"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
)

// The names of the one connection and what it hangs on.
const (
	connectionID = "c"
	integration  = "i"
	owner        = "o"
)

func attemptID(n uint8) string { return fmt.Sprintf("a%d", n) }

// A table is one item under the interface of the stores, so that the store's own code
// renders the writes.
type table struct {
	item item.Item
	edit func(item.Update) item.Update
	err  error
}

var _ item.Table = (*table)(nil)

// Get implements item.Table.
func (t *table) Get(context.Context, string) (item.Item, error) { return t.item, nil }

// Update implements item.Table.
func (t *table) Update(_ context.Context, _ string, u item.Update) (item.Result, error) {
	if t.edit != nil {
		u = t.edit(u)
	}
	if err := u.Check(nil); err != nil {
		t.err = err
		return item.Result{}, err
	}
	next, applied := u.Apply(t.item)
	t.item = next
	return item.Result{Applied: applied, Item: next}, nil
}

// Delete implements item.Table: the protocol deletes no connection and no session.
func (t *table) Delete(context.Context, string, ...item.Cond) (item.Result, error) {
	return item.Result{}, fmt.Errorf("delete: %w", errNotModelled)
}

// Query implements item.Table; no machine asks.
func (t *table) Query(context.Context, item.Query) (item.Page, error) {
	return item.Page{}, fmt.Errorf("query: %w", errNotModelled)
}

// Scan implements item.Table; no machine asks.
func (t *table) Scan(context.Context, string, int) (item.Page, error) {
	return item.Page{}, fmt.Errorf("scan: %w", errNotModelled)
}

// apply carries out one write of a connection on an interned item, through the
// store's code.
func (m *model) apply(id string, on uint32, w connection.Write) written {
	t := &table{item: m.items.all[on].item}
	if m.mistake.edit != nil {
		t.edit = func(u item.Update) item.Update { return m.mistake.edit(w, t.item, u) }
	}
	res, err := connection.Store{Connections: t}.Write(context.Background(), id, w)
	if t.err != nil {
		m.violate("an update that no store takes: %v", t.err)
	}
	if err != nil { // written, and it cannot be read back
		return written{item: m.items.intern(id, t.item), applied: true}
	}
	return written{item: m.items.intern(id, t.item), applied: res.Applied}
}

// writeRefresh performs the pending write of a refresh machine, and reports whether
// it was applied.
func (m *model) writeRefresh(w *world, id uint32, last answerKind) bool {
	old := w.item[0]
	res := m.refresh.write(id, old, func() written { return m.apply(connectionID, old, m.refreshWrite(id)) })
	w.item[0] = res.item
	if res.applied {
		n := m.refresh.at(id)
		switch n.Effect.Kind {
		case refresh.EffectSave, refresh.EffectRescue:
			m.checkSave(w, old, last)
		case refresh.EffectClaim:
			m.checkClaim(w, old, n.Effect.Claim)
		case refresh.EffectVerdict, refresh.EffectRefuseImport:
			m.checkVerdict(w, old, last)
		default:
			m.checkWrite(w, old)
		}
	}
	return res.applied
}

// refreshWrite is what the driver makes of a machine's effect.
func (m *model) refreshWrite(id uint32) connection.Write {
	n := m.refresh.at(id)
	s, e := n.State, n.Effect
	switch e.Kind {
	case refresh.EffectClaim:
		return e.Claim
	case refresh.EffectRelease:
		return connection.Release{Attempt: s.In.Attempt}
	case refresh.EffectPark, refresh.EffectLater:
		return e.Later
	case refresh.EffectVerdict:
		return e.Verdict
	case refresh.EffectRefuseImport:
		w := connection.RefuseImport{ID: connectionID, Gen: s.Core.Gen, Now: early / 1000}
		if s.Claimed {
			w.Attempt = s.In.Attempt
		}
		return w
	}
	return m.saveOf(s)
}

// saveOf seals an answer as the driver does: for the next generation, and with the
// token that was sent where none came.
func (m *model) saveOf(s refresh.State) connection.Save {
	g := s.Core.Gen + 1
	spent, _ := unseal(s.Core.Refresh, place{})
	kept, _ := unseal(s.Core.Access, place{})
	at, rt := kept, spent
	if s.Answer.Verdict == provider.VerdictOK {
		at = m.tokens[s.Answer.AccessToken]
	}
	if s.Answer.RefreshTokenArrived {
		rt = m.tokens[s.Answer.RefreshToken]
	}
	save := connection.Save{
		ID: connectionID, Gen: s.Core.Gen, SaveID: s.In.Attempt,
		Tokens:  connection.Tokens{Access: seal(at, place{"at", connectionID, g}), Refresh: seal(rt, place{"rt", connectionID, g})},
		Rotated: rt != spent, Epoch: s.Facts.Epoch, Doubt: s.Save.Doubt, Sent: s.Save.Sent, RetryAt: s.Save.RetryAt, Failures: s.Save.Failures,
		Done: s.Core.Status == connection.Connecting && s.Answer.Verdict == provider.VerdictOK, Now: early / 1000,
	}
	if m.items.timed {
		// The driver counts the life from the send; here from the answer, a second later.
		sent := s.Until/1000 - refresh.SaveTime/1000 - 1
		save.Tokens.IssuedAt, save.Tokens.ExpiresAt, save.Tokens.TokenID = sent, sent+s.Answer.ExpiresIn, attemptID(uint8(rt))
		save.Sched = s.Facts.Plan.Partition(connectionID, s.Answer.ExpiresIn)
	}
	return save
}

// tokenOf is the token that an answer brought.
func (m *model) tokenOf(a provider.Answer) token {
	if a.Verdict == provider.VerdictOK {
		return m.tokens[a.AccessToken]
	}
	return m.tokens[a.RefreshToken]
}
