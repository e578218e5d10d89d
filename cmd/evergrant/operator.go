package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/evergrant/evergrant/internal/wire"
)

// rescueCommand is about new tokens that could not be saved when they came.
type rescueCommand struct {
	Replay rescueReplayCommand `cmd:"" help:"Save them now: under serve the rescue log, on AWS what the rescue queue has given up."`
}

type rescueReplayCommand struct{ Server }

// Run replays until nothing is left that could be.
func (c *rescueReplayCommand) Run(p *process) error { return c.replay(p, "rescue-replay") }

// chunksCommand is about the ids of connections that fell due, on AWS.
type chunksCommand struct {
	Replay chunksReplayCommand `cmd:"" help:"Put chunks that were given up onto their queue again."`
}

type chunksReplayCommand struct{ Server }

// Run replays until nothing is left that could be.
func (c *chunksReplayCommand) Run(p *process) error { return c.replay(p, "chunk-replay") }

func (s Server) replay(p *process, command string) error {
	a, err := s.connect(p)
	if err != nil {
		return err
	}
	var sum wire.ReplayResult
	for more := true; more; {
		var r wire.ReplayResult
		if err := a.call(p.ctx, http.MethodPost, "/v1/admin/"+command, nil, &r); err != nil {
			return err
		}
		sum.Replayed, sum.Pending, more = sum.Replayed+r.Replayed, sum.Pending+r.Pending, r.More
	}
	if s.JSON {
		err = p.printJSON(sum)
	} else {
		p.printf("replayed: %d, still pending: %d\n", sum.Replayed, sum.Pending)
	}
	if err == nil && sum.Pending > 0 {
		err = fmt.Errorf("%d could not be replayed yet; the server's log says why", sum.Pending)
	}
	return err
}

type rotateKeyCommand struct{ Server }

// Run makes new data keys.
func (c *rotateKeyCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	var r wire.RotateResult
	if err := a.call(p.ctx, http.MethodPost, "/v1/admin/rotate-key", nil, &r); err != nil {
		return err
	}
	if c.JSON {
		return p.printJSON(r)
	}
	p.printf("Data keys that seal from now on: flow %d, token %d.\nOlder ones still open what they sealed. To seal all tokens anew at once: evergrant keys reseal\n", r.Flow, r.Token)
	return nil
}

type resealCommand struct{ Server }

// Run goes through all connections, some thousand with each request, and tells how far
// it is.
func (c *resealCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	var sum wire.ResealResult
	for path := "/v1/admin/reseal"; path != ""; {
		var r wire.ResealResult
		if err := a.call(p.ctx, http.MethodPost, path, nil, &r); err != nil {
			return err
		}
		sum.Resealed, sum.Current = sum.Resealed+r.Resealed, sum.Current+r.Current
		sum.Busy, sum.Failed = sum.Busy+r.Busy, sum.Failed+r.Failed
		path = ""
		if r.Next != nil {
			path = "/v1/admin/reseal?cursor=" + url.QueryEscape(*r.Next)
			p.progressf("%d connections so far", sum.Resealed+sum.Current+sum.Busy+sum.Failed)
		}
	}
	p.progressEnd()
	if c.JSON {
		err = p.printJSON(sum)
	} else {
		p.printf("sealed anew: %d, under the newest key already: %d, busy: %d, cannot be opened: %d\n", sum.Resealed, sum.Current, sum.Busy, sum.Failed)
	}
	switch {
	case err != nil:
		return err
	case sum.Failed > 0:
		return fmt.Errorf("%d connections cannot be opened; the server's log names them", sum.Failed)
	case sum.Busy > 0:
		p.sayf("%d were being refreshed, which seals them anew; run it again to see that none is left", sum.Busy)
	}
	return nil
}
