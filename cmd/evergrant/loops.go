package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/item"
)

const (
	dueEvery    = time.Second
	replayEvery = time.Minute
	sweepEvery  = 10 * time.Minute
)

// run does in-process what events do elsewhere: the schedule's ticks, exact timers,
// the replay of rescued answers and the sweep of what expired. It returns once ctx
// ended and every refresh under way is saved.
func (n *node) run(ctx context.Context) {
	var group sync.WaitGroup
	// Rescued answers first: until they are stored, the tokens that they replace
	// look like the ones to send.
	n.replay(ctx, false)
	if err := n.broker.Start(ctx); err != nil {
		n.Log.Error("timers", "error", err.Error())
	}
	group.Go(func() { n.timers(ctx, &group) })
	group.Go(func() { n.ticks(ctx) })
	group.Go(func() { n.hooks.Run(ctx) })
	group.Go(func() { each(ctx, replayEvery, func() { n.replay(ctx, false) }) })
	group.Go(func() { each(ctx, sweepEvery, func() { n.sweep(ctx) }) })
	group.Wait()
}

// each calls f at every interval until ctx ends.
func each(ctx context.Context, every time.Duration, f func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// timers starts each second what its timers call for. A provider that hangs holds up
// the connections of that second alone, so the seconds may overlap.
func (n *node) timers(ctx context.Context, group *sync.WaitGroup) {
	each(ctx, dueEvery, func() { group.Go(func() { n.broker.Due(ctx) }) })
}

// ticks runs one tick a minute and never two at once: a tick that takes longer is
// followed by one of the minute that it is then, and the cursor knows what lies
// between.
func (n *node) ticks(ctx context.Context) {
	var last int64
	tick := func() {
		minute := n.Now().Unix() / 60
		if minute == last {
			return
		}
		last = minute
		rep, err := n.broker.Tick(ctx, minute)
		if err != nil && ctx.Err() == nil {
			n.Log.Error("tick", "minute", minute, "error", err.Error())
			return
		}
		n.Log.Debug("tick", "minute", minute, "outcomes", rep.Outcomes, "todo", rep.Todo)
	}
	tick()
	each(ctx, dueEvery, tick)
}

// replay replays the rescue log. A record that is too large for the store is set aside
// after one try: it stays in the log, and is tried again where an operator asks for it,
// or by a new start.
func (n *node) replay(ctx context.Context, again bool) {
	err := n.rescue.Replay(ctx, func(ctx context.Context, id string, payload []byte) (bool, error) {
		if n.aside[id] && !again {
			return false, nil
		}
		delete(n.aside, id)
		done, err := n.broker.ReplayRescue(ctx, id, payload)
		if errors.Is(err, item.ErrTooLarge) {
			n.aside[id] = true
			return false, nil // the broker has told
		}
		if err != nil {
			n.Log.Warn("rescue", "connection", id, "error", err.Error())
		} else if done {
			n.Log.Info("rescue", "connection", id, "outcome", "stored")
		}
		return done, err
	})
	if err != nil && ctx.Err() == nil {
		n.Log.Error("rescue", "error", err.Error())
	}
}

func (n *node) sweep(ctx context.Context) {
	swept, err := n.db.Sweep(ctx, n.Now())
	if err != nil && ctx.Err() == nil {
		n.Log.Error("sweep", "error", err.Error())
	}
	letters, err := n.hooks.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		n.Log.Error("sweep", "error", err.Error())
	}
	n.Log.Debug("sweep", "deleted", swept, "dead_letters", letters)
}
