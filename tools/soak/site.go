package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

// profile is one way with refresh tokens: as a server does it, and as an operator who
// has read its documentation writes it down.
type profile struct {
	name    string
	share   int // thousandths of the connections
	policy  simprovider.Policy
	refresh map[string]any
	// savable: after a lost answer the refresh token that was sent, or the new one, can
	// still be had. Elsewhere nothing on our side brings the answer back.
	savable bool
	oidc    bool // panva's oidc-provider instead of a simulator
}

// profiles are the rows of the protocol's table. The shares of those at oidc-provider go
// to the first one where it is not here.
func profiles(oidc bool) []profile {
	list := []profile{
		{"one refresh token", 250, simprovider.Policy{Repeats: true, KeepsOldAccess: true}, rotation("none", "", ""), true, false},
		{"old one dies on first use of the new", 300, simprovider.Policy{Rotates: true, Previous: simprovider.DiesOnFirstUse, KeepsOldAccess: true}, rotation("always", "dies_on_first_use_of_new", "rejected"), true, false},
		{"old one stays for a grace time", 250, simprovider.Policy{Rotates: true, Previous: simprovider.Stays, KeepsOldAccess: true}, rotation("always", "grace_s", "revokes_family"), true, false},
		{"old one dies at once", 50, simprovider.Policy{Rotates: true, KeepsOldAccess: true}, rotation("always", "dies_at_once", "rejected"), false, false},
		{"reuse ends the grant", 50, simprovider.Policy{Rotates: true, ReuseEndsGrant: true, KeepsOldAccess: true}, rotation("always", "dies_at_once", "revokes_family"), false, false},
	}
	if !oidc {
		list[0].share += 100
		return list
	}
	return append(list,
		profile{"oidc-provider, one refresh token", 80, simprovider.Policy{}, rotation("none", "", ""), true, true},
		profile{"oidc-provider, rotating", 20, simprovider.Policy{Rotates: true}, rotation("always", "dies_at_once", "revokes_family"), false, true},
	)
}

func rotation(rotates, previous, reuse string) map[string]any {
	r := map[string]any{"supported": true, "rotation": rotates, "old_access_token_dies_on_refresh": false}
	if previous != "" {
		r["previous_token"], r["reuse"] = previous, reuse
	}
	if previous == "grace_s" {
		r["grace_s"] = 600
	}
	return r
}

// site is one provider: its token endpoint is watched, and loses answers.
type site struct {
	profile
	integration string
	next        http.Handler
	base        string // its origin, as Evergrant sees it
	tokenPath   string
	clientID    string
	life        time.Duration

	mu     sync.Mutex
	lost   float64           // share of the answers that are lost; guarded by mu, as is all below
	grants map[string]*grant // by every refresh token that was ever issued
	late   []time.Duration   // of refreshes that followed an answer that arrived
	counts siteCounts
}

type siteCounts struct{ requests, answered, lost, refused int }

// grant is what the soak knows of one connection.
type grant struct {
	site       *site
	connection string    // id; "" before it is imported
	asked      time.Time // when its last request came
	good       time.Time // when its last good answer went out
	followed   bool      // the last answer arrived, as far as the site can tell
	exposed    bool      // an answer of it was lost, or a kill came close enough to lose one
}

func newSite(n int, p profile, life time.Duration) (*site, error) {
	s := &site{profile: p, integration: fmt.Sprintf("site-%d", n), life: life, grants: map[string]*grant{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.base = "http://" + l.Addr().String()
	if !p.oidc {
		sims := simprovider.New(simprovider.Config{BaseURL: s.base, TokenTTL: life})
		if err := sims.SetPolicy(dialect, p.policy); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		s.next = sims
		endpoint, err := url.Parse(sims.Endpoints(dialect)["token_endpoint"])
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		s.tokenPath = endpoint.Path
	}
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }() // until the process ends
	return s, nil
}

// dialect is the simulated service that gives refresh tokens out without a browser.
const dialect = "whenfresh"

// entry is the provider as the configuration describes it.
func (s *site) entry() map[string]any {
	return map[string]any{
		"token_endpoint": s.base + s.tokenPath, "token_endpoint_auth_method": "none",
		"grant_types_supported": []string{"refresh_token"}, "refresh": s.refresh,
	}
}

// issue makes a grant at a simulator and returns its refresh token.
func (s *site) issue() (string, error) {
	r, err := http.NewRequest(http.MethodGet, s.base+"/sim/"+dialect+"/account", nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	var account struct {
		ClientID     string `json:"client_id"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&account); err != nil {
		return "", err
	}
	s.clientID = account.ClientID
	return account.RefreshToken, nil
}

// know begins to watch a refresh token that was issued.
func (s *site) know(refreshToken string) *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &grant{site: s}
	s.grants[refreshToken] = g
	return g
}

// ServeHTTP implements http.Handler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != s.tokenPath {
		s.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // another body knows no grant
	g := s.arrived(form.Get("refresh_token"))
	answer := &captured{header: http.Header{}, status: http.StatusOK}
	// A client that is killed must not undo what the provider has done.
	s.next.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
	if s.leaves(g, answer) {
		answer.send(w)
		return
	}
	panic(http.ErrAbortHandler) // closes the connection without an answer
}

// arrived notes a request. It is late by how much it came after the moment at which
// Evergrant means to refresh: a quarter of the life before the end.
func (s *site) arrived(refreshToken string) *grant {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.requests++
	g := s.grants[refreshToken]
	if g == nil {
		return nil
	}
	if g.followed && !g.asked.IsZero() {
		s.late = append(s.late, max(0, now.Sub(g.asked)-s.life*3/4))
	}
	g.asked, g.followed = now, false
	return g
}

// leaves notes what was answered, and says whether it may leave.
func (s *site) leaves(g *grant, a *captured) bool {
	var pair struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}
	_ = json.Unmarshal(a.body.Bytes(), &pair) // a refusal has neither
	s.mu.Lock()
	defer s.mu.Unlock()
	if g == nil {
		return true
	}
	if pair.RefreshToken != "" {
		s.grants[pair.RefreshToken] = g
	}
	switch {
	case rand.Float64() < s.lost:
		s.counts.lost++
		g.exposed = true
		return false
	case pair.AccessToken == "":
		s.counts.refused++
		return true
	}
	s.counts.answered++
	g.good, g.followed = time.Now(), true
	return true
}

// killed marks the grants whose last answer the killed process may not have stored.
func (s *site) killed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if at.Sub(g.asked) < killReach {
			g.exposed, g.followed = true, false
		}
	}
}

// killReach is how long before a kill a request can have come whose answer was not yet
// stored: longer than the save is ever tried.
const killReach = 15 * time.Second

func (s *site) lose(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = share
}

func (s *site) counted() siteCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// refreshedSince reports whether a good answer went out to the grant after a moment.
func (g *grant) refreshedSince(at time.Time) bool {
	g.site.mu.Lock()
	defer g.site.mu.Unlock()
	return g.followed && g.good.After(at)
}

// captured is an answer that has not left yet.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *captured) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *captured) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *captured) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *captured) send(w http.ResponseWriter) {
	for name, values := range a.header {
		if !strings.EqualFold(name, "Content-Length") && !strings.EqualFold(name, "Transfer-Encoding") {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // whoever it is for may be dead
}
