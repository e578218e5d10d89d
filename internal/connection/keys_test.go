package connection_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/secret"
)

// keyTable is as much of an item.Table as data keys need, kept in memory.
type keyTable struct {
	item.Table
	mu    sync.Mutex
	items map[string]item.Item
	fail  string // writes of this key fail
	lost  bool   // they are carried out all the same
}

var errLost = errors.New("no answer")

func newKeyTable() *keyTable { return &keyTable{items: map[string]item.Item{}} }

func (t *keyTable) Get(_ context.Context, key string) (item.Item, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.items[key], nil
}

func (t *keyTable) Update(_ context.Context, key string, u item.Update) (item.Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := u.Check(item.ConnectionIndexes()); err != nil {
		return item.Result{}, err
	}
	if key == t.fail && !t.lost {
		return item.Result{}, errLost
	}
	next, ok := u.Apply(t.items[key])
	if ok {
		t.items[key] = next
	}
	if key == t.fail {
		return item.Result{}, errLost
	}
	return item.Result{Applied: ok, Item: next}, nil
}

const (
	primaryRow = "sys#datakey#token#primary"
	firstRow   = "sys#datakey#token#1"
	secondRow  = "sys#datakey#token#2"
)

func add(t *testing.T, s connection.Store, prev, n int64, wrapped string, want bool) {
	t.Helper()
	applied, err := s.AddPrimaryKey(t.Context(), secret.PurposeToken, prev, n, []byte(wrapped))
	if err != nil || applied != want {
		t.Fatalf("key %d after %d: applied %v, %v", n, prev, applied, err)
	}
}

func wantPrimary(t *testing.T, s connection.Store, n int64, wrapped string) {
	t.Helper()
	gotN, got, err := s.PrimaryKey(t.Context(), secret.PurposeToken)
	if err != nil || gotN != n || string(got) != wrapped {
		t.Fatalf("primary is %d %q, %v; want %d %q", gotN, got, err, n, wrapped)
	}
	if n == 0 {
		return
	}
	own, err := s.DataKey(t.Context(), secret.PurposeToken, n)
	if err != nil || string(own) != wrapped {
		t.Fatalf("key %d is %q in its own row, %v", n, own, err)
	}
}

func TestDataKeysStandUnderTheirPurpose(t *testing.T) {
	table := newKeyTable()
	s := connection.Store{Connections: table}
	wantPrimary(t, s, 0, "")
	if b, err := s.DataKey(t.Context(), secret.PurposeToken, 1); b != nil || err != nil {
		t.Fatalf("a key before there is one: %q, %v", b, err)
	}
	add(t, s, 0, 1, "one", true)
	wantPrimary(t, s, 1, "one")
	add(t, s, 1, 2, "two", true)
	wantPrimary(t, s, 2, "two")
	if b, err := s.DataKey(t.Context(), secret.PurposeToken, 1); string(b) != "one" || err != nil {
		t.Errorf("the older key is %q, %v", b, err)
	}
	if n, _, err := s.PrimaryKey(t.Context(), secret.PurposeFlow); n != 0 || err != nil {
		t.Errorf("the other purpose has key %d, %v", n, err)
	}
	got := slices.Sorted(maps.Keys(table.items))
	if want := []string{firstRow, secondRow, primaryRow}; !slices.Equal(got, want) {
		t.Errorf("rows %s", strings.Join(got, " "))
	}
}

func TestAKeyAfterAnotherThanThePrimaryIsRefused(t *testing.T) {
	s := connection.Store{Connections: newKeyTable()}
	add(t, s, 0, 1, "one", true)
	add(t, s, 0, 1, "other", false)
	wantPrimary(t, s, 1, "one")
	add(t, s, 1, 2, "two", true)
	add(t, s, 1, 2, "other", false)
	add(t, s, 0, 1, "one", false) // late, and no longer primary
	wantPrimary(t, s, 2, "two")
}

func TestARepeatedWriteOfAKeyIsApplied(t *testing.T) {
	s := connection.Store{Connections: newKeyTable()}
	for range 2 {
		add(t, s, 0, 1, "one", true)
	}
	wantPrimary(t, s, 1, "one")
}

// TestACrashBetweenTheTwoRows leaves a key without a primary row. Whoever comes next
// must neither be stuck at the taken number nor put another key in its place.
func TestACrashBetweenTheTwoRows(t *testing.T) {
	for _, lost := range []bool{false, true} {
		table := newKeyTable()
		s := connection.Store{Connections: table}
		table.fail, table.lost = primaryRow, lost
		if _, err := s.AddPrimaryKey(t.Context(), secret.PurposeToken, 0, 1, []byte("crashed")); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		table.fail = ""
		add(t, s, 0, 1, "next", false)
		wantPrimary(t, s, 1, "crashed")
	}
}

func TestACrashBeforeTheFirstRowLeavesNothing(t *testing.T) {
	table := newKeyTable()
	s := connection.Store{Connections: table}
	table.fail = firstRow
	if _, err := s.AddPrimaryKey(t.Context(), secret.PurposeToken, 0, 1, []byte("crashed")); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	if len(table.items) != 0 {
		t.Errorf("%d rows", len(table.items))
	}
}

// plainKeys wraps nothing.
type plainKeys struct{}

func (plainKeys) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return slices.Clone(plain), nil
}

func (plainKeys) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return slices.Clone(wrapped), nil
}

func TestKeyringsOverOneStoreShareTheirKeys(t *testing.T) {
	table := newKeyTable()
	s := connection.Store{Connections: table}
	rings := make([]*secret.Keyring, 8)
	var all sync.WaitGroup
	for i := range rings {
		rings[i] = secret.NewKeyring("d", plainKeys{}, s)
		all.Go(func() {
			if err := rings[i].Load(t.Context(), secret.PurposeToken); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				return
			}
			if _, err := rings[i].Rotate(t.Context(), secret.PurposeToken); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	at := secret.Place{Table: "connections", ID: "conn_1", Gen: 1, Field: "rt"}
	for _, from := range rings {
		sealed, err := from.Seal(secret.PurposeToken, at, secret.New("x"))
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range rings {
			if got, err := to.Open(t.Context(), secret.PurposeToken, at, sealed); err != nil || got.Reveal() != "x" {
				t.Fatal(err)
			}
		}
	}
}
