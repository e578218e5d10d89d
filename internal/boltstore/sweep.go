package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// sweepAfter is how long an item outlives its ttl. Nothing relies on deletion, which
	// DynamoDB does days late: expiry stands in the conditions. It spares a request that
	// began in time from finding nothing at all.
	sweepAfter = time.Minute
	// sweepGroup is the number of items deleted in one transaction, so that other writes
	// never wait for a long one.
	sweepGroup = 200
)

// Sweep deletes the items of both tables whose ttl (unix seconds) passed more than a
// minute before now, and tells how many. An item that cannot be read stays, and is
// part of the error; all others are deleted even so.
func (db *DB) Sweep(ctx context.Context, now time.Time) (int, error) {
	until := uint64(max(0, now.Add(-sweepAfter).Unix()))
	deleted := 0
	var unread error
	for _, s := range db.stores() {
		for after, more := "", true; more; {
			var g sweep
			err := db.write(ctx, func(tx *bbolt.Tx) (bool, error) {
				g = s.expired(tx, after, until)
				return g.delete(tx, s)
			})
			if err != nil {
				return deleted, fmt.Errorf("sweep: %w", err)
			}
			deleted, unread = deleted+g.deleted, errors.Join(unread, g.unread)
			after, more = g.last, len(g.keys) == sweepGroup
		}
	}
	return deleted, unread
}

// sweep is one transaction's share of what has expired.
type sweep struct {
	keys    []string
	last    string // the row of the last key
	deleted int
	unread  error
}

// expired finds the next rows of the expiry index. It only reads: a bucket must not
// change under its cursor.
func (s *Store) expired(tx *bbolt.Tx, after string, until uint64) sweep {
	var g sweep
	walk(tx.Bucket(bucketName(string(s.items), ttlName)), "", after, sweepGroup, func(row, key []byte) {
		if binary.BigEndian.Uint64(row) < until {
			g.keys, g.last = append(g.keys, string(key)), string(row)
		}
	})
	return g
}

func (g *sweep) delete(tx *bbolt.Tx, s *Store) (changed bool, err error) {
	for _, key := range g.keys {
		old, err := s.load(tx, key)
		if err != nil {
			g.unread = errors.Join(g.unread, fmt.Errorf("sweep %s: %w", key, err))
			continue
		}
		if err := s.store(tx, key, old, nil); err != nil {
			return true, err
		}
		g.deleted++
	}
	return g.deleted > 0, nil
}
