package simprovider

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says where the simulators stand and by which clock they live.
type Config struct {
	// BaseURL is the origin under which the Server is reached, such as
	// http://127.0.0.1:8081, without a slash at the end. Endpoints and WhenFresh's
	// discovery document are built from it. Required where those are used.
	BaseURL string
	// Now is the clock by which codes and tokens expire. Nil means time.Now.
	Now func() time.Time
	// TokenTTL is the life of access tokens, in whole seconds. Zero means the life
	// that each service documents: AskFRED and FreeAgent 7 days, WhenFresh 1 hour,
	// Redbooth 2 hours, FF Logs 360 days.
	TokenTTL time.Duration
	// FreeAgentModern makes FreeAgent answer as its developers announced later:
	// access tokens of 1 hour, and each answer repeats the refresh token and says
	// how long it lives. False is the service of 2012: 7 days, and an answer to a
	// refresh holds no refresh token.
	FreeAgentModern bool
}

// Client is an application's registration at a service.
type Client struct {
	// ID is the client_id. Required, and unique at its service.
	ID string
	// Secret is the client_secret; empty makes a public client, which only FF Logs
	// allows (WhenFresh has one fixed public client of its own).
	Secret string
	// RedirectURIs are the URIs to which the service may send the browser.
	// Required where the service has an authorization endpoint, except for an
	// application that only uses client credentials.
	RedirectURIs []string
}

// User is one of the people with an account at every service.
type User struct {
	Login, FirstName, LastName, Email string
	// ID is the account's number at every service.
	ID int
}

// Name is the user's full name.
func (u User) Name() string { return u.FirstName + " " + u.LastName }

// ErrUnknownProvider is returned for a provider that is not simulated.
var ErrUnknownProvider = errors.New("provider is not simulated")

// Server simulates the five services. It is an http.Handler, and all its methods
// may be called concurrently.
type Server struct {
	now   func() time.Time
	pages *template.Template
	base  string        // origin
	ttl   time.Duration // Config.TokenTTL

	mu       sync.Mutex // guards everything inside the services
	services map[string]*service
}

// New returns a Server without clients.
func New(cfg Config) *Server {
	s := &Server{
		now:      cfg.Now,
		pages:    template.Must(template.New("pages").Parse(pageTemplates)),
		services: map[string]*service{},
		base:     strings.TrimSuffix(cfg.BaseURL, "/"), ttl: cfg.TokenTTL,
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, d := range dialects(cfg.FreeAgentModern) {
		sv := newService(d, s.base+"/sim/"+d.id, s.pages)
		if cfg.TokenTTL > 0 {
			sv.ttl = cfg.TokenTTL
		}
		s.services[d.id] = sv
	}
	return s
}

func dialects(freeAgentModern bool) []dialect {
	return []dialect{askfred(), freeagent(freeAgentModern), whenfresh(), redbooth(), fflogs()}
}

// Providers lists the simulated services, in alphabetical order.
func Providers() []string {
	var ids []string
	for _, d := range dialects(false) {
		ids = append(ids, d.id)
	}
	slices.Sort(ids)
	return ids
}

// Users lists the people who have an account at each service. The first one is
// the default of every form.
func Users() []User {
	return []User{
		{Login: "alice", FirstName: "Alice", LastName: "Adams", Email: "alice@example.com", ID: 1001},
		{Login: "bob", FirstName: "Bob", LastName: "Brown", Email: "bob@example.com", ID: 1002},
	}
}

func userByLogin(login string) (User, bool) {
	i := slices.IndexFunc(Users(), func(u User) bool { return u.Login == login })
	if i < 0 {
		return User{}, false
	}
	return Users()[i], true
}

// Register makes a client known to a service, or replaces the one with its ID.
// It refuses what the service's own registration would refuse.
func (s *Server) Register(provider string, c Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sv, ok := s.services[provider]
	if !ok {
		return fmt.Errorf("register at %q: %w", provider, ErrUnknownProvider)
	}
	if c.ID == "" {
		return fmt.Errorf("register at %s: no client ID", provider)
	}
	if c.ID == sv.d.pastedBy {
		return fmt.Errorf("register at %s: the service has this client already", provider)
	}
	if c.Secret == "" && !sv.d.publicClients {
		return fmt.Errorf("register at %s: it registers no public clients", provider)
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri); err != nil {
			return fmt.Errorf("register at %s: %w", provider, err)
		}
	}
	c.RedirectURIs = slices.Clone(c.RedirectURIs)
	sv.clients[c.ID] = c
	return nil
}

// checkRedirectURI demands an absolute URI without fragment (RFC 6749 section
// 3.1.2), by https except on a loopback address.
func checkRedirectURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return errors.New("redirect URI is not an absolute URL without fragment")
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback) {
		return errors.New("redirect URI must use https, except on a loopback address")
	}
	return nil
}

// Endpoints returns the URLs of a service, by the names that the provider
// catalogue uses: authorization_endpoint, token_endpoint, revocation_endpoint,
// discovery_url, identity.endpoint and api.base_url; for FF Logs also
// api.base_url_by_grant.authorization_code and .client_credentials; for WhenFresh
// also account_url, its page "My Tokens". What a service lacks is absent.
func (s *Server) Endpoints(provider string) map[string]string {
	sv, ok := s.service(provider)
	if !ok {
		return nil
	}
	out := maps.Clone(sv.d.endpoints)
	for k, path := range out {
		out[k] = sv.base + path
	}
	return out
}

