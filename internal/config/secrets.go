package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
)

// SecretAge is how long a resolved client secret is used before it is read again: a
// rotated secret is taken up within it even where the provider still takes the old.
const SecretAge = 15 * time.Minute

// ErrSecretKind is returned by a Resolver for a kind of reference that it does not
// serve.
var ErrSecretKind = errors.New("this kind of secret reference cannot be read here")

// Resolver reads the secret that a reference names. It is given neither literals nor
// the zero SecretRef. Its errors name the reference and never hold the secret. What
// it returns is used as it stands: ${…} inside a secret means nothing.
type Resolver func(ctx context.Context, ref SecretRef) (secret.Text, error)

// FileResolver reads ${env:…} by getenv and ${file:…} by readFile, which are
// os.Getenv and os.ReadFile; all other kinds are ErrSecretKind. One newline at the
// end of a file is not part of the secret.
func FileResolver(getenv func(string) string, readFile func(string) ([]byte, error)) Resolver {
	return func(_ context.Context, ref SecretRef) (secret.Text, error) {
		switch ref.Kind() {
		case SecretEnv:
			return secret.New(getenv(ref.Name())), nil
		case SecretFile:
			data, err := readFile(ref.Name())
			if err != nil {
				return secret.Text{}, err
			}
			text := strings.TrimSuffix(string(data), "\n")
			return secret.New(strings.TrimSuffix(text, "\r")), nil
		default:
			return secret.Text{}, ErrSecretKind
		}
	}
}

// SecretError says which secret could not be read. The reference is no secret,
// so whoever operates the integration may be told it.
type SecretError struct {
	Ref SecretRef
	Err error
}

// Error implements error.
func (e *SecretError) Error() string {
	return fmt.Sprintf("read secret %s: %v", e.Ref, e.Err)
}

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// Secrets hands out client secrets, each read at most once in SecretAge and by one
// caller at a time. It may be used concurrently.
type Secrets struct {
	resolve Resolver
	now     func() time.Time

	mu     sync.Mutex // guards cached, not what its slots hold
	cached map[SecretRef]*secretSlot
}

// secretSlot holds one secret. Whoever has put a value into turn owns the rest: a
// channel instead of a mutex, so that waiting ends with the context.
type secretSlot struct {
	turn   chan struct{}
	value  secret.Text
	readAt time.Time
}

// NewSecrets returns an empty cache over resolve. now is the clock; nil: time.Now.
func NewSecrets(resolve Resolver, now func() time.Time) *Secrets {
	if now == nil {
		now = time.Now
	}
	return &Secrets{resolve: resolve, now: now, cached: map[SecretRef]*secretSlot{}}
}

// Get returns c's secret, or the zero Text for a public client. A secret that turns
// out empty is an error: sent, it would look like a refused client.
func (s *Secrets) Get(ctx context.Context, c *Client) (secret.Text, error) {
	return s.Read(ctx, c.Secret)
}

// Read is Get of a secret that is no client's.
func (s *Secrets) Read(ctx context.Context, ref SecretRef) (secret.Text, error) {
	switch ref.Kind() {
	case SecretNone:
		return secret.Text{}, nil
	case SecretLiteral:
		return ref.literal, nil
	}
	slot := s.slot(ref)
	select {
	case slot.turn <- struct{}{}:
		defer func() { <-slot.turn }()
	case <-ctx.Done():
		return secret.Text{}, &SecretError{ref, ctx.Err()}
	}
	if !slot.value.IsZero() && s.now().Sub(slot.readAt) < SecretAge {
		return slot.value, nil
	}
	value, err := s.resolve(ctx, ref)
	if err != nil {
		return secret.Text{}, &SecretError{ref, err}
	}
	if value.IsZero() {
		return secret.Text{}, &SecretError{ref, errors.New("it is empty or not set")}
	}
	slot.value, slot.readAt = value, s.now()
	return value, nil
}

func (s *Secrets) slot(ref SecretRef) *secretSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.cached[ref]
	if slot == nil {
		slot = &secretSlot{turn: make(chan struct{}, 1)}
		s.cached[ref] = slot
	}
	return slot
}

// Forget drops c's secret, so that the next Get reads it anew. Called when the
// provider refuses the client: the secret may have been rotated a minute ago. A read
// under way is not waited for, and its result not kept.
func (s *Secrets) Forget(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cached, c.Secret)
}

// Generation returns the config_gen of c, by which a circuit knows that the operator
// has changed something. It reads the secret.
func (s *Secrets) Generation(ctx context.Context, c *Client) (string, error) {
	value, err := s.Get(ctx, c)
	if err != nil {
		return "", err
	}
	return Generation(c.ClientID, value), nil
}

// Generation is 8 hex characters of a hash over client id and secret. It is stored
// and shown, so it is cut to 32 bits: of all guesses at a secret, one in four billion
// agrees by chance, and agreement confirms none of a good secret.
func Generation(clientID string, clientSecret secret.Text) string {
	sum := sha256.Sum256([]byte("evergrant config_gen\x00" + clientID + "\x00" + clientSecret.Reveal()))
	return hex.EncodeToString(sum[:4])
}
