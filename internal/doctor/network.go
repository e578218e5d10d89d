package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

const (
	askTime = 10 * time.Second // for one request
	askers  = 8                // integrations looked at together
	// maxSkew is what a clock may be off: ID tokens and expiry allow a minute.
	maxSkew = 30 * time.Second
)

// Prober asks providers what any browser may ask.
type Prober struct {
	// Provider sends the requests, by its rules: no redirect is followed. Required.
	Provider *provider.Client
	// Public sends those to our own public URL; it follows none either. Required.
	Public *http.Client
	// Now is the clock. Required.
	Now func() time.Time
	// Progress, where set, is told how many integrations were looked at.
	Progress func(done, total int)
}

// probe is one look at the network.
type probe struct {
	Prober
	mu    sync.Mutex
	found []Finding       // guarded by mu
	skews []time.Duration // of this clock against each host's; guarded by mu
	asked map[string]bool // hosts; guarded by mu
}

func (p *probe) add(f ...Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, f...)
}

// Network looks at the way to the providers, and from their users back to us.
func (pr Prober) Network(ctx context.Context, c *config.Config) []Finding {
	p := &probe{Prober: pr, asked: map[string]bool{}}
	var group sync.WaitGroup
	slots, done := make(chan struct{}, askers), 0
	for n := range c.Integrations {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			p.integration(ctx, c, &c.Integrations[n])
			p.mu.Lock()
			defer p.mu.Unlock()
			if done++; p.Progress != nil {
				p.Progress(done, len(c.Integrations))
			}
		})
	}
	group.Wait()
	p.publicURL(ctx, c)
	return append(p.found, p.clock()...)
}

func (p *probe) integration(ctx context.Context, c *config.Config, i *config.Integration) {
	e, err := i.Entry.Resolve(i.Variables)
	if err != nil {
		p.add(Finding{Note, checkEndpoints, i.Name, "its endpoints hold variables that only a connection knows; they were not asked", ""})
		return
	}
	if e.DiscoveryURL != "" {
		m, err := p.discover(ctx, e.DiscoveryURL)
		if err != nil {
			p.add(Finding{Problem, checkEndpoints, i.Name, err.Error(), "Is discovery_url right, and may this machine reach it?"})
			return
		}
		e = e.WithMetadata(m)
		if f, ok := offlineScope(i, e, m.ScopesSupported); ok {
			p.add(f)
		}
	}
	if p.reachable(ctx, i, e) && e.AuthorizationEndpoint != "" && c.PublicURL != "" {
		p.add(p.registration(ctx, c, i, e))
	}
}

func (p *probe) discover(ctx context.Context, address string) (provider.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return p.Provider.Discover(ctx, address)
}

// reachable asks each host of the entry for its front page: whatever it answers, it is
// there, and tells the time.
func (p *probe) reachable(ctx context.Context, i *config.Integration, e provider.Entry) bool {
	there := true
	for _, address := range []string{e.AuthorizationEndpoint, e.TokenEndpoint, e.RefreshEndpoint, e.RevocationEndpoint, e.JWKSURI, e.Identity.Endpoint} {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || !p.first(i.Name+" "+u.Host) {
			continue
		}
		if err := p.greet(ctx, u); err != nil {
			there = false
			p.add(Finding{
				Problem, checkEndpoints, i.Name, fmt.Sprintf("%s cannot be reached from here: %v", u.Host, err),
				"Look at DNS, firewall and proxy of this machine (a proxy of the environment is not used), and at the provider's status page.",
			})
		}
	}
	if there {
		p.add(Finding{Fine, checkEndpoints, i.Name, "all its hosts answer", ""})
	}
	return there
}

func (p *probe) first(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.asked[what]
	p.asked[what] = true
	return !seen
}

func (p *probe) greet(ctx context.Context, u *url.URL) error {
	began := p.Now()
	resp, err := p.get(ctx, u.Scheme+"://"+u.Host+"/")
	if err != nil {
		return err
	}
	ended := p.Now()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.skews = append(p.skews, skewOf(date, began, ended))
	}
	return nil
}

// skewOf is how far our clock is ahead of another one that showed date, in whole seconds,
// somewhere between two moments of ours.
func skewOf(date, began, ended time.Time) time.Duration {
	switch {
	case began.After(date.Add(time.Second)):
		return began.Sub(date.Add(time.Second))
	case ended.Before(date):
		return ended.Sub(date)
	}
	return 0
}

