package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/egress"
	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/metric/prom"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/rescue"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/webhook"
)

// The files of a data folder.
const (
	storeFile  = "evergrant.db"
	keyFile    = "key"
	rescueFile = "rescue.log"
	epochFile  = "restore_epoch"
)

// rescueSize is the room of the rescue log in bytes: some thousand records of a
// kilobyte or two, more than one outage of the disk brings together.
const rescueSize = 4 << 20

// nodeConfig is what a node is made of. All fields are required but those that say
// otherwise.
type nodeConfig struct {
	Settings *config.Config // PublicURL is set
	Data     string         // the folder; made where it is absent
	// WrappingKey is the key of EVERGRANT_KEY; empty: the one in the data folder.
	WrappingKey secret.Text
	Secrets     config.Resolver
	Now         func() time.Time
	Log         *slog.Logger
	// Pause waits between the tries of a save; nil: a timer. For a clock that is set.
	Pause func(ctx context.Context, d time.Duration) error
}

// node is the whole broker in one process: store, keys, rescue log, and the handlers
// over them.
type node struct {
	nodeConfig
	db      *boltstore.DB
	rescue  *rescue.Log
	aside   map[string]bool // connections whose rescued tokens are too large for the store; only touched within rescue.Replay
	secrets *config.Secrets
	metrics *prom.Registry
	hooks   *webhook.Sender
	broker  *broker.Broker
	face    httpapi.Config // of handler
	handler http.Handler
}

// openNode opens a data folder. Whatever could later stop a save is opened first: a
// node without a rescue log would send refresh tokens whose answers it may lose.
func openNode(c nodeConfig) (*node, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	epoch, err := readEpoch(filepath.Join(c.Data, epochFile))
	if err != nil {
		return nil, err
	}
	wrapper, err := openKey(c)
	if err != nil {
		return nil, err
	}
	n := &node{nodeConfig: c, aside: map[string]bool{}, secrets: config.NewSecrets(c.Secrets, c.Now)}
	// The store comes before the rescue log: its lock keeps a second process out.
	if n.db, err = boltstore.Open(filepath.Join(c.Data, storeFile), boltstore.Options{}); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	store := connection.Store{Connections: n.db.Connections(), Authorizations: n.db.Authorizations()}
	if err := opens(wrapper, store); err != nil {
		return nil, errors.Join(err, n.db.Close())
	}
	if n.rescue, err = rescue.Open(filepath.Join(c.Data, rescueFile), rescueSize); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; without it nothing may be refreshed, since an answer that the store does not take would be lost: make room for %d MiB in %s",
			err, rescueSize>>20, c.Data), n.db.Close())
	}
	client := egress.New(c.Settings, c.Now, "evergrant/"+version())
	n.metrics = prom.New()
	n.hooks = n.webhooks(store)
	var told events.Sink
	if len(c.Settings.Webhooks) > 0 {
		told = n.hooks
	}
	n.broker = broker.New(broker.Config{
		Metrics: n.metrics, Events: told,
		// What was filed for an endpoint that is configured no longer is given up.
		TakeUp:   n.hooks.TakeUp,
		Settings: c.Settings, Secrets: n.secrets, Store: store, Rescue: n.rescue, Now: c.Now, Log: c.Log, Pause: c.Pause,
		Keys:     secret.NewKeyring(c.Settings.Deployment, wrapper, store),
		Provider: client, IDTokens: idtoken.By(client),
		// A send that was begun last ends within 15 s: so a tick that a provider holds
		// up ends before the next one is due.
		TickTime: 42 * time.Second, Spread: 40 * time.Second,
		Ready:  (&probe{now: c.Now, writable: n.db.Writable}).ready,
		Timers: true, Horizon: refresh.HorizonLocal, Epoch: epoch,
		Place: filePlace(filepath.Join(c.Data, storeFile)),
	})
	n.face = httpapi.Config{
		Broker: n.broker, Keys: c.Settings, Log: c.Log, Now: c.Now, Version: version(), Catalog: config.Catalog{Lookup: provider.Lookup, IDs: provider.IDs},
	}
	n.face.Metrics = n.metrics.Text
	n.face.Admin = httpapi.Commands(n.broker)
	n.face.Admin["rescue-replay"] = n.replayNow
	n.face.Admin["restore"] = n.raiseEpoch
	n.face.Admin["webhook-replay"] = func(ctx context.Context) (any, error) { return n.hooks.Replay(ctx) }
	n.face.Admin["webhook-dead-letters"] = func(ctx context.Context) (any, error) { return n.hooks.DeadLetters(ctx) }
	n.handler = httpapi.New(n.face)
	return n, nil
}

