package secret_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// memoryStore is a secret.KeyStore whose rows a test may read and change.
type memoryStore struct {
	mu      sync.Mutex
	primary map[secret.Purpose]int64
	keys    map[string][]byte
	reads   int
	down    error
}

func newStore() *memoryStore {
	return &memoryStore{primary: map[secret.Purpose]int64{}, keys: map[string][]byte{}}
}

func row(p secret.Purpose, n int64) string { return fmt.Sprintf("%s#%d", p, n) }

func (s *memoryStore) PrimaryKey(_ context.Context, p secret.Purpose) (int64, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.primary[p], s.keys[row(p, s.primary[p])], s.down
}

func (s *memoryStore) DataKey(_ context.Context, p secret.Purpose, n int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.keys[row(p, n)], s.down
}

func (s *memoryStore) AddPrimaryKey(_ context.Context, p secret.Purpose, prev, n int64, wrapped []byte) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return false, s.down
	}
	if s.primary[p] != prev {
		return false, nil
	}
	s.primary[p], s.keys[row(p, n)] = n, wrapped
	return true, nil
}

// countingWrapper is a real wrapper that counts and can be down.
type countingWrapper struct {
	secret.KeyWrapper
	mu           sync.Mutex
	wraps, opens int
	down         error
	hold         chan struct{} // an Unwrap waits until it is closed, or for its ctx
}

func newWrapper(t testing.TB, deployment string) *countingWrapper {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	w, err := keyfile.FromText(secret.New(hex.EncodeToString(key)), deployment)
	if err != nil {
		t.Fatal(err)
	}
	return &countingWrapper{KeyWrapper: w}
}

func (w *countingWrapper) Wrap(ctx context.Context, p secret.Purpose, plain []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wraps++
	if w.down != nil {
		return nil, w.down
	}
	return w.KeyWrapper.Wrap(ctx, p, plain)
}

