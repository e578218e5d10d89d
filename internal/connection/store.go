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

// External is the connection that holds the caller's external id, "" for none.
func (s Store) External(ctx context.Context, integration, externalID string) (string, error) {
	i, err := s.Connections.Get(ctx, externalKey(integration, externalID))
	if err != nil {
		return "", fmt.Errorf("read external id: %w", err)
	}
	return i.String("conn"), nil
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

// Progress is how far the ticks have come.
type Progress struct {
	Minute int64 // the last minute (unix minutes) that a tick has finished, 0 when there is none
	Audit  Audit
}

// Audit is how far the walk over all connections has come that begins once a day.
type Audit struct {
	Day   int64  // unix day of the walk begun last, 0 for none
	After string // where the walk goes on; "" once it is through
}

// Progress reads how far the ticks have come.
func (s Store) Progress(ctx context.Context) (Progress, error) {
	i, err := s.Connections.Get(ctx, cursorKey)
	return Progress{i.Int("c"), Audit{i.Int("audit_day"), i.String("audit_after")}}, err
}

// MoveAudit notes how far the walk has come. Ticks that overlap may each move it, and
// then look at some connections twice.
func (s Store) MoveAudit(ctx context.Context, a Audit) error {
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("audit_day", a.Day)}}
	if a.After == "" {
		u.Remove = []string{"audit_after"}
	} else {
		u.Set = append(u.Set, item.Put("audit_after", a.After))
	}
	_, err := s.Connections.Update(ctx, cursorKey, u)
	return err
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
