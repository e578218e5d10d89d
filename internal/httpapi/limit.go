package httpapi

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of one source in one minute and one process. A key has 256 random bits and
// cannot be guessed at any rate; what the first one bounds is the noise. The others
// bound how many sessions strangers can have stored, where connect is public: one of
// them, and all of them at one integration.
const (
	maxFailures = 60
	maxOpenings = 30
	maxPublic   = 600
)

// maxSources bounds the memory of a limiter. Past it, all further sources of a minute
// count as one.
const maxSources = 10_000

// limiter counts events by source in windows of one minute.
type limiter struct {
	max int // events a window

	mu     sync.Mutex // guards what follows
	window int64      // unix minute
	counts map[string]int
}

// over counts one event and reports whether it is beyond the limit, with the seconds
// until the window ends.
func (l *limiter) over(source string, now time.Time) (wait int64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if minute := now.Unix() / 60; minute != l.window || l.counts == nil {
		l.window, l.counts = minute, map[string]int{}
	}
	if _, seen := l.counts[source]; !seen && len(l.counts) >= maxSources {
		source = ""
	}
	l.counts[source]++
	return 60 - now.Unix()%60, l.counts[source] > l.max
}

// source is where a connection comes from: the IPv4 address, or the /64 that one
// customer of an IPv6 network has. Behind a proxy all share the proxy's.
func source(remoteAddr string) string {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		return ""
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return ""
	}
	return prefix.Addr().WithZone("").String()
}
