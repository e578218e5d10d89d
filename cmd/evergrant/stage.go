package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// clock is a clock that stands until it is set. It never goes back.
type clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

// Now is what the clock shows.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// set moves the clock on to a time.
func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.at) {
		c.at = t
	}
}

// advance moves the clock on by d.
func (c *clock) advance(d time.Duration) { c.set(c.Now().Add(d)) }

// stage is a broker and the simulated providers on one clock, reached over HTTP on
// loopback as in earnest. It has no schedule of its own: whoever sets the clock also
// calls tick.
type stage struct {
	ctx   context.Context
	clock *clock
	sims  *simprovider.Server
	node  *node
	api   *api
	serve servers
	data  string
}

// demoReturn is where the demo's application has its browsers come back to. Nothing
// listens there: who is sent there has arrived.
const demoReturn = "http://127.0.0.1:9/app/return"

// newStage opens a broker over an empty data folder.
func newStage(ctx context.Context) (st *stage, err error) {
	st = &stage{ctx: ctx, clock: &clock{at: time.Now().Truncate(time.Minute)}, serve: servers{ctx: ctx}}
	half := st
	defer func() {
		if err != nil {
			half.close()
		}
	}()
	if st.data, err = os.MkdirTemp("", "evergrant-demo-"); err != nil {
		return nil, err
	}
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	providers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	origin := "http://" + own.Addr().String()
	st.sims = simprovider.New(simprovider.Config{BaseURL: "http://" + providers.Addr().String(), Now: st.clock.Now})
	st.serve.add(providers, st.sims)
	key, hash := config.NewAPIKey()
	settings, err := simulatedSettings(st.sims, simulatedIntegrations(), origin, hash, []string{demoReturn})
	if err == nil {
		err = register(st.sims, simulatedIntegrations(), origin)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	st.node, err = openNode(nodeConfig{
		Settings: settings, Data: st.data, Secrets: config.FileResolver(os.Getenv, os.ReadFile), Now: st.clock.Now,
		Log:   slog.New(slog.DiscardHandler),
		Pause: func(_ context.Context, d time.Duration) error { st.clock.advance(d); return nil },
	})
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	st.serve.add(own, st.node.handler)
	st.api = newAPI(origin, key)
	return st, nil
}

// close ends everything and removes the data. It can be called on half a stage.
func (st *stage) close() {
	st.serve.stop()
	if st.node != nil {
		_ = st.node.close() // the data goes with it
	}
	if st.data != "" {
		_ = os.RemoveAll(st.data) // a temporary folder; the system clears what is left
	}
}

// tick does what the schedule does each minute.
func (st *stage) tick() error {
	if _, err := st.node.broker.Tick(st.ctx, st.clock.Now().Unix()/60); err != nil {
		return fmt.Errorf("tick: %w", err)
	}
	return nil
}

// tickAt sets the clock to the whole minute at or after t, and ticks.
func (st *stage) tickAt(t time.Time) error {
	minute := t.Truncate(time.Minute)
	if minute.Before(t) {
		minute = minute.Add(time.Minute)
	}
	st.clock.set(minute)
	return st.tick()
}
