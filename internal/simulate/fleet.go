package simulate

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/schedule"
)

// packed is what varies of one connection's item. It holds no pointer, so that a
// million of them cost the garbage collector nothing. Times are unix seconds.
type packed struct {
	gen, failures               int64
	issued, expires, updated    int64
	retryAt, doubtAt, doubtSent int64
	attemptUntil, attemptSince  int64
	attempt, saved              uint64 // ids of an attempt and of a save; 0: none
	access, refresh             uint32 // numbers of the tokens
	partition, position         uint32 // where it is filed, and at which place there
	live, previous              uint32 // what the provider takes: two refresh tokens at most
	kind                        uint8
	reauth, rotates, stamped    bool // stamped: a save wrote updated, token_type and a status_id
	journalSize                 uint8
	journal                     [connection.JournalSize * 11]byte
}

// partition is one hash of the index due.
type partition struct {
	name    string
	members []uint32
}

// fleet is all connections of a day, and the index of those that are due. One
// connection is used by one worker at a time; the partitions are guarded.
type fleet struct {
	kinds  []Kind
	common []item.Item // by kind: the attributes that no refresh changes
	all    []packed

	mu         sync.Mutex
	partitions []partition       // guarded by mu; 0 is none
	byName     map[string]uint32 // guarded by mu
}

// attributes is more than any item of a fleet has.
const attributes = 40

// newFleet makes n connections that have been refreshed at their last slot before the
// unix second start.
func newFleet(n int, kinds []Kind, start int64) *fleet {
	f := &fleet{kinds: kinds, all: make([]packed, n), partitions: make([]partition, 1), byName: map[string]uint32{}}
	for _, k := range kinds {
		// A clone has the room of its original, so that filling it in moves nothing.
		common := make(item.Item, attributes)
		maps.Copy(common, item.Item{
			"integration": integrationOf(k), "client": "default", "client_id": "app", "grant": "authorization_code",
			"provider": integrationOf(k), "req_scope": "read write", "created_at": start - 86400, "consented_at": start - 86400,
			"consent_next": int64(0), "consent_seq": int64(0), "disconnect_gen": int64(0), "restore_epoch": int64(0),
		})
		f.common = append(f.common, common)
	}
	left, kind := kinds[0].Share*n/1000, 0
	for i := range f.all {
		for left == 0 && kind < len(kinds)-1 {
			kind++
			left = kinds[kind].Share * n / 1000
		}
		left--
		f.begin(uint32(i), uint8(kind), start)
	}
	return f
}

func integrationOf(k Kind) string { return strings.ReplaceAll(k.Name, " ", "-") }

func (f *fleet) begin(i uint32, kind uint8, start int64) {
	k := f.kinds[kind]
	plan, id := schedule.Plan{}, identity(i)
	period := plan.Period(k.Life)
	issued := schedule.NextSlot(id, period, start) - period*60 + between(0, 59, uint64(i), 1)
	f.all[i] = packed{kind: kind, gen: 1, issued: issued, expires: issued + k.Life, access: 1, refresh: 1, live: 1, rotates: k.Rotates}
	f.file(i, plan.Partition(id, k.Life))
}

// identity is the id of connection i.
func identity(i uint32) string { return "conn_" + number(mix(uint64(i))) }

func number(n uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for k := range b {
		b[15-k] = digits[n&15]
		n >>= 4
	}
	return string(b[:])
}

