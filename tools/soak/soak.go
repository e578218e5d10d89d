package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// options are those of the command line.
type options struct {
	length, life, progress time.Duration
	connections            int
	lost                   float64
	binary                 string
	root                   string // of the repository; "": here
	reference              string // folder of oidc-provider; "": without it
	log                    io.Writer
}

// soaking is one soak under way.
type soaking struct {
	options
	sites  []*site
	server *server
	grants []*grant
	began  time.Time
}

// soak runs it and reports. It is an error if a connection was lost that could be saved.
func soak(ctx context.Context, o options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	folder, err := os.MkdirTemp("", "evergrant-soak-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // what is left of it is the system's to clear
	run := &soaking{options: o, began: time.Now()}
	tokens, err := run.prepare(ctx, folder)
	if err != nil {
		return err
	}
	if err := run.server.start(); err != nil {
		return err
	}
	defer func() { run.server.stop() }()
	if err := run.importAll(ctx, tokens); err != nil {
		return err
	}
	run.printf("%d connections imported; killing for %s", len(run.grants), o.length)
	if err := run.torment(ctx); err != nil {
		return err
	}
	ended := time.Now()
	run.printf("no more kills and losses; waiting until all is settled")
	states, err := run.settle(ctx, ended)
	if err != nil {
		return err
	}
	return run.report(states)
}

func (run *soaking) printf(format string, args ...any) {
	// A reader that went away is no reason to end.
	_, _ = fmt.Fprintf(run.log, "%6.0fs  %s\n", time.Since(run.began).Seconds(), fmt.Sprintf(format, args...))
}

// prepare makes the sites with their grants, and the server's configuration. It returns
// the first refresh token of each grant.
func (run *soaking) prepare(ctx context.Context, folder string) (map[*grant]string, error) {
	tokens := map[*grant]string{}
	for n, p := range profiles(run.reference != "") {
		s, err := newSite(n, p, run.life)
		if err != nil {
			return nil, err
		}
		run.sites = append(run.sites, s)
		issue := s.issue
		if p.oidc {
			server, err := s.startOIDC(ctx, run.root, run.reference)
			if err != nil {
				return nil, err
			}
			issue = server.issue
		}
		for range max(1, p.share*run.connections/1000) {
			token, err := issue()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			g := s.know(token)
			run.grants, tokens[g] = append(run.grants, g), token
		}
	}
	var err error
	run.server, err = newServer(run.binary, folder, run.sites)
	return tokens, err
}

// importAll gives the refresh tokens to Evergrant, which refreshes each at once: one
// after the other over a whole period, so that the refreshes never come all together.
func (run *soaking) importAll(ctx context.Context, tokens map[*grant]string) error {
	var group sync.WaitGroup
	errs := make(chan error, len(run.grants))
	slots := make(chan struct{}, 32)
	pace := time.NewTicker(run.life * 3 / 4 / time.Duration(len(run.grants)))
	defer pace.Stop()
	for n, g := range run.grants {
		<-pace.C
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			var c wire.Connection
			err := run.server.call(ctx, "POST", "/v1/connections", wire.ImportRequest{
				Integration: g.site.integration, Owner: fmt.Sprintf("owner-%d", n), RefreshToken: tokens[g],
			}, &c)
			g.connection = c.ID
			if err != nil {
				errs <- fmt.Errorf("import at %s: %w", g.site.name, err)
			}
		})
	}
	group.Wait()
	close(errs)
	return <-errs // nil of a closed, empty one
}

// torment loses answers and kills the server until the time is over.
func (run *soaking) torment(ctx context.Context) error {
	end := time.Now().Add(run.length)
	for _, s := range run.sites {
		s.lose(run.lost)
	}
	defer func() {
		for _, s := range run.sites {
			s.lose(0)
		}
	}()
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { run.progressUntil(stop) })
	defer group.Wait()
	defer close(stop)
	for time.Now().Before(end) {
		if err := run.awaitKill(ctx, end); err != nil {
			return err
		}
		if time.Now().After(end) {
			return nil
		}
		run.server.kill()
		at := time.Now()
		for _, s := range run.sites {
			s.killed(at)
		}
		run.server.kills++
		if err := run.server.start(); err != nil {
			return err
		}
	}
	return nil
}

