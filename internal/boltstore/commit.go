package boltstore

import (
	"context"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"
)

// maxGroup is the largest number of writes that share a commit. It bounds how long
// the first one waits for the work of the last.
const maxGroup = 256

// write is one write that waits for the committer.
type write struct {
	// apply does the write in tx and reports whether it changed anything. An error
	// before a change ends this write alone; one after a change ends the whole group,
	// whose transaction is then rolled back. The caller may be gone when it runs.
	apply func(tx *bbolt.Tx) (changed bool, err error)
	done  chan error // of size 1: the committer never waits for a caller
}

// write has apply committed together with whatever else waits. It returns when the
// commit is on disk, or when ctx ends: then the write was not begun if it still
// waited, and is unknown otherwise.
func (db *DB) write(ctx context.Context, apply func(tx *bbolt.Tx) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := &write{done: make(chan error, 1), apply: func(tx *bbolt.Tx) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		return apply(tx)
	}}
	select {
	case db.queue <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.quit:
		return ErrClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commits is the one goroutine that writes. A group is what waits while the group
// before it is being synced, so a lone write waits for nobody and sixty-four at
// once share two syncs.
func (db *DB) commits() {
	defer close(db.ended)
	for {
		select {
		case w := <-db.queue:
			db.commit(db.group(w))
		case <-db.quit:
			return
		}
	}
}

func (db *DB) group(first *write) []*write {
	// Those whose writes have just been answered may be about to send their next:
	// let them run, or they miss this commit and each group is half of what it could be.
	runtime.Gosched()
	group := []*write{first}
	for len(group) < maxGroup {
		select {
		case w := <-db.queue:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

func (db *DB) commit(group []*write) {
	refused := make([]error, len(group))
	err := db.transact(group, refused)
	for i, w := range group {
		if refused[i] != nil {
			w.done <- refused[i]
			continue
		}
		w.done <- err
	}
}

// transact applies the group in one transaction. What a write found refused stands
// in refused; an error concerns all others. When nothing changed nothing is synced:
// what the group read was committed before it.
func (db *DB) transact(group []*write, refused []error) error {
	tx, err := db.bolt.Begin(true)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	dirty := false
	for i, w := range group {
		changed, err := w.apply(tx)
		if changed && err != nil {
			return err
		}
		refused[i] = err
		dirty = dirty || changed
	}
	if !dirty {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
