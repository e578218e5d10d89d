//go:build unix

package boltstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/item"
)

// mutant declares a change that takes a defence out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var (
	_ = mutant("F65", "internal/boltstore/db.go", `return true, tx.Bucket(scratchBucket).Put([]byte("probe"), make([]byte, probeSize))`, `return false, nil`)
	_ = mutant("F65", "internal/boltstore/commit.go", `return fmt.Errorf("commit: %w", err)`, `return nil`)
)

// The table of docs/reliability.md names this row's test; the parts of it that need a
// process of their own stand in crash_test.go.
func TestFault_F65_the_file_outlives_kill_9_a_full_disk_and_a_second_process(t *testing.T) {
	t.Run("kill -9 in a commit", TestKilledProcessLosesNoAcknowledgedWrite)
	t.Run("full disk", TestFullDisk)
	t.Run("second process", TestSecondProcessIsRefused)
	t.Run("read-only", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "evergrant.db")
		db, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, db.Connections(), "conn_one", item.Item{"owner": "o", "integration_id": "x"})
		closeDB(t, db)
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			return // root writes to it all the same
		}
		if _, err := boltstore.Open(path, boltstore.Options{}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
	})
}
