package main

import (
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

// egress is where requests to providers leave. Addresses of the own machine or
// network are for those hosts alone that the configuration names there: a variable
// of another provider, which a user may choose, leads to neither.
type egress struct {
	public *http.Transport
	// byHost are the hosts that may be reached on loopback or a private network.
	byHost map[string]*http.Transport
}

// RoundTrip implements http.RoundTripper.
func (e egress) RoundTrip(r *http.Request) (*http.Response, error) {
	if t, ok := e.byHost[r.URL.Hostname()]; ok {
		return t.RoundTrip(r)
	}
	return e.public.RoundTrip(r)
}

func newProviderClient(c *config.Config, now func() time.Time) *provider.Client {
	out := egress{public: provider.NewTransport(provider.TransportOptions{}), byHost: map[string]*http.Transport{}}
	loopback := false
	for n := range c.Integrations {
		i := &c.Integrations[n]
		for _, host := range hosts(i) {
			switch {
			case isLoopback(host):
				loopback = true
			case i.AllowPrivate:
				out.byHost[host] = provider.NewTransport(provider.TransportOptions{AllowPrivate: true})
			}
		}
	}
	if loopback {
		// All spellings: a discovery document may use another one than the file.
		for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
			out.byHost[host] = provider.NewTransport(provider.TransportOptions{AllowLoopback: true})
		}
	}
	return &provider.Client{Transport: out, Now: now, UserAgent: "evergrant/" + version(), AllowLoopback: loopback}
}

// hosts are those of the integration's endpoints, as far as the configuration knows
// them.
func hosts(i *config.Integration) []string {
	e, err := i.Entry.Resolve(i.Variables)
	if err != nil {
		return nil // a variable that only a connection knows
	}
	var list []string
	for _, address := range []string{
		e.DiscoveryURL, e.TokenEndpoint, e.RefreshEndpoint, e.SecondExchange.Endpoint, e.RevocationEndpoint, e.RevocationRequest.URL, e.UserinfoEndpoint, e.Identity.Endpoint,
	} {
		if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
			list = append(list, u.Hostname())
		}
	}
	return list
}

// isLoopback reports whether host is this machine, by name or address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
