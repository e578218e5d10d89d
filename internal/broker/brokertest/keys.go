package brokertest

import (
	"context"
	"errors"
	"sync"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/secret"
)

// KeyService is a key management service that can be out of order.
type KeyService struct {
	secret.KeyWrapper

	mu    sync.Mutex
	down  bool // guarded by mu
	calls int  // unwraps; guarded by mu
}

var errKeyService = errors.New("the key service does not answer")

// Unwrap implements secret.KeyWrapper.
func (k *KeyService) Unwrap(ctx context.Context, p secret.Purpose, wrapped []byte) ([]byte, error) {
	k.mu.Lock()
	k.calls++
	down := k.down
	k.mu.Unlock()
	if down {
		return nil, errKeyService
	}
	return k.KeyWrapper.Unwrap(ctx, p, wrapped)
}

// SetDown puts it out of order, and back.
func (k *KeyService) SetDown(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

// Unwraps is how many times it was asked to unwrap.
func (k *KeyService) Unwraps() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls
}

// StartUnder starts a process, cold, with a key service of its own.
func (w *World) StartUnder(down bool) (*Process, *KeyService) {
	w.T.Helper()
	base, err := keyfile.Open(w.keyFile, "evergrant")
	w.Must(err)
	k := &KeyService{KeyWrapper: base, down: down}
	return w.Start(func(c *broker.Config) { c.Keys = secret.NewKeyring("evergrant", k, c.Store) }), k
}

// SetSecret changes the client secret that processes read.
func (w *World) SetSecret(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secret = s
}

// SecretsFrom are client secrets from a store that can be out of order.
func (w *World) SecretsFrom(down *bool) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Secrets = config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			if *down {
				return secret.Text{}, errors.New("too many requests")
			}
			return secret.New(ClientSecret), nil
		}, w.Now)
	}
}