// parseNumber reads what number wrote; 0 of anything else.
func parseNumber(s string) uint64 {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// sealed stands for a sealed token: its number, as long as a sealed opaque token is.
func sealed(token uint32) item.Bytes { return item.Bytes(number(uint64(token)) + padding) }

const padding = "................................................................................"

func unsealed(b item.Bytes) uint32 {
	if len(b) < 16 {
		return 0
	}
	return uint32(parseNumber(string(b[:16])))
}

// item unpacks a connection.
func (f *fleet) item(i uint32, id string) item.Item {
	p := &f.all[i]
	m := f.common[p.kind].Clone()
	m["owner"] = id // any text
	m["integration_id"] = m.String("integration") + "#" + id
	m["status"], m["status_id"] = string(connection.Active), "active#"+id
	m["gen"], m["tok_gen"], m["failures"] = p.gen, p.gen, p.failures
	m["issued_at"], m["expires_at"] = p.issued, p.expires
	m["at"], m["rt"], m["token_id"] = sealed(p.access), sealed(p.refresh), number(uint64(p.access))
	put := func(name string, v int64) {
		if v != 0 {
			m[name] = v
		}
	}
	put("retry_at", p.retryAt)
	put("doubt_at", p.doubtAt)
	put("doubt_sent", p.doubtSent)
	put("updated_at", p.updated)
	if p.saved != 0 {
		m["save_id"] = number(p.saved)
	}
	if p.attempt != 0 {
		m["attempt"] = item.Map{"id": number(p.attempt), "base_gen": p.gen, "lease_until": p.attemptUntil, "since": p.attemptSince}
	}
	if p.reauth {
		m["status"], m["status_id"], m["reason"] = string(connection.NeedsReauth), "needs_reauth#"+id, string(connection.Revoked)
	}
	if p.rotates {
		m["rotates"] = true
	}
	if p.stamped {
		m["token_type"] = "Bearer"
	}
	if p.journalSize > 0 {
		m["journal"] = item.Bytes(p.journal[:p.journalSize])
	}
	if name := f.partitionOf(p.partition); name != "" {
		m["sched"] = name
	}
	return m
}

// keep packs a connection's item. It is an error if something would be lost by it.
func (f *fleet) keep(i uint32, id string, m item.Item) error {
	p := &f.all[i]
	attempt, journal := m.Map("attempt"), m.Bytes("journal")
	p.gen, p.failures = m.Int("gen"), m.Int("failures")
	p.issued, p.expires, p.updated = m.Int("issued_at"), m.Int("expires_at"), m.Int("updated_at")
	p.retryAt, p.doubtAt, p.doubtSent = m.Int("retry_at"), m.Int("doubt_at"), m.Int("doubt_sent")
	p.attempt, p.attemptUntil, p.attemptSince = parseNumber(attempt.String("id")), attempt.Int("lease_until"), attempt.Int("since")
	p.saved, p.access, p.refresh = parseNumber(m.String("save_id")), unsealed(m.Bytes("at")), unsealed(m.Bytes("rt"))
	p.reauth, p.rotates, p.stamped = m.String("status") == string(connection.NeedsReauth), m.Bool("rotates"), m.String("token_type") != ""
	p.journalSize = uint8(copy(p.journal[:], journal))
	f.file(i, m.String("sched"))
	if i%checkEvery == 0 && !equal(f.item(i, id), m) {
		return fmt.Errorf("connection %s cannot be packed", id)
	}
	return nil
}

// checkEvery: one connection of so many is unpacked again and compared.
const checkEvery = 1000

func equal(a, b item.Item) bool { return item.Equal(item.Map(a), item.Map(b)) }

func (f *fleet) partitionOf(n uint32) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.partitions[n].name
}

// file moves a connection to a partition, "" for none.
func (f *fleet) file(i uint32, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.all[i]
	if f.partitions[p.partition].name == name {
		return
	}
	if p.partition != 0 {
		members := f.partitions[p.partition].members
		last := members[len(members)-1]
		members[p.position] = last
		f.all[last].position = p.position
		f.partitions[p.partition].members = members[:len(members)-1]
	}
	p.partition = 0
	if name == "" {
		return
	}
	n, ok := f.byName[name]
	if !ok {
		n = uint32(len(f.partitions))
		f.partitions = append(f.partitions, partition{name: name})
		f.byName[name] = n
	}
	p.partition, p.position = n, uint32(len(f.partitions[n].members))
	f.partitions[n].members = append(f.partitions[n].members, i)
}

// due are the connections of a partition now.
func (f *fleet) due(name string) []uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uint32(nil), f.partitions[f.byName[name]].members...)
}
