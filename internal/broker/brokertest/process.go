package brokertest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// rescued is one record in the rescue queue.
type rescued struct {
	id      string
	payload []byte
}

// Process is one worker: a whole broker with its own way to the tables and to the
// provider, on which faults can be laid. It crashes by coming to a stop.
type Process struct {
	*broker.Broker
	World *World
	once  sync.Once
	died  chan struct{}

	mu         sync.Mutex // guards the fields below
	onStore    []strikes[item.Result]
	onWire     []strikes[*http.Response]
	onTell     []strikes[int]
	rescueDown bool
	skew       time.Duration // of this process's clock
}

// Start starts a process. change, where given, alters what it is made of.
func (w *World) Start(change ...func(*broker.Config)) *Process {
	w.T.Helper()
	p := &Process{World: w, died: make(chan struct{})}
	store := connection.Store{Connections: table{w.Store.Connections, p}, Authorizations: table{w.Store.Authorizations, p}}
	wrapper, err := keyfile.Open(w.keyFile, "evergrant")
	w.Must(err)
	settings := *w.Settings // what a process has read no longer changes
	settings.Integrations = append([]config.Integration(nil), w.Settings.Integrations...)
	c := broker.Config{
		Settings: &settings, Store: store, Keys: secret.NewKeyring("evergrant", wrapper, store), Rescue: rescuer{p}, Now: p.now,
		Secrets: config.NewSecrets(func(context.Context, config.SecretRef) (secret.Text, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return secret.New(w.secret), nil
		}, p.now),
		Provider: &provider.Client{Transport: line{provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), p}, AllowLoopback: true, Now: p.now},
		Log:      slog.New(slog.NewJSONHandler(w.Log, nil)),
		Pause:    p.pause, Events: sink{p},
	}
	for _, f := range change {
		f(&c)
	}
	p.Broker = broker.New(c)
	return p
}

// Restart puts a new process, which has read what was changed in Settings, in the place of
// Home.
func (w *World) Restart() {
	w.T.Helper()
	w.Home = w.Start()
	w.Serve(w.HTTP(w.Home))
}

func (p *Process) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.World.Now().Add(p.skew)
}

// pause lets the clock go on instead of waiting.
func (p *Process) pause(ctx context.Context, d time.Duration) error {
	p.alive()
	p.World.Advance(d)
	return ctx.Err()
}

// OnStore lays a fault on the next calls of a kind, on all of them if times is negative.
func (p *Process) OnStore(kind string, times int, do Fault[item.Result]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onStore = append(p.onStore, strikes[item.Result]{kind, times, do})
}

// OnWire lays a fault on the next requests of a kind.
func (p *Process) OnWire(kind string, times int, do Fault[*http.Response]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onWire = append(p.onWire, strikes[*http.Response]{kind, times, do})
}

// Heal takes all faults off.
func (p *Process) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onStore, p.onWire, p.onTell, p.rescueDown = nil, nil, nil, false
}

// Crashes runs f, in which the process must crash.
func (p *Process) Crashes(f func()) {
	p.World.T.Helper()
	done := make(chan struct{})
	p.World.running.Go(func() {
		defer close(done)
		f()
	})
	select {
	case <-p.died:
	case <-done:
		p.World.T.Fatal("the Process was to crash, and did not")
	}
}

// Force has the process refresh a connection now, as a caller whose token got a 401
// does. The error is that of the API.
func (p *Process) Force(id string) error {
	_, err := p.Forced(id)
	return err
}

// Forced is Force that returns the token.
func (p *Process) Forced(id string) (broker.TokenView, error) {
	i, err := p.World.Store.Connections.Get(context.Background(), id)
	if err != nil {
		return broker.TokenView{}, err
	}
	v, err := p.Refresh(context.Background(), Caller(), id, i.Int("gen"), "")
	return p.World.Handed(v, err)
}

// Read reads the token of a connection.
func (p *Process) Read(id string, minTTL int64) (broker.TokenView, error) {
	return p.World.Handed(p.Token(context.Background(), Caller(), id, minTTL, nil))
}

// TickNow wakes the process for the minute of the clock.
func (p *Process) TickNow() broker.TickReport {
	p.World.T.Helper()
	rep, err := p.Tick(context.Background(), p.World.Minute())
	p.World.Must(err)
	return rep
}

// WorkOff has the process work off a chunk of one id, as from the queue.
func (p *Process) WorkOff(id string) error {
	return p.RefreshAll(context.Background(), []string{id}, p.World.Minute())
}

// Code of an error of the API, "" for none.
func Code(err error) broker.Code {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return e.Code
	}
	if err != nil {
		return "?"
	}
	return ""
}

// rescuer is the rescue queue, which knows of no record what became of it.
type rescuer struct{ p *Process }

var _ refresh.Rescuer = rescuer{}

func (r rescuer) Put(_ context.Context, id string, payload []byte) error {
	r.p.alive()
	r.p.mu.Lock()
	down := r.p.rescueDown
	r.p.mu.Unlock()
	if down {
		return errors.New("the queue does not answer")
	}
	w := r.p.World
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rescue = append(w.rescue, rescued{id, bytes.Clone(payload)})
	return nil
}

func (rescuer) Holds(string) bool { return false }

// InRescue is how many records wait in the queue.
func (w *World) InRescue() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.rescue)
}

// Rescued are the records that wait in the queue, as they are kept there.
func (w *World) Rescued() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all [][]byte
	for _, r := range w.rescue {
		all = append(all, r.payload)
	}
	return all
}

// Replay delivers the records of the rescue queue; those that are done with go.
func (p *Process) Replay() {
	w := p.World
	w.mu.Lock()
	all := w.rescue
	w.rescue = nil
	w.mu.Unlock()
	for _, r := range all {
		done, err := p.ReplayRescue(context.Background(), r.id, r.payload)
		if err != nil || !done {
			w.mu.Lock()
			w.rescue = append(w.rescue, r)
			w.mu.Unlock()
		}
	}
}

// TickUntil wakes a process once a minute until the connection is as it should be.
func (p *Process) TickUntil(id string, minutes int, want func(connection.Record) bool) connection.Record {
	p.World.T.Helper()
	for range minutes {
		p.TickNow()
		if r := p.World.Record(id); want(r) {
			return r
		}
		p.World.Advance(time.Minute)
	}
	p.World.T.Fatalf("%s did not come to it in %d minutes: %+v\n%s", id, minutes, p.World.Record(id).Core, p.World.Log)
	return connection.Record{}
}

// SetSkew puts the clock of this process wrong by d.
func (p *Process) SetSkew(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skew = d
}

// SetRescueDown has the rescue queue take no records of this process.
func (p *Process) SetRescueDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rescueDown = down
}
