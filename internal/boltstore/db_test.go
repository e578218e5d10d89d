package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/item"
)

func closeDB(t testing.TB, db *boltstore.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func create(i item.Item) item.Update {
	u := item.Update{Target: item.Absent}
	for name, v := range i {
		u.Set = append(u.Set, item.Put(name, v))
	}
	return u
}

func put(t testing.TB, table item.Table, key string, i item.Item) {
	t.Helper()
	if res, err := table.Update(t.Context(), key, create(i)); err != nil || !res.Applied {
		t.Errorf("put %s: %+v, %v", key, res, err)
	}
}

func has(t testing.TB, table item.Table, key string) bool {
	t.Helper()
	i, err := table.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return i != nil
}

func TestFileIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(path, boltstore.Options{LockWait: time.Millisecond}); !errors.Is(err, boltstore.ErrInUse) {
		t.Errorf("error %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestReopenedFileHoldsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	for n := range 3 {
		db, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, db.Connections(), fmt.Sprintf("conn_%d", n), item.Item{"owner": "o", "integration_id": fmt.Sprintf("i#%d", n)})
		page, err := db.Connections().Query(t.Context(), item.Query{Index: item.IndexByOwner, Hash: "o", Limit: 9})
		if err != nil || len(page.Keys) != n+1 {
			t.Errorf("opening %d finds %v, %v", n, page, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// edit changes the file behind the store's back.
func edit(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Update(change), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFileOfAnotherFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	edit(t, path, func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket([]byte("meta"))
		return errors.Join(err, meta.Put([]byte("format"), []byte{2}))
	})
	if _, err := boltstore.Open(path, boltstore.Options{}); err == nil || !strings.Contains(err.Error(), "format") {
		t.Errorf("error %v", err)
	}
}

// TestCorruptItemIsReported has an item that nothing may replace, while all others go on.
func TestCorruptItemIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evergrant.db")
	db, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		put(t, db.Authorizations(), key, item.Item{"ttl": int64(1)})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("authorizations")).Put([]byte("a"), []byte{9, 9})
	})
	if db, err = boltstore.Open(path, boltstore.Options{}); err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	table := db.Authorizations()
	_, got := table.Get(t.Context(), "a")
	_, updated := table.Update(t.Context(), "a", item.Update{Target: item.Any, Set: []item.Assign{item.Put("gen", int64(1))}})
	_, deleted := table.Delete(t.Context(), "a")
	for name, err := range map[string]error{"get": got, "update": updated, "delete": deleted} {
		if !errors.Is(err, item.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n, err := db.Sweep(t.Context(), time.Unix(1000, 0))
	if n != 1 || !errors.Is(err, item.ErrCorrupt) || has(t, table, "b") {
		t.Errorf("sweep deleted %d, %v", n, err)
	}
}

func TestSweepDeletesWhatExpired(t *testing.T) {
	db := open(t)
	table := db.Authorizations()
	const now = 10_000
	var all sync.WaitGroup
	for n := range 450 { // more than two transactions' worth
		all.Go(func() {
			put(t, table, fmt.Sprintf("old%d", n), item.Item{"ttl": int64(now - 61 - n), "todo": "todo#1"})
		})
	}
	all.Wait()
	put(t, table, "just", item.Item{"ttl": int64(now - 60)})
	put(t, table, "later", item.Item{"ttl": int64(now + 1)})
	put(t, table, "never", item.Item{"todo": "todo#1"})
	put(t, table, "prolonged", item.Item{"ttl": int64(1)})
	if _, err := table.Update(t.Context(), "prolonged", item.Update{Set: []item.Assign{item.Put("ttl", int64(now+9))}}); err != nil {
		t.Fatal(err)
	}
	put(t, db.Connections(), "stats#1", item.Item{"ttl": int64(1)})

	for _, wanted := range []int{451, 0} {
		if n, err := db.Sweep(t.Context(), time.Unix(now, 0)); n != wanted || err != nil {
			t.Errorf("swept %d, %v; want %d", n, err, wanted)
		}
	}
	page, err := table.Scan(t.Context(), "", 1000)
	if wanted := []string{"just", "later", "never", "prolonged"}; err != nil || !slices.Equal(page.Keys, wanted) {
		t.Errorf("left: %v, %v", page.Keys, err)
	}
	page, err = table.Query(t.Context(), item.Query{Index: item.IndexTodo, Hash: "todo#1", Limit: 1000})
	if err != nil || !slices.Equal(page.Keys, []string{"never"}) {
		t.Errorf("left in the index: %v, %v", page.Keys, err)
	}
}

func TestBackupIsAWholeStore(t *testing.T) {
	db := open(t)
	put(t, db.Connections(), "conn_1", item.Item{"owner": "o", "integration_id": "i#1"})
	var copied bytes.Buffer
	if err := db.Backup(&copied); err != nil {
		t.Fatal(err)
	}
	put(t, db.Connections(), "conn_2", item.Item{})
	path := filepath.Join(t.TempDir(), "restored.db")
	if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	restored, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, restored)
	if !has(t, restored.Connections(), "conn_1") || has(t, restored.Connections(), "conn_2") {
		t.Error("the backup is not of its moment")
	}
}

