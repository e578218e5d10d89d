package secret

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
)

// Purpose names a family of data keys. A program that was granted one family only
// cannot unwrap a key of the other.
type Purpose string

// The purposes.
const (
	PurposeFlow  Purpose = "flow"  // PKCE verifiers and codes that await confirmation
	PurposeToken Purpose = "token" // access and refresh tokens, also those that wait in a session
)

// Errors of the keyring. They are matched by errors.Is.
var (
	// ErrNotLoaded says that Load has not succeeded yet for that purpose.
	ErrNotLoaded = errors.New("data key is not loaded")
	// ErrSealed says that a sealed value does not open here, now or later: it was
	// moved, rolled back, damaged, or its data key is not of this deployment.
	ErrSealed = errors.New("sealed value does not open")
	// ErrKeyUnavailable says that the data key could not be had just now. The sealed
	// value may be sound, so nothing may be concluded from this about what it holds.
	ErrKeyUnavailable = errors.New("data key is unavailable")
)

// KeyWrapper encrypts data keys under a wrapping key that it keeps to itself.
//
// What it returns is bound to the deployment and the purpose: Unwrap fails for
// another purpose and in another deployment. Its errors hold no key. All methods may
// be called concurrently.
type KeyWrapper interface {
	Wrap(ctx context.Context, p Purpose, plain []byte) ([]byte, error)
	Unwrap(ctx context.Context, p Purpose, wrapped []byte) ([]byte, error)
}

// KeyStore keeps wrapped data keys, numbered from 1 within a purpose. One of them is
// primary: new values are sealed under it.
//
// A write is durable when its method returns without an error and visible to every
// later read from any process. An error leaves open whether it was applied. All
// methods may be called concurrently.
type KeyStore interface {
	// PrimaryKey returns the primary key, n 0 where there is none yet.
	PrimaryKey(ctx context.Context, p Purpose) (n int64, wrapped []byte, err error)
	// DataKey returns the key numbered n, nil where there is none.
	DataKey(ctx context.Context, p Purpose, n int64) (wrapped []byte, err error)
	// AddPrimaryKey stores a key under n, never over another one, and then makes it
	// primary if prev still is (0: none). It reports whether these very bytes are the
	// primary key now. A false answer leaves another key primary than prev.
	AddPrimaryKey(ctx context.Context, p Purpose, prev, n int64, wrapped []byte) (applied bool, err error)
}

// keySize is the length of a data key in bytes.
const keySize = 32

// Keyring seals and opens secrets. Its methods may be called concurrently.
//
// A data key stays in memory from its first use to the end of the process, so that a
// warm program seals and opens although the wrapper is down. It is unwrapped once a
// process, not once a value.
type Keyring struct {
	deployment string
	wrapper    KeyWrapper
	store      KeyStore

	// turn is held by the one call that talks to the store and the wrapper. It is
	// both the single flight (who waited finds the key in memory) and a brake: when
	// the wrapper is throttled, one call at a time asks it.
	turn chan struct{}

	mu      sync.RWMutex // guards what follows
	primary map[Purpose]int64
	keys    map[keyName]dataKey
}

type keyName struct {
	purpose Purpose
	n       int64
}

// dataKey is a key in memory. plain is a Text only in order not to print; wrapped
// tells whether a key read again is this one.
type dataKey struct {
	plain   Text
	wrapped string
}

// NewKeyring makes an empty keyring. The deployment is bound into all it seals.
func NewKeyring(deployment string, w KeyWrapper, s KeyStore) *Keyring {
	return &Keyring{
		deployment: deployment, wrapper: w, store: s,
		turn:    make(chan struct{}, 1),
		primary: map[Purpose]int64{},
		keys:    map[keyName]dataKey{},
	}
}

// Load brings the primary key into memory, by one read of the store and, unless it is
// in memory already, one Unwrap. Where there is no key yet it makes the first; of
// several that do so at once one wins, and all of them use its key. Calling Load
// again follows a rotation; when that fails, the key loaded before stays in use. All
// errors are ErrKeyUnavailable.
func (k *Keyring) Load(ctx context.Context, p Purpose) error {
	err := k.exclusively(ctx, p, func() error {
		n, wrapped, err := k.store.PrimaryKey(ctx, p)
		if err != nil {
			return err
		}
		if n == 0 {
			return k.create(ctx, p, 0)
		}
		return k.adopt(ctx, p, n, wrapped)
	})
	if err != nil {
		return fmt.Errorf("%w: load key of purpose %s: %w", ErrKeyUnavailable, p, err)
	}
	return nil
}

