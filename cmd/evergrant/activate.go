package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/wire"
)

// activateCommand begins to refresh what was imported with --hold.
type activateCommand struct {
	Server
	ID          string `arg:"" optional:"" help:"The connection, conn_…"`
	Integration string `short:"i" help:"All held connections of an integration."`
	Concurrency int    `default:"8" help:"How many at once."`
}

// Run activates one and shows it, or all of an integration with a report.
func (c *activateCommand) Run(p *process) error {
	return c.change(p, *c, "held", "/activate", "activated")
}

// change posts to a path of one connection, or of all of an integration in a status.
func (s Server) change(p *process, c activateCommand, status, path, verb string) error {
	if (c.ID == "") == (c.Integration == "") {
		return usagef("name one connection, or by --integration those of an integration")
	}
	if c.Concurrency < 1 || c.Concurrency > 64 {
		return usagef("--concurrency is 1 to 64")
	}
	if c.ID != "" {
		a, at, err := Target{Server: s, ID: c.ID}.open(p)
		if err != nil {
			return err
		}
		var x wire.Connection
		if err := a.call(p.ctx, http.MethodPost, at+path, nil, &x); err != nil {
			return err
		}
		return s.print(p, x)
	}
	a, err := s.connect(p)
	if err != nil {
		return err
	}
	found, err := a.inStatus(p.ctx, c.Integration, status)
	if err == nil && len(found) == 0 {
		err = a.hasIntegration(p, c.Integration)
	}
	if err != nil {
		return err
	}
	return s.each(p, a, found, path, verb, c.Concurrency)
}

// inStatus are the connections of an integration in a status.
func (a *api) inStatus(ctx context.Context, integration, status string) ([]wire.Connection, error) {
	q := url.Values{"limit": {"100"}, "integration": {integration}, "status": {status}}
	var found []wire.Connection
	for {
		var page wire.List[wire.Connection]
		if err := a.call(ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		found = append(found, page.Items...)
		if page.Next == nil {
			return found, nil
		}
		q.Set("cursor", *page.Next)
	}
}

// eachReport is what became of a change of many connections.
type eachReport struct {
	Total    int            `json:"total"`
	Done     int            `json:"done"`
	Statuses map[string]int `json:"statuses"` // of the connections as they are now
	Failures []eachFailure  `json:"failures"`
	Left     int            `json:"left"` // the run ended before
}

type eachFailure struct {
	ID          string `json:"id"`
	Integration string `json:"integration,omitempty"`
	Owner       string `json:"owner,omitempty"`
	ExternalID  string `json:"external_id,omitempty"` // "" where there is none
	Code        string `json:"code"`
	Detail      string `json:"detail"`
	Remedy      string `json:"remedy,omitempty"` // "" where the detail says all
}

// each posts to a path of each connection, and reports. A repeat finds those that are left.
func (s Server) each(p *process, a *api, all []wire.Connection, path, verb string, atOnce int) error {
	var mu sync.Mutex // guards r
	r := eachReport{Total: len(all), Statuses: map[string]int{}, Failures: []eachFailure{}}
	b := newBulk(p, len(all), atOnce)
	stopped := b.run(func(ctx context.Context, n int) error {
		var x wire.Connection
		err := a.call(ctx, http.MethodPost, "/v1/connections/"+all[n].ID+path, nil, &x)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			r.Done++
			r.Statuses[x.Status]++
		}
		return err
	}, func(n int, err error) {
		if refused := (apiError{}); errors.As(err, &refused) {
			mu.Lock()
			defer mu.Unlock()
			x := all[n]
			r.Failures = append(r.Failures, eachFailure{x.ID, x.Integration, x.Owner, x.ExternalID, refused.Code, refused.Detail, remedyFor(refused.Code)})
		}
	})
	r.Left = r.Total - b.done
	return s.report(p, r, verb, stopped)
}

// report prints what became of many, and ends badly if not all is well.
func (s Server) report(p *process, r eachReport, verb string, stopped error) error {
	if s.JSON {
		if err := p.printJSON(r); err != nil {
			return err
		}
	} else {
		for _, f := range r.Failures {
			p.printf("%s: %s: %s\n", clean(f.name()), f.Code, cleanLines(f.Detail))
			if f.Remedy != "" {
				p.printf("    %s\n", clean(f.Remedy))
			}
		}
		p.printf("%s: %d of %d%s\n", verb, r.Done, r.Total, statusesOf(r.Statuses))
	}
	switch {
	case stopped != nil:
		return fmt.Errorf("%w\n%d are left; the same command goes on with them", stopped, r.Left)
	case len(r.Failures) > 0:
		return fmt.Errorf("%d of %d were refused", len(r.Failures), r.Total)
	}
	return nil
}

// name is by which an operator finds the connection again, and its row in what was imported.
func (f eachFailure) name() string {
	if f.Integration == "" {
		return f.ID // of a sealed export, which tells no more
	}
	name := f.ID + " (" + f.Integration + ", owner " + f.Owner
	if f.ExternalID != "" {
		name += ", external id " + f.ExternalID
	}
	return name + ")"
}

// statusesOf lists counts by status, sorted: the statuses as they are after the change.
func statusesOf(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(parts) == 0 {
		return ""
	}
	return "; now " + strings.Join(parts, ", ")
}
