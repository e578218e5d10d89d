package item

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// IndexOf returns the index that q names among indexes. A query without a hash or
// with a limit below 1 is an error, as is an index that the table lacks.
func (q Query) IndexOf(indexes []Index) (Index, error) {
	for _, x := range indexes {
		if x.Name != q.Index {
			continue
		}
		if q.Hash == "" || q.Limit < 1 {
			return Index{}, fmt.Errorf("query of index %s: hash and limit are required", q.Index)
		}
		return x, nil
	}
	return Index{}, fmt.Errorf("query of index %q: no such index", q.Index)
}

// Cursor is the opaque text of a place among the results of q, for Page.Next. The
// parts of the place are the store's own affair. The text names the query by a
// fingerprint only, so that it can be shown to a caller without telling the owner.
func (q Query) Cursor(place ...string) string {
	b := q.fingerprint()
	for _, part := range place {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// Place returns the n parts from which q.After was made, nil where q.After is
// empty. The error is ErrBadCursor where it is not a cursor of this query. A caller
// can forge a cursor, but only to begin elsewhere in what it may read anyway.
func (q Query) Place(n int) ([]string, error) {
	if q.After == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.After)
	mark := q.fingerprint()
	if err != nil || len(b) < len(mark) || string(b[:len(mark)]) != string(mark) {
		return nil, ErrBadCursor
	}
	place := make([]string, 0, n)
	for b = b[len(mark):]; len(b) > 0; {
		size, used := binary.Uvarint(b)
		if used <= 0 || size > uint64(len(b)-used) {
			return nil, ErrBadCursor
		}
		place, b = append(place, string(b[used:used+int(size)])), b[used+int(size):]
	}
	if len(place) != n || q.Cursor(place...) != q.After { // one spelling only
		return nil, ErrBadCursor
	}
	return place, nil
}

// fingerprint is 8 bytes that tell queries apart. It guards against mistakes, not
// against forgery, so it needs no key.
func (q Query) fingerprint() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", q.Index, q.Hash, q.Prefix))
	return sum[:8]
}
