package client

import (
	"context"
	"time"
)

// OnClock gives the options a clock of the test's and a way to wait on it.
func (o Options) OnClock(now func() time.Time, pause func(context.Context, time.Duration) error) Options {
	o.now, o.pause = now, pause
	return o
}

// MaxCells is how many tokens are cached at most.
const MaxCells = maxCells

// Cells is how many are.
func Cells(c *Client) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.cells)
}
