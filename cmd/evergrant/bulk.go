package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// bulk does one request after the other for many connections: some at once, with pauses
// where the server asks for them, over outages of the server, and with a line that says
// how far it is.
type bulk struct {
	p *process
	// total is how many there are, at once how many requests run beside each other.
	total, atOnce int
	// pause waits, or returns early with the context's error.
	pause func(ctx context.Context, d time.Duration) error
	now   func() time.Time

	mu     sync.Mutex // guards what follows
	began  time.Time
	well   time.Time // when the server last gave a good answer
	open   time.Time // before this nothing is sent
	done   int
	failed int
	fatal  error // why no further one is begun
}

// outage is how long a server may be away before a bulk gives up. A restart takes less.
const outage = 2 * time.Minute

// retryPause is the first pause after an answer that did not come; it grows to maxPause.
const (
	retryPause = 250 * time.Millisecond
	maxPause   = 10 * time.Second
)

func newBulk(p *process, total, atOnce int) *bulk {
	return &bulk{p: p, total: total, atOnce: min(atOnce, max(total, 1)), now: time.Now, pause: waitFor}
}

// waitFor waits on a timer.
func waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run calls do for each number below total, and settled with what came of it. do may be
// repeated where its answer was lost, so it must be harmless to do twice. Who interrupts
// it has those that were begun finish. The error says why not all were begun.
func (b *bulk) run(do func(ctx context.Context, n int) error, settled func(n int, err error)) error {
	b.began = b.now()
	b.well = b.began
	next := make(chan int)
	var workers sync.WaitGroup
	for range b.atOnce {
		workers.Go(func() {
			for n := range next {
				err := b.one(n, do)
				if errors.Is(err, errUnsettled) {
					continue
				}
				settled(n, err)
				b.count(err)
			}
		})
	}
	stop := b.show()
	for n := range b.total {
		if b.over() != nil {
			break
		}
		next <- n
	}
	close(next)
	workers.Wait()
	stop()
	return b.over()
}

// over is why no further one is to be begun, nil: go on.
func (b *bulk) over() error {
	if b.p.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fatal
}

// errUnsettled ends one of which nothing is known, since the whole has ended.
var errUnsettled = errors.New("not settled")

// one does one, as often as it takes. A request that was sent is not broken off.
func (b *bulk) one(n int, do func(ctx context.Context, n int) error) error {
	for wait := retryPause; ; wait = min(2*wait, maxPause) {
		if b.waitOpen() != nil || b.over() != nil {
			return errUnsettled
		}
		err := do(context.WithoutCancel(b.p.ctx), n)
		var refused apiError
		switch {
		case err == nil:
			b.answered()
			return nil
		case errors.As(err, &refused) && refused.Code == "rate_limited":
			b.answered()
			b.close(max(refused.retryAfter, time.Second))
			wait = retryPause
			continue
		case errors.As(err, &refused) && refused.Code == "unauthorized":
			b.giveUp(err)
			return errUnsettled
		case errors.As(err, &refused) && refused.Status < 500 && refused.Code != "refresh_in_progress":
			b.answered()
			return err
		}
		if b.away() {
			b.giveUp(fmt.Errorf("no good answer for %s: %w", span(outage), err))
			return errUnsettled
		}
		if b.pause(b.p.ctx, max(wait, refused.retryAfter)) != nil {
			return errUnsettled
		}
	}
}

func (b *bulk) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.well = b.now()
}

func (b *bulk) away() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now().Sub(b.well) > outage
}

func (b *bulk) giveUp(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fatal == nil {
		b.fatal = err
	}
}

// close keeps all from sending for a time.
func (b *bulk) close(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.now().Add(d); t.After(b.open) {
		b.open = t
	}
}

func (b *bulk) waitOpen() error {
	for {
		b.mu.Lock()
		d := b.open.Sub(b.now())
		b.mu.Unlock()
		if d <= 0 {
			return nil
		}
		if err := b.pause(b.p.ctx, d); err != nil {
			return err
		}
	}
}

func (b *bulk) count(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	if err != nil {
		b.failed++
	}
}

// show keeps the line of progress for whoever is watching, until the returned function is
// called.
func (b *bulk) show() (stop func()) {
	if !b.p.terminal {
		return func() {}
	}
	ended, shown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(shown)
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				b.p.progressf("%s", b.line())
			case <-ended:
				b.p.progressEnd()
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-shown
	}
}

const barWidth = 24

// line is the progress bar: how far, how fast, how long.
func (b *bulk) line() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	filled := barWidth
	if b.total > 0 {
		filled = barWidth * b.done / b.total
	}
	s := fmt.Sprintf("[%s%s] %d of %d", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), b.done, b.total)
	if b.failed > 0 {
		s += fmt.Sprintf(", %d failed", b.failed)
	}
	now := b.now()
	if wait := b.open.Sub(now); wait > 0 {
		return s + ", the server asks to wait " + span(wait)
	}
	if took := now.Sub(b.began); b.done > 0 && took > time.Second {
		s += fmt.Sprintf(", %.0f a second", float64(b.done)/took.Seconds())
		s += ", " + span(took*time.Duration(b.total-b.done)/time.Duration(b.done)) + " left"
	}
	return s
}
