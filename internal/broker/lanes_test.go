package broker_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// slow is two providers in memory: one answers after a while, the other one never.
type slow struct {
	takes time.Duration
	mu    sync.Mutex
	under int // requests under way at the one that answers; guarded by mu
	most  int // guarded by mu
	last  time.Time
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/hangs" {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	s.under++
	s.most = max(s.most, s.under)
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under--
	s.last = time.Now()
	body := `{"access_token": "new", "token_type": "Bearer", "expires_in": 3600}`
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

const slowSettings = `
integrations:
  slow: {client_id: a, client_secret: "${env:S}", scopes: [], LIMIT provider: {token_endpoint: "https://provider.example/token",
    authorization_endpoint: "https://provider.example/auth", token_endpoint_auth_method: client_secret_post, pkce: S256,
    refresh: {supported: true, rotation: none}}}
  hangs: {client_id: a, client_secret: "${env:S}", provider: {token_endpoint: "https://provider.example/hangs",
    authorization_endpoint: "https://provider.example/auth", token_endpoint_auth_method: client_secret_post, pkce: S256,
    refresh: {supported: true, rotation: none}}}
`

// due files connections whose time has come this very minute.
func due(t *testing.T, store connection.Store, keys *secret.Keyring, integration string, n int) {
	t.Helper()
	if err := keys.Load(t.Context(), secret.PurposeToken); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	slots := make(chan struct{}, 64)
	for range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			id := connection.NewID()
			rt, err := keys.Seal(secret.PurposeToken, refresh.RefreshPlace(id, 1), secret.New("rt"))
			if err != nil {
				t.Error(err)
				return
			}
			now := time.Now().Unix()
			_, err = store.Write(t.Context(), id, connection.Create{Record: connection.Record{Core: connection.Core{
				ID: id, Integration: integration, Owner: "o", Client: "a", ClientID: "a", Grant: "authorization_code", Status: connection.Active,
				Gen: 1, TokGen: 1, Refresh: item.Bytes(rt), RetryAt: now, Sched: schedule.RetryPartition(id, now),
			}}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// noRescue has nothing to rescue: the store of this test does not fail.
type noRescue struct{}

func (noRescue) Put(context.Context, string, []byte) error { return nil }
func (noRescue) Holds(string) bool                         { return false }

// As much of a minute as the 20,000 refreshes that a million connections of an hour
// call for: a fortieth of them, in a fortieth of the time that a tick of serve has.
func TestALaneIsAsWideAsWhatIsDueNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		limit    string
		takes    time.Duration
		hanging  int // connections of another integration whose provider hangs
		wantOwed bool
		most     int // requests at once
	}{
		"within 200 ms":         {takes: 200 * time.Millisecond, most: 142},
		"beside one that hangs": {takes: 200 * time.Millisecond, hanging: 500, most: 142},
		"within its budget":     {limit: "max_concurrent: 8,", takes: 200 * time.Millisecond, wantOwed: true, most: 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := brokertest.Bolt(t)
				settings, err := yamlfile.Parse([]byte(strings.Replace(slowSettings, "LIMIT", c.limit, 1)))
				if err != nil {
					t.Fatal(err)
				}
				wrapper, err := keyfile.Open(filepath.Join(t.TempDir(), "key"), "evergrant")
				if err != nil {
					t.Fatal(err)
				}
				keys, wire := secret.NewKeyring("evergrant", wrapper, store), &slow{takes: c.takes}
				b := broker.New(broker.Config{
					Settings: settings, Store: store, Keys: keys, Rescue: noRescue{}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
					Secrets:  config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) { return secret.New("s"), nil }, time.Now),
					Provider: &provider.Client{Transport: wire, Now: time.Now},
					TickTime: 1050 * time.Millisecond, Spread: time.Second,
				})
				due(t, store, keys, "slow", 500)
				due(t, store, keys, "hangs", c.hanging)
				began := time.Now()
				rep, err := b.Tick(t.Context(), began.Unix()/60)
				if err != nil || !rep.Whole || (rep.Owed > c.hanging) != c.wantOwed {
					t.Errorf("%+v, %v", rep, err)
				}
				if !c.wantOwed && (rep.Outcomes["saved"] != 500 || wire.last.Sub(began) > 1300*time.Millisecond) {
					t.Errorf("%d refreshed after %s", rep.Outcomes["saved"], wire.last.Sub(began))
				}
				if wire.most > c.most {
					t.Errorf("%d requests at once", wire.most)
				}
			})
		})
	}
}