// webhooks makes the sender of the configured webhooks.
func (n *node) webhooks(store connection.Store) *webhook.Sender {
	var endpoints []webhook.Endpoint
	for _, w := range n.Settings.Webhooks {
		endpoints = append(endpoints, webhook.Endpoint{
			URL: w.URL, Events: w.Events, AllowPrivate: w.AllowPrivate,
			Secrets: func(ctx context.Context) ([]secret.Text, error) { return n.signedWith(ctx, w) },
		})
	}
	return webhook.New(webhook.Config{
		Endpoints: endpoints, Table: store.Connections, Now: n.Now, Log: n.Log, UserAgent: "evergrant/" + version(), Observe: n.metrics.Observe,
	})
}

// signedWith reads the secrets of a webhook.
func (n *node) signedWith(ctx context.Context, w config.Webhook) ([]secret.Text, error) {
	var all []secret.Text
	for _, ref := range []config.SecretRef{w.Secret, w.PreviousSecret} {
		if ref.IsZero() {
			continue
		}
		text, err := n.secrets.Read(ctx, ref)
		if err != nil {
			return nil, err
		}
		if err := webhook.CheckSecret(text); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		all = append(all, text)
	}
	return all, nil
}

// close lets go of the files. Nothing may be using the node any more.
func (n *node) close() error { return errors.Join(n.rescue.Close(), n.db.Close()) }

func openKey(c nodeConfig) (*keyfile.Wrapper, error) {
	if !c.WrappingKey.IsZero() {
		w, err := keyfile.FromText(c.WrappingKey, c.Settings.Deployment)
		if err != nil {
			return nil, fmt.Errorf("EVERGRANT_KEY: %w", err)
		}
		return w, nil
	}
	path := filepath.Join(c.Data, keyFile)
	// A new folder's key is made before its store. So where there is only the store, the key
	// is missing, and a new one would open nothing.
	if absent(path) && !absent(filepath.Join(c.Data, storeFile)) {
		return nil, fmt.Errorf("wrapping key: %s is not there, and %s was sealed under it; put it back from where you keep its copy, or set EVERGRANT_KEY", path, storeFile)
	}
	w, err := keyfile.Open(path, c.Settings.Deployment)
	if err != nil {
		return nil, fmt.Errorf("wrapping key: %w", err)
	}
	return w, nil
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// opens refuses a wrapping key that does not open the store's data keys. Nothing would be
// lost by going on, but each read and each refresh would fail for itself.
func opens(w secret.KeyWrapper, store connection.Store) error {
	for _, p := range []secret.Purpose{secret.PurposeFlow, secret.PurposeToken} {
		n, wrapped, err := store.PrimaryKey(context.Background(), p)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if n == 0 {
			continue
		}
		if _, err := w.Unwrap(context.Background(), p, wrapped); err != nil {
			return fmt.Errorf("wrapping key: it is not the one, or the configuration's deployment is not the one, that %s was sealed under; put the right one back (the file %s, or EVERGRANT_KEY). Nothing was changed",
				storeFile, keyFile)
		}
	}
	return nil
}

// readEpoch reads the restore epoch, which an operator raises when the store was
// restored from a backup: its tokens may be spent, and are doubted once.
func readEpoch(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("restore epoch: %w", err)
	}
	epoch, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || epoch < 0 {
		return 0, fmt.Errorf("restore epoch: %s must hold one whole number", path)
	}
	return epoch, nil
}

// catalog is every entry of the catalogue.
func catalog() ([]provider.Entry, error) {
	var all []provider.Entry
	for _, id := range provider.IDs() {
		e, err := provider.Lookup(id)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}
