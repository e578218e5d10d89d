// Package item is stored data in the small: an item of named attributes, and a
// conditional update of one item, in the data model of Amazon DynamoDB.
//
// Every write of the refresh protocol is an Update: a condition and assignments,
// as data. The stores carry updates out (one renders them as expressions, the
// other evaluates them inside its transaction) and know nothing else of the
// protocol, so that each rule of it stands in one place only. Update.Apply is the
// meaning of an update; the contract suite of the stores compares every store
// with it, and the model check runs on it.
package item

import (
	"errors"
	"maps"
	"slices"
)

// Value is one attribute value: string, int64, bool, Bytes, Map or List.
type Value any

// Bytes is a binary value. It is a string type so that it compares and hashes.
type Bytes string

// Map is a nested document.
type Map map[string]Value

// List is an ordered collection.
type List []Value

// Item is the attributes of one item without its key. A nil Item is an absent one.
type Item map[string]Value

// Clone returns a copy of i whose top level may be changed. Nested values are
// never changed in place, so sharing them is safe.
func (i Item) Clone() Item {
	if i == nil {
		return nil
	}
	return maps.Clone(i)
}

// String is the string attribute name, or "".
func (i Item) String(name string) string { s, _ := i[name].(string); return s }

// Int is the number attribute name, or 0.
func (i Item) Int(name string) int64 { n, _ := i[name].(int64); return n }

// Bool is the boolean attribute name, or false.
func (i Item) Bool(name string) bool { b, _ := i[name].(bool); return b }

// Bytes is the binary attribute name, or "".
func (i Item) Bytes(name string) Bytes { b, _ := i[name].(Bytes); return b }

// Map is the nested document name, or nil.
func (i Item) Map(name string) Map { m, _ := i[name].(Map); return m }

// List is the list attribute name, or nil.
func (i Item) List(name string) List { l, _ := i[name].(List); return l }

// String is the string member name, or "".
func (m Map) String(name string) string { s, _ := m[name].(string); return s }

// Int is the number member name, or 0.
func (m Map) Int(name string) int64 { n, _ := m[name].(int64); return n }

// Strings returns the map's members that are strings, nil if there are none.
func (m Map) Strings() map[string]string {
	var out map[string]string
	for k, v := range m {
		if s, ok := v.(string); ok {
			if out == nil {
				out = make(map[string]string, len(m))
			}
			out[k] = s
		}
	}
	return out
}

// StringMap makes a Map of strings, nil of an empty one.
func StringMap(in map[string]string) Map {
	if len(in) == 0 {
		return nil
	}
	m := make(Map, len(in))
	for k, v := range in {
		m[k] = v
	}
	return m
}

// Equal reports whether two values are the same, deeply. An absent value (nil)
// equals nothing, as in DynamoDB's conditions.
func Equal(a, b Value) bool {
	switch x := a.(type) {
	case string, int64, bool, Bytes:
		return a == b
	case Map:
		y, ok := b.(Map)
		return ok && maps.EqualFunc(x, y, Equal)
	case List:
		y, ok := b.(List)
		return ok && slices.EqualFunc(x, y, Equal)
	}
	return false
}

// MaxSize is the largest item that a store takes, in bytes of attribute names and
// values. DynamoDB's own limit is 400 KB; the distance leaves room for the marker
// and the outcome that later writes must be able to add.
const MaxSize = 350 << 10

// ErrTooLarge says that the item would exceed MaxSize. Nothing was written.
var ErrTooLarge = errors.New("item exceeds 350 KB")

// ErrCorrupt says that a stored item cannot be read. Nothing was written.
var ErrCorrupt = errors.New("stored item cannot be read")

// Size estimates the stored size of i in bytes: names and values as DynamoDB
// counts them, to within a few bytes.
func (i Item) Size() int {
	n := 0
	for k, v := range i {
		n += len(k) + size(v)
	}
	return n
}

func size(v Value) int {
	switch x := v.(type) {
	case string:
		return len(x)
	case Bytes:
		return len(x)
	case int64:
		return 8
	case Map:
		n := 3
		for k, e := range x {
			n += 1 + len(k) + size(e)
		}
		return n
	case List:
		n := 3
		for _, e := range x {
			n += 1 + size(e)
		}
		return n
	}
	return 1
}
