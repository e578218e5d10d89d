// Package egress is where requests to providers leave: one client that reaches hosts on
// the Internet, and of the own machine and network those alone that the configuration
// names there, by host, so that opening it for one provider opens it for no other.
package egress

import (
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

// New returns the client for the providers of a configuration.
func New(c *config.Config, now func() time.Time, userAgent string) *provider.Client {
	out := byHost{public: provider.NewTransport(provider.TransportOptions{}), own: map[string]*http.Transport{}}
	onLoopback := false
	for n := range c.Integrations {
		loopback, private := c.Integrations[n].OwnHosts()
		for _, host := range private {
			out.own[host] = provider.NewTransport(provider.TransportOptions{AllowPrivate: true})
		}
		for _, host := range loopback {
			onLoopback = true
			out.own[host] = provider.NewTransport(provider.TransportOptions{AllowLoopback: true})
		}
	}
	if onLoopback {
		// All spellings: a discovery document may use another one than the file.
		for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
			out.own[host] = provider.NewTransport(provider.TransportOptions{AllowLoopback: true})
		}
	}
	return &provider.Client{Transport: out, Now: now, UserAgent: userAgent, AllowLoopback: onLoopback}
}

// byHost chooses the transport of a request. What a host's name may lead to is judged
// there, after the name was looked up.
type byHost struct {
	public *http.Transport
	own    map[string]*http.Transport
}

// RoundTrip implements http.RoundTripper.
func (b byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if t, ok := b.own[strings.ToLower(r.URL.Hostname())]; ok {
		return t.RoundTrip(r)
	}
	return b.public.RoundTrip(r)
}
