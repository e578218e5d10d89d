package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/evergrant/evergrant/internal/wire"
)

// replayNow replays what was rescued, without waiting for the minute.
func (n *node) replayNow(ctx context.Context) (any, error) {
	before := n.rescue.Pending()
	n.replay(ctx, true)
	pending := n.rescue.Pending()
	return wire.ReplayResult{Replayed: max(0, before-pending), Pending: pending}, nil
}

// raiseEpoch is for a data folder that was restored from a backup: from its next start
// on, whatever was written before counts as in doubt.
func (n *node) raiseEpoch(context.Context) (any, error) {
	path := filepath.Join(n.Data, epochFile)
	epoch, err := readEpoch(path)
	if err != nil {
		return nil, err
	}
	epoch++
	if err := writeEpoch(path, epoch); err != nil {
		return nil, fmt.Errorf("restore epoch: %w", err)
	}
	return struct {
		Epoch   int64 `json:"restore_epoch"`
		Restart bool  `json:"restart"` // it counts from the next start of serve
	}{epoch, true}, nil
}

// writeEpoch replaces the file at once, so that no crash leaves half a number.
func writeEpoch(path string, epoch int64) error {
	next := path + ".next"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(strconv.FormatInt(epoch, 10) + "\n"); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(next, path)
}
