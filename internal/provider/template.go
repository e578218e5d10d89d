package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// pattern is a regular expression that is compiled at its first use: a function starts
// without most of them.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// variable finds {name} in an endpoint.
var variable = pattern(`\{([a-z][a-z0-9_]*)\}`)

// Resolve returns the entry with vars, and where they lack one the entry's
// defaults, put into its URLs, parameters and headers. vars may hold more than the
// entry has names for: all that is known of a connection. Each value must match its
// pattern whole. The values may come from a user, so each built URL is then looked at
// again: it must still have the scheme, the literal ends of the host, the port and the
// query that its template declares, and no user info.
//
// A name without a value stays: it may be one that an answer will tell. Who uses a
// part that is not whole yet is told so.
func (e Entry) Resolve(vars map[string]string) (Entry, error) {
	values, err := e.values(vars)
	if err != nil || len(values) == 0 {
		return e, err
	}
	for name, field := range e.endpoints() {
		built, err := expand(*field, values)
		if err != nil {
			return Entry{}, fmt.Errorf("%s: %w", name, err)
		}
		*field = built
	}
	e.API.BaseURLs = slices.Clone(e.API.BaseURLs)
	for i, u := range e.API.BaseURLs {
		if e.API.BaseURLs[i], err = expand(u, values); err != nil {
			return Entry{}, fmt.Errorf("api.base_urls: %w", err)
		}
	}
	for _, m := range []*map[string]string{
		&e.AuthorizationParams, &e.TokenParams, &e.RefreshParams, &e.TokenHeaders, &e.API.ExtraHeaders,
		&e.RevocationRequest.Headers, &e.RevocationRequest.Body, &e.SecondExchange.Params,
	} {
		*m = fillAll(*m, values)
	}
	e.RedirectURIValue = fill(e.RedirectURIValue, values)
	return e, nil
}

// Fixed reports whether Resolve returns e as it is, whatever it is given: no variable stands
// anywhere in it, and none that could be given has a form to keep to. Most entries are fixed.
func (e *Entry) Fixed() bool {
	if len(e.Variables) > 0 || len(e.DefaultVariables) > 0 || len(e.ConnectionVariables) > 0 || len(e.Keep) > 0 {
		return false
	}
	open := func(template string) bool { return strings.Contains(template, "{") }
	for _, m := range [...]map[string]string{
		e.AuthorizationParams, e.TokenParams, e.RefreshParams, e.TokenHeaders, e.API.ExtraHeaders,
		e.RevocationRequest.Headers, e.RevocationRequest.Body, e.SecondExchange.Params,
	} {
		for _, template := range m {
			if open(template) {
				return false
			}
		}
	}
	return !slices.ContainsFunc(e.API.BaseURLs, open) && !slices.ContainsFunc([]string{
		e.Issuer, e.DiscoveryURL, e.AuthorizationEndpoint, e.TokenEndpoint, e.RevocationEndpoint, e.UserinfoEndpoint, e.JWKSURI,
		e.RefreshEndpoint, e.SecondExchange.Endpoint, e.Identity.Endpoint, e.RevocationRequest.URL, e.RedirectURIValue,
	}, open)
}

// values are the variables that are known, each as its pattern demands.
func (e Entry) values(vars map[string]string) (map[string]string, error) {
	values := map[string]string{}
	for _, given := range []map[string]string{e.DefaultVariables, vars} {
		for name, v := range given {
			if v != "" && (e.patternOf(name) != "" || name == "client_id" && printable(v)) {
				values[name] = v
			}
		}
	}
	for name, v := range values {
		if name != "client_id" && !e.admits(name, v) {
			return nil, fmt.Errorf("variable %s does not have the form that the provider entry demands", name)
		}
	}
	return values, nil
}

// OwnVariables are those of what is known of a connection that may be given for it.
func (e Entry) OwnVariables(connection map[string]string) map[string]string {
	own := map[string]string{}
	for _, name := range e.ConnectionVariables {
		if v := connection[name]; v != "" {
			own[name] = v
		}
	}
	return own
}

