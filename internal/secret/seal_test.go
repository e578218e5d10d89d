package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/secret"
)

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

// home is the place of most values in these tests.
var home = secret.Place{Table: "connections", ID: "conn_1", Gen: 7, Field: "rt"}

// plainWrapper wraps nothing, so that what keeps deployments and purposes apart
// besides the wrapper can be seen.
type plainWrapper struct{}

func (plainWrapper) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return bytes.Clone(plain), nil
}

func (plainWrapper) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return bytes.Clone(wrapped), nil
}

func TestASealedValueOpensAtItsPlace(t *testing.T) {
	k := load(t, secret.NewKeyring("d", plainWrapper{}, newStore()), secret.PurposeFlow, secret.PurposeToken)
	texts := []string{"", "x", canary, strings.Repeat("long ", 20_000), "\x00\xff"}
	for _, p := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
		for _, text := range texts {
			for _, gen := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
				at := secret.Place{Table: "t", ID: "i", Gen: gen, Field: "f"}
				sealed, err := k.Seal(p, at, secret.New(text))
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed) != len(text)+47 {
					t.Errorf("%d bytes sealed are %d", len(text), len(sealed))
				}
				if len(text) > 1 && bytes.Contains(sealed, []byte(text)) {
					t.Error("the plain text shows")
				}
				got, err := k.Open(t.Context(), p, at, sealed)
				if err != nil || got.Reveal() != text {
					t.Errorf("purpose %s, gen %d: opened %d bytes as %d: %v", p, gen, len(text), got.Len(), err)
				}
			}
		}
	}
}

var (
	_ = mutant("T49", "internal/secret/seal.go", `k.deployment, at.Table, at.ID, at.Field}`, `k.deployment, at.Table, at.Field}`)
	_ = mutant("T49", "internal/secret/seal.go", `at.ID, at.Field}`, `at.ID}`)
	_ = mutant("T49", "internal/secret/seal.go", `return binary.BigEndian.AppendUint64(b, uint64(at.Gen))`, `return b`)
)

// TestAMovedValueDoesNotOpen seals a value at each of many places that differ in one
// component, or only in where one component ends and the next begins, and opens each
// at every other place.
func TestThreat_T49_a_moved_value_does_not_open(t *testing.T) {
	type spot struct {
		deployment string
		purpose    secret.Purpose
		at         secret.Place
	}
	var spots []spot
	for _, d := range []string{"d", "dc", ""} {
		for _, p := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
			for _, at := range []secret.Place{
				home,
				{Table: "authorizations", ID: home.ID, Gen: home.Gen, Field: home.Field},
				{Table: home.Table, ID: "conn_2", Gen: home.Gen, Field: home.Field},
				{Table: home.Table, ID: home.ID, Gen: 6, Field: home.Field},
				{Table: home.Table, ID: home.ID, Gen: 8, Field: home.Field},
				{Table: home.Table, ID: home.ID, Gen: home.Gen, Field: "at"},
				{Table: "onnections", ID: home.ID, Gen: home.Gen, Field: home.Field},
				{Table: "connection", ID: "sconn_1", Gen: home.Gen, Field: home.Field},
				{Table: home.Table, ID: "conn_", Gen: home.Gen, Field: "1rt"},
				{Table: "", ID: home.Table + home.ID, Gen: home.Gen, Field: home.Field},
				{Table: home.Table, ID: home.ID + home.Field, Gen: home.Gen, Field: ""},
				{},
			} {
				spots = append(spots, spot{d, p, at})
			}
		}
	}
	// One store and one wrapper that binds nothing: all deployments share their keys,
	// and so do the purposes.
	store := newStore()
	rings := map[string]*secret.Keyring{}
	for _, s := range spots {
		if rings[s.deployment] == nil {
			rings[s.deployment] = load(t, secret.NewKeyring(s.deployment, plainWrapper{}, store), secret.PurposeFlow)
			store.primary[secret.PurposeToken] = 1
			store.keys[row(secret.PurposeToken, 1)] = store.keys[row(secret.PurposeFlow, 1)]
			load(t, rings[s.deployment], secret.PurposeToken)
		}
	}
	for i, from := range spots {
		sealed, err := rings[from.deployment].Seal(from.purpose, from.at, secret.New(canary))
		if err != nil {
			t.Fatal(err)
		}
		for j, to := range spots {
			got, err := rings[to.deployment].Open(t.Context(), to.purpose, to.at, sealed)
			switch {
			case i == j && (err != nil || got.Reveal() != canary):
				t.Errorf("%+v: %v", from, err)
			case i != j && !errors.Is(err, secret.ErrSealed):
				t.Errorf("sealed at %+v, opens at %+v: %v", from, to, err)
			case i != j && !got.IsZero():
				t.Errorf("an error came with a value")
			}
			if err != nil {
				mustHide(t, "error", err.Error())
			}
		}
	}
}

