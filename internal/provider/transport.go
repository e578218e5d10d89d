package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// TransportOptions are what NewTransport needs to know. The zero value suits
// providers on the Internet.
type TransportOptions struct {
	AllowLoopback bool // 127.0.0.0/8 and ::1
	AllowPrivate  bool // private networks, never link-local addresses and the like
	// TLS is for tests with their own root; nil: the system's. Its MinVersion is
	// raised to TLS 1.2.
	TLS *tls.Config
	// Resolver looks hosts up; nil: the system's.
	Resolver *net.Resolver
}

const (
	// maxHeader bounds an answer's headers, bytes.
	maxHeader = 64 << 10
	// sessions is how many TLS sessions are remembered, so that a new connection
	// to the same host costs less. No early data is ever sent on them.
	sessions = 64
)

// NewTransport returns a transport fit for token requests: HTTP/1.1 (a stream that
// HTTP/2 refuses is repeated by net/http), no proxy from the environment, TLS 1.2
// at least, no transparent decompression, and no connection to addresses of the
// own network, judged after the name was looked up.
//
// Each request has a connection of its own. On a kept one, a server that closes it
// just while we write leaves open whether it acted: a lost answer out of nothing,
// which for a rotating refresh token is dear, while a new connection is cheap.
func NewTransport(o TransportOptions) *http.Transport {
	d := &net.Dialer{
		Resolver: o.Resolver,
		Control: func(_, address string, _ syscall.RawConn) error {
			return o.admit(address)
		},
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return d.DialContext(ctx, network, address)
		},
		TLSClientConfig:        &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(sessions)}, // #nosec G402 -- the oldest version is set below, for o.TLS too
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if o.TLS != nil {
		t.TLSClientConfig = o.TLS.Clone()
	}
	t.TLSClientConfig.MinVersion = max(t.TLSClientConfig.MinVersion, tls.VersionTLS12)
	return t
}

// errAddress is returned by a dial to an address that is not admitted.
var errAddress = errors.New("the host's address is not one that a provider may have")

// admit judges the address that is about to be dialled. Being asked after the
// look-up, it also stops a name that changes its address in between.
func (o TransportOptions) admit(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	a := ap.Addr().Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		if o.AllowLoopback {
			return nil
		}
	case a.IsPrivate(), within(a, "100.64.0.0/10"):
		if o.AllowPrivate && !metadata(a) {
			return nil
		}
	case a.IsGlobalUnicast() && !metadata(a) && !reserved(a):
		return nil
	}
	return errAddress
}

// metadata reports whether a cloud keeps its credentials service there. Most are
// link-local, and so never dialled; these lie in ranges that could be (AWS by IPv6,
// Alibaba, Azure).
func metadata(a netip.Addr) bool {
	switch a {
	case netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"):
		return true
	}
	return false
}

// ErrOwnNetwork is returned by CheckHost.
var ErrOwnNetwork = errors.New("is an address that no provider may have")

// CheckHost judges a host that is spelled as an address, as dialling it would; a name is
// not looked up. Loopback is left to others.
func CheckHost(host string, allowPrivate bool) error {
	a, err := netip.ParseAddr(host)
	if err != nil || a.Unmap().IsLoopback() {
		return nil
	}
	if (TransportOptions{AllowPrivate: allowPrivate}).admit(netip.AddrPortFrom(a, 443).String()) != nil {
		return ErrOwnNetwork
	}
	return nil
}

// reserved reports whether a lies in a range that is no provider's: special purpose
// (RFC 6890), or a wrapping of IPv4 that would hide one.
func reserved(a netip.Addr) bool {
	for _, p := range []string{
		"0.0.0.0/8", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16", "fec0::/10",
	} {
		if within(a, p) {
			return true
		}
	}
	return false
}

func within(a netip.Addr, prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) }