// Call is an HTTP request that proves an access token to be good.
type Call struct {
	Method, URL string
	// Body is JSON, or empty.
	Body string
}

// Example returns an API request that a token got by the given grant_type may
// make. Send it with the header "Authorization: Bearer" and a User-Agent.
func (s *Server) Example(provider, grant string) (Call, error) {
	sv, ok := s.service(provider)
	if !ok {
		return Call{}, fmt.Errorf("example call of %q: %w", provider, ErrUnknownProvider)
	}
	c := sv.d.example(grant)
	c.URL = sv.base + c.URL
	return c, nil
}

// SetTTL sets the life of the access tokens that a service issues from now on.
// Zero sets it back to the life that the service documents.
func (s *Server) SetTTL(provider string, ttl time.Duration) error {
	return s.with(provider, func(sv *service) error {
		sv.ttl = ttl
		if ttl <= 0 {
			sv.ttl = sv.d.ttl
		}
		return nil
	})
}

// SetPolicy makes a service treat refresh tokens otherwise than it does. Tokens
// already issued follow the new policy too.
func (s *Server) SetPolicy(provider string, p Policy) error {
	return s.with(provider, func(sv *service) error { sv.policy = p; return nil })
}

// Break makes a service depart from its dialect, until Break is called with "".
// It is there so that a test can show that somebody notices.
func (s *Server) Break(provider string, what Breakage) error {
	return s.with(provider, func(sv *service) error {
		if what != "" && !slices.Contains(Breakages(), what) {
			return fmt.Errorf("break %s: no such breakage: %q", provider, what)
		}
		sv.broken = what
		return nil
	})
}

// Requests counts the requests that reached a service, those that met a fault
// included: token requests by their grant_type ("other" if it is none of the three
// that are known), the rest as authorize, revoke, api and identity.
func (s *Server) Requests(provider string) map[string]int {
	out := map[string]int{}
	_ = s.with(provider, func(sv *service) error { maps.Copy(out, sv.requests); return nil })
	return out
}

// IssueRefreshToken returns a fresh refresh token of the user, as WhenFresh's page
// "My Tokens" shows it. It is empty for an unknown user and for every other
// provider: elsewhere a refresh token comes from a code exchange only.
func (s *Server) IssueRefreshToken(provider, user string) string {
	var token string
	_ = s.with(provider, func(sv *service) error {
		if _, known := userByLogin(user); known && sv.d.pastedBy != "" {
			token = sv.pastedToken(user, s.now())
		}
		return nil
	})
	return token
}

// RevokeUser ends every grant that the user gave at a service, as if the user had
// removed all applications in the account settings: codes, access and refresh
// tokens die at once, and the next authorization asks again. It returns how many
// grants ended.
func (s *Server) RevokeUser(provider, user string) int {
	var n int
	_ = s.with(provider, func(sv *service) error { n = sv.endUser(user); return nil })
	return n
}

// TokenInfo is what a service knows about a token.
type TokenInfo struct {
	// User is the login of the account, empty for client credentials.
	User     string
	ClientID string
	// Refresh tells a refresh token from an access token.
	Refresh bool
	// Live reports whether the service would accept the token now.
	Live bool
}

// Lookup tells what a service knows about an access or refresh token. The second
// result is false for a token that it never issued.
func (s *Server) Lookup(provider, token string) (TokenInfo, bool) {
	var (
		info TokenInfo
		ok   bool
	)
	_ = s.with(provider, func(sv *service) error {
		info, ok = sv.lookup(token, s.now())
		return nil
	})
	return info, ok
}

// AddFault makes the next requests at a place fail; see the package's text.
func (s *Server) AddFault(provider string, f Fault) error {
	return s.with(provider, func(sv *service) error { return sv.addFault(f) })
}

// ClearFaults removes all faults of a service.
func (s *Server) ClearFaults(provider string) error {
	return s.with(provider, func(sv *service) error { sv.faults = nil; return nil })
}

func (s *Server) service(provider string) (*service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sv, ok := s.services[provider]
	return sv, ok
}

// with runs f on a service under the lock.
func (s *Server) with(provider string, f func(*service) error) error {
	sv, ok := s.service(provider)
	if !ok {
		return fmt.Errorf("%q: %w", provider, ErrUnknownProvider)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return f(sv)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	provider, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/sim/"), "/")
	sv, ok := s.service(provider)
	if !ok || !strings.HasPrefix(r.URL.Path, "/sim/") {
		textAnswer(http.StatusNotFound, "There is no such service here.\n").write(w)
		return
	}
	q, err := readRequest(w, r, sv.d.multipart)
	if err != nil {
		textAnswer(http.StatusRequestEntityTooLarge, "The request body is too large or broke off.\n").write(w)
		return
	}
	path = "/" + path
	if path == "/faults" {
		s.serveFaults(sv, q).write(w)
		return
	}
	rt, variables, ok := sv.d.route(r.Method, path)
	q.variables = variables
	if !ok {
		textAnswer(http.StatusNotFound, "Not Found\n").write(w)
		return
	}
	s.mu.Lock()
	sv.count(rt, q)
	f := sv.takeFault(rt, q)
	s.mu.Unlock()
	act := func() answer {
		s.mu.Lock()
		defer s.mu.Unlock()
		q.now = s.now()
		return sv.serve(rt, q)
	}
	f.play(w, r, sv.d, act)
}
