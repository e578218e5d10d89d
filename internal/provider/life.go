package provider

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxLife is the longest life that is believed: 20 years, seconds. Linear
	// gives ten.
	maxLife = 631152000
	// milliseconds is the number from which an absolute time counts as ms: as
	// seconds it would lie in the year 5138.
	milliseconds = 1e11
	// maxRetryAfter caps what a provider may ask us to wait, seconds.
	maxRetryAfter = 3600
)

var (
	decimal = pattern(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)
	// rfc3339 is stricter than time.Parse, which takes a comma too.
	rfc3339 = pattern(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
)

// life returns the access token's life in seconds: the first usable of four
// fields, else the entry's default, else 0. An odd value is never an error. What
// other fields tell (created_at, ext_expires_in, the refresh token's life) has no
// say.
func (c *classification) life(from *object) int64 {
	expiresIn, ok := seconds(from.get("expires_in"))
	switch c.entry.ExpiresInUnit {
	case "ms":
		expiresIn /= 1000
	case "unix":
		expiresIn, ok = until(from.get("expires_in"), c.now)
	}
	if n := usable(expiresIn); ok && n > 0 {
		return n
	}
	for _, key := range []string{"expires_at", "expires_on"} {
		if s, ok := until(from.get(key), c.now); ok && usable(s) > 0 {
			return usable(s)
		}
	}
	if s, ok := seconds(from.get("expires")); ok && usable(s) > 0 {
		return usable(s)
	}
	return usable(float64(c.entry.AccessTokenTTL))
}

// usable returns whole seconds between 1 and maxLife, or 0.
func usable(s float64) int64 {
	if s = math.Trunc(s); s >= 1 && s <= maxLife {
		return int64(s)
	}
	return 0
}

// seconds reads a JSON number, or a string that holds a decimal: several servers
// quote theirs, and PayPal's and Azure's came with a fraction.
func seconds(v any) (float64, bool) {
	s, ok := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		s, ok = n.String(), true
	}
	s = strings.Trim(s, blank)
	if !ok || !decimal().MatchString(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// until reads an absolute time, in seconds, in ms or as RFC 3339, and returns the
// seconds from now until then.
func until(v any, now time.Time) (float64, bool) {
	if s, ok := v.(string); ok && rfc3339().MatchString(s) {
		t, err := time.Parse(time.RFC3339, s)
		return t.Sub(now).Seconds(), err == nil
	}
	f, ok := seconds(v)
	if f >= milliseconds {
		f /= 1000
	}
	return f - float64(now.UnixNano())/1e9, ok
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds, or a date.
func retryAfter(s string, now time.Time) int64 {
	s = strings.TrimSpace(s)
	if s != "" && strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return maxRetryAfter // more digits than an int64 holds
		}
		return min(n, maxRetryAfter)
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return NoRetryAfter
	}
	return min(max(int64(t.Sub(now)/time.Second), 0), maxRetryAfter)
}