// CheckOwnVariables says which of the variables given for one connection the entry does
// not take. The error does not repeat a value.
func (e Entry) CheckOwnVariables(vars map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		switch {
		case !slices.Contains(e.ConnectionVariables, name):
			return fmt.Errorf("%s is not one that a connection may have for itself here%s", name, listed(e.ConnectionVariables))
		case !e.admits(name, vars[name]):
			return fmt.Errorf("%s does not have the form that the provider demands: %s", name, e.patternOf(name))
		}
	}
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; those are " + strings.Join(names, ", ")
}

// admits reports whether v may stand for {name}.
func (e Entry) admits(name, v string) bool {
	if pattern, ok := e.Variables[name]; ok {
		return matchesWhole(pattern, v) && !unfit(v)
	}
	// Only the part of a value that its pattern picked was kept.
	pattern := e.patternOf(name)
	if !picks(pattern) && !matchesWhole(pattern, v) {
		return false
	}
	rest, isURL := strings.CutPrefix(v, "https://")
	u, err := url.Parse(v)
	return !unfit(rest) && (!isURL || err == nil && u.User == nil && (u.Port() == "" || u.Port() == "443"))
}

// fill puts values into a template that is not a URL.
func fill(template string, values map[string]string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	return variable().ReplaceAllStringFunc(template, func(m string) string {
		if v, ok := values[m[1:len(m)-1]]; ok {
			return v
		}
		return m
	})
}

func fillAll(templates, values map[string]string) map[string]string {
	if len(templates) == 0 {
		return templates
	}
	out := make(map[string]string, len(templates))
	for name, template := range templates {
		out[name] = fill(template, values)
	}
	return out
}

// whole says which variable a part of an entry still lacks, if any.
func whole(templates ...string) error {
	for _, template := range templates {
		if m := variable().FindStringSubmatch(template); m != nil {
			return fmt.Errorf("{%s} has no value: give it as a variable of the integration or of the connection", m[1])
		}
	}
	return nil
}

// Whole says which variable is lacking before tokens can be asked for, if any.
func (e Entry) Whole() error {
	parts := []string{e.TokenEndpoint, e.RefreshEndpoint}
	for _, m := range []map[string]string{e.TokenParams, e.TokenHeaders} {
		for _, v := range m {
			parts = append(parts, fill(v, map[string]string{"client_id": ""}))
		}
	}
	return whole(parts...)
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
		"revocation_request.url":   &e.RevocationRequest.URL,
	}
}

// RequestEndpoints are the URLs that requests of ours go to; browsers are sent to the
// authorization endpoint, and nobody to the issuer.
func (e Entry) RequestEndpoints() []string {
	var list []string
	for name, address := range e.endpoints() {
		if name != "authorization_endpoint" && name != "issuer" {
			list = append(list, *address)
		}
	}
	slices.Sort(list)
	return list
}

// expand fills the template of a URL in.
func expand(template string, values map[string]string) (string, error) {
	built := fill(template, values)
	if built == template {
		return built, nil
	}
	filled := built
	if variable().MatchString(built) {
		filled = variable().ReplaceAllString(built, "x") // what is still open is looked at when it comes
	}
	u, err := url.Parse(filled)
	if err != nil {
		return "", errors.New("the variables do not make a URL")
	}
	if first := variable().FindStringSubmatchIndex(template); first != nil && first[0] == 0 {
		// The variable is a URL itself: its pattern has said which.
		given, err := url.Parse(values[template[first[2]:first[3]]])
		if err != nil || u.Scheme != "https" || u.User != nil || u.Host != given.Host {
			return "", errors.New("the variables lead to another host")
		}
		return built, nil
	}
	scheme, rest, _ := strings.Cut(template, "://")
	authority, _, _ := strings.Cut(rest, "/")
	first, last := variable().FindStringIndex(authority), lastVariable(authority)
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
	for _, at := range variable().FindAllStringIndex(s, -1) {
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
