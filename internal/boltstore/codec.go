package boltstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/evergrant/evergrant/internal/item"
)

// A stored item is the version byte, its attributes as a map, and a CRC-32C of all
// that, little-endian. A map is the number of its members and, in the order of
// their names, each name and value; a list is the number of its elements and the
// elements. A value begins with its tag. Counts, lengths and names are unsigned
// varints and bytes, numbers are signed varints. Equal items have equal bytes.
//
// bbolt has no checksum over its pages: without this one a flipped bit in a fence
// would be believed.
const codecVersion = 1

const checksumSize = 4

// The tags of values. They are stored: they never change.
const (
	tagString byte = iota + 1
	tagNumber
	tagFalse
	tagTrue
	tagBytes
	tagMap
	tagList
)

func encode(i item.Item) []byte {
	b := make([]byte, 0, i.Size()+8*len(i)+16)
	b = append(b, codecVersion)
	b = appendMembers(b, i)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendMembers[M ~map[string]item.Value](b []byte, m M) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendText(b, name)
		b = appendValue(b, m[name])
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendValue(b []byte, v item.Value) []byte {
	switch x := v.(type) {
	case string:
		return appendText(append(b, tagString), x)
	case int64:
		return binary.AppendVarint(append(b, tagNumber), x)
	case bool:
		if x {
			return append(b, tagTrue)
		}
		return append(b, tagFalse)
	case item.Bytes:
		return appendText(append(b, tagBytes), string(x))
	case item.Map:
		return appendMembers(append(b, tagMap), x)
	case item.List:
		b = binary.AppendUvarint(append(b, tagList), uint64(len(x)))
		for _, e := range x {
			b = appendValue(b, e)
		}
		return b
	}
	panic(fmt.Sprintf("boltstore: a value of type %T passed item.Update.Check", v))
}

// decode reads what encode wrote. All else is item.ErrCorrupt.
func decode(b []byte) (item.Item, error) {
	body := len(b) - checksumSize
	if body < 1 || b[0] != codecVersion || binary.LittleEndian.Uint32(b[body:]) != checksum(b[:body]) {
		return nil, item.ErrCorrupt
	}
	d := decoder{rest: b[1:body]}
	m := d.members(item.MaxDepth)
	if d.bad || len(d.rest) > 0 {
		return nil, item.ErrCorrupt
	}
	return item.Item(m), nil
}

// decoder consumes rest. After a mistake bad is set and every reading is zero, so
// that only the end needs to look.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) fail() {
	d.bad = true
	d.rest = nil
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	c := d.rest[0]
	d.rest = d.rest[1:]
	return c
}

// count reads a number of things that take at least one byte each, so that a false
// one cannot ask for more memory than there is input.
func (d *decoder) count() int {
	n, used := binary.Uvarint(d.rest)
	if used <= 0 || n > uint64(len(d.rest)-used) {
		d.fail()
		return 0
	}
	d.rest = d.rest[used:]
	return int(n)
}

// text copies, since the bytes of a page are gone with its transaction.
func (d *decoder) text() string {
	n := d.count()
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) members(depth int) item.Map {
	n := d.count()
	m := make(item.Map, n)
	last := ""
	for i := range n {
		name := d.text()
		if i > 0 && name <= last {
			d.fail() // not in order, or twice
		}
		m[name] = d.value(depth)
		if d.bad {
			return nil
		}
		last = name
	}
	return m
}

func (d *decoder) value(depth int) item.Value {
	if depth == 0 {
		d.fail()
		return nil
	}
	switch d.byte() {
	case tagString:
		return d.text()
	case tagNumber:
		n, used := binary.Varint(d.rest)
		if used <= 0 {
			d.fail()
			return nil
		}
		d.rest = d.rest[used:]
		return n
	case tagFalse:
		return false
	case tagTrue:
		return true
	case tagBytes:
		return item.Bytes(d.text())
	case tagMap:
		return d.members(depth - 1)
	case tagList:
		return d.list(depth - 1)
	}
	d.fail()
	return nil
}

func (d *decoder) list(depth int) item.List {
	n := d.count()
	l := make(item.List, 0, n)
	for range n {
		l = append(l, d.value(depth))
		if d.bad {
			return nil
		}
	}
	return l
}
