package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// maxReturnTo bounds a return address, in bytes; browsers and gateways take 8 KB of
// URL, and Evergrant appends its own parameters.
const maxReturnTo = 2048

// AllowsReturnTo reports whether a browser may be sent back to u: u must be spelled
// without any trick and match one of i.ReturnTo. The match is exact in scheme, host
// and port as they are spelled, and in the path, or for a pattern that ends in /* in
// the part before the star. Any query is allowed, but for parameters named
// evergrant_…, with which somebody could put an answer of their own before ours.
//
// What browsers, proxies and frameworks read in different ways is refused, not
// normalized: user info, backslashes, //, dot segments, also percent-encoded ones,
// controls, fragments, letters beyond ASCII.
func (i *Integration) AllowsReturnTo(u string) bool {
	address, err := parseReturnTo(u)
	if err != nil {
		return false
	}
	for _, text := range i.ReturnTo {
		pattern, err := parseReturnToPattern(text)
		if err == nil && pattern.matches(address) {
			return true
		}
	}
	return false
}

// returnTo is a return address taken apart. origin is scheme, host and port as
// spelled; path begins with a slash.
type returnTo struct {
	origin, path string
	prefix       bool // of a pattern: path is the part before the star, and ends in a slash
}

func (p returnTo) matches(address returnTo) bool {
	if p.origin != address.origin {
		return false
	}
	if p.prefix {
		return strings.HasPrefix(address.path, p.path)
	}
	return address.path == p.path
}

func parseReturnToPattern(text string) (returnTo, error) {
	if strings.Contains(text, "?") {
		return returnTo{}, errors.New("must not hold a query: any query is accepted")
	}
	plain, prefix := strings.CutSuffix(text, "/*")
	if prefix {
		plain += "/"
	}
	if strings.Contains(plain, "*") {
		return returnTo{}, errors.New("may hold * as the last path part only, such as https://app.example.com/settings/*")
	}
	pattern, err := parseReturnTo(plain)
	pattern.prefix = prefix
	return pattern, err
}

func parseReturnTo(u string) (returnTo, error) {
	if err := checkSpelling(u); err != nil {
		return returnTo{}, err
	}
	scheme, rest, found := strings.Cut(u, "://")
	if !found || scheme != "https" && scheme != "http" {
		return returnTo{}, errors.New("must begin with https:// (http:// on loopback only)")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	path = "/" + path
	host, err := parseAuthority(authority)
	if err != nil {
		return returnTo{}, err
	}
	if scheme == "http" && !loopbackHost(host) {
		return returnTo{}, errors.New("must be https, since it is not on loopback")
	}
	if err := checkPath(path); err != nil {
		return returnTo{}, err
	}
	if err := checkQuery(query); err != nil {
		return returnTo{}, err
	}
	return returnTo{origin: scheme + "://" + authority, path: path}, nil
}

// checkSpelling admits the characters of a URI (RFC 3986 section 2) without the
// fragment mark, and complete percent-encodings of anything but controls.
func checkSpelling(u string) error {
	if len(u) > maxReturnTo {
		return errors.New("is longer than 2048 characters")
	}
	for n := 0; n < len(u); n++ {
		c := u[n]
		switch {
		case c == '#':
			return errors.New("must not hold a fragment")
		case c == '%':
			if n+2 >= len(u) || !isHex(u[n+1]) || !isHex(u[n+2]) {
				return errors.New("holds a % that encodes nothing")
			}
			if control := u[n+1] == '0' || u[n+1] == '1' || strings.EqualFold(u[n+1:n+3], "7f"); control {
				return errors.New("holds an encoded control character")
			}
		case !isAlphanumeric(c) && strings.IndexByte("-._~:/?[]@!$&'()*+,;=", c) < 0:
			return errors.New("holds a character that a URL cannot have; percent-encode it")
		}
	}
	return nil
}

// parseAuthority returns the host of host, host:port or [address]:port. Only one
// spelling of each host is admitted: lower case, no trailing dot, and no number but
// an IP address in its usual form, since browsers read 0x7f.1 as one.
func parseAuthority(authority string) (host string, err error) {
	if strings.Contains(authority, "@") {
		return "", errors.New("must not hold a user name")
	}
	host = authority
	if name, port, found := cutPort(authority); found {
		if host = name; !plainPort(port) {
			return "", errors.New("holds a port that is none")
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); !closed || err != nil || addr.String() != inner {
			return "", errors.New("holds an IPv6 address that is none, or not in its usual form")
		}
		return inner, nil
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !plainLabel(label) {
			return "", errors.New("must have a plain host: lower case, no trailing dot")
		}
	}
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		if addr, err := netip.ParseAddr(host); err != nil || addr.String() != host {
			return "", errors.New("holds an IP address that is none, or not in its usual form")
		}
	}
	return host, nil
}

func cutPort(authority string) (host, port string, found bool) {
	n := strings.LastIndexByte(authority, ':')
	if n < 0 || strings.HasSuffix(authority, "]") {
		return authority, "", false
	}
	return authority[:n], authority[n+1:], true
}

// plainPort: 1 to 65535 without leading zeros.
func plainPort(port string) bool {
	if port == "" || len(port) > 5 || port[0] == '0' {
		return false
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

func plainLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for n := range len(label) {
		if c := label[n]; !isAlphanumeric(c) && c != '-' || c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}

// checkPath refuses what may name another path once somebody has decoded or cleaned
// it. An encoded percent sign is refused since it may hide another encoding.
func checkPath(path string) error {
	if strings.Contains(path, "//") {
		return errors.New("must not hold // in its path")
	}
	if strings.ContainsAny(path, "[]") {
		return errors.New("must not hold brackets in its path")
	}
	for _, segment := range strings.Split(path, "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil || strings.ContainsAny(plain, `/\%`) {
			return errors.New("must not hold an encoded slash, backslash or percent sign in its path")
		}
		plain, _, _ = strings.Cut(plain, ";") // Java servers drop what follows
		if plain == "." || plain == ".." {
			return errors.New("must not hold dot segments")
		}
	}
	return nil
}

func checkQuery(query string) error {
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil || strings.HasPrefix(strings.ToLower(strings.TrimSpace(plain)), "evergrant_") {
			return errors.New("must not hold parameters named evergrant_…")
		}
	}
	return nil
}

// loopbackHost reports whether host (without brackets) is this machine: localhost,
// 127.0.0.0/8 or ::1 (RFC 8252 section 7.3; RFC 6761 section 6.3).
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loopbackURL reports whether u is a URL on this machine.
func loopbackURL(u string) bool {
	parsed, err := url.Parse(u)
	return err == nil && loopbackHost(parsed.Hostname())
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
