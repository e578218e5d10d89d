package webhook

import (
	"context"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/wire"
)

// mostShown is how many dead letters are shown, in no useful order: whoever has more than
// that does not read them one by one.
const mostShown = 1000

// DeadLetters lists what was given up.
func (s *Sender) DeadLetters(ctx context.Context) (wire.List[wire.DeadLetter], error) {
	list := wire.List[wire.DeadLetter]{Items: []wire.DeadLetter{}}
	err := s.eachDead(ctx, func(key string, i item.Item) error {
		if len(list.Items) < mostShown {
			list.Items = append(list.Items, wire.DeadLetter{
				ID: eventOf(key), Type: i.String(aType), Endpoint: i.String(aHost), Tries: i.Int(aTries), Error: i.String(aError), At: wire.Time(i.Int(aDead)),
			})
		}
		return nil
	})
	return list, err
}

// Replay sends all dead letters anew. Pending are those whose endpoint is no longer in the
// configuration.
func (s *Sender) Replay(ctx context.Context) (wire.ReplayResult, error) {
	var out wire.ReplayResult
	err := s.eachDead(ctx, func(key string, _ item.Item) error {
		id, _ := endpointOf(key)
		l := s.lanes[id]
		if l == nil {
			out.Pending++
			return nil
		}
		res, err := s.Table.Update(ctx, key, item.Update{
			If:     []item.Cond{item.Eq(todo, dead)},
			Set:    []item.Assign{item.Put(todo, schedule.TodoPartition(key, s.Now().Unix()+minute)), item.Put(aTries, int64(0))},
			Remove: []string{aNext, aDead},
		})
		if err != nil || !res.Applied {
			return err
		}
		out.Replayed++
		l.push(key)
		return nil
	})
	return out, err
}

// Sweep deletes dead letters that are older than a month, and returns how many.
func (s *Sender) Sweep(ctx context.Context) (deleted int, err error) {
	before := s.Now().Unix() - deadAge
	err = s.eachDead(ctx, func(key string, _ item.Item) error {
		res, err := s.Table.Delete(ctx, key, item.Eq(todo, dead), item.Lt(aDead, before))
		if err == nil && res.Applied {
			deleted++
		}
		return err
	})
	return deleted, err
}

// eachDead goes through the dead letters as they are when it begins.
func (s *Sender) eachDead(ctx context.Context, do func(key string, i item.Item) error) error {
	q := item.Query{Index: item.IndexTodo, Hash: dead, Limit: 100}
	for {
		page, err := s.Table.Query(ctx, q)
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			i, err := s.Table.Get(ctx, key)
			if err != nil {
				return err
			}
			if i.String(todo) != dead {
				continue
			}
			if err := do(key, i); err != nil {
				return err
			}
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}
