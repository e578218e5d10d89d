package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// OwnHosts are the hosts that the integration's configuration places on this machine or,
// with allow_private, wherever its network is: those of its endpoints, in lower case.
// All others must be on the Internet.
func (i *Integration) OwnHosts() (loopback, private []string) {
	e, err := i.Entry.Resolve(i.Variables)
	if err != nil {
		return nil, nil // a variable without a value: nothing can be sent there
	}
	for _, host := range hostsOf(e) {
		switch {
		case loopbackHost(host):
			loopback = append(loopback, host)
		case i.AllowPrivate:
			private = append(private, host)
		}
	}
	return loopback, private
}

// hostsOf are the hosts that requests are sent to for the entry.
func hostsOf(e provider.Entry) []string {
	var list []string
	for _, address := range e.RequestEndpoints() {
		if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
			list = append(list, strings.ToLower(u.Hostname()))
		}
	}
	return list
}

// MayReach reports whether requests for integration i may go to the endpoints of e, which
// is its entry as completed by a discovery document. Whoever writes that document must
// not send our secrets to a host of the own network that was opened for another
// integration. The addresses of all other hosts are judged when they are dialled.
func (c *Config) MayReach(i *Integration, e provider.Entry) bool {
	for _, host := range hostsOf(e) {
		if loopbackHost(host) {
			if own, _ := i.OwnHosts(); len(own) == 0 {
				return false
			}
		} else if !c.open(i, host) {
			return false
		}
	}
	return true
}

// open reports whether a host is open to the integration: it is to all that is open to
// none in particular.
func (c *Config) open(i *Integration, host string) bool {
	elsewhere := false
	for n := range c.Integrations {
		other := &c.Integrations[n]
		if !other.AllowPrivate {
			continue
		}
		if _, private := other.OwnHosts(); slices.Contains(private, host) {
			if other == i {
				return true
			}
			elsewhere = true
		}
	}
	return !elsewhere
}
