package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// reviveCommand takes back the verdicts of an incident.
type reviveCommand struct {
	Server
	Integration string `short:"i" required:"" help:"Name of the integration."`
	Since       string `required:"" placeholder:"TIME" help:"The beginning of the incident: 2026-03-01T12:00:00Z, or how long ago: 3h."`
}

// Run repeats the request until the server has gone through all of them.
func (c *reviveCommand) Run(p *process) error {
	since, err := sinceWhen(c.Since, time.Now())
	if err != nil {
		return err
	}
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	var sum wire.ReviveResult
	for more := true; more; {
		var r wire.ReviveResult
		if err := a.call(p.ctx, http.MethodPost, "/v1/admin/revive", wire.ReviveRequest{Integration: c.Integration, Since: since}, &r); err != nil {
			return err
		}
		sum.Recovered, sum.Refused, sum.Reopened = sum.Recovered+r.Recovered, sum.Refused+r.Refused, sum.Reopened+r.Reopened
		sum.Stopped = r.Stopped
		more = r.More && r.Stopped == nil
		p.progressf("%d connections so far", sum.Recovered+sum.Refused+sum.Reopened)
	}
	p.progressEnd()
	if c.JSON {
		return p.printJSON(sum)
	}
	p.printf("recovered: %d, reopened for the schedule: %d, refused again: %d\n", sum.Recovered, sum.Reopened, sum.Refused)
	if sum.Stopped != nil {
		return fmt.Errorf("stopped: %s", *sum.Stopped)
	}
	return nil
}

// sinceWhen reads a time, or how long ago it was.
func sinceWhen(s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago > 0 {
		return now.Add(-ago).UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("--since must be a time such as 2026-03-01T12:00:00Z, or a span such as 3h")
	}
	return t.UTC(), nil
}
