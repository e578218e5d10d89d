package connection

import (
	"context"
	"errors"
	"fmt"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/outbox"
)

// ErrNotFound says that there is no such connection, session or state.
var ErrNotFound = errors.New("not found")

// Store is the two tables with the protocol's own words.
type Store struct {
	Connections    item.Table
	Authorizations item.Table
	// Announce, where set, has each write that makes an event true carry that event, and
	// is told of it once the write was applied. Nil: there are no events.
	Announce *outbox.Announcer
}

// Result is what became of a write of a connection.
type Result struct {
	// Applied is false when the condition was not met: somebody else was there.
	Applied bool
	// Found is false when there is no such connection.
	Found bool
	// Record is the connection as written, or as found when the write was refused.
	Record Record
}

// Get reads a connection as of every write that returned before. ErrNotFound.
func (s Store) Get(ctx context.Context, id string) (Record, error) {
	i, err := s.Connections.Get(ctx, id)
	if err != nil {
		return Record{}, fmt.Errorf("read connection %s: %w", id, err)
	}
	if i == nil {
		return Record{}, fmt.Errorf("connection %s: %w", id, ErrNotFound)
	}
	return FromItem(id, i)
}

// Write carries out one conditional write of the connection id. An error leaves
// open whether it was applied.
func (s Store) Write(ctx context.Context, id string, w Write) (Result, error) {
	res, err := s.announced(ctx, id, w)
	if err != nil {
		return Result{}, fmt.Errorf("%T of connection %s: %w", w, id, err)
	}
	if res.Item == nil {
		return Result{Applied: res.Applied}, nil
	}
	r, err := FromItem(id, res.Item)
	if err != nil {
		return Result{}, err
	}
	return Result{Applied: res.Applied, Found: true, Record: r}, nil
}

// Due lists ids of connections filed under a partition of the schedule, those of
// one integration alone where integration is not empty.
func (s Store) Due(ctx context.Context, sched, integration, after string, limit int) (item.Page, error) {
	q := item.Query{Index: item.IndexDue, Hash: sched, After: after, Limit: limit}
	if integration != "" {
		q.Prefix = integration + "#"
	}
	return s.Connections.Query(ctx, q)
}

// external is the row that makes an import repeatable: it holds the connection's id
// under the hash of the caller's own id.
func externalKey(integration, externalID string) string {
	return "ext#" + integration + "#" + Hash(externalID)
}

// ClaimExternal files id under the caller's external id, unless another connection
// holds it. over is the id that may be replaced (a disconnected one), "" for none.
// It returns the id that holds the external id afterwards.
func (s Store) ClaimExternal(ctx context.Context, integration, externalID, id, over string) (string, error) {
	u := item.Update{Target: item.Absent, Set: []item.Assign{item.Put("conn", id)}}
	if over != "" {
		u.Target, u.If = item.Existing, []item.Cond{item.Eq("conn", over)}
	}
	res, err := s.Connections.Update(ctx, externalKey(integration, externalID), u)
	if err != nil {
		return "", fmt.Errorf("file external id: %w", err)
	}
	return res.Item.String("conn"), nil
}

// Cursor is the last minute (unix minutes) that a tick has finished, 0 when there
// is none.
func (s Store) Cursor(ctx context.Context) (int64, error) {
	i, err := s.Connections.Get(ctx, cursorKey)
	return i.Int("c"), err
}

const cursorKey = "sys#cursor"

// MoveCursor sets the cursor to minute if it still stands at from (0: absent).
func (s Store) MoveCursor(ctx context.Context, from, minute int64) (bool, error) {
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("c", minute)}}
	if from == 0 {
		u.If = []item.Cond{item.Lacks("c")}
	} else {
		u.If = []item.Cond{item.Eq("c", from)}
	}
	res, err := s.Connections.Update(ctx, cursorKey, u)
	return res.Applied, err
}

// Ping reads one row, to tell whether the store answers.
func (s Store) Ping(ctx context.Context) error {
	_, err := s.Connections.Get(ctx, cursorKey)
	return err
}