// get asks for a page and throws it away.
func (p *probe) get(ctx context.Context, address string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	r.Header.Set("User-Agent", p.Provider.UserAgent)
	resp, err := p.Provider.Transport.RoundTrip(r)
	if err != nil {
		return nil, withoutURL(err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close() // its status and headers say all
	return resp, nil
}

// withoutURL is what came of a connection, without the address and its query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// clock compares ours with the median of theirs: one of them may be wrong, most are not.
func (p *probe) clock() []Finding {
	if len(p.skews) == 0 {
		return nil
	}
	slices.Sort(p.skews)
	return []Finding{skewed("this machine", p.skews[len(p.skews)/2], fmt.Sprintf("%d hosts of providers", len(p.skews)))}
}

func skewed(whose string, by time.Duration, than string) Finding {
	direction := "ahead of"
	if by < 0 {
		direction = "behind"
	}
	if by.Abs() <= maxSkew {
		return Finding{Fine, checkClock, "", fmt.Sprintf("the clock of %s agrees with %s", whose, than), ""}
	}
	return Finding{
		Problem, checkClock, "", fmt.Sprintf("the clock of %s is %d s %s %s", whose, int(by.Abs().Seconds()), direction, than),
		"Have it set by NTP. Tokens are refreshed too late or too soon, and sessions and states live wrong.",
	}
}

// registration asks the authorization endpoint what it asks every user's browser for, and
// throws the page away. A provider that knows neither the client nor the redirect URI
// says so before anybody signs in, if it says so at all.
func (p *probe) registration(ctx context.Context, c *config.Config, i *config.Integration, e provider.Entry) Finding {
	uri := i.RedirectURI(c.PublicURL)
	address, err := e.AuthorizeURL(provider.AuthorizeRequest{
		ClientID: i.Current().ClientID, RedirectURI: uri, State: "evergrant-doctor-looks-and-does-nothing",
		CodeChallenge: provider.Challenge(provider.NewVerifier()), Scopes: i.Scopes, Variables: i.Variables,
	})
	if err != nil {
		return Finding{Note, checkRedirectURI, i.Name, "no authorization request can be made without a connection: " + err.Error(), ""}
	}
	resp, err := p.get(ctx, address)
	if err != nil {
		return Finding{Note, checkRedirectURI, i.Name, "the authorization endpoint did not answer: " + err.Error(), ""}
	}
	register := "Register exactly " + uri + " at the provider, for this client id, and compare the scopes with those that the client may ask for."
	location, _ := resp.Location()
	switch {
	case location != nil && strings.HasPrefix(location.String(), uri) && location.Query().Get("error") != "":
		return Finding{Problem, checkRedirectURI, i.Name, "the provider refuses the authorization request: " + codeOf(location.Query().Get("error")), register}
	case slices.Contains([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusUnprocessableEntity}, resp.StatusCode):
		return Finding{Problem, checkRedirectURI, i.Name, fmt.Sprintf("the provider refuses the authorization request (HTTP status %d), as it does for an unknown client id or redirect URI", resp.StatusCode), register}
	case resp.StatusCode >= http.StatusBadRequest:
		return Finding{Note, checkRedirectURI, i.Name, fmt.Sprintf("the authorization endpoint answers programs with HTTP status %d, so it cannot be told whether the redirect URI is registered", resp.StatusCode), register}
	}
	return Finding{Fine, checkRedirectURI, i.Name, "the provider takes an authorization request with " + uri, ""}
}

// codeOf is an error code of OAuth as it may be shown: what else stands there is the
// provider's text.
func codeOf(s string) string {
	if len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "an error"
	}
	return s
}

// publicURL asks for our own health by the address that providers send browsers back to.
func (p *probe) publicURL(ctx context.Context, c *config.Config) {
	if c.PublicURL == "" {
		return
	}
	wrong := func(what string) {
		p.add(Finding{
			Problem, checkPublicURL, "", c.PublicURL + " " + what + ": browsers cannot come back from a provider",
			"Let its DNS and proxy lead to evergrant serve or to the API Gateway, with path and query as they are.",
		})
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.PublicURL+"/healthz", nil)
	if err != nil {
		wrong("is no URL")
		return
	}
	resp, err := p.Public.Do(r)
	if err != nil {
		wrong(fmt.Sprintf("cannot be reached from here (%v)", withoutURL(err)))
		return
	}
	defer func() { _ = resp.Body.Close() }() // only read
	var health struct {
		Status string `json:"status"`
		Store  string `json:"store"`
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&health) != nil || health.Status == "" || health.Store == "" {
		wrong("is answered by something else than Evergrant")
		return
	}
	p.add(Finding{Fine, checkPublicURL, "", c.PublicURL + " leads to Evergrant", ""})
}
