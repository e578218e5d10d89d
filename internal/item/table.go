package item

import (
	"context"
	"errors"
)

// The two tables and their indexes. The names are those of the deployed tables'
// keys and indexes; the template's are compared with them by a test.
const (
	// KeyName is the attribute that holds the key in both tables.
	KeyName = "pk"

	IndexDue           = "due"            // connections: what is due at a slot or retry minute
	IndexTodo          = "todo"           // both: what the tick must finish
	IndexByOwner       = "by_owner"       // connections of an owner
	IndexByIntegration = "by_integration" // connections of an integration, by status
)

// Index is a sparse index: an item stands in it while it has the hash attribute
// (and the range attribute where there is one). It holds keys only.
type Index struct {
	Name  string
	Hash  string // attribute of type string
	Range string // attribute of type string; KeyName for the key itself
}

// ConnectionIndexes are the indexes of the table connections.
func ConnectionIndexes() []Index {
	return []Index{
		{Name: IndexDue, Hash: "sched", Range: "integration_id"},
		{Name: IndexTodo, Hash: "todo", Range: KeyName},
		{Name: IndexByOwner, Hash: "owner", Range: "integration_id"},
		{Name: IndexByIntegration, Hash: "integration", Range: "status_id"},
	}
}

// AuthorizationIndexes are the indexes of the table authorizations.
func AuthorizationIndexes() []Index {
	return []Index{{Name: IndexTodo, Hash: "todo", Range: KeyName}}
}

// Query asks for the items of one partition of an index, in the order of its range
// attribute.
type Query struct {
	Index  string
	Hash   string
	Prefix string // of the range attribute; "" for all
	After  string // the Next of the page before, "" for the first
	Limit  int    // largest number of keys in the page; at least 1
}

// Page is one page of keys. A page may be short, or empty, and still have a Next.
type Page struct {
	Keys []string
	// Ranges are the range attributes that the keys stand under, in the same order. A
	// scan has none.
	Ranges []string
	Next   string // where the next page begins; "" after the last one
}

// ErrBadCursor says that After is not a cursor of this store and query.
var ErrBadCursor = errors.New("cursor is not valid for this query")

// Table stores items under string keys.
//
// A write is durable when its method returns without an error, and visible to
// every later Get from any process. Each write is atomic for its item. A condition
// that is not met is a Result with Applied false, not an error; the item as found
// comes with it. An error other than ErrTooLarge and ErrCorrupt leaves open whether
// the write was applied. Indexes follow their items, perhaps a little later. All
// methods may be called concurrently and return when ctx ends. itemtest.Run is
// this text as tests.
type Table interface {
	// Get returns the item as of every write that returned before, nil where there is none.
	Get(ctx context.Context, key string) (Item, error)
	// Update carries out one conditional update.
	Update(ctx context.Context, key string, u Update) (Result, error)
	// Delete removes the item if it exists and all conditions hold.
	Delete(ctx context.Context, key string, conds ...Cond) (Result, error)
	// Query reads one page of an index.
	Query(ctx context.Context, q Query) (Page, error)
	// Scan reads one page of all keys, in no useful order, each once.
	Scan(ctx context.Context, after string, limit int) (Page, error)
}
