package boltstore

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/evergrant/evergrant/internal/item"
)

// index is one bucket that follows the items of a table: a row for each item that
// stands in it, whose value is the item's key.
type index struct {
	bucket []byte
	row    func(key string, i item.Item) []byte // nil where i does not stand in it
}

// ttlName is the attribute that says when an item may be deleted, in unix seconds.
const ttlName = "ttl"

func bucketName(table, index string) []byte { return []byte(table + "." + index) }

// newIndex is the index of a definition: rows in the order of hash, range and key.
func newIndex(table string, def item.Index) index {
	return index{bucket: bucketName(table, def.Name), row: func(key string, i item.Item) []byte {
		hash, ok := i[def.Hash].(string)
		if !ok {
			return nil
		}
		rng := key
		if def.Range != item.KeyName {
			if rng, ok = i[def.Range].(string); !ok {
				return nil
			}
		}
		row := appendTerm(appendTerm(nil, hash), rng)
		return append(row, key...)
	}}
}

// newExpiry is the index of what has a ttl, by time.
func newExpiry(table string) index {
	return index{bucket: bucketName(table, ttlName), row: func(key string, i item.Item) []byte {
		at, ok := i[ttlName].(int64)
		if !ok {
			return nil
		}
		return append(binary.BigEndian.AppendUint64(nil, uint64(max(0, at))), key...)
	}}
}

// appendTerm appends s so that rows order as their terms do and no term runs into
// the next, whatever bytes an owner's id holds: a zero byte becomes 00 FF, and the
// end is 00 01.
func appendTerm(b []byte, s string) []byte {
	return append(appendPrefix(b, s), 0x00, 0x01)
}

// termOf is the text of a term that appendTerm wrote.
func termOf(term string) string {
	return strings.ReplaceAll(strings.TrimSuffix(term, "\x00\x01"), "\x00\xFF", "\x00")
}

// appendPrefix appends s as the beginning of a term.
func appendPrefix(b []byte, s string) []byte {
	return append(b, bytes.ReplaceAll([]byte(s), []byte{0x00}, []byte{0x00, 0xFF})...)
}
