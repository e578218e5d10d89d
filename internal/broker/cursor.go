package broker

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"

	"github.com/evergrant/evergrant/internal/secret"
)

// A cursor is the store's own, sealed: it can be neither read nor forged, and opens
// for the list alone that it was given for.
func (b *Broker) sealCursor(ctx context.Context, at secret.Place, after string) (string, error) {
	if err := b.loadKey(ctx); err != nil {
		return "", err
	}
	sealed, err := b.Keys.Seal(secret.PurposeToken, at, secret.New(after))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (b *Broker) openCursor(ctx context.Context, at secret.Place, cursor string) (string, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", err
	}
	if err := b.loadKey(ctx); err != nil {
		return "", err
	}
	after, err := b.Keys.Open(ctx, secret.PurposeToken, at, sealed)
	return after.Reveal(), err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
