package broker

import (
	"context"
	"testing"

	"github.com/evergrant/evergrant/internal/secret"
)

// oneKey is both halves of a key service: a store with the first key, wrapped by nobody.
type oneKey struct{ wrapped map[int64][]byte }

func (oneKey) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return plain, nil
}

func (oneKey) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return wrapped, nil
}

func (k oneKey) PrimaryKey(context.Context, secret.Purpose) (int64, []byte, error) {
	return int64(len(k.wrapped)), k.wrapped[1], nil
}

func (k oneKey) DataKey(_ context.Context, _ secret.Purpose, n int64) ([]byte, error) {
	return k.wrapped[n], nil
}

func (k oneKey) AddPrimaryKey(_ context.Context, _ secret.Purpose, _, n int64, wrapped []byte) (bool, error) {
	k.wrapped[n] = wrapped
	return true, nil
}

// FuzzCursor: of all texts only one that was sealed for this list opens, and nothing
// panics on the way.
func FuzzCursor(f *testing.F) {
	k := oneKey{map[int64][]byte{}}
	b := &Broker{Config: Config{Keys: secret.NewKeyring("d", k, k)}}
	here, there := secret.Place{Table: "cursor", ID: "a"}, secret.Place{Table: "cursor", ID: "b"}
	own, err := b.sealCursor(f.Context(), here, "conn_abc")
	if err != nil {
		f.Fatal(err)
	}
	foreign, err := b.sealCursor(f.Context(), there, "conn_abc")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{own, foreign, "", "x", "AXQB", "////", "=", "conn_abc", "\x00", own + "=", own[:len(own)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		after, err := b.openCursor(t.Context(), here, cursor)
		if err == nil && cursor != own {
			t.Errorf("%q opened to %q", cursor, after)
		}
		if cursor == own && after != "conn_abc" {
			t.Errorf("the own cursor: %q, %v", after, err)
		}
	})
}
