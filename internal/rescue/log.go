// Package rescue keeps refreshed tokens safe that the store would not take: a log of
// sealed records in a file of its own, which are replayed until the store has them.
//
// A provider that rotates refresh tokens has ended the old one when it answers. If
// the store then fails, as on a full disk, the new one must stand somewhere else. So
// all room of the log is written when it is opened; a later Put changes bytes that
// the file has already and needs none of the disk's. (A file system that copies on
// write may still need some. No file can be had in advance there.)
//
// The file is an array of sectors of 512 bytes. A record fills whole sectors, and
// whatever holds no record is zero. Each record stands on its own, with a checksum
// over its place and its bytes: a torn or damaged one costs none of the others. One
// process has the file open; the lock on the store beside it sees to that.
package rescue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// sector is the unit of a record's place, in bytes. Disks write at least this much
// at once, so that a write to one record never tears another.
const sector = 512

// A record is a header, the id and the payload. The header is
//
//	magic 4 | CRC-32C 4 | sequence number 8 | length of id 2 | length of payload 4
//
// with big-endian numbers. The checksum covers the offset of the record in the file
// (8 bytes) and everything after the checksum itself.
const (
	magic      = "EGR1"
	headerSize = 22
	summedFrom = 8
)

// ErrFull says that the log has no room for a record. Nothing was written.
var ErrFull = errors.New("rescue log is full")

// Log is an open rescue log. Its methods may be called concurrently.
type Log struct {
	replaying sync.Mutex // held for a whole Replay

	mu      sync.Mutex // guards what follows, and the file
	file    *os.File
	size    int64 // of the file's sectors, in bytes
	next    uint64
	pending map[int64]record // by offset
}

type record struct {
	seq     uint64
	id      string
	payload []byte
	length  int64 // in the file, in bytes: whole sectors
}

// Open opens the log at path, making it where it is absent, finds the records that
// still await replay, and writes zeros over all other room up to size bytes, rounded
// up to whole sectors. A file that is longer keeps its length. While Open fails,
// nothing may be sent to a provider that rotates refresh tokens.
func Open(path string, size int64) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("rescue log: %w", err)
	}
	l, err := load(f, size)
	if err == nil {
		err = errors.Join(l.prepare(), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, fmt.Errorf("rescue log: %w", errors.Join(err, f.Close()))
	}
	return l, nil
}

// Close closes the file. Pending records stay in it.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Put adds a record. It is on disk when Put returns without an error; an error other
// than ErrFull leaves that open. The write is local and short, and must not end
// because a caller's time did: ctx is not asked.
func (l *Log) Put(_ context.Context, id string, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(id) > math.MaxUint16 || int64(len(payload)) > l.size {
		return fmt.Errorf("rescue log: record of %d bytes: %w", len(payload), ErrFull)
	}
	r := record{seq: l.next, id: id, payload: bytes.Clone(payload), length: wholeSectors(headerSize + len(id) + len(payload))}
	at, ok := l.place(r.length)
	if !ok {
		return fmt.Errorf("rescue log: record of %d bytes: %w", len(payload), ErrFull)
	}
	if _, err := l.file.WriteAt(r.encode(at), at); err != nil {
		return fmt.Errorf("rescue log: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("rescue log: %w", err)
	}
	l.next++
	l.pending[at] = r
	return nil
}

// Holds reports whether a record of id awaits replay. While it does, the token in the
// store is old, and its refusal by the provider proves nothing.
func (l *Log) Holds(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.pending {
		if r.id == id {
			return true
		}
	}
	return false
}

// Pending is how many records are still to be replayed.
func (l *Log) Pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

// Replay calls f for each record that was pending when it began, oldest first. Those
// that f reports done are removed. After a crash a record may come once more, so f
// must be repeatable. An error of f leaves its record in place, as does a plain false;
// later records of that id then wait for the next Replay, the others go on. Replay
// ends early with ctx, and at once while another Replay is under way.
func (l *Log) Replay(ctx context.Context, f func(ctx context.Context, id string, payload []byte) (done bool, err error)) error {
	if !l.replaying.TryLock() {
		return nil
	}
	defer l.replaying.Unlock()
	var first error
	failed, waiting := 0, map[string]bool{}
	for _, at := range l.oldestFirst() {
		if err := ctx.Err(); err != nil {
			return errors.Join(first, err)
		}
		r := l.at(at)
		if waiting[r.id] {
			continue
		}
		done, err := f(ctx, r.id, r.payload)
		if done && err == nil {
			err = l.remove(at)
		}
		if err != nil && failed == 0 {
			first = err
		}
		if err != nil {
			failed++
		}
		waiting[r.id] = !done || err != nil
	}
	if failed > 0 {
		return fmt.Errorf("replay of %d rescued records, the first: %w", failed, first)
	}
	return nil
}

func (l *Log) oldestFirst() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.pending), func(a, b int64) int {
		return cmp.Compare(l.pending[a].seq, l.pending[b].seq)
	})
}

