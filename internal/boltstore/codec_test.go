package boltstore

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/item"
)

func sample() item.Item {
	return item.Item{
		"gen": int64(-3), "status": "active", "rotates": true, "in_flight": false, "at": item.Bytes("\x00\xff"),
		"attempt": item.Map{"id": "a"}, "outbox": item.List{int64(1 << 40), item.List{}},
	}
}

// TestItemBytes fixes the format: a file written today must be read by every later version.
func TestItemBytes(t *testing.T) {
	const wanted = "01070261740502" + "00ff" + "07617474656d7074060102696401016103" + "67656e0205" + "09696e5f666c6967687403" +
		"066f7574626f780702028080808080400700" + "07726f746174657304" + "067374617475730106616374697665f823321f"
	got := encode(sample())
	if diff := cmp.Diff(wanted, hex.EncodeToString(got)); diff != "" {
		t.Errorf("bytes (-want +got):\n%s", diff)
	}
	back, err := decode(got)
	if diff := cmp.Diff(sample(), back); err != nil || diff != "" {
		t.Errorf("decoded: %v (-want +got):\n%s", err, diff)
	}
}

// TestEveryFlippedBitIsFound covers the version byte as well.
func TestEveryFlippedBitIsFound(t *testing.T) {
	whole := encode(sample())
	for bit := range 8 * len(whole) {
		b := append([]byte(nil), whole...)
		b[bit/8] ^= 1 << (bit % 8)
		if i, err := decode(b); !errors.Is(err, item.ErrCorrupt) {
			t.Errorf("bit %d: %v, %v", bit, i, err)
		}
	}
	for n := range whole {
		if _, err := decode(whole[:n]); !errors.Is(err, item.ErrCorrupt) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
}

// sealed gives a body the version and checksum that let it reach the decoder.
func sealed(body []byte) []byte {
	b := append([]byte{codecVersion}, body...)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0})
	whole := encode(sample())
	f.Add(whole[1 : len(whole)-checksumSize])
	f.Add([]byte{1, 1, 'a', tagList, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{2, 1, 'b', tagTrue, 1, 'a', tagTrue})
	f.Fuzz(func(t *testing.T, body []byte) {
		i, err := decode(sealed(body))
		if err != nil {
			if !errors.Is(err, item.ErrCorrupt) || i != nil {
				t.Fatalf("%v, %v", i, err)
			}
			return
		}
		again, err := decode(encode(i))
		if err != nil || !item.Equal(item.Map(i), item.Map(again)) {
			t.Fatalf("%v becomes %v, %v", i, again, err)
		}
	})
}

func TestNestingBeyondTheLimitIsCorrupt(t *testing.T) {
	body := []byte{1, 1, 'a'}
	for range item.MaxDepth {
		body = append(body, tagList, 1)
	}
	if _, err := decode(sealed(append(body, tagTrue))); !errors.Is(err, item.ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}