// slowReader is a backup's destination that holds on until it is let go.
type slowReader struct {
	once    sync.Once
	started chan struct{}
	release chan struct{}
}

func (s *slowReader) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.started) })
	<-s.release
	return len(p), nil
}

func TestWritesGoOnDuringABackup(t *testing.T) {
	db := open(t)
	put(t, db.Connections(), "conn_1", item.Item{})
	slow := &slowReader{started: make(chan struct{}), release: make(chan struct{})}
	done := make(chan error)
	go func() { done <- db.Backup(slow) }()
	<-slow.started
	for n := range 40 { // the file outgrows what it was
		put(t, db.Connections(), fmt.Sprintf("large%d", n), item.Item{"at": item.Bytes(strings.Repeat("x", 300<<10))})
	}
	close(slow.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClosedStoreRefusesWrites(t *testing.T) {
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "evergrant.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n := range 32 {
		all.Go(func() {
			for ; ; n += 32 {
				if _, err := db.Connections().Update(t.Context(), fmt.Sprintf("conn_%d", n), create(item.Item{})); err != nil {
					if !errors.Is(err, boltstore.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	if err := db.Writable(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if err := db.Writable(t.Context()); !errors.Is(err, boltstore.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if _, err := db.Connections().Get(t.Context(), "conn_1"); err == nil {
		t.Error("a closed store was read")
	}
}

// TestEndedWriteIsNotBegun cancels writes while they wait for the group before them.
func TestEndedWriteIsNotBegun(t *testing.T) {
	db := open(t)
	var all sync.WaitGroup
	for n := range 64 {
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			defer cancel()
			key := fmt.Sprintf("conn_%d", n)
			if n%2 == 1 {
				cancel()
			}
			_, err := db.Connections().Update(ctx, key, create(item.Item{}))
			if ended := n%2 == 1; ended != errors.Is(err, context.Canceled) || ended == has(t, db.Connections(), key) {
				t.Errorf("write %d: %v", n, err)
			}
		})
	}
	all.Wait()
}

func BenchmarkUpdate(b *testing.B) {
	u := item.Update{If: []item.Cond{item.Has("at")}, Set: []item.Assign{
		item.Plus("gen", "gen", 1), item.Put("at", item.Bytes(strings.Repeat("x", 300))), item.Put("rt", item.Bytes(strings.Repeat("y", 300))),
	}}
	start := item.Item{"gen": int64(0), "at": item.Bytes("x"), "owner": "o", "integration_id": "i#1", "sched": "50#7#0"}
	b.Run("serial", func(b *testing.B) {
		table := open(b).Connections()
		put(b, table, "conn_0", start)
		for b.Loop() {
			if _, err := table.Update(b.Context(), "conn_0", u); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel64", func(b *testing.B) {
		table := open(b).Connections()
		const writers = 64
		for n := range writers {
			put(b, table, fmt.Sprintf("conn_%d", n), start)
		}
		b.ResetTimer()
		var all sync.WaitGroup
		for n := range writers {
			all.Go(func() {
				for range (b.N + n) / writers {
					if _, err := table.Update(b.Context(), fmt.Sprintf("conn_%d", n), u); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}
