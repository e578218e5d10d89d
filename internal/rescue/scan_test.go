package rescue

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// image is the bytes of a log with three records, of one, three and two sectors.
func image(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rescue.log")
	l, err := Open(path, 8*sector)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i, n := range []int{10, 1200, 600} {
		if err := l.Put(t.Context(), "conn_"+string(rune('a'+i)), bytes.Repeat([]byte{byte('1' + i)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// whole checks that the records of damaged bytes are those of the sound ones that the
// damage, from one byte to another, did not touch.
func whole(t *testing.T, data []byte, sound map[int64]record, from, to int64) {
	t.Helper()
	found := scan(data)
	for at, r := range sound {
		got, ok := found[at]
		used := at + headerSize + int64(len(r.id)+len(r.payload))
		if touched := from < used && to > at; ok == touched {
			t.Fatalf("damage from %d to %d: the record at %d was found: %v", from, to, at, ok)
		}
		if ok && (got.id != r.id || got.seq != r.seq || !bytes.Equal(got.payload, r.payload)) {
			t.Fatalf("damage from %d to %d: the record at %d has changed", from, to, at)
		}
	}
	for at := range found {
		if _, ok := sound[at]; !ok {
			t.Fatalf("damage from %d to %d: a record at %d came up", from, to, at)
		}
	}
}

func TestATornWriteCostsItsOwnRecordOnly(t *testing.T) {
	data := image(t)
	sound := scan(data)
	if len(sound) != 3 {
		t.Fatalf("%d records", len(sound))
	}
	for i := range data {
		at := int64(i)
		whole(t, data[:i], sound, at, int64(len(data))) // the file ends here
		b := bytes.Clone(data)
		b[i] ^= 0x40
		whole(t, b, sound, at, at+1)
	}
	// A record of which only the first bytes were written, at every length.
	for at, r := range sound {
		for cut := at; cut < at+headerSize+int64(len(r.id)+len(r.payload)); cut++ {
			b := bytes.Clone(data)
			clear(b[cut : at+r.length])
			whole(t, b, sound, cut, at+r.length)
		}
	}
}

// TestARecordAtAnotherPlaceIsNone: what a record carries may look like a record.
func TestARecordAtAnotherPlaceIsNone(t *testing.T) {
	data := image(t)
	moved := append(make([]byte, sector), data...)
	if found := scan(moved); len(found) != 0 {
		t.Errorf("%d records were found one sector further", len(found))
	}
}

func TestATornLogOpensAndGoesOn(t *testing.T) {
	data := image(t)
	for _, cut := range []int{0, 1, 21, 300, 511, 512, 513, 1000, 2047, 2048, 2100, 2670, len(data) - 1} {
		path := filepath.Join(t.TempDir(), "rescue.log")
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path, 8*sector)
		if err != nil {
			t.Fatal(err)
		}
		want := len(scan(data[:cut])) + 1
		if err := l.Put(t.Context(), "after", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(path, 8*sector); err != nil {
			t.Fatal(err)
		}
		got, last := 0, ""
		err = l.Replay(t.Context(), func(_ context.Context, id string, _ []byte) (bool, error) { got, last = got+1, id; return true, nil })
		if err != nil || got != want || last != "after" {
			t.Errorf("cut to %d: %d records, last %q, want %d: %v", cut, got, last, want, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil || len(after) != 8*sector || len(bytes.Trim(after, "\x00")) != 0 {
			t.Errorf("cut to %d: %d bytes, not all zero: %v", cut, len(after), err)
		}
	}
}

func FuzzScan(f *testing.F) {
	data := image(f)
	f.Add(data)
	f.Add(data[:100])
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), bytes.Repeat([]byte{0xff}, 1000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at, r := range scan(b) {
			used := headerSize + len(r.id) + len(r.payload)
			if !bytes.Equal(r.encode(at)[:used], b[at:int(at)+used]) {
				t.Fatalf("the record at %d does not encode to its bytes", at)
			}
		}
	})
}
