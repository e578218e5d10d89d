package main

import (
	"context"
	"sync"
	"time"
)

// probe tells whether the store takes writes, as of probeEvery ago at most: on a full
// disk nothing is sent whose answer could not be kept.
type probe struct {
	now      func() time.Time
	writable func(context.Context) error

	mu  sync.Mutex // guards what follows
	at  time.Time
	err error
}

// probeEvery is far less than a disk takes to fill up, and far more than a probe costs.
const probeEvery = 10 * time.Second

func (p *probe) ready(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.at.IsZero() || now.Before(p.at) || now.Sub(p.at) >= probeEvery || p.err != nil {
		p.at, p.err = now, p.writable(ctx)
	}
	return p.err
}
