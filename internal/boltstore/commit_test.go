package boltstore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func openAt(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// note is a write that puts a row into the scratch bucket.
func note(name string) func(tx *bbolt.Tx) (bool, error) {
	return func(tx *bbolt.Tx) (bool, error) { return true, tx.Bucket(scratchBucket).Put([]byte(name), []byte("x")) }
}

func noted(t *testing.T, db *DB, name string) bool {
	t.Helper()
	var found bool
	if err := db.bolt.View(func(tx *bbolt.Tx) error {
		found = tx.Bucket(scratchBucket).Get([]byte(name)) != nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestEndedWriteIsNotApplied ends a context while its write waits for the group
// before it: the caller is answered at once, and the write never happens.
func TestEndedWriteIsNotApplied(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "evergrant.db"))
	begun, release, first := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		first <- db.write(context.WithoutCancel(t.Context()), func(tx *bbolt.Tx) (bool, error) {
			close(begun)
			<-release
			return note("first")(tx)
		})
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error)
	go func() { second <- db.write(ctx, note("second")) }()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
	if err := db.write(t.Context(), note("third")); err != nil {
		t.Errorf("third: %v", err)
	}
	if !noted(t, db, "first") || noted(t, db, "second") || !noted(t, db, "third") {
		t.Error("what is stored is not what was answered")
	}
}

// TestWritesOfAGroupEndApart has one that is refused, which leaves the others alone,
// and one that fails midway, which undoes them all.
func TestWritesOfAGroupEndApart(t *testing.T) {
	db := openAt(t, filepath.Join(t.TempDir(), "evergrant.db"))
	refusal, failure := errors.New("refused"), errors.New("failed midway")
	refuse := func(*bbolt.Tx) (bool, error) { return false, refusal }
	fail := func(tx *bbolt.Tx) (bool, error) {
		return true, errors.Join(tx.Bucket(scratchBucket).Put([]byte("torn"), nil), failure)
	}
	for _, c := range []struct {
		middle func(*bbolt.Tx) (bool, error)
		want   [3]error
		stored bool
	}{
		{fail, [3]error{failure, failure, failure}, false},
		{refuse, [3]error{nil, refusal, nil}, true},
	} {
		group := make([]*write, 3)
		for n, apply := range []func(*bbolt.Tx) (bool, error){note("a"), c.middle, note("b")} {
			group[n] = &write{apply: apply, done: make(chan error, 1)}
		}
		db.commit(group)
		for n, w := range group {
			if err := <-w.done; !errors.Is(err, c.want[n]) {
				t.Errorf("write %d: %v, want %v", n, err, c.want[n])
			}
		}
		if noted(t, db, "a") != c.stored || noted(t, db, "b") != c.stored || noted(t, db, "torn") {
			t.Error("what is stored is not what was answered")
		}
	}
}
