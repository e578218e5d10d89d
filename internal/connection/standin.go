package connection

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/internal/item"
)

// StandIn is the right to ask for a connection's access token by a text that looks
// like a refresh token. Its row stands in the table of connections under the hash of
// that text, which is drawn with 256 random bits; so the hash is an id that may be
// shown, and nothing is compared but a key.
//
// It belongs to the connection as it was when the stand-in was made: a disconnect
// raises the connection's DisconnectGen, and with it all stand-ins are over at once,
// without a write to any of them. A reconnect leaves them alone.
type StandIn struct {
	ID            string // st_ and the SHA-256 of the text
	Connection    string
	Name          string // a label; several may have the same
	Key           string // name of the caller that made it
	Client        string // Hash of the client secret that must come with it, "" for none
	DisconnectGen int64  // of the connection
	CreatedAt     int64
	// Seal is Bound, sealed for this id: who can write the table and has no data key
	// must not be able to make a stand-in.
	Seal item.Bytes
}

// Bound is what a stand-in opens, and for whom, as one text.
func (st StandIn) Bound() string {
	return st.Connection + " " + strconv.FormatInt(st.DisconnectGen, 10) + " " + st.Client
}

const standInPrefix = "st_"

// StandInID is the id of the stand-in with that text.
func StandInID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return standInPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

func standInKey(id string) string { return "standin#" + strings.TrimPrefix(id, standInPrefix) }

// standInsOf is where the stand-ins of a connection are listed: a partition of the
// index by integration that no integration's name can be.
func standInsOf(conn string) string { return "standins#" + conn }

// PutStandIn stores a new stand-in.
func (s Store) PutStandIn(ctx context.Context, st StandIn) error {
	u := item.Update{Target: item.Absent, Set: []item.Assign{
		item.Put("conn", st.Connection), item.Put("name", st.Name), item.Put("disconnect_gen", st.DisconnectGen),
		item.Put("created_at", st.CreatedAt), item.Put("seal", st.Seal), item.Put("integration", standInsOf(st.Connection)), item.Put("status_id", st.ID),
	}}
	for name, v := range map[string]string{"key": st.Key, "client": st.Client} {
		if v != "" {
			u.Set = append(u.Set, item.Put(name, v))
		}
	}
	if _, err := s.Connections.Update(ctx, standInKey(st.ID), u); err != nil {
		return fmt.Errorf("put stand-in of connection %s: %w", st.Connection, err)
	}
	return nil
}

// StandIn reads one. ErrNotFound. Whether its connection still is the one that it was
// made for is the caller's to compare.
func (s Store) StandIn(ctx context.Context, id string) (StandIn, error) {
	i, err := s.Connections.Get(ctx, standInKey(id))
	if err != nil {
		return StandIn{}, fmt.Errorf("read stand-in: %w", err)
	}
	if i == nil {
		return StandIn{}, fmt.Errorf("stand-in: %w", ErrNotFound)
	}
	return StandIn{
		ID: id, Connection: i.String("conn"), Name: i.String("name"), Key: i.String("key"), Client: i.String("client"),
		DisconnectGen: i.Int("disconnect_gen"), CreatedAt: i.Int("created_at"), Seal: i.Bytes("seal"),
	}, nil
}

// StandIns lists those of a connection, limit at most, in no useful order. One that
// was just made may be missing: the index follows its items.
func (s Store) StandIns(ctx context.Context, conn string, limit int) ([]StandIn, error) {
	var all []StandIn
	q := item.Query{Index: item.IndexByIntegration, Hash: standInsOf(conn), Limit: limit}
	for {
		page, err := s.Connections.Query(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("list stand-ins of connection %s: %w", conn, err)
		}
		for _, id := range page.Ranges {
			st, err := s.StandIn(ctx, id)
			switch {
			case err == nil:
				all = append(all, st)
			case !errors.Is(err, ErrNotFound): // the index follows its items: one was just dropped
				return nil, err
			}
		}
		if q.After = page.Next; q.After == "" || len(all) >= limit {
			return all, nil
		}
	}
}

// DropStandIn deletes a stand-in of the connection and reports whether there was one.
func (s Store) DropStandIn(ctx context.Context, conn, id string) (bool, error) {
	res, err := s.Connections.Delete(ctx, standInKey(id), item.Eq("conn", conn))
	if err != nil {
		return false, fmt.Errorf("drop stand-in of connection %s: %w", conn, err)
	}
	return res.Applied, nil
}
