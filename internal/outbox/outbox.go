// Package outbox keeps events inside the item that they are about, until somebody has
// been told: an event is part of the very conditional write that makes it true, so that
// no crash lies between the two.
//
// Each type of event has one place in an item. A write puts its event there without
// having read what stands in it, and numbers it by a counter of the item. So an outbox
// has a bound (as many events as there are types) although nothing is asked of it before
// a write, and no write is ever refused on account of its event. An event that nobody
// was told of before the next one of its type came gives way to that one. This shows:
// its number is missing in the sequence, and whoever delivers says so.
//
// The attributes: events, the number of the last event; told, the number of the last one
// that was delivered; and for each event that waits out_<name> (id, at, reason) and
// seq_<name>, where name is the last word of its type. While an event waits, the item is
// filed in the index todo.
package outbox

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/item"
)

// Type is the type of an event, as consumers see it.
type Type string

// The types of events. The last words differ, since they name attributes.
const (
	Created       Type = "connection.created"        // it is active for the first time
	Reconnected   Type = "connection.reconnected"    // the user consented again
	NeedsReauth   Type = "connection.needs_reauth"   // the user must consent again
	Recovered     Type = "connection.recovered"      // active again without the user
	ReconnectSoon Type = "connection.reconnect_soon" // its refresh token ends by itself before long
	Disconnected  Type = "connection.disconnected"   // ended; what is left is a receipt
	Suspended     Type = "integration.suspended"     // nothing is sent for a client
	Resumed       Type = "integration.resumed"       // it is again
)

// Types are all types.
func Types() []Type {
	return []Type{Created, Reconnected, NeedsReauth, Recovered, ReconnectSoon, Disconnected, Suspended, Resumed}
}

func (t Type) name() string  { return string(t[strings.LastIndexByte(string(t), '.')+1:]) }
func (t Type) place() string { return "out_" + t.name() }
func (t Type) seq() string   { return "seq_" + t.name() }

// The attributes of an item that belong to no one type.
const (
	last = "events"
	told = "told"
	todo = "todo"
)

// Event is one event of an item.
type Event struct {
	ID     string // evt_ and 128 random bits; the same at each delivery
	Type   Type
	At     int64  // unix s: when it became true
	Seq    int64  // counts the item's events from 1
	Reason string // "" for none
}

// NewID returns a fresh event id. It is random and not made of the sequence number,
// since a table that was restored from a backup counts on from an older number.
func NewID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return "evt_" + base64.RawURLEncoding.EncodeToString(b)
}

// Add returns u as a write that puts e, whose Seq the store counts, and files the item
// under partition, unless u files it already.
func Add(u item.Update, e Event, partition string) item.Update {
	m := item.Map{"id": e.ID, "at": e.At}
	if e.Reason != "" {
		m["reason"] = e.Reason
	}
	u.Set = append(slices.Clip(u.Set), item.Put(e.Type.place(), m),
		item.Number(e.Type.seq(), last, 1), item.Count(last, 1))
	if !slices.ContainsFunc(u.Set, func(a item.Assign) bool { return a.Name == todo }) {
		u.Set = append(u.Set, item.Put(todo, partition))
		u.Remove = slices.DeleteFunc(slices.Clone(u.Remove), func(name string) bool { return name == todo })
	}
	return u
}

// Box is the outbox of an item as it was read.
type Box struct {
	Waiting []Event // undelivered, in the order of Seq
	Last    int64   // the number of the last event; 0 where there was none
	Told    int64   // the number of the last one that was delivered, 0 for none
}

// Read finds the outbox of an item.
func Read(i item.Item) Box {
	b := Box{Last: i.Int(last), Told: i.Int(told)}
	for _, t := range Types() {
		if m := i.Map(t.place()); m != nil {
			b.Waiting = append(b.Waiting, Event{ID: m.String("id"), Type: t, At: m.Int("at"), Seq: i.Int(t.seq()), Reason: m.String("reason")})
		}
	}
	slices.SortFunc(b.Waiting, func(x, y Event) int { return cmp.Compare(x.Seq, y.Seq) })
	return b
}

