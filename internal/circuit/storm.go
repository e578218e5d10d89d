package circuit

import (
	"context"

	"github.com/evergrant/evergrant/internal/item"
)

// Word is what an answer to a refresh says of the grant.
type Word int

// The words.
const (
	Spoke          Word = iota // anything but a refusal
	Refused                    // the grant is gone
	RefusedInDoubt             // likewise, of a token that a lost answer may have spent
)

// Judge counts one answer to a refresh, and reports whether a refusal among them is
// one of so many that it should open the circuit instead of being a verdict.
//
// A refusal in doubt has a cause of its own, so it is no sign of a storm and is not
// counted, neither as a refusal nor as an answer: at a provider that forgives no lost
// answer each one would count, and again when its connection is judged. While a storm
// of others goes on, it is braked like them.
//
// Refusals are counted in the client's circuit, one write each, so that processes that
// know nothing of each other pass five verdicts together and not five each. All other
// answers are counted here and added now and then by Flush. Where the store does not
// answer, what this process saw decides: the verdict could not be written either.
func (b *Breaker) Judge(ctx context.Context, c Client, w Word) bool {
	brake := b.judgeHere(c, w)
	var count int64
	switch w {
	case Spoke:
		return false
	case Refused:
		count = 1
	}
	bad, all, err := b.share(ctx, c, count)
	if err != nil {
		return brake
	}
	// The shared count alone, so that of answers that come at once the same ones are
	// first for it and for the verdict.
	return b.young(c) || storm(bad, all)
}

func (b *Breaker) young(c Client) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[c.key()].status.Young
}

// judgeHere is the judgement by what this process has seen.
func (b *Breaker) judgeHere(c Client, word Word) bool {
	minute := b.now().Unix() / 60
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.storms[c.Integration]
	if w == nil {
		w = new([stormWindow]tally)
		b.storms[c.Integration] = w
	}
	if word != RefusedInDoubt {
		b.apart[c]++
		t := &w[minute%stormWindow]
		if t.minute != minute {
			*t = tally{minute: minute}
		}
		t.total++
		if word == Refused {
			t.refused++
		}
	}
	var bad, all int64
	for _, t := range w {
		if minute-t.minute < stormWindow {
			bad, all = bad+t.refused, all+t.total
		}
	}
	return b.seen[c.key()].status.Young || storm(bad, all)
}

// storm reports whether so many of all answers were refusals.
func storm(bad, all int64) bool { return bad > stormCount && bad*stormShare > all }

// share adds refusals, and the answers seen since the last time, to the count of all
// processes in the present window, and returns that count.
func (b *Breaker) share(ctx context.Context, c Client, refusals int64) (bad, all int64, err error) {
	b.mu.Lock()
	n := b.apart[c]
	delete(b.apart, c)
	b.mu.Unlock()
	window := b.now().Unix() / 60 / stormWindow
	same := item.Update{
		Target: item.Existing, If: []item.Cond{item.Eq("storm_at", window)},
		Set: []item.Assign{item.Count("storm_bad", refusals), item.Count("storm_all", n)},
	}
	fresh := item.Update{
		Target: item.Any, If: []item.Cond{item.Ne("storm_at", window)},
		Set: []item.Assign{item.Put("storm_at", window), item.Put("storm_bad", refusals), item.Put("storm_all", n)},
	}
	for _, u := range []item.Update{same, fresh, same} { // the last one where another process was faster
		res, err := b.table.Update(ctx, c.key(), u)
		if err != nil {
			return 0, 0, err
		}
		if res.Applied {
			return res.Item.Int("storm_bad"), res.Item.Int("storm_all"), nil
		}
	}
	return 0, 0, nil
}

// Flush adds what this process has seen to the count of all. What it cannot add is
// lost: then a storm is seen a little too early.
func (b *Breaker) Flush(ctx context.Context) {
	b.mu.Lock()
	clients := make([]Client, 0, len(b.apart))
	for c := range b.apart {
		clients = append(clients, c)
	}
	b.mu.Unlock()
	for _, c := range clients {
		_, _, _ = b.share(ctx, c, 0)
	}
}
