package brokertest

import (
	"crypto/rand"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// Clock is a clock that stands until it is moved. It may be used concurrently.
type Clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

// NewClock is one that stands at a time.
func NewClock(at time.Time) *Clock { return &Clock{at: at} }

// Now is its time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Unix is its time in seconds.
func (c *Clock) Unix() int64 { return c.Now().Unix() }

// Minute is its time in whole minutes since 1970, as ticks count them.
func (c *Clock) Minute() int64 { return c.Unix() / 60 }

// Advance moves it on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// Set puts it to a time, back too.
func (c *Clock) Set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// Log keeps what several writers write to it.
type Log struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is everything that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Seed makes random values the same each time that a test of this name runs, and with
// them the ids and the minutes at which connections are due: a slot that falls into the
// minutes of a test would otherwise refresh where it expects nothing, once in a while.
func Seed(t *testing.T) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	cryptotest.SetGlobalRandom(t, h.Sum64())
}

// Bolt is a store in a file that goes with the test.
func Bolt(t *testing.T) connection.Store {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}
}

// OnStores runs a test on every store that is here: in a file, and on DynamoDB Local
// where its address is set.
func OnStores(t *testing.T, test func(t *testing.T, store connection.Store)) {
	t.Helper()
	t.Run("bolt", func(t *testing.T) { test(t, Bolt(t)) })
	if os.Getenv("EVERGRANT_DYNAMODB") == "" {
		return
	}
	t.Run("dynamodb", func(t *testing.T) {
		client := dynamolocal.Client(t)
		connections, authorizations, err := dynamolocal.CreateTables(t.Context(), client, rand.Text())
		if err != nil {
			t.Fatal(err)
		}
		test(t, connection.Store{
			Connections:    onlyFiled(dynamostore.New(client, connections, item.ConnectionIndexes())),
			Authorizations: onlyFiled(dynamostore.New(client, authorizations, item.AuthorizationIndexes())),
		})
	})
}

// Simulate points an integration to the simulator of its provider, and registers its
// client there, whose redirect URI is below origin.
func Simulate(sim *simprovider.Server, i *config.Integration, origin string) error {
	at := sim.Endpoints(i.Provider)
	i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint = at["authorization_endpoint"], at["token_endpoint"]
	i.Entry.RevocationEndpoint, i.Entry.Identity.Endpoint = at["revocation_endpoint"], at["identity.endpoint"]
	i.Entry.Evidence = nil // it speaks of the real provider
	return sim.Register(i.Provider, simprovider.Client{ID: ClientID, Secret: ClientSecret, RedirectURIs: []string{i.RedirectURI(origin)}})
}

// Profiles are the names that Profile knows.
func Profiles() []string { return []string{"none", "immediate", "on_use", "grace", "family"} }

// Profile is one of the protocol's ways to treat refresh tokens, as facts of an entry and
// a policy of the simulator that agree: none, on_use, grace or family; any other name is
// immediate.
func Profile(name string) (provider.Refresh, simprovider.Policy) {
	switch name {
	case "none":
		return provider.Refresh{Rotation: "none"}, simprovider.Policy{KeepsOldAccess: true}
	case "on_use":
		return provider.Refresh{Rotation: "always", PreviousToken: "dies_on_first_use_of_new", Reuse: "rejected"},
			simprovider.Policy{Rotates: true, Previous: simprovider.DiesOnFirstUse}
	case "grace":
		return provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 120, Reuse: "revokes_family"},
			simprovider.Policy{Rotates: true, Previous: simprovider.Stays}
	case "family":
		return provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "revokes_family"},
			simprovider.Policy{Rotates: true, ReuseEndsGrant: true}
	}
	return provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "rejected"}, simprovider.Policy{Rotates: true}
}
