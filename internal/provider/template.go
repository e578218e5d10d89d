package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// variable finds {name} in an endpoint.
var variable = regexp.MustCompile(`\{([a-z][a-z0-9_]*)\}`)

// Resolve returns the entry with vars, and where they lack one the entry's
// defaults, put into its endpoints. Each value must match its pattern whole. The
// values may come from a user, so each built URL is then looked at again: it must
// still have the scheme, the literal ends of the host, the port and the query
// that its template declares, and no user info.
func (e Entry) Resolve(vars map[string]string) (Entry, error) {
	if len(e.Variables) == 0 {
		return e, nil
	}
	values := maps.Clone(e.DefaultVariables)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, vars)
	for name, pattern := range e.Variables {
		if v, ok := values[name]; ok && (!matchesWhole(pattern, v) || unfit(v)) {
			return Entry{}, fmt.Errorf("variable %s does not have the form that the provider entry demands", name)
		}
	}
	for name, field := range e.endpoints() {
		built, err := expand(*field, values, e.Variables)
		if err != nil {
			return Entry{}, fmt.Errorf("%s: %w", name, err)
		}
		*field = built
	}
	return e, nil
}

// unfit reports whether a value holds what could end a host or a path, however
// generous its pattern.
func unfit(v string) bool {
	return strings.ContainsAny(v, `?#@%\`) || strings.Contains(v, "..") || strings.Contains(v, "//") || !visible(v)
}

// endpoints returns the URLs of e by their JSON names. The receiver is a pointer
// to a copy: Resolve writes through it.
func (e *Entry) endpoints() map[string]*string {
	return map[string]*string{
		"issuer":                   &e.Issuer,
		"discovery_url":            &e.DiscoveryURL,
		"authorization_endpoint":   &e.AuthorizationEndpoint,
		"token_endpoint":           &e.TokenEndpoint,
		"revocation_endpoint":      &e.RevocationEndpoint,
		"userinfo_endpoint":        &e.UserinfoEndpoint,
		"jwks_uri":                 &e.JWKSURI,
		"refresh_endpoint":         &e.RefreshEndpoint,
		"second_exchange.endpoint": &e.SecondExchange.Endpoint,
		"identity.endpoint":        &e.Identity.Endpoint,
	}
}

// expand fills a template in.
func expand(template string, values, declared map[string]string) (string, error) {
	var missing error
	built := variable.ReplaceAllStringFunc(template, func(m string) string {
		name := m[1 : len(m)-1]
		_, known := declared[name]
		v, given := values[name]
		if !known || !given {
			missing = fmt.Errorf("variable %s has no value", name)
		}
		return v
	})
	if missing != nil || built == template {
		return built, missing
	}
	u, err := url.Parse(built)
	if err != nil {
		return "", errors.New("the variables do not make a URL")
	}
	scheme, rest, _ := strings.Cut(template, "://")
	authority, _, _ := strings.Cut(rest, "/")
	first, last := variable.FindStringIndex(authority), lastVariable(authority)
	head, tail := authority, authority
	if first != nil {
		head, tail = authority[:first[0]], authority[last:]
	}
	if u.Scheme != scheme || u.User != nil || !strings.HasPrefix(u.Host, head) || !strings.HasSuffix(u.Host, tail) {
		return "", errors.New("the variables lead to another host")
	}
	if port := u.Port(); port != "" && port != "443" && !strings.HasSuffix(tail, ":"+port) && !loopbackHost(u.Hostname()) {
		return "", errors.New("the variables lead to another port")
	}
	return built, nil
}

// lastVariable returns where the last {variable} of s ends.
func lastVariable(s string) int {
	end := 0
	for _, at := range variable.FindAllStringIndex(s, -1) {
		end = at[1]
	}
	return end
}

// loopbackHost reports whether a host name means this machine: only the spellings
// that need no look-up, and localhost.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// checkURL says what is wrong with an endpoint: https, and http on loopback only,
// with a host, without user info and fragment.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is not a URL") // the error would repeat it, query and all
	case u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())):
		return errors.New("must be https (http is admitted on loopback only)")
	case u.Hostname() == "":
		return errors.New("has no host")
	case u.User != nil:
		return errors.New("must not hold user info")
	case u.Fragment != "":
		return errors.New("must not hold a fragment")
	}
	return nil
}
