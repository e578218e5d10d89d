package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/egress"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

const (
	integration = "bench"
	clientID    = "app"
	life        = 3600 // of access tokens, s
)

// site is one integration of a deployment.
type site struct {
	name  string
	token string // path of the token endpoint at the provider
	// rotates: refreshes claim first.
	rotates bool
	// concurrency is how many refreshes may be under way at once; 0: as usual.
	concurrency int
}

// settings is a configuration of these integrations at the provider whose URL is base.
func settings(base string, sites ...site) (*config.Config, error) {
	return yamlfile.Parse([]byte(settingsText(base, sites...)))
}

func settingsText(base string, sites ...site) string {
	text := "integrations:\n"
	for _, s := range sites {
		rotation := `rotation: none, old_access_token_dies_on_refresh: false`
		if s.rotates {
			rotation = `rotation: always, previous_token: dies_at_once, reuse: rejected, old_access_token_dies_on_refresh: false`
		}
		text += fmt.Sprintf(`  %s:
    client_id: %s
    client_secret: "${env:SECRET}"
    binding: cookie
    min_interval_s: 0
    provider:
      authorization_endpoint: %s/authorize
      token_endpoint: %s%s
      token_endpoint_auth_method: client_secret_post
      pkce: S256
      refresh: {supported: true, %s}
`, s.name, clientID, base, base, s.token, rotation)
		if s.concurrency > 0 {
			text += fmt.Sprintf("    max_concurrent: %d\n", s.concurrency)
		}
	}
	return text
}

// deployment is a broker of this process over some store.
type deployment struct {
	*broker.Broker
	store connection.Store
	keys  *secret.Keyring
	ahead *atomic.Int64 // s by which its clock is ahead
}

// deploy makes a deployment. The keys of the store are loaded; change alters what the
// broker is made of.
func (b *bench) deploy(ctx context.Context, store connection.Store, c *config.Config, change ...func(*broker.Config)) (*deployment, error) {
	wrapper, err := keyfile.Open(filepath.Join(b.folder, "key"), "evergrant")
	if err != nil {
		return nil, err
	}
	d := &deployment{store: store, keys: secret.NewKeyring("evergrant", wrapper, store), ahead: &atomic.Int64{}}
	for _, p := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
		if err := d.keys.Load(ctx, p); err != nil {
			return nil, err
		}
	}
	bc := broker.Config{
		Settings: c, Store: store, Keys: d.keys, Rescue: noRescue{}, Now: d.now,
		Secrets: config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			return secret.New("a client secret of usual length"), nil
		}, d.now),
		Provider: egress.New(c, d.now, "evergrant-bench"),
		Log:      slog.New(slog.NewJSONHandler(io.Discard, nil)), Timers: true,
	}
	c.PublicURL = cmp.Or(c.PublicURL, "http://127.0.0.1:1")
	for _, f := range change {
		f(&bc)
	}
	d.Broker = broker.New(bc)
	return d, nil
}

func (d *deployment) now() time.Time {
	return time.Now().Add(time.Duration(d.ahead.Load()) * time.Second)
}

func (d *deployment) minute() int64 { return d.now().Unix() / 60 }

// later lets all tokens become due.
func (d *deployment) later() { d.ahead.Add(life) }

// noRescue is a rescue that is never needed here: a store that refuses ends the run.
type noRescue struct{}

func (noRescue) Put(context.Context, string, []byte) error {
	return errors.New("the store refused a save")
}
func (noRescue) Holds(string) bool { return false }

// seed stores n connections of an integration and returns their ids. Their tokens are as long
// as opaque ones usually are, and came just now. filed says that they stand in the schedule.
func (d *deployment) seed(ctx context.Context, name string, n int, tokenLife int64, filed bool) ([]string, error) {
	ids, failed := make([]string, n), make(chan error, 1)
	var group sync.WaitGroup
	var next atomic.Int64
	for range min(n, 256) { // as many as share a commit
		group.Go(func() {
			for k := next.Add(1) - 1; k < int64(n); k = next.Add(1) - 1 {
				ids[k] = connection.NewID()
				if err := d.put(ctx, name, ids[k], tokenLife, filed); err != nil {
					select {
					case failed <- err:
					default:
					}
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return ids, nil
	}
}

func (d *deployment) put(ctx context.Context, name, id string, tokenLife int64, filed bool) error {
	access, err := d.keys.Seal(secret.PurposeToken, refresh.AccessPlace(id, 1), secret.New(rand.Text()+rand.Text()))
	if err != nil {
		return err
	}
	renew, err := d.keys.Seal(secret.PurposeToken, refresh.RefreshPlace(id, 1), secret.New(rand.Text()+rand.Text()))
	if err != nil {
		return err
	}
	now := d.now().Unix()
	rec := connection.Record{
		Core: connection.Core{
			ID: id, Integration: name, Client: "default", ClientID: clientID, Owner: "owner-" + id[len(id)-12:], Grant: "authorization_code",
			Status: connection.Active, Gen: 1, TokGen: 1, TokenID: connection.NewTokenID(), SaveID: connection.NewRandom(),
			IssuedAt: now, ExpiresAt: now + tokenLife, ConsentedAt: now,
		},
		Provider: name, TokenType: "Bearer", RequestedScope: "read write", CreatedAt: now, UpdatedAt: now,
	}
	rec.Access, rec.Refresh = toItem(access), toItem(renew)
	if filed {
		rec.Sched = schedule.Plan{}.Partition(id, tokenLife)
	}
	res, err := d.store.Write(ctx, id, connection.Create{Record: rec})
	if err == nil && !res.Applied {
		err = fmt.Errorf("connection %s is there already", id)
	}
	return err
}

// bolt opens a store in a file of that name, with its syncs.
func (b *bench) bolt(name string) (connection.Store, func() error, error) {
	db, err := boltstore.Open(filepath.Join(b.folder, name), boltstore.Options{})
	if err != nil {
		return connection.Store{}, nil, err
	}
	return connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}, db.Close, nil
}