func (l *Log) at(offset int64) record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending[offset]
}

// remove frees the room of a record. It need not reach the disk at once: a crash only
// brings the record back to a replay, and the Put that takes the room syncs the file.
func (l *Log) remove(at int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.WriteAt(make([]byte, l.pending[at].length), at); err != nil {
		return err
	}
	delete(l.pending, at)
	return nil
}

// place is the first gap of length bytes between the pending records.
func (l *Log) place(length int64) (at int64, ok bool) {
	for _, taken := range slices.Sorted(maps.Keys(l.pending)) {
		if taken-at >= length {
			return at, true
		}
		at = taken + l.pending[taken].length
	}
	return at, l.size-at >= length
}

// load reads the file as it stands.
func load(f *os.File, size int64) (*Log, error) {
	if size < sector {
		return nil, fmt.Errorf("%d bytes hold no record", size)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	l := &Log{file: f, size: wholeSectors(max(int(size), len(data))), next: 1, pending: scan(data)}
	for _, r := range l.pending {
		l.next = max(l.next, r.seq+1)
	}
	return l, nil
}

// scan finds the records in the bytes of a file, by offset. It tries every sector
// that is not within a valid record, so that nothing hides behind a damaged one.
func scan(data []byte) map[int64]record {
	found := map[int64]record{}
	for at := int64(0); at < int64(len(data)); {
		r, ok := decode(data[at:], at)
		if !ok {
			at += sector
			continue
		}
		found[at] = r
		at += r.length
	}
	return found
}

// prepare writes zeros wherever no record stands, even where zeros stand already: the
// file may have been copied with holes, which take no room on the disk until they are
// written. Besides, it ends what is left of torn records.
func (l *Log) prepare() error {
	if err := l.file.Chmod(0o600); err != nil {
		return err
	}
	at := int64(0)
	for _, taken := range slices.Sorted(maps.Keys(l.pending)) {
		if err := l.zero(at, taken); err != nil {
			return err
		}
		at = taken + l.pending[taken].length
	}
	if err := l.zero(at, l.size); err != nil {
		return err
	}
	return l.file.Sync()
}

func (l *Log) zero(from, to int64) error {
	zeros := make([]byte, 64<<10)
	for from < to {
		n, err := l.file.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

func (r record) encode(at int64) []byte {
	b := make([]byte, 0, r.length)
	b = append(b, magic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.id)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.payload)))
	b = append(append(b, r.id...), r.payload...)
	binary.BigEndian.PutUint32(b[len(magic):], checksum(b[summedFrom:], at))
	return b[:r.length] // zeros to the end of the last sector
}

// decode reads the record at the beginning of b, which stands at an offset in the
// file, if there is a whole and undamaged one.
func decode(b []byte, at int64) (record, bool) {
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(magic)) {
		return record{}, false
	}
	idSize := int(binary.BigEndian.Uint16(b[16:]))
	end := headerSize + idSize + int(binary.BigEndian.Uint32(b[18:]))
	if end > len(b) || binary.BigEndian.Uint32(b[len(magic):]) != checksum(b[summedFrom:end], at) {
		return record{}, false
	}
	return record{
		seq:     binary.BigEndian.Uint64(b[8:]),
		id:      string(b[headerSize : headerSize+idSize]),
		payload: bytes.Clone(b[headerSize+idSize : end]),
		length:  wholeSectors(end),
	}, true
}

func checksum(b []byte, at int64) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint64(nil, uint64(at)), table), table, b)
}

func wholeSectors(n int) int64 { return int64(n+sector-1) / sector * sector }

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
