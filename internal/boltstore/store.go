package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/evergrant/evergrant/internal/item"
)

// Store is one table of the file.
type Store struct {
	db      *DB
	items   []byte // the bucket of the items
	defs    []item.Index
	indexes []index // of defs, and the expiry last
}

var _ item.Table = (*Store)(nil)

func newStore(db *DB, table string, defs []item.Index) *Store {
	s := &Store{db: db, items: []byte(table), defs: defs}
	for _, def := range defs {
		s.indexes = append(s.indexes, newIndex(table, def))
	}
	s.indexes = append(s.indexes, newExpiry(table))
	return s
}

// Get implements item.Table.
func (s *Store) Get(ctx context.Context, key string) (item.Item, error) {
	var found item.Item
	err := s.read(ctx, func(tx *bbolt.Tx) (err error) {
		found, err = s.load(tx, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return found, nil
}

// Update implements item.Table.
func (s *Store) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	if err := checkKey(key, u.Check(s.defs)); err != nil {
		return item.Result{}, fmt.Errorf("update %s: %w", key, err)
	}
	return s.change(ctx, "update", key, func(old item.Item) (item.Result, item.Item, error) {
		next, ok := u.Apply(old)
		if !ok {
			return item.Result{Item: old}, old, nil
		}
		if next.Size() > item.MaxSize {
			return item.Result{}, nil, item.ErrTooLarge
		}
		return item.Result{Applied: true, Item: next}, next, nil
	})
}

// Delete implements item.Table.
func (s *Store) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	if err := checkKey(key, item.CheckConds(conds)); err != nil {
		return item.Result{}, fmt.Errorf("delete %s: %w", key, err)
	}
	return s.change(ctx, "delete", key, func(old item.Item) (item.Result, item.Item, error) {
		if old == nil || !item.Hold(old, conds) {
			return item.Result{Item: old}, old, nil
		}
		return item.Result{Applied: true, Item: old}, nil, nil
	})
}

// change carries out one write: decide tells the result and the item that is to
// stand under key, nil for none.
func (s *Store) change(ctx context.Context, verb, key string, decide func(old item.Item) (item.Result, item.Item, error)) (item.Result, error) {
	var res item.Result // the committer's until write returns without an error
	err := s.db.write(ctx, func(tx *bbolt.Tx) (bool, error) {
		old, err := s.load(tx, key)
		if err != nil {
			return false, err
		}
		var next item.Item
		res, next, err = decide(old)
		if err != nil || !res.Applied {
			return false, err
		}
		return true, s.store(tx, key, old, next)
	})
	if err != nil {
		return item.Result{}, fmt.Errorf("%s %s: %w", verb, key, err)
	}
	return res, nil
}

// Query implements item.Table.
func (s *Store) Query(ctx context.Context, q item.Query) (item.Page, error) {
	def, err := q.IndexOf(s.defs)
	if err != nil {
		return item.Page{}, err
	}
	place, err := q.Place(1)
	if err != nil {
		return item.Page{}, fmt.Errorf("query index %s: %w", q.Index, err)
	}
	hash := string(appendTerm(nil, q.Hash))
	first, after := string(appendPrefix([]byte(hash), q.Prefix)), ""
	if place != nil {
		after = hash + place[0]
	}
	var page item.Page
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		last := ""
		more := walk(tx.Bucket(bucketName(string(s.items), def.Name)), first, after, q.Limit, func(row, key []byte) {
			page.Keys, last = append(page.Keys, string(key)), string(row)
			page.Ranges = append(page.Ranges, termOf(last[len(hash):len(last)-len(key)]))
		})
		if more {
			page.Next = q.Cursor(strings.TrimPrefix(last, hash))
		}
		return nil
	})
	if err != nil {
		return item.Page{}, fmt.Errorf("query index %s: %w", q.Index, err)
	}
	return page, nil
}

// Scan implements item.Table.
func (s *Store) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	all := item.Query{After: after}
	place, err := all.Place(1)
	if err != nil {
		return item.Page{}, fmt.Errorf("scan: %w", err)
	}
	if limit < 1 {
		return item.Page{}, fmt.Errorf("scan: a limit of %d", limit)
	}
	last := ""
	if place != nil {
		last = place[0]
	}
	var page item.Page
	err = s.read(ctx, func(tx *bbolt.Tx) error {
		more := walk(tx.Bucket(s.items), "", last, limit, func(key, _ []byte) {
			last = string(key)
			page.Keys = append(page.Keys, last)
		})
		if more {
			page.Next = all.Cursor(last)
		}
		return nil
	})
	if err != nil {
		return item.Page{}, fmt.Errorf("scan: %w", err)
	}
	return page, nil
}

// walk visits up to limit rows of b that begin with prefix and come after the row
// after, and reports whether there are more. The bytes visited are gone with the
// transaction.
func walk(b *bbolt.Bucket, prefix, after string, limit int, visit func(k, v []byte)) (more bool) {
	c := b.Cursor()
	k, v := c.Seek([]byte(max(prefix, after)))
	if after != "" && string(k) == after {
		k, v = c.Next()
	}
	for n := 0; k != nil && bytes.HasPrefix(k, []byte(prefix)); n++ {
		if n == limit {
			return true
		}
		visit(k, v)
		k, v = c.Next()
	}
	return false
}

func (s *Store) read(ctx context.Context, in func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.bolt.View(in)
}

// load reads the item under key, nil where there is none.
func (s *Store) load(tx *bbolt.Tx, key string) (item.Item, error) {
	b := tx.Bucket(s.items).Get([]byte(key))
	if b == nil {
		return nil, nil
	}
	return decode(b)
}

// store puts next in the place of old, either of which may be nil, and has the
// indexes follow.
func (s *Store) store(tx *bbolt.Tx, key string, old, next item.Item) error {
	for _, x := range s.indexes {
		was, is := x.row(key, old), x.row(key, next)
		if bytes.Equal(was, is) {
			continue
		}
		if was != nil {
			if err := tx.Bucket(x.bucket).Delete(was); err != nil {
				return err
			}
		}
		if is != nil {
			if err := tx.Bucket(x.bucket).Put(is, []byte(key)); err != nil {
				return err
			}
		}
	}
	if next == nil {
		return tx.Bucket(s.items).Delete([]byte(key))
	}
	return tx.Bucket(s.items).Put([]byte(key), encode(next))
}

// checkKey passes err on, or refuses a key that DynamoDB would not take.
func checkKey(key string, err error) error {
	if err == nil && (key == "" || len(key) > item.MaxHash) {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	return err
}
