package simprovider

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Add simulates the provider that an entry of the catalogue describes, given as its JSON,
// in place of one of the same id. It behaves as the entry says; what the entry leaves
// open, or rests on memory alone, happens in the way that harms a careless client most:
// each refresh rotates, the old tokens die at once, and a second use ends the grant.
//
// Everything is served at the entry's own paths, below the host's name:
// https://login.acme.example/oauth/token stands at
// /sim/{id}/login.acme.example/oauth/token. Client secrets are demanded as the entry
// says, and by HTTP Basic where it does not.
func (s *Server) Add(id string, entry []byte) error {
	f, err := readFacts(entry)
	if err != nil {
		return fmt.Errorf("simulate %s: %w", id, err)
	}
	d, err := f.dialect(id, s.base+"/sim/"+id)
	if err != nil {
		return fmt.Errorf("simulate %s: %w", id, err)
	}
	sv := newService(d, s.base+"/sim/"+id, s.pages)
	if s.ttl > 0 {
		sv.ttl = s.ttl
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[id] = sv
	return nil
}

// place is an endpoint of an entry: a route at all paths that fit.
type place struct {
	path  *regexp.Regexp
	route route
}

// placeholder finds the {variables} of a URL, as regexp.QuoteMeta leaves them.
var placeholder = regexp.MustCompile(`\\\{([a-z][a-z0-9_]*)\\\}`)

// fits makes a pattern of an entry's URL, with a group for each variable.
func fits(address, end string) (*regexp.Regexp, error) {
	path, _, _ := strings.Cut(local("", address), "?")
	return regexp.Compile("^" + placeholder.ReplaceAllString(regexp.QuoteMeta(path), "(?P<$1>.+?)") + end + "$")
}

// dialect is the entry as a service.
func (f *facts) dialect(id, base string) (dialect, error) {
	d := dialect{
		id: id, title: or(f.Name, id), facts: f,
		ttl: f.ttl(), codeTTL: f.codeTTL(),
		publicClients: f.takesPublicClients(), pastedBy: f.PublicClientID,
		redirectMatches: sameURI, denial: map[string][]string{"error": {"access_denied"}},
		wrongMethod: http.StatusMethodNotAllowed,
		example:     func(string) Call { return Call{Method: http.MethodGet, URL: "/example"} },
		mint:        mintOpaque, mintRefresh: mintOpaqueRefresh,
		tooMany: func() answer {
			return jsonAnswer(http.StatusTooManyRequests, map[string]string{"error": "rate_limited"})
		},
		endpoints: map[string]string{},
	}
	for _, p := range f.endpoints() {
		if p.address == "" {
			continue
		}
		re, err := fits(p.address, p.end)
		if err != nil {
			return d, fmt.Errorf("%s: %w", p.name, err)
		}
		d.places = append(d.places, place{re, p.route})
		d.endpoints[p.name] = strings.TrimPrefix(local(base, p.address), base)
	}
	d.places = append(d.places, place{regexp.MustCompile("^/example$"), f.api()})
	return d, nil
}

// endpoint is one URL of an entry, under its name there.
type endpoint struct {
	name, address string
	end           string // what may follow in the path
	route         route
}

func (f *facts) api() route {
	return route{[]string{http.MethodGet, http.MethodPost}, onAPI, (*service).entryAPI}
}

// endpoints are those of an entry, the exact ones first.
func (f *facts) endpoints() []endpoint {
	post := []string{http.MethodPost}
	refresh := []string{or(f.RefreshMethod, http.MethodPost)}
	token := route{post, onToken, (*service).entryToken}
	list := []endpoint{
		{"authorization_endpoint", f.AuthorizationEndpoint, "", route{[]string{http.MethodGet, http.MethodPost}, onAuthorize, (*service).entryAuthorize}},
		{"refresh_endpoint", f.RefreshEndpoint, "", route{refresh, onToken, (*service).entryRefresh}},
		{"second_exchange.endpoint", f.SecondExchange.Endpoint, "", route{[]string{or(f.SecondExchange.Method, http.MethodPost)}, onToken, (*service).entrySecond}},
		{"revocation_endpoint", f.RevocationEndpoint, "", route{post, onRevoke, (*service).entryRevoke}},
		{"revocation_request.url", f.RevocationRequest.URL, "", route{[]string{or(f.RevocationRequest.Method, http.MethodPost)}, onRevoke, (*service).entryRevokeByTemplate}},
		{"identity.endpoint", f.Identity.Endpoint, "", route{[]string{or(f.Identity.Method, http.MethodGet)}, onIdentity, (*service).entryIdentity}},
		{"userinfo_endpoint", f.UserinfoEndpoint, "", route{[]string{http.MethodGet, http.MethodPost}, onIdentity, (*service).entryIdentity}},
		{"discovery_url", f.DiscoveryURL, "", route{[]string{http.MethodGet}, "", (*service).entryDiscovery}},
		{"token_endpoint", f.TokenEndpoint, "", token},
	}
	for i, address := range f.API.BaseURLs {
		name := "api.base_url"
		if i > 0 {
			name = fmt.Sprintf("api.base_url.%d", i+1)
		}
		list = append(list, endpoint{name, strings.TrimSuffix(address, "/"), "(/.*)?", f.api()})
	}
	return list
}

// route finds what stands at a path, and the values of the variables in it.
func (d *dialect) route(method, path string) (rt route, variables map[string]string, ok bool) {
	if d.facts == nil {
		rt, ok = d.routes[path]
		return rt, nil, ok
	}
	for _, p := range d.places {
		m := p.path.FindStringSubmatch(path)
		if m == nil || ok && !slices.Contains(p.route.methods, method) {
			continue
		}
		rt, ok = p.route, true
		variables = map[string]string{}
		for i, name := range p.path.SubexpNames() {
			if name != "" {
				variables[name] = m[i]
			}
		}
		if slices.Contains(rt.methods, method) {
			break // else another one at the same path may take the method
		}
	}
	return rt, variables, ok
}

// entryDiscovery is a document in the manner of RFC 8414.
func (sv *service) entryDiscovery(q *request) answer {
	doc := map[string]string{}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "userinfo_endpoint"} {
		if path := sv.d.endpoints[name]; path != "" {
			doc[name] = sv.base + fillIn(path, q.variables)
		}
	}
	return jsonAnswer(http.StatusOK, doc)
}

// fillIn puts values into a template.
func fillIn(template string, values map[string]string) string {
	for name, v := range values {
		template = strings.ReplaceAll(template, "{"+name+"}", v)
	}
	return template
}

// refreshEnds is when a refresh token issued now ends by itself; zero: never.
func (f *facts) refreshEnds(g *grant, now time.Time) time.Time {
	var ends time.Time
	if f.Refresh.IdleS > 0 {
		ends = now.Add(time.Duration(f.Refresh.IdleS) * time.Second)
	}
	if f.Refresh.AbsoluteS > 0 {
		last := g.began.Add(time.Duration(f.Refresh.AbsoluteS) * time.Second)
		if ends.IsZero() || last.Before(ends) {
			ends = last
		}
	}
	return ends
}

// kept are the values that the entry takes from one source (callback, token or
// identity): samples of their patterns.
func (f *facts) kept(from string) map[string]string {
	out := map[string]string{}
	for _, k := range f.Keep {
		if k.From == from {
			out[k.Field], _ = Sample(k.Pattern) // a pattern that cannot be read keeps nothing
		}
	}
	return out
}
