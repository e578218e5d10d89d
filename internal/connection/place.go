package connection

import (
	"context"
	"fmt"

	"github.com/evergrant/evergrant/internal/item"
)

// Place is where a store was when its deployment last knew of it: a table by its name, a
// file by its number in the file system. A backup that is restored comes back in another
// place and with the same Epoch, unless its operator has raised that, as they must.
type Place struct {
	At    string
	Epoch int64
}

const placeKey = "sys#place"

// Place reads it; the zero Place where none was noted yet.
func (s Store) Place(ctx context.Context) (Place, error) {
	i, err := s.Connections.Get(ctx, placeKey)
	if err != nil {
		return Place{}, fmt.Errorf("read place: %w", err)
	}
	return Place{At: i.String("at"), Epoch: i.Int("epoch")}, nil
}

// NotePlace notes where the store is, if nothing was noted yet or the epoch has been
// raised since. It returns what stands there afterwards.
func (s Store) NotePlace(ctx context.Context, p Place) (Place, error) {
	known, err := s.Place(ctx)
	if err != nil || known.At != "" && known.Epoch >= p.Epoch {
		return known, err
	}
	u := item.Update{Target: item.Any, Set: []item.Assign{item.Put("at", p.At), item.Put("epoch", p.Epoch)}}
	if known.At == "" {
		u.If = []item.Cond{item.Lacks("at")}
	} else {
		u.If = []item.Cond{item.Eq("at", known.At), item.Eq("epoch", known.Epoch)}
	}
	res, err := s.Connections.Update(ctx, placeKey, u)
	if err != nil {
		return known, fmt.Errorf("note place: %w", err)
	}
	return Place{At: res.Item.String("at"), Epoch: res.Item.Int("epoch")}, nil // refused: another process was faster
}
