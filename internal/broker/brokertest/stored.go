package brokertest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// Record reads a connection as it is stored.
func (w *World) Record(id string) connection.Record {
	w.T.Helper()
	r, err := w.Store.Get(context.Background(), id)
	w.Must(err)
	return r
}

// Keyring opens what is stored, as a process that has just started would.
func (w *World) Keyring() *secret.Keyring {
	w.T.Helper()
	wrapper, err := keyfile.Open(w.keyFile, "evergrant")
	w.Must(err)
	return secret.NewKeyring("evergrant", wrapper, w.Store)
}

func (w *World) opened(k *secret.Keyring, id string, gen int64, field string, sealed item.Bytes) string {
	w.T.Helper()
	if sealed == "" {
		return ""
	}
	text, err := k.Open(context.Background(), secret.PurposeToken, secret.Place{Table: "connections", ID: id, Gen: gen, Field: field}, []byte(sealed))
	w.Must(err)
	return text.Reveal()
}

// Tokens opens the stored pair.
func (w *World) Tokens(id string) (access, refreshToken string) {
	w.T.Helper()
	r, k := w.Record(id), w.Keyring()
	return w.opened(k, id, r.TokGen, "at", r.Access), w.opened(k, id, r.TokGen, "rt", r.Refresh)
}

// Live reports whether the provider would take the stored refresh token.
func (w *World) Live(id string) bool {
	w.T.Helper()
	_, rt := w.Tokens(id)
	info, _ := w.Sim.Lookup(Integration, rt)
	return info.Live
}

// Index is a table whose queries say something else than its items, and which knows what
// it was asked.
type Index struct {
	item.Table
	Lie    func(q item.Query, p item.Page) item.Page // nil: none
	Broken string                                    // reading this key panics

	mu     sync.Mutex
	asked  []item.Query // guarded by mu
	writes int          // of connections; guarded by mu
}

// Query implements item.Table.
func (x *Index) Query(ctx context.Context, q item.Query) (item.Page, error) {
	x.mu.Lock()
	x.asked = append(x.asked, q)
	x.mu.Unlock()
	p, err := x.Table.Query(ctx, q)
	if x.Lie != nil && err == nil {
		p = x.Lie(q, p)
	}
	return p, err
}

// Get implements item.Table.
func (x *Index) Get(ctx context.Context, key string) (item.Item, error) {
	if key == x.Broken {
		panic("a mistake of ours")
	}
	return x.Table.Get(ctx, key)
}

// Update implements item.Table.
func (x *Index) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	if strings.HasPrefix(key, "conn_") {
		x.mu.Lock()
		x.writes++
		x.mu.Unlock()
	}
	return x.Table.Update(ctx, key, u)
}

// Watched is a process whose table of connections is looked at.
func (w *World) Watched(lie func(q item.Query, p item.Page) item.Page) (*Process, *Index) {
	w.T.Helper()
	x := &Index{Lie: lie}
	p := w.Start(func(c *broker.Config) {
		x.Table = c.Store.Connections
		c.Store.Connections = x
	})
	return p, x
}

// Written is how many writes of connections were tried.
func (x *Index) Written() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.writes
}

// Asked are the queries so far.
func (x *Index) Asked() []item.Query {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.asked)
}

// Circuit is how the operator sees the integration: ok or suspended.
func (w *World) Circuit(p *Process) string {
	w.T.Helper()
	all, err := p.Integrations(context.Background(), Caller(), w.Origin)
	w.Must(err)
	return all[0].Status
}

// Cursor is the last minute that a tick has finished.
func (w *World) Cursor() int64 {
	w.T.Helper()
	p, err := w.Store.Progress(context.Background())
	w.Must(err)
	return p.Minute
}

// PutItem writes an item as it was at another time.
func (w *World) PutItem(key string, i item.Item) {
	w.T.Helper()
	now, err := w.Store.Connections.Get(context.Background(), key)
	w.Must(err)
	u := item.Update{Target: item.Any}
	for name, v := range i {
		u.Set = append(u.Set, item.Put(name, v))
	}
	for name := range now {
		if _, kept := i[name]; !kept {
			u.Remove = append(u.Remove, name)
		}
	}
	_, err = w.Store.Connections.Update(context.Background(), key, u)
	w.Must(err)
}

// Item reads an item of the table of connections.
func (w *World) Item(key string) item.Item {
	w.T.Helper()
	i, err := w.Store.Connections.Get(context.Background(), key)
	w.Must(err)
	return i
}
