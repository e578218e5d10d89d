// Package boltstore provides both tables in one file on one machine, with bbolt. It
// is the store of `evergrant serve` and `evergrant dev`.
//
// The file has a bucket of items for each table, and one for each index, changed in
// the same transaction. So an index is never behind here, where DynamoDB's may be.
// What expires is found by an index of its own, since bbolt deletes nothing by itself:
// DB.Sweep does.
//
// bbolt writes pages that nothing refers to, syncs, writes the page that refers to
// them, and syncs again. A crash at any moment leaves the last whole commit. Writes
// that come together share one commit (see commits), which is what makes two syncs
// affordable; the syncs are never left out.
package boltstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/evergrant/evergrant/internal/item"
)

// Errors of the file.
var (
	// ErrInUse says that another process holds the file. Two would be two writers.
	ErrInUse = errors.New("another evergrant serve holds it")
	// ErrClosed says that the store was closed before the write was begun.
	ErrClosed = errors.New("store is closed")
)

// Options are the choices of Open. The zero Options are the usual ones.
type Options struct {
	// LockWait is how long to wait for another process to let go of the file, as one
	// that is just ending does; zero is one second.
	LockWait time.Duration
}

// DB is the open file.
type DB struct {
	bolt           *bbolt.DB
	connections    *Store
	authorizations *Store

	queue chan *write   // to the committer, unbuffered: sent is begun
	quit  chan struct{} // closed by Close
	ended chan struct{} // closed by the committer at its end
	once  sync.Once     // of Close
}

// mapSize is the address space that is mapped at first, in bytes. A reader holds the
// mapping, so a commit that had to enlarge it would wait for every reader, a backup
// among them. It is no memory and no disk.
const mapSize = 256 << 20

// formatVersion is of the buckets, apart from the version of an item's bytes.
const formatVersion = 1

var (
	metaBucket    = []byte("meta")
	formatKey     = []byte("format")
	scratchBucket = []byte("scratch")
)

// Open opens the file at path, creating it with mode 0600 where there is none. The
// error is ErrInUse when another process has it open.
func Open(path string, o Options) (*DB, error) {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         cmp.Or(o.LockWait, time.Second),
		FreelistType:    bbolt.FreelistMapType, // the other one slows down with the size of the file
		InitialMmapSize: mapSize,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{bolt: b, queue: make(chan *write), quit: make(chan struct{}), ended: make(chan struct{})}
	db.connections = newStore(db, "connections", item.ConnectionIndexes())
	db.authorizations = newStore(db, "authorizations", item.AuthorizationIndexes())
	if err := errors.Join(b.Update(db.prepare), syncFolder(filepath.Dir(path))); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	go db.commits()
	return db, nil
}

// prepare makes what a new file lacks and refuses a file of another format.
func (db *DB) prepare(tx *bbolt.Tx) error {
	buckets := [][]byte{metaBucket, scratchBucket}
	for _, s := range db.stores() {
		buckets = append(buckets, s.items)
		for _, x := range s.indexes {
			buckets = append(buckets, x.bucket)
		}
	}
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	format := meta.Get(formatKey)
	if format == nil {
		return meta.Put(formatKey, []byte{formatVersion})
	}
	if !bytes.Equal(format, []byte{formatVersion}) {
		return fmt.Errorf("file format %x is not the format %d of this version of evergrant", format, formatVersion)
	}
	return nil
}

// syncFolder makes a new file's name durable: its own syncs do not cover that.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (db *DB) stores() []*Store { return []*Store{db.connections, db.authorizations} }

// Connections is the table connections.
func (db *DB) Connections() *Store { return db.connections }

// Authorizations is the table authorizations.
func (db *DB) Authorizations() *Store { return db.authorizations }

// Close ends the commit that is under way, refuses all later writes with ErrClosed
// and lets go of the file. It waits for readers.
func (db *DB) Close() error {
	db.once.Do(func() { close(db.quit) })
	<-db.ended
	if err := db.bolt.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// probeSize is what Writable writes, in bytes: many times a record, since a save
// rewrites the pages of the record's neighbours too.
const probeSize = 64 << 10

// Writable commits a write of no meaning, and so reports a disk that is full or
// read-only before something is sent whose answer could not be kept. A full disk
// counts as writable while the file has room of its own, left by what was deleted.
func (db *DB) Writable(ctx context.Context) error {
	err := db.write(ctx, func(tx *bbolt.Tx) (bool, error) {
		return true, tx.Bucket(scratchBucket).Put([]byte("probe"), make([]byte, probeSize))
	})
	if err != nil {
		return fmt.Errorf("store is not writable: %w", err)
	}
	return nil
}

// Backup writes a copy of the whole file to w, as of one moment. Reads and writes go
// on; the file grows meanwhile, since what is replaced is still being read.
func (db *DB) Backup(w io.Writer) error {
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	return nil
}