// Store puts b into an item that is about to be stored whole.
func (b Box) Store(i item.Item) {
	for _, e := range b.Waiting {
		m := item.Map{"id": e.ID, "at": e.At}
		if e.Reason != "" {
			m["reason"] = e.Reason
		}
		i[e.Type.place()], i[e.Type.seq()] = m, e.Seq
	}
	if b.Last != 0 {
		i[last] = b.Last
	}
	if b.Told != 0 {
		i[told] = b.Told
	}
}

// Replaced is how many events gave way to a newer one of their type before they were
// delivered: the numbers up to seq that do not wait. Those up to told were delivered, by
// what the item says or by what the caller knows.
func (b Box) Replaced(told, seq int64) int64 {
	told = max(told, b.Told)
	n := seq - told
	for _, e := range b.Waiting {
		if e.Seq > told && e.Seq <= seq {
			n--
		}
	}
	return max(0, n)
}

// Taken is the write that takes off what was delivered, up to and with number seq. It
// cannot take any other event: it asks that none was added since b was read. Where nothing
// else is to be done for the item either, leave is the partition that it leaves.
func (b Box) Taken(seq int64, leave string) item.Update {
	u := b.unchanged()
	if seq > b.Told {
		u.Set = []item.Assign{item.Put(told, seq)}
	}
	for _, e := range b.Waiting {
		if e.Seq <= seq {
			u.Remove = append(u.Remove, e.Type.place(), e.Type.seq())
		}
	}
	if leave != "" {
		u.If = append(u.If, item.Eq(todo, leave))
		u.Remove = append(u.Remove, todo)
	}
	return u
}

// Postponed is the write that files the item anew, as long as no event was added since b
// was read and nobody else has filed it since.
func (b Box) Postponed(from, to string) item.Update {
	u := b.unchanged()
	u.If = append(u.If, item.Eq(todo, from))
	u.Set = []item.Assign{item.Put(todo, to)}
	return u
}

func (b Box) unchanged() item.Update {
	if b.Last == 0 {
		return item.Update{If: []item.Cond{item.Lacks(last)}}
	}
	return item.Update{If: []item.Cond{item.Eq(last, b.Last)}}
}

// Announcer is what a store needs to have events told. A nil *Announcer tells nobody,
// and then nothing is put into any outbox.
type Announcer struct {
	// Partition is where an item is filed for the tick of a moment, unix s.
	Partition func(key string, at int64) string
	// Deliver tells what waits in the item under key, as well as it can in little time,
	// and returns the item as it is then.
	Deliver func(ctx context.Context, key string, i item.Item) item.Item
}

// soon is when the tick looks after an event whose writer has not delivered it, s.
const soon = 60

// Update carries out an update that makes an event true at a time, unix s, with that
// event in it, and delivers it at once if the update was applied. t is "" for no event:
// then nothing is delivered either, so that what waits already holds up no other write.
//
// The item in the result is as the update left it, but for what was delivered: what
// somebody else wrote meanwhile is no result of this one.
func (a *Announcer) Update(ctx context.Context, table item.Table, key string, u item.Update, t Type, reason string, at int64) (item.Result, error) {
	if a == nil || t == "" {
		return table.Update(ctx, key, u)
	}
	u = Add(u, Event{ID: NewID(), Type: t, At: at, Reason: reason}, a.Partition(key, at+soon))
	res, err := table.Update(ctx, key, u)
	if err == nil && res.Applied {
		res.Item = delivered(res.Item, a.Deliver(ctx, key, res.Item))
	}
	return res, err
}

// delivered is an item as it was written, without what was delivered by the time when it
// was as it is now.
func delivered(written, now item.Item) item.Item {
	box, leave := Read(written), ""
	if now.String(todo) == "" {
		leave = written.String(todo)
	}
	written, _ = box.Taken(min(box.Last, Read(now).Told), leave).Apply(written) // nothing was added to it
	return written
}
