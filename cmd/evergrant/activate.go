package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
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
	ids, err := a.idsOf(p.ctx, c.Integration, status)
	if err != nil {
		return a.namingIntegrations(p, err)
	}
	return s.each(p, a, ids, path, verb, c.Concurrency)
}

// idsOf are the connections of an integration in a status.
func (a *api) idsOf(ctx context.Context, integration, status string) ([]string, error) {
	q := url.Values{"limit": {"100"}, "integration": {integration}, "status": {status}}
	var ids []string
	for {
		var page wire.List[wire.Connection]
		if err := a.call(ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for _, x := range page.Items {
			ids = append(ids, x.ID)
		}
		if page.Next == nil {
			return ids, nil
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
	ID     string `json:"id"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// each posts to a path of each connection, and reports. A repeat finds those that are left.
func (s Server) each(p *process, a *api, ids []string, path, verb string, atOnce int) error {
	var mu sync.Mutex // guards r
	r := eachReport{Total: len(ids), Statuses: map[string]int{}, Failures: []eachFailure{}}
	b := newBulk(p, len(ids), atOnce)
	stopped := b.run(func(ctx context.Context, n int) error {
		var x wire.Connection
		err := a.call(ctx, http.MethodPost, "/v1/connections/"+ids[n]+path, nil, &x)
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
			r.Failures = append(r.Failures, eachFailure{ids[n], refused.Code, refused.Detail})
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
			p.printf("%s: %s: %s\n", f.ID, f.Code, cleanLines(f.Detail))
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

// statusesOf lists counts by status, sorted.
func statusesOf(counts map[string]int) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf(", %s: %d", name, counts[name])
	}
	return text
}
