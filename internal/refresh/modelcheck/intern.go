package modelcheck

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// A cause is what happened to a machine, in numbers: the result that its Next is
// called with follows from it.
type cause struct {
	kind    causeKind
	answer  answerKind
	token   token
	late    bool // the clock is past every lease and horizon
	applied bool
	failed  bool
	spent   bool // the time for saving is over
	epoch   uint8
	item    uint32 // as read, written or found; 0 for none
}

type causeKind uint8

const (
	causeBegin causeKind = iota
	causeRead
	causeWrite
	causeAnswer
	causeSession
	causeIdentity
	causeDone // an effect without a result: a pause, a rescue, a revocation
)

// A node is a machine with its pending effect.
type node[S, E comparable] struct {
	State  S
	Effect E
}

type (
	stepKey struct {
		node uint32
		cause
	}
	writeKey struct{ node, item uint32 }
	written  struct {
		item    uint32
		applied bool
	}
)

// A machine is a step machine with a table of the steps it was seen to take.
type machine[S, E comparable, R any] struct {
	next   func(S, R) (S, E)
	result func(cause) R
	ids    map[node[S, E]]uint32
	nodes  []node[S, E] // nodes[0] is none
	steps  map[stepKey]uint32
	writes map[writeKey]written
}

func newMachine[S, E comparable, R any](next func(S, R) (S, E), result func(cause) R) *machine[S, E, R] {
	return &machine[S, E, R]{
		next: next, result: result, ids: map[node[S, E]]uint32{}, nodes: make([]node[S, E], 1),
		steps: map[stepKey]uint32{}, writes: map[writeKey]written{},
	}
}

func (m *machine[S, E, R]) at(id uint32) *node[S, E] { return &m.nodes[id] }

func (m *machine[S, E, R]) intern(n node[S, E]) uint32 {
	id, known := m.ids[n]
	if !known {
		id = uint32(len(m.nodes))
		m.ids[n] = id
		m.nodes = append(m.nodes, n)
	}
	return id
}

// step takes the machine on from a node.
func (m *machine[S, E, R]) step(id uint32, c cause) uint32 {
	key := stepKey{id, c}
	if to, known := m.steps[key]; known {
		return to
	}
	s, e := m.next(m.nodes[id].State, m.result(c))
	to := m.intern(node[S, E]{s, e})
	m.steps[key] = to
	return to
}

// write performs the node's pending write on an item, with do on the first time.
func (m *machine[S, E, R]) write(id, on uint32, do func() written) written {
	key := writeKey{id, on}
	w, known := m.writes[key]
	if !known {
		w = do()
		m.writes[key] = w
	}
	return w
}

// A stored item is an interned one, with what the invariants ask of it.
type stored struct {
	item item.Item
	connection.Record
	session connection.SessionState
	rt, at  token // whatever they were sealed for
	opens   bool  // both open under tok_gen
}

// itemTable interns items. Number 0 is the absent item.
type itemTable struct {
	ids   map[string]uint32
	all   []stored
	timed bool // times count
}

func newItemTable() *itemTable {
	return &itemTable{ids: map[string]uint32{}, all: make([]stored, 1)}
}

// forgotten are the attributes on which no decision rests in a world without time:
// they would only tell worlds apart that are the same.
var forgotten = [...]string{
	"journal", "updated_at", "retry_at", "sched", "issued_at", "expires_at", "token_id", "token_type", "disconnected_at",
	"ttl", "status_id", "created_at",
}

func (t *itemTable) intern(id string, i item.Item) uint32 {
	if i == nil {
		return 0
	}
	i = i.Clone()
	if t.timed {
		delete(i, "journal")
	} else {
		forget(i)
	}
	key := id + canonical(i)
	n, known := t.ids[key]
	if known {
		return n
	}
	n = uint32(len(t.all))
	t.ids[key] = n
	t.all = append(t.all, inspect(id, i))
	return n
}

func forget(i item.Item) {
	for _, name := range forgotten {
		if name != "expires_at" || i.String("kind") != "session" {
			delete(i, name)
		}
	}
	if _, counted := i["failures"]; counted {
		i["failures"] = int64(0)
	}
	for _, name := range []string{"doubt_at", "doubt_sent"} {
		if _, there := i[name]; there {
			i[name] = int64(early / 1000)
		}
	}
}

func inspect(id string, i item.Item) stored {
	s := stored{item: i, session: connection.SessionState(i.String("state"))}
	if s.session != "" {
		return s
	}
	rec, err := connection.FromItem(id, i)
	if err != nil {
		return s // an item that production refuses: opens is false
	}
	var okAt, okRT bool
	s.Record = rec
	s.at, okAt = unseal(rec.Access, place{"at", id, rec.TokGen})
	s.rt, okRT = unseal(rec.Refresh, place{"rt", id, rec.TokGen})
	s.opens = okAt && okRT
	return s
}

func canonical(i item.Item) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(i)) {
		fmt.Fprintf(&b, " %s=%v", name, i[name])
	}
	return b.String()
}

// A place is what a sealed value is bound to, as secret.Place is.
type place struct {
	field, id string
	gen       int64
}

func (p place) label() item.Bytes {
	return item.Bytes(p.field + "/" + p.id + "/" + strconv.FormatInt(p.gen, 10))
}

// seal stands for sealing: the label names what a real box binds.
func seal(t token, p place) item.Bytes {
	if t == 0 {
		return ""
	}
	return p.label() + "/" + item.Bytes(strconv.Itoa(int(t)))
}

// unseal returns the token of a label whatever its place, and whether it would open
// at p. Nothing opens as nothing.
func unseal(b item.Bytes, p place) (token, bool) {
	if b == "" {
		return 0, true
	}
	cut := strings.LastIndexByte(string(b), '/')
	n, err := strconv.ParseUint(string(b[cut+1:]), 10, 8)
	if err != nil {
		return 0, false
	}
	return token(n), p != place{} && b[:cut] == p.label()
}