func (w *countingWrapper) Unwrap(ctx context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	if w.hold != nil {
		select {
		case <-w.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	if w.down != nil {
		return nil, w.down
	}
	return w.KeyWrapper.Unwrap(ctx, p, wrapped)
}

func load(t testing.TB, k *secret.Keyring, purposes ...secret.Purpose) *secret.Keyring {
	t.Helper()
	for _, p := range purposes {
		if err := k.Load(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func seal(t testing.TB, k *secret.Keyring, text string) []byte {
	t.Helper()
	b, err := k.Seal(secret.PurposeToken, home, secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t testing.TB, k *secret.Keyring, sealed []byte, want string) {
	t.Helper()
	got, err := k.Open(t.Context(), secret.PurposeToken, home, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if got.Reveal() != want {
		t.Fatalf("opened to %q instead of %q", got.Reveal(), want)
	}
}

func TestAColdStartReadsAndUnwrapsOnceAPurpose(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	load(t, secret.NewKeyring("d", w, store), secret.PurposeFlow, secret.PurposeToken)
	if w.wraps != 2 {
		t.Fatalf("two first keys took %d wraps", w.wraps)
	}
	w.opens, store.reads = 0, 0
	k := load(t, secret.NewKeyring("d", w, store), secret.PurposeFlow, secret.PurposeToken)
	for range 100 {
		mustOpen(t, k, seal(t, k, "x"), "x")
	}
	load(t, k, secret.PurposeFlow, secret.PurposeToken)
	if w.wraps != 2 || w.opens != 2 || store.reads != 4 {
		t.Errorf("%d wraps, %d unwraps, %d reads; want 2, 2 and 4 (two of them by the second Load)", w.wraps, w.opens, store.reads)
	}
}

func TestOnePurposeIsLoadedWithoutTheOther(t *testing.T) {
	store := newStore()
	k := load(t, secret.NewKeyring("d", newWrapper(t, "d"), store), secret.PurposeFlow)
	if !k.Ready(secret.PurposeFlow) || k.Ready(secret.PurposeToken) || store.primary[secret.PurposeToken] != 0 {
		t.Error("the token key was touched")
	}
	if _, err := k.Seal(secret.PurposeToken, home, secret.New("x")); !errors.Is(err, secret.ErrNotLoaded) {
		t.Errorf("sealing without a key: %v", err)
	}
}

func TestAnUnknownPurposeHasNoKey(t *testing.T) {
	k := secret.NewKeyring("d", newWrapper(t, "d"), newStore())
	if err := k.Load(t.Context(), "other"); err == nil {
		t.Error("loaded")
	}
	if _, err := k.Seal("other", home, secret.New("x")); !errors.Is(err, secret.ErrNotLoaded) {
		t.Errorf("sealed: %v", err)
	}
}

func TestManyProcessesMakeOneFirstKey(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	rings := make([]*secret.Keyring, 16)
	var all sync.WaitGroup
	for i := range rings {
		rings[i] = secret.NewKeyring("d", w, store)
		all.Go(func() {
			if err := rings[i].Load(t.Context(), secret.PurposeToken); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(store.keys) != 1 || store.primary[secret.PurposeToken] != 1 {
		t.Fatalf("%d keys, primary %d", len(store.keys), store.primary[secret.PurposeToken])
	}
	sealed := seal(t, rings[0], "x")
	for _, k := range rings {
		mustOpen(t, k, sealed, "x")
	}
}

func TestRotationLeavesOldKeyringsWorking(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	old := load(t, secret.NewKeyring("d", w, store), secret.PurposeToken)
	first := seal(t, old, "first")
	other := secret.NewKeyring("d", w, store)
	n, err := other.Rotate(t.Context(), secret.PurposeToken)
	if err != nil || n != 2 || other.Primary(secret.PurposeToken) != 2 {
		t.Fatalf("rotated to %d: %v", n, err)
	}
	second := seal(t, other, "second")
	for sealed, want := range map[string]int64{string(first): 1, string(second): 2} {
		if p, got, err := old.KeyOf([]byte(sealed)); p != secret.PurposeToken || got != want || err != nil {
			t.Errorf("sealed under %s %d, want %d: %v", p, got, want, err)
		}
	}
	mustOpen(t, old, second, "second") // a newer key is fetched
	mustOpen(t, other, first, "first") // and an older one
	if old.Primary(secret.PurposeToken) != 1 {
		t.Error("opening a newer value changed the primary key")
	}
	third := seal(t, old, "third")
	mustOpen(t, other, third, "third")
	opens := w.opens
	load(t, old, secret.PurposeToken)
	if old.Primary(secret.PurposeToken) != 2 || w.opens != opens {
		t.Errorf("a new Load took key %d after %d unwraps", old.Primary(secret.PurposeToken), w.opens-opens)
	}
}

func TestTwoRotationsAtOnceAgree(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	load(t, secret.NewKeyring("d", w, store), secret.PurposeToken)
	a, b := secret.NewKeyring("d", w, store), secret.NewKeyring("d", w, store)
	var all sync.WaitGroup
	for _, k := range []*secret.Keyring{a, b} {
		all.Go(func() {
			if n, err := k.Rotate(t.Context(), secret.PurposeToken); err != nil || n < 2 {
				t.Errorf("rotated to %d: %v", n, err)
			}
		})
	}
	all.Wait()
	mustOpen(t, a, seal(t, b, "x"), "x")
	mustOpen(t, b, seal(t, a, "y"), "y")
}

// TestANumberGivenAnew is a store restored to a time before a rotation, followed by
// another rotation, under a process that saw the first.
func TestANumberGivenAnew(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	k := load(t, secret.NewKeyring("d", w, store), secret.PurposeToken)
	if _, err := k.Rotate(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	store.primary[secret.PurposeToken] = 1
	delete(store.keys, row(secret.PurposeToken, 2))
	other := secret.NewKeyring("d", w, store)
	if _, err := other.Rotate(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	load(t, k, secret.PurposeToken)
	mustOpen(t, other, seal(t, k, "x"), "x")
}

func TestAKeyIsFetchedOnceByManyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := newStore(), newWrapper(t, "d")
		old := load(t, secret.NewKeyring("d", w, store), secret.PurposeToken)
		sealed := seal(t, old, "x")
		k := secret.NewKeyring("d", w, store)
		w.opens, w.hold = 0, make(chan struct{})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { mustOpen(t, k, sealed, "x") })
		}
		synctest.Wait()
		close(w.hold)
		all.Wait()
		if w.opens != 1 {
			t.Errorf("%d unwraps", w.opens)
		}
	})
}

func TestWhoWaitsForAKeyEndsWithItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, w := newStore(), newWrapper(t, "d")
		sealed := seal(t, load(t, secret.NewKeyring("d", w, store), secret.PurposeToken), "x")
		k := secret.NewKeyring("d", w, store)
		w.hold = make(chan struct{})
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		ends := make(chan error, 3)
		for _, ctx := range []context.Context{first, second, t.Context()} {
			go func() {
				_, err := k.Open(ctx, secret.PurposeToken, home, sealed)
				ends <- err
			}()
			synctest.Wait()
		}
		cancelSecond()
		if err := <-ends; !errors.Is(err, context.Canceled) || !errors.Is(err, secret.ErrKeyUnavailable) {
			t.Errorf("who waited: %v", err)
		}
		cancelFirst()
		if err := <-ends; !errors.Is(err, context.Canceled) || !errors.Is(err, secret.ErrKeyUnavailable) {
			t.Errorf("who fetched: %v", err)
		}
		close(w.hold)
		if err := <-ends; err != nil {
			t.Errorf("the third inherited an error: %v", err)
		}
	})
}

func TestAWarmKeyringNeedsNeitherStoreNorWrapper(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	k := load(t, secret.NewKeyring("d", w, store), secret.PurposeToken)
	older := seal(t, k, "older")
	w.down, store.down = errors.New("throttled"), errors.New("unreachable")
	mustOpen(t, k, older, "older")
	mustOpen(t, k, seal(t, k, "x"), "x")
	if err := k.Load(t.Context(), secret.PurposeToken); !errors.Is(err, secret.ErrKeyUnavailable) || !errors.Is(err, store.down) {
		t.Errorf("Load: %v", err)
	}
	if !k.Ready(secret.PurposeToken) {
		t.Error("a Load in vain took the key away")
	}

	cold := secret.NewKeyring("d", w, store)
	for _, down := range []error{store.down, nil} {
		store.down = down
		if err := cold.Load(t.Context(), secret.PurposeToken); !errors.Is(err, secret.ErrKeyUnavailable) {
			t.Errorf("cold Load: %v", err)
		}
		_, err := cold.Open(t.Context(), secret.PurposeToken, home, older)
		if !errors.Is(err, secret.ErrKeyUnavailable) || errors.Is(err, secret.ErrSealed) {
			t.Errorf("cold Open: %v", err)
		}
		if _, err := cold.Rotate(t.Context(), secret.PurposeToken); !errors.Is(err, secret.ErrKeyUnavailable) {
			t.Errorf("cold Rotate: %v", err)
		}
	}
	w.down = nil
	mustOpen(t, cold, older, "older") // nothing of the failure is remembered
}

// oneWay wraps but does not unwrap, as where a role lacks the grant to decrypt.
type oneWay struct{ *countingWrapper }

func (oneWay) Unwrap(context.Context, secret.Purpose, []byte) ([]byte, error) {
	return nil, errors.New("denied")
}

func TestAKeyThatDoesNotUnwrapIsNeverUsed(t *testing.T) {
	store := newStore()
	k := secret.NewKeyring("d", oneWay{newWrapper(t, "d")}, store)
	if err := k.Load(t.Context(), secret.PurposeToken); !errors.Is(err, secret.ErrKeyUnavailable) {
		t.Errorf("Load: %v", err)
	}
	if len(store.keys) != 0 || k.Ready(secret.PurposeToken) {
		t.Error("the key was stored or used")
	}
}

func TestAKeyOfAnotherPurposeOrDeploymentDoesNotUnwrap(t *testing.T) {
	store, w := newStore(), newWrapper(t, "d")
	load(t, secret.NewKeyring("d", w, store), secret.PurposeFlow)
	store.primary[secret.PurposeToken] = 1
	store.keys[row(secret.PurposeToken, 1)] = store.keys[row(secret.PurposeFlow, 1)]
	if err := secret.NewKeyring("d", w, store).Load(t.Context(), secret.PurposeToken); !errors.Is(err, secret.ErrKeyUnavailable) {
		t.Errorf("a flow key loaded as a token key: %v", err)
	}
	foreign := newWrapper(t, "e")
	if err := secret.NewKeyring("e", foreign, store).Load(t.Context(), secret.PurposeFlow); !errors.Is(err, secret.ErrKeyUnavailable) {
		t.Errorf("another deployment's key loaded: %v", err)
	}
}

func TestAKeyringDoesNotPrintItsKeys(t *testing.T) {
	var plain []byte
	w := noting{newWrapper(t, "d"), func(key []byte) { plain = bytes.Clone(key) }}
	k := load(t, secret.NewKeyring("d", w, newStore()), secret.PurposeToken)
	holder := struct{ k *secret.Keyring }{k}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		out := fmt.Sprintf(verb+verb, k, holder)
		for _, f := range []string{string(plain), hex.EncodeToString(plain), strings.Trim(fmt.Sprint(plain), "[]"), fmt.Sprintf("%q", plain)} {
			if strings.Contains(out, f) {
				t.Errorf("%s prints the data key", verb)
			}
		}
	}
}

// noting tells of each data key that it is given.
type noting struct {
	*countingWrapper
	note func(key []byte)
}

func (w noting) Wrap(ctx context.Context, p secret.Purpose, plain []byte) ([]byte, error) {
	w.note(plain)
	return w.countingWrapper.Wrap(ctx, p, plain)
}
