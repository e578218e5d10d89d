package boltstore_test

import (
	"path/filepath"
	"testing"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/item/itemtest"
)

func open(t testing.TB) *boltstore.DB {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "evergrant.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDB(t, db) })
	return db
}

func TestStoreKeepsTheContract(t *testing.T) {
	itemtest.Run(t, func(t *testing.T) itemtest.Tables {
		db := open(t)
		return itemtest.Tables{Connections: db.Connections(), Authorizations: db.Authorizations()}
	})
}