func TestAPurposeByteAloneDoesNotMoveAValue(t *testing.T) {
	store := newStore()
	k := load(t, secret.NewKeyring("d", plainWrapper{}, store), secret.PurposeFlow)
	store.primary[secret.PurposeToken] = 1
	store.keys[row(secret.PurposeToken, 1)] = store.keys[row(secret.PurposeFlow, 1)]
	sealed, err := k.Seal(secret.PurposeFlow, home, secret.New("x"))
	if err != nil {
		t.Fatal(err)
	}
	sealed[1] = 't'
	if p, _, err := k.KeyOf(sealed); p != secret.PurposeToken || err != nil {
		t.Fatalf("the forged header reads %s: %v", p, err)
	}
	if _, err := k.Open(t.Context(), secret.PurposeToken, home, sealed); !errors.Is(err, secret.ErrSealed) {
		t.Errorf("opened: %v", err)
	}
}

func TestDamagedBytesDoNotOpen(t *testing.T) {
	store := newStore()
	k := load(t, secret.NewKeyring("d", newWrapper(t, "d"), store), secret.PurposeToken)
	sealed := seal(t, k, canary)
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			mustNotOpen(t, k, b, fmt.Sprintf("bit %d of byte %d flipped", bit, i))
		}
		mustNotOpen(t, k, sealed[:i], fmt.Sprintf("cut to %d bytes", i))
		mustNotOpen(t, k, sealed[i+1:], fmt.Sprintf("first %d bytes gone", i+1))
	}
	mustNotOpen(t, k, append(bytes.Clone(sealed), 0), "one byte more")
	mustNotOpen(t, k, nil, "nothing")
	// The same key number in two bytes: formats with a choice invite confusion.
	longer := append([]byte{sealed[0], sealed[1], sealed[2] | 0x80, 0}, sealed[3:]...)
	mustNotOpen(t, k, longer, "a longer key number")
	mustOpen(t, k, sealed, canary)
}

func mustNotOpen(t *testing.T, k *secret.Keyring, b []byte, how string) {
	t.Helper()
	got, err := k.Open(t.Context(), secret.PurposeToken, home, b)
	if !errors.Is(err, secret.ErrSealed) || !got.IsZero() {
		t.Errorf("%s: %v", how, err)
	}
}

func TestAValueOfAKeyThatIsNotThereIsSealedForGood(t *testing.T) {
	a := load(t, secret.NewKeyring("d", plainWrapper{}, newStore()), secret.PurposeToken)
	if _, err := a.Rotate(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	store := newStore()
	b := load(t, secret.NewKeyring("d", plainWrapper{}, store), secret.PurposeToken)
	mustNotOpen(t, b, seal(t, a, "x"), "no such key")
	if _, err := b.Rotate(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	mustNotOpen(t, b, seal(t, a, "x"), "another key of that number")
}

var _ = mutant("T66", "internal/secret/seal.go", `rand.Read(random)`, `rand.Read(random[:saltSize])`)

func TestThreat_T66_no_salt_and_no_nonce_repeats(t *testing.T) {
	k := load(t, secret.NewKeyring("d", plainWrapper{}, newStore()), secret.PurposeToken)
	const values = 20_000
	salts, nonces := map[string]bool{}, map[string]bool{}
	for range values {
		sealed := seal(t, k, "the same")
		salts[string(sealed[3:19])] = true
		nonces[string(sealed[19:31])] = true
	}
	if len(salts) != values || len(nonces) != values {
		t.Errorf("%d salts and %d nonces of %d values", len(salts), len(nonces), values)
	}
}

func FuzzOpen(f *testing.F) {
	store := newStore()
	k := load(f, secret.NewKeyring("d", plainWrapper{}, store), secret.PurposeFlow, secret.PurposeToken)
	for _, text := range []string{"", "x", canary} {
		f.Add(seal(f, k, text))
	}
	f.Add([]byte{})
	f.Add([]byte{1, 't', 1})
	f.Add(append([]byte{1, 't'}, bytes.Repeat([]byte{0xff}, 60)...))
	// A second key, unknown to all seeds: whatever opens under it was forged.
	if _, err := k.Rotate(f.Context(), secret.PurposeToken); err != nil {
		f.Fatal(err)
	}
	honest := load(f, secret.NewKeyring("another", plainWrapper{}, store), secret.PurposeToken)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := k.KeyOf(b)
		if err != nil && !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("KeyOf: %v", err)
		}
		if err == nil && (n < 1 || p != secret.PurposeFlow && p != secret.PurposeToken) {
			t.Fatalf("KeyOf: %s %d", p, n)
		}
		if _, err := honest.Open(t.Context(), secret.PurposeToken, home, b); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("opened in another deployment: %v", err)
		}
		got, err := k.Open(t.Context(), secret.PurposeToken, home, b)
		if err != nil && !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("Open: %v", err)
		}
		if err == nil && len(b) != got.Len()+47 {
			t.Fatalf("%d bytes opened to %d", len(b), got.Len())
		}
	})
}