// awaitKill waits two to eight seconds, and then for a few requests more, so that a kill
// always comes amid refreshes: at one whose answer was not yet stored.
func (run *soaking) awaitKill(ctx context.Context, end time.Time) error {
	pause := time.NewTimer(2*time.Second + rand.N(6*time.Second))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	wanted := run.requests() + 1 + rand.IntN(10)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	over := time.NewTimer(time.Until(end))
	defer over.Stop()
	for run.requests() < wanted {
		select {
		case <-look.C:
		case <-over.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (run *soaking) requests() int {
	n := 0
	for _, s := range run.sites {
		n += s.counted().requests
	}
	return n
}

func (run *soaking) progressUntil(stop <-chan struct{}) {
	tick := time.NewTicker(run.progress)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			var all siteCounts
			for _, s := range run.sites {
				c := s.counted()
				all.requests, all.answered, all.lost, all.refused = all.requests+c.requests, all.answered+c.answered, all.lost+c.lost, all.refused+c.refused
			}
			run.printf("%d requests, %d answered, %d lost, %d refused", all.requests, all.answered, all.lost, all.refused)
		case <-stop:
			return
		}
	}
}

// settleTime is how long the end may take: a lease, the horizon and a late retry.
const settleTime = 4 * time.Minute

// settle waits until each connection that could be saved was refreshed once more or is
// given up, and returns the status of all: "active", or another with its reason. Where
// nothing can be saved, so many refusals may hold an integration back for longer than it
// is worth to wait; there each stands as it does by then.
func (run *soaking) settle(ctx context.Context, since time.Time) (map[*grant]string, error) {
	states := map[*grant]string{}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	end := time.Now().Add(settleTime)
	for {
		awaited := 0
		for _, g := range run.grants {
			if states[g] != "" {
				continue
			}
			switch status := run.status(ctx, g); {
			case status != "active":
				states[g] = status
			case g.refreshedSince(since):
				states[g] = status
			case g.site.savable:
				awaited++
			}
		}
		if awaited == 0 {
			return run.confirm(ctx, states)
		}
		if time.Now().After(end) {
			return nil, run.unsettled(ctx, states)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// unsettled tells of a few connections that came to no end, as the API shows them.
func (run *soaking) unsettled(ctx context.Context, states map[*grant]string) error {
	n := 0
	for _, g := range run.grants {
		if states[g] != "" || !g.site.savable {
			continue
		}
		if n++; n > 5 {
			continue
		}
		var c wire.Connection
		if err := run.server.call(ctx, "GET", "/v1/connections/"+g.connection, nil, &c); err != nil {
			return err
		}
		run.printf("unsettled at %s: last request %s, %s, generation %d, expires %s, next refresh %s, journal %v", g.site.name, g.asked.UTC().Format(time.TimeOnly),
			c.Status, c.Generation, clock(c.ExpiresAt), clock(c.NextRefreshAt), c.Journal)
	}
	return fmt.Errorf("%d connections were neither refreshed nor given up within %s", n, settleTime)
}

func clock(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.TimeOnly)
}

// waiting is the state of an active connection that was not refreshed again.
const waiting = "active, waiting"

// confirm asks for the status of those that were seen to be refreshed, or are waiting.
func (run *soaking) confirm(ctx context.Context, states map[*grant]string) (map[*grant]string, error) {
	for _, g := range run.grants {
		if known := states[g]; known == "" || known == "active" {
			states[g] = run.status(ctx, g)
			if known == "" && states[g] == "active" {
				states[g] = waiting
			}
		}
	}
	return states, ctx.Err()
}

func (run *soaking) status(ctx context.Context, g *grant) string {
	var c wire.Connection
	if err := run.server.call(ctx, "GET", "/v1/connections/"+g.connection, nil, &c); err != nil {
		return "unreadable: " + err.Error()
	}
	if c.Reason != nil {
		return c.Status + " " + *c.Reason
	}
	return c.Status
}

var errLost = errors.New("connections were lost that their provider's profile could save")

// report prints what came of it, and judges.
func (run *soaking) report(states map[*grant]string) error {
	run.printf("%d kills; refreshes by outcome: %s", run.server.kills, list(run.server.counted()))
	wrong := 0
	var late []time.Duration
	for _, s := range run.sites {
		ended, bad := map[string]int{}, 0
		for _, g := range run.grants {
			if g.site != s {
				continue
			}
			ended[states[g]]++
			// A loss needs a cause: an answer that was lost, where the profile has no remedy.
			if states[g] != "active" && states[g] != waiting && (s.savable || !g.exposed) {
				bad++
			}
		}
		wrong += bad
		c := s.counted()
		run.printf("%s: %s; %d requests, %d answers lost; lost without need: %d", s.name, list(ended), c.requests, c.lost, bad)
		late = append(late, s.late...)
	}
	slices.Sort(late)
	if len(late) > 0 {
		at := func(percent int) float64 { return late[(len(late)-1)*percent/100].Seconds() }
		run.printf("lateness of %d refreshes after an answer, restarts included: p50 %.1f s, p90 %.1f s, p99 %.1f s, max %.1f s",
			len(late), at(50), at(90), at(99), at(100))
	}
	if wrong > 0 {
		return fmt.Errorf("%d %w", wrong, errLost)
	}
	run.printf("no connection was lost that could be saved")
	return nil
}

func list(counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
