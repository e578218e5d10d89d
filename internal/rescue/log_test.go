package rescue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/rescue"
)

const size = 64 << 10

func open(t *testing.T, path string, size int64) *rescue.Log {
	t.Helper()
	l, err := rescue.Open(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func reopen(t *testing.T, l *rescue.Log, path string) *rescue.Log {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, path, size)
}

func newLog(t *testing.T) (*rescue.Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rescue.log")
	return open(t, path, size), path
}

func put(t *testing.T, l *rescue.Log, id, payload string) {
	t.Helper()
	if err := l.Put(t.Context(), id, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

// pending replays with an answer for each record and returns what was replayed.
func pending(t *testing.T, l *rescue.Log, done bool) []string {
	t.Helper()
	var got []string
	err := l.Replay(t.Context(), func(_ context.Context, id string, payload []byte) (bool, error) {
		got = append(got, id+"="+string(payload))
		return done, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustPend(t *testing.T, l *rescue.Log, want ...string) {
	t.Helper()
	if got := pending(t, l, false); !slices.Equal(got, want) {
		t.Fatalf("pending: %.200q\nwant: %.200q", got, want)
	}
	for _, w := range want {
		if id, _, _ := strings.Cut(w, "="); !l.Holds(id) {
			t.Errorf("%s is not held", id)
		}
	}
}

func TestRecordsPendInOrderUntilTheyAreDone(t *testing.T) {
	l, path := newLog(t)
	if l.Holds("a") {
		t.Error("an empty log holds a record")
	}
	mustPend(t, l)
	long := strings.Repeat("long ", 1000)
	put(t, l, "b", "1")
	put(t, l, "a", long)
	put(t, l, "", "")
	mustPend(t, l, "b=1", "a="+long, "=")
	l = reopen(t, l, path)
	mustPend(t, l, "b=1", "a="+long, "=")
	put(t, l, "c", "2")
	if got := pending(t, l, true); len(got) != 4 {
		t.Fatalf("replayed %d records", len(got))
	}
	mustPend(t, l)
	for _, id := range []string{"a", "b", "", "c"} {
		if l.Holds(id) {
			t.Errorf("%q is held after it was done", id)
		}
	}
	mustPend(t, reopen(t, l, path))
}

func TestThePayloadIsTheLogsOwn(t *testing.T) {
	l, _ := newLog(t)
	b := []byte("sealed")
	if err := l.Put(t.Context(), "a", b); err != nil {
		t.Fatal(err)
	}
	clear(b)
	mustPend(t, l, "a=sealed")
}

func TestARecordThatIsNotDoneStays(t *testing.T) {
	l, path := newLog(t)
	for _, r := range []string{"a=1", "b=1", "a=2", "c=1", "b=2"} {
		id, payload, _ := strings.Cut(r, "=")
		put(t, l, id, payload)
	}
	down := errors.New("the store is down")
	var seen []string
	err := l.Replay(t.Context(), func(_ context.Context, id string, payload []byte) (bool, error) {
		seen = append(seen, id+"="+string(payload))
		switch id {
		case "a":
			return false, down
		case "b":
			return false, nil
		}
		return true, nil
	})
	if !errors.Is(err, down) {
		t.Errorf("Replay: %v", err)
	}
	// The second record of an id waits for the first.
	if want := []string{"a=1", "b=1", "c=1"}; !slices.Equal(seen, want) {
		t.Errorf("replayed %q", seen)
	}
	l = reopen(t, l, path)
	if got := pending(t, l, true); !slices.Equal(got, []string{"a=1", "b=1", "a=2", "b=2"}) {
		t.Errorf("pending %q", got)
	}
}

func TestReplayEndsWithItsContext(t *testing.T) {
	l, _ := newLog(t)
	put(t, l, "a", "1")
	put(t, l, "b", "1")
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := l.Replay(ctx, func(context.Context, string, []byte) (bool, error) {
		calls++
		cancel()
		return true, nil
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if l.Holds("a") || !l.Holds("b") {
		t.Error("what was done, or what was not, is lost")
	}
}

func TestAPutDoesNotEndWithItsContext(t *testing.T) {
	l, _ := newLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Put(ctx, "a", []byte("1")); err != nil {
		t.Error(err)
	}
	mustPend(t, l, "a=1")
}

func TestPutAndHoldsWorkDuringAReplay(t *testing.T) {
	l, _ := newLog(t)
	put(t, l, "a", "1")
	err := l.Replay(t.Context(), func(context.Context, string, []byte) (bool, error) {
		put(t, l, "b", "1")
		if !l.Holds("a") || !l.Holds("b") {
			t.Error("a record is not held")
		}
		// A second Replay meanwhile does nothing.
		mustPend(t, l)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustPend(t, l, "b=1")
}

func TestRoomIsTakenAgain(t *testing.T) {
	l, path := newLog(t)
	payload := strings.Repeat("x", 1100)
	for round := range 3 {
		n := 0
		for ; ; n++ {
			err := l.Put(t.Context(), fmt.Sprint(n), []byte(payload))
			if errors.Is(err, rescue.ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n != size/1536 { // three sectors each
			t.Fatalf("round %d: %d records", round, n)
		}
		// Free every second one, and fill the gaps with smaller ones.
		i := 0
		err := l.Replay(t.Context(), func(context.Context, string, []byte) (bool, error) { i++; return i%2 == 0, nil })
		if err != nil {
			t.Fatal(err)
		}
		for range n / 2 * 3 {
			put(t, l, "small", "y")
		}
		l = reopen(t, l, path)
		if got := pending(t, l, true); len(got) != n-n/2+n/2*3 {
			t.Fatalf("round %d: %d records", round, len(got))
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has %d bytes and mode %v: %v", info.Size(), info.Mode(), err)
	}
	if data, err := os.ReadFile(path); err != nil || len(bytes.Trim(data, "\x00")) != 0 {
		t.Errorf("an empty log is not all zero: %v", err)
	}
}

func TestARecordLargerThanTheLogIsRefused(t *testing.T) {
	l, _ := newLog(t)
	for _, n := range []int{size, size - 10, 2 * size} {
		if err := l.Put(t.Context(), "a", make([]byte, n)); !errors.Is(err, rescue.ErrFull) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := l.Put(t.Context(), strings.Repeat("i", 1<<16), nil); !errors.Is(err, rescue.ErrFull) {
		t.Errorf("a long id: %v", err)
	}
	mustPend(t, l)
}

func TestALogThatCannotBePreparedDoesNotOpen(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"a folder": dir, "no folder": filepath.Join(dir, "no", "log")} {
		if _, err := rescue.Open(path, size); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	for _, n := range []int64{0, -1, 511} {
		if _, err := rescue.Open(filepath.Join(dir, "log"), n); err == nil {
			t.Errorf("a log of %d bytes was opened", n)
		}
	}
}

func TestAClosedLogTakesNothing(t *testing.T) {
	l, _ := newLog(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Put(t.Context(), "a", []byte("1")); err == nil || l.Holds("a") {
		t.Errorf("Put: %v", err)
	}
}

func TestALogGrowsAndNeverShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rescue.log")
	l := open(t, path, 1024)
	put(t, l, "a", "1")
	for _, c := range []struct{ asked, want int64 }{{4000, 4096}, {512, 4096}} {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, path, c.asked)
		mustPend(t, l, "a=1")
		if info, err := os.Stat(path); err != nil || info.Size() != c.want {
			t.Errorf("asked for %d bytes, got %d: %v", c.asked, info.Size(), err)
		}
	}
}

func TestAWideModeIsNarrowed(t *testing.T) {
	l, path := newLog(t)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	reopen(t, l, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
}

func TestManyAtOnce(t *testing.T) {
	l, path := newLog(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 4 {
				put(t, l, fmt.Sprint(i), fmt.Sprint(j))
			}
		})
		all.Go(func() {
			_ = l.Holds(fmt.Sprint(i))
			_ = l.Replay(t.Context(), func(context.Context, string, []byte) (bool, error) { return false, nil })
		})
	}
	all.Wait()
	next := map[string]int{}
	for _, r := range pending(t, reopen(t, l, path), true) {
		id, payload, _ := strings.Cut(r, "=")
		if payload != fmt.Sprint(next[id]) {
			t.Errorf("%s follows %d records of %s", payload, next[id], id)
		}
		next[id]++
	}
	if len(next) != 8 || next["3"] != 4 {
		t.Errorf("replayed %v", next)
	}
}

// TestAgainstAModel puts, replays and reopens at random, and compares with a plain list.
func TestAgainstAModel(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 1))
		l, path := newLog(t)
		var model []string
		for i := range 100 {
			switch random.IntN(10) {
			case 0:
				l = reopen(t, l, path)
			case 1, 2, 3:
				var kept []string
				err := l.Replay(t.Context(), func(_ context.Context, id string, payload []byte) (bool, error) {
					if random.IntN(2) == 0 {
						return true, nil
					}
					kept = append(kept, id+"="+string(payload))
					return false, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				model = kept
			default:
				id, payload := fmt.Sprint(i), strings.Repeat("p", random.IntN(3000))
				err := l.Put(t.Context(), id, []byte(payload))
				if err != nil && !errors.Is(err, rescue.ErrFull) {
					t.Fatal(err)
				}
				if err == nil {
					model = append(model, id+"="+payload)
				}
			}
			mustPend(t, l, model...)
		}
	}
}
