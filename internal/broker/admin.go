package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// RotatedKeys are the numbers of the data keys that seal from now on.
type RotatedKeys struct {
	Flow  int64 `json:"flow"`
	Token int64 `json:"token"`
}

// RotateKeys makes new data keys the primary ones. What is sealed under older ones
// opens as before and is sealed anew at its next save, or by Reseal.
func (b *Broker) RotateKeys(ctx context.Context) (RotatedKeys, error) {
	var out RotatedKeys
	var err error
	if out.Flow, err = b.Keys.Rotate(ctx, secret.PurposeFlow); err != nil {
		return out, internal(err)
	}
	if out.Token, err = b.Keys.Rotate(ctx, secret.PurposeToken); err != nil {
		return out, internal(err)
	}
	return out, nil
}

// Resealed counts what a reseal did.
type Resealed struct {
	Resealed int // connections whose tokens stand under the primary key now
	Current  int // that stood under it before
	Busy     int // left alone: a refresh was under way, or had just ended
	Failed   int // whose tokens do not open; the log names them
	// Next is where the next call goes on; "" once all connections were looked at.
	Next string
}

// resealTime is how long one call of Reseal begins pages: what waits for it may be a
// gateway.
const resealTime = 12 * time.Second

// Reseal seals the tokens of connections under the primary data key, from a cursor on,
// "" for the beginning, until its time is over. A connection that is being refreshed
// is left alone: its save seals anew by itself.
func (b *Broker) Reseal(ctx context.Context, cursor string) (Resealed, error) {
	if err := b.Keys.Load(ctx, secret.PurposeToken); err != nil {
		return Resealed{}, internal(err)
	}
	var run resealing
	var after string
	at := secret.Place{Table: "connections", ID: "reseal", Field: "cursor"}
	if cursor != "" {
		var err error
		if after, err = b.openCursor(ctx, at, cursor); err != nil {
			return Resealed{}, fail(InvalidRequest, "cursor is not one that a reseal gave")
		}
	}
	for until := b.Now().Add(resealTime); ; {
		page, err := b.Store.Connections.Scan(ctx, after, tickPage)
		if err == nil {
			err = inParallel(page.Keys, func(key string) error { return b.resealOne(ctx, key, &run) })
		}
		if err != nil {
			return run.out, internal(err)
		}
		if after = page.Next; after == "" {
			return run.out, nil
		}
		if !b.Now().Before(until) {
			if run.out.Next, err = b.sealCursor(ctx, at, after); err != nil {
				return run.out, internal(err)
			}
			return run.out, nil
		}
	}
}

// resealing is one call of Reseal.
type resealing struct {
	mu  sync.Mutex
	out Resealed // guarded by mu
}

func (run *resealing) count(which *int) {
	run.mu.Lock()
	defer run.mu.Unlock()
	*which++
}

func (b *Broker) resealOne(ctx context.Context, id string, run *resealing) error {
	if !validID(id, "conn_") {
		return nil
	}
	rec, err := b.Store.Get(ctx, id)
	switch {
	case errors.Is(err, connection.ErrNotFound), err == nil && rec.Access == "" && rec.Refresh == "":
		return nil // gone, or a receipt
	case errors.Is(err, item.ErrCorrupt):
		run.count(&run.out.Failed)
		return nil
	case err != nil:
		return err
	}
	w, current, err := b.resealWrite(ctx, rec)
	switch {
	case err != nil:
		b.Log.Error("reseal", "connection", id, "error", err.Error())
		run.count(&run.out.Failed)
		return nil
	case current:
		run.count(&run.out.Current)
		return nil
	}
	res, err := b.Store.Write(ctx, id, w)
	switch {
	case err != nil:
		return err
	case res.Applied:
		run.count(&run.out.Resealed)
	default:
		run.count(&run.out.Busy)
	}
	return nil
}

// resealWrite is the write that seals a connection's tokens anew; current: there is
// nothing to do.
func (b *Broker) resealWrite(ctx context.Context, rec connection.Record) (w connection.Reseal, current bool, err error) {
	w = connection.Reseal{Gen: rec.Gen, OldAccess: rec.Access, OldRT: rec.Refresh, OldFields: rec.SecretFields}
	current = true
	for _, f := range []struct {
		place  secret.Place
		old    item.Bytes
		sealed *item.Bytes
	}{
		{refresh.AccessPlace(rec.ID, rec.TokGen), rec.Access, &w.Access},
		{refresh.RefreshPlace(rec.ID, rec.TokGen), rec.Refresh, &w.RefreshTok},
		{refresh.FieldsPlace(rec.ID), rec.SecretFields, &w.Fields},
	} {
		if f.old == "" {
			continue
		}
		_, n, err := b.Keys.KeyOf([]byte(f.old))
		if err != nil {
			return w, false, err
		}
		current = current && n == b.Keys.Primary(secret.PurposeToken)
		text, err := b.Keys.Open(ctx, secret.PurposeToken, f.place, []byte(f.old))
		if err != nil {
			return w, false, err
		}
		sealed, err := b.Keys.Seal(secret.PurposeToken, f.place, text)
		if err != nil {
			return w, false, err
		}
		*f.sealed = item.Bytes(sealed)
	}
	return w, current, nil
}

func (b *Broker) eachKey(ctx context.Context, do func(key string) error) error {
	for after := ""; ; {
		page, err := b.Store.Connections.Scan(ctx, after, tickPage)
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			if err := do(key); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// Exported is what Export returns: the connections as they are stored.
type Exported struct {
	Deployment string         `json:"deployment"`
	Items      []ExportedItem `json:"items"`
}

// ExportedItem is one stored item. Sealed values stay sealed, as {"base64": …}.
type ExportedItem struct {
	Key        string         `json:"key"`
	Attributes map[string]any `json:"attributes"`
}

// Export reads everything that a connection's life depends on: connections, external
// ids, stand-ins and the wrapped data keys. No token is opened, so that the export is worth
// nothing without the wrapping key and opens in a deployment of the same name alone.
func (b *Broker) Export(ctx context.Context) (Exported, error) {
	out := Exported{Deployment: b.Settings.Deployment, Items: []ExportedItem{}}
	err := b.eachKey(ctx, func(key string) error {
		if !validID(key, "conn_") && !strings.HasPrefix(key, "ext#") && !strings.HasPrefix(key, "standin#") && !strings.HasPrefix(key, "sys#datakey#") {
			return nil
		}
		i, err := b.Store.Connections.Get(ctx, key)
		if err != nil || i == nil {
			return err
		}
		out.Items = append(out.Items, ExportedItem{Key: key, Attributes: exported(item.Map(i))})
		return nil
	})
	if err != nil {
		return Exported{}, internal(err)
	}
	return out, nil
}

func exported(m item.Map) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = exportedValue(v)
	}
	return out
}

func exportedValue(v item.Value) any {
	switch v := v.(type) {
	case item.Bytes:
		return map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(v))}
	case item.Map:
		return exported(v)
	case item.List:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = exportedValue(e)
		}
		return out
	}
	return v
}