// Rotate makes a new primary key and returns its number. Older keys still open what
// they sealed, and other processes go on sealing under theirs until their next Load.
// When another rotation came first, its key is the new one. Where the key so far does not
// unwrap, nothing is changed. All errors are ErrKeyUnavailable.
func (k *Keyring) Rotate(ctx context.Context, p Purpose) (n int64, err error) {
	err = k.exclusively(ctx, p, func() error {
		prev, wrapped, err := k.store.PrimaryKey(ctx, p)
		if err != nil {
			return err
		}
		// A process with another wrapping key would shut everybody out by a primary key that
		// only it can unwrap.
		if prev != 0 {
			if err := k.adopt(ctx, p, prev, wrapped); err != nil {
				return err
			}
		}
		return k.create(ctx, p, prev)
	})
	if err != nil {
		return 0, fmt.Errorf("%w: rotate key of purpose %s: %w", ErrKeyUnavailable, p, err)
	}
	return k.Primary(p), nil
}

// Ready reports whether Seal would find its key.
func (k *Keyring) Ready(p Purpose) bool { return k.Primary(p) != 0 }

// Primary is the number of the key that Seal uses, 0 while none is loaded.
func (k *Keyring) Primary(p Purpose) int64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.primary[p]
}

// exclusively runs f while no other call talks to the store or the wrapper.
func (k *Keyring) exclusively(ctx context.Context, p Purpose, f func() error) error {
	if purposeByte(p) == 0 {
		return fmt.Errorf("unknown purpose %q", p)
	}
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.turn }()
	return f()
}

// create stores a new key after prev and takes it, or the one that came first, into
// use. A crash on the way leaves at worst a stored key under which nothing is sealed.
func (k *Keyring) create(ctx context.Context, p Purpose, prev int64) error {
	plain := make([]byte, keySize)
	_, _ = rand.Read(plain) // never fails since Go 1.24: it ends the program instead
	wrapped, err := k.wrapper.Wrap(ctx, p, plain)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	// A key that wraps but does not unwrap, as where a grant is missing, would lose
	// every token sealed under it. So it is tried before anybody can use it.
	back, err := k.unwrap(ctx, p, wrapped)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(plain, back) != 1 {
		return errors.New("the wrapper returned another key than it was given")
	}
	applied, err := k.store.AddPrimaryKey(ctx, p, prev, prev+1, wrapped)
	if err != nil {
		return err
	}
	if applied {
		k.remember(p, prev+1, plain, wrapped)
		k.setPrimary(p, prev+1)
		return nil
	}
	n, wrapped, err := k.store.PrimaryKey(ctx, p)
	if err != nil {
		return err
	}
	if n == prev {
		return fmt.Errorf("key %d was refused, yet key %d is still primary", prev+1, prev)
	}
	return k.adopt(ctx, p, n, wrapped)
}

// adopt makes a stored key the primary one of this keyring.
func (k *Keyring) adopt(ctx context.Context, p Purpose, n int64, wrapped []byte) error {
	// A known number with other bytes is another key: the store was restored to a
	// time before this number was given, and it was given anew.
	if known, ok := k.known(p, n); !ok || known.wrapped != string(wrapped) {
		plain, err := k.unwrap(ctx, p, wrapped)
		if err != nil {
			return err
		}
		k.remember(p, n, plain, wrapped)
	}
	k.setPrimary(p, n)
	return nil
}

func (k *Keyring) setPrimary(p Purpose, n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.primary[p] = n
}

func (k *Keyring) remember(p Purpose, n int64, plain, wrapped []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[keyName{p, n}] = dataKey{plain: New(string(plain)), wrapped: string(wrapped)}
}

func (k *Keyring) known(p Purpose, n int64) (dataKey, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d, ok := k.keys[keyName{p, n}]
	return d, ok
}

// key returns the key numbered n, from memory or else from the store. It is
// ErrSealed where there is no such key, and ErrKeyUnavailable where one cannot tell.
func (k *Keyring) key(ctx context.Context, p Purpose, n int64) (Text, error) {
	if d, ok := k.known(p, n); ok {
		return d.plain, nil
	}
	missing := false
	err := k.exclusively(ctx, p, func() error {
		if _, ok := k.known(p, n); ok {
			return nil // fetched while this call waited
		}
		wrapped, err := k.store.DataKey(ctx, p, n)
		if err != nil {
			return err
		}
		if wrapped == nil {
			missing = true
			return nil
		}
		plain, err := k.unwrap(ctx, p, wrapped)
		if err != nil {
			return err
		}
		k.remember(p, n, plain, wrapped)
		return nil
	})
	switch {
	case err != nil:
		return Text{}, fmt.Errorf("%w: key %d of purpose %s: %w", ErrKeyUnavailable, n, p, err)
	case missing:
		return Text{}, fmt.Errorf("%w: there is no key %d of purpose %s", ErrSealed, n, p)
	}
	d, _ := k.known(p, n)
	return d.plain, nil
}

func (k *Keyring) unwrap(ctx context.Context, p Purpose, wrapped []byte) ([]byte, error) {
	plain, err := k.wrapper.Unwrap(ctx, p, wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	if len(plain) != keySize {
		return nil, fmt.Errorf("unwrap: the key has %d bytes instead of %d", len(plain), keySize)
	}
	return plain, nil
}
