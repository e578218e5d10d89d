package connection

import (
	"context"
	"fmt"
	"strconv"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/secret"
)

var _ secret.KeyStore = Store{}

// The rows of the data keys stand in the table connections: one a key, and one a
// purpose that repeats the primary key, so that a cold start reads one row. All rows
// of a purpose share a prefix, by which a role is limited to them.
func dataKeyKey(p secret.Purpose, n int64) string {
	return dataKeyPrefix(p) + strconv.FormatInt(n, 10)
}

func primaryKeyKey(p secret.Purpose) string { return dataKeyPrefix(p) + "primary" }

func dataKeyPrefix(p secret.Purpose) string { return "sys#datakey#" + string(p) + "#" }

// PrimaryKey implements secret.KeyStore.
func (s Store) PrimaryKey(ctx context.Context, p secret.Purpose) (n int64, wrapped []byte, err error) {
	i, err := s.Connections.Get(ctx, primaryKeyKey(p))
	if err != nil || i == nil {
		return 0, nil, wrapKeyErr("read primary", p, err)
	}
	return i.Int("n"), []byte(i.Bytes("wrapped")), nil
}

// DataKey implements secret.KeyStore.
func (s Store) DataKey(ctx context.Context, p secret.Purpose, n int64) (wrapped []byte, err error) {
	i, err := s.Connections.Get(ctx, dataKeyKey(p, n))
	if err != nil || i == nil {
		return nil, wrapKeyErr("read", p, err)
	}
	return []byte(i.Bytes("wrapped")), nil
}

// AddPrimaryKey implements secret.KeyStore. The key's own row is written first: a
// value sealed under a key that only the primary row holds would be lost with the
// next rotation. Whoever finds that row taken makes its key primary in the name of
// the other, who may have crashed between the two writes.
func (s Store) AddPrimaryKey(ctx context.Context, p secret.Purpose, prev, n int64, wrapped []byte) (applied bool, err error) {
	row, err := s.Connections.Update(ctx, dataKeyKey(p, n), item.Update{
		Target: item.Absent,
		Set:    []item.Assign{item.Put("wrapped", item.Bytes(wrapped))},
	})
	if err != nil {
		return false, wrapKeyErr("add", p, err)
	}
	first := item.Update{
		Target: item.Absent,
		Set:    []item.Assign{item.Put("n", n), item.Put("wrapped", row.Item.Bytes("wrapped"))},
	}
	if prev != 0 {
		first.Target, first.If = item.Existing, []item.Cond{item.Eq("n", prev)}
	}
	primary, err := s.Connections.Update(ctx, primaryKeyKey(p), first)
	if err != nil {
		return false, wrapKeyErr("make primary", p, err)
	}
	// Judged by what stands there now, not by whether this write did it: it may be
	// the second sending of one whose answer was lost.
	return primary.Item.Int("n") == n && primary.Item.Bytes("wrapped") == item.Bytes(wrapped), nil
}

func wrapKeyErr(verb string, p secret.Purpose, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s data key of purpose %s: %w", verb, p, err)
}
