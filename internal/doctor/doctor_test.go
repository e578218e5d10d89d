package doctor_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/doctor"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := yamlfile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// has fails the test unless exactly one finding of the check is there, of that level and
// with these words, and tells what to do where something is wrong.
func has(t *testing.T, all []doctor.Finding, level doctor.Level, check, words string) {
	t.Helper()
	var found []doctor.Finding
	for _, f := range all {
		if f.Check == check && f.Level == level && strings.Contains(f.Text, words) {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Errorf("%d findings of %s as %s with %q in:\n%s", len(found), check, level, words, list(all))
		return
	}
	if found[0].Level == doctor.Problem && found[0].Remedy == "" {
		t.Errorf("no remedy: %+v", found[0])
	}
}

// lacks fails the test if there is such a finding.
func lacks(t *testing.T, all []doctor.Finding, level doctor.Level, check string) {
	t.Helper()
	for _, f := range all {
		if f.Check == check && f.Level == level {
			t.Errorf("%+v", f)
		}
	}
}

func list(all []doctor.Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s %s: %s\n", f.Level, f.Check, f.Integration, f.Text)
	}
	return b.String()
}

const plain = `
public_url: https://auth.example.com
integrations:
  askfred: {client_id: a, client_secret: "${env:SECRET}", return_to: ["https://app.example.com/x"]}
`

func TestAConfigurationIsLookedAtOffline(t *testing.T) {
	all := doctor.Configuration(parse(t, plain), today)
	has(t, all, doctor.Problem, "api_keys", "nobody can call")
	has(t, all, doctor.Note, "redirect_uri", "https://auth.example.com/callback/askfred")
	lacks(t, all, doctor.Problem, "sunset")

	// T03: the weaker binding is named.
	all = doctor.Configuration(parse(t, strings.ReplaceAll(plain, "return_to", "binding: cookie, return_to")), today)
	has(t, all, doctor.Warning, "configuration", "does not stop a forwarded link")

	ends := strings.ReplaceAll(plain, "askfred: {", "fitbit: {")
	has(t, doctor.Configuration(parse(t, ends), today), doctor.Problem, "sunset", "ends in 2026-09")
	early := doctor.Configuration(parse(t, ends), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	lacks(t, early, doctor.Problem, "sunset")
	has(t, early, doctor.Warning, "configuration", "ends in 2026-09")
}

func TestSecretsAreReadAsTheServerReadsThem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("CANARY-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, today, today.Add(-400*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	look := func(ref string) []doctor.Finding {
		c := parse(t, strings.ReplaceAll(plain, "${env:SECRET}", ref))
		getenv := func(name string) string { return map[string]string{"SECRET": "CANARY-secret"}[name] }
		all := doctor.Secrets(t.Context(), c, config.FileResolver(getenv, os.ReadFile), today)
		if strings.Contains(fmt.Sprintf("%+v", all), "CANARY") {
			t.Errorf("a secret is shown: %v", all)
		}
		return all
	}
	has(t, look("${env:SECRET}"), doctor.Fine, "client_secret", "${env:SECRET}")
	has(t, look("${env:ABSENT}"), doctor.Problem, "client_secret", "${env:ABSENT}")
	has(t, look("${file:/no/such/file}"), doctor.Problem, "client_secret", "${file:/no/such/file}")
	has(t, look("${ssm:/evergrant/askfred}"), doctor.Note, "client_secret", "cannot be read here")
	all := look("${file:" + file + "}")
	has(t, all, doctor.Fine, "client_secret", file)
	has(t, all, doctor.Warning, "client_secret_age", "400 days") // T76
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	has(t, look("${file:"+file+"}"), doctor.Problem, "client_secret", "mode 0640")
}

func TestADataFolderIsLookedAtAndNotTouched(t *testing.T) {
	folder := t.TempDir()
	has(t, doctor.Folder(folder, "evergrant.db", "key"), doctor.Problem, "store", "has no evergrant.db")
	write := func(name string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(folder, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("evergrant.db", 0o600)
	has(t, doctor.Folder(folder, "evergrant.db", "key"), doctor.Problem, "key_file", "is missing")
	if _, err := os.Stat(filepath.Join(folder, "key")); err == nil {
		t.Error("a key was made by looking")
	}
	lacks(t, doctor.Folder(folder, "evergrant.db", ""), doctor.Problem, "key_file") // it is EVERGRANT_KEY
	write("key", 0o600)
	has(t, doctor.Folder(folder, "evergrant.db", "key"), doctor.Fine, "key_file", "is there")
	if err := os.Chmod(filepath.Join(folder, "key"), 0o644); err != nil {
		t.Fatal(err)
	}
	has(t, doctor.Folder(folder, "evergrant.db", "key"), doctor.Problem, "key_file", "mode 0644")
}

// site is a simulated provider and our own public URL.
type site struct {
	t     *testing.T
	sim   *simprovider.Server
	url   string // of the provider
	front *httptest.Server
	date  time.Time // what the provider's clock shows
	meta  string    // its discovery document
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, date: today}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", s.date.Format(http.TimeFormat))
		if r.URL.Path == "/.well-known/openid-configuration" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(s.meta))
			return
		}
		s.sim.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	s.sim = simprovider.New(simprovider.Config{BaseURL: server.URL, Now: func() time.Time { return today }})
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status":"ok","version":"v1","store":"ok"}`))
	}))
	t.Cleanup(s.front.Close)
	return s
}

// config names the simulator as the provider; change alters its integration.
func (s *site) config(change func(*config.Integration)) *config.Config {
	c := parse(s.t, strings.ReplaceAll(plain, "https://auth.example.com", s.front.URL))
	i := &c.Integrations[0]
	at := s.sim.Endpoints("askfred")
	i.Entry.AuthorizationEndpoint, i.Entry.TokenEndpoint = at["authorization_endpoint"], at["token_endpoint"]
	i.Entry.RevocationEndpoint, i.Entry.Identity.Endpoint = at["revocation_endpoint"], at["identity.endpoint"]
	if change != nil {
		change(i)
	}
	return c
}

func (s *site) look(c *config.Config) []doctor.Finding {
	return doctor.Prober{
		Provider: &provider.Client{
			Transport: provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), AllowLoopback: true, UserAgent: "evergrant-test",
		},
		Public: http.DefaultClient, Now: func() time.Time { return today },
	}.Network(s.t.Context(), c)
}

func (s *site) register(uri string) {
	s.t.Helper()
	if err := s.sim.Register("askfred", simprovider.Client{ID: "a", Secret: "x", RedirectURIs: []string{uri}}); err != nil {
		s.t.Fatal(err)
	}
}

func TestTheWayToTheProviderAndBack(t *testing.T) {
	s := newSite(t)
	c := s.config(nil)
	s.register(c.Integrations[0].RedirectURI(c.PublicURL))
	all := s.look(c)
	for _, check := range []string{"endpoints", "redirect_uri", "clock", "public_url"} {
		has(t, all, doctor.Fine, check, "")
		lacks(t, all, doctor.Problem, check)
	}
	// It asked what a browser asks, and nothing else.
	asked := s.sim.Requests("askfred")
	for _, kind := range []string{"refresh_token", "authorization_code", "client_credentials", "other", "revoke"} {
		if asked[kind] != 0 {
			t.Errorf("%d requests of the kind %s", asked[kind], kind)
		}
	}
}

func TestAWrongRedirectURIIsFound(t *testing.T) {
	s := newSite(t)
	c := s.config(nil)
	s.register("https://elsewhere.example.com/callback/askfred")
	has(t, s.look(c), doctor.Problem, "redirect_uri", "refuses the authorization request (HTTP status 4")
	has(t, s.look(s.config(func(i *config.Integration) { i.Clients[0].ClientID = "unknown" })), doctor.Problem, "redirect_uri", "unknown client id or redirect URI")
}

// A provider that tells its refusal by a redirect is not followed.
func TestARefusalByRedirectIsFound(t *testing.T) {
	s := newSite(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uri := r.URL.Query().Get("redirect_uri"); uri != "" {
			http.Redirect(w, r, uri+"?error=unauthorized_client&error_description=CANARY", http.StatusFound)
		}
	}))
	defer refusing.Close()
	all := s.look(s.config(func(i *config.Integration) { i.Entry.AuthorizationEndpoint = refusing.URL + "/authorize" }))
	has(t, all, doctor.Problem, "redirect_uri", "unauthorized_client")
	if strings.Contains(list(all), "CANARY") {
		t.Error("the provider's text is shown as ours")
	}
}

func TestAnUnreachableProviderIsFound(t *testing.T) {
	s := newSite(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	address := closed.URL
	closed.Close()
	all := s.look(s.config(func(i *config.Integration) { i.Entry.TokenEndpoint = address + "/token" }))
	has(t, all, doctor.Problem, "endpoints", "cannot be reached from here")
	lacks(t, all, doctor.Fine, "endpoints")
}

func TestAWrongClockIsFound(t *testing.T) {
	s := newSite(t)
	for by, words := range map[time.Duration]string{2 * time.Minute: "behind", -2 * time.Minute: "ahead of"} {
		s.date = today.Add(by)
		has(t, s.look(s.config(nil)), doctor.Problem, "clock", words)
	}
	s.date = today.Add(20 * time.Second)
	has(t, s.look(s.config(nil)), doctor.Fine, "clock", "agrees")
}

func TestAMissingOfflineScopeIsFound(t *testing.T) {
	s := newSite(t)
	s.meta = `{"issuer":"` + s.url + `","scopes_supported":["openid","offline_access"]}`
	discovers := func(more func(*config.Integration)) *config.Config {
		return s.config(func(i *config.Integration) {
			i.Entry.DiscoveryURL, i.Entry.Issuer = s.url+"/.well-known/openid-configuration", s.url
			more(i)
		})
	}
	has(t, s.look(discovers(func(*config.Integration) {})), doctor.Problem, "offline_scope", "offline_access")
	lacks(t, s.look(discovers(func(i *config.Integration) { i.Scopes = []string{"offline_access"} })), doctor.Problem, "offline_scope")
	lacks(t, s.look(discovers(func(i *config.Integration) { i.Entry.OfflineScope = "offline" })), doctor.Problem, "offline_scope")
	s.meta = "<html>"
	has(t, s.look(discovers(func(*config.Integration) {})), doctor.Problem, "endpoints", "no usable document")
}

func TestAPublicURLThatLeadsElsewhereIsFound(t *testing.T) {
	s := newSite(t)
	c := s.config(nil)
	s.front.Config.Handler = http.NotFoundHandler()
	has(t, s.look(c), doctor.Problem, "public_url", "answered by something else")
	s.front.Close()
	has(t, s.look(c), doctor.Problem, "public_url", "cannot be reached")
}

// at is a moment as the API has it.
func at(d time.Duration) *time.Time {
	when := today.Add(d)
	return &when
}

// running is a server with which all is well.
func running() doctor.Server {
	return doctor.Server{
		Health: wire.Health{Status: "ok", Store: "ok"}, Began: today, Ended: today,
		Integrations: []wire.Integration{{
			Name: "askfred", Refresh: "ahead", RedirectURI: "https://auth.example.com/callback/askfred",
			Clients: []wire.Client{{Name: "default", State: "current", Circuit: wire.Circuit{State: "closed"}, SecretSince: at(-time.Hour)}},
		}},
		Diagnosis:   &wire.Diagnosis{Now: today, LastTickAt: at(-30 * time.Second)},
		Connections: map[string][]wire.Connection{"askfred": {{Status: "active", NextRefreshAt: at(time.Hour), ExpiresAt: at(2 * time.Hour), UpdatedAt: today}}},
	}
}

func TestAServerIsJudgedByItsAnswers(t *testing.T) {
	text := func(s string) *string { return &s }
	c := parse(t, plain)
	for _, f := range running().Findings(c) {
		if f.Level != doctor.Fine {
			t.Errorf("a server in good health: %+v", f)
		}
	}
	for name, x := range map[string]struct {
		change       func(*doctor.Server)
		level        doctor.Level
		check, words string
	}{
		"store":    {func(s *doctor.Server) { s.Health.Store = "unreachable" }, doctor.Problem, "store", "cannot reach"},
		"schedule": {func(s *doctor.Server) { s.Diagnosis.LastTickAt = at(-10 * time.Minute) }, doctor.Problem, "schedule", "10m0s ago"},
		"no tick":  {func(s *doctor.Server) { s.Diagnosis.LastTickAt = nil }, doctor.Problem, "schedule", "never run"},
		"clock":    {func(s *doctor.Server) { s.Diagnosis.Now = today.Add(5 * time.Minute) }, doctor.Problem, "clock", "the server is 300 s ahead of"},
		"restored": {func(s *doctor.Server) { s.Diagnosis.StoreMoved = true }, doctor.Problem, "restore", "a backup was restored"}, // T51
		"no admin": {func(s *doctor.Server) { s.Diagnosis = nil }, doctor.Note, "server", "may not ask"},
		"refused": {func(s *doctor.Server) {
			s.Integrations[0].Clients[0].Circuit = wire.Circuit{State: "open", Reason: text("invalid_client")}
		}, doctor.Problem, "client", "invalid_client"},
		"secret": {func(s *doctor.Server) {
			s.Integrations[0].Clients[0].Circuit = wire.Circuit{State: "open", Reason: text("secret_unreadable")}
		}, doctor.Problem, "client_secret", "cannot read the secret"},
		"unreadable": {func(s *doctor.Server) {
			s.Diagnosis.UnreadableSecrets = []wire.ClientName{{Integration: "askfred", Client: "default"}}
			s.Integrations[0].Clients[0].Circuit = wire.Circuit{State: "open", Reason: text("secret_unreadable")}
		}, doctor.Problem, "client_secret", "cannot read the secret of client default"},
		"old secret": {func(s *doctor.Server) { s.Integrations[0].Clients[0].SecretSince = at(-500 * 24 * time.Hour) }, doctor.Warning, "client_secret_age", "500 days"},
		"redirect":   {func(s *doctor.Server) { s.Integrations[0].RedirectURI = "https://old.example.com/callback/askfred" }, doctor.Problem, "redirect_uri", "old.example.com"},
		"unknown":    {func(s *doctor.Server) { s.Integrations = nil }, doctor.Warning, "configuration", "does not show askfred"},
		"reauth":     {func(s *doctor.Server) { s.Connections["askfred"][0].Status = "needs_reauth" }, doctor.Note, "connections", "1 connections wait"},
		"no refresh": {func(s *doctor.Server) { s.Connections["askfred"][0].NextRefreshAt = nil }, doctor.Problem, "offline_scope", "have no refresh token"},
	} {
		t.Run(name, func(t *testing.T) {
			s := running()
			x.change(&s)
			has(t, s.Findings(c), x.level, x.check, x.words)
		})
	}
}

// What the entry says of a token's life is compared with what was told since.
func TestShorterLivesThanTheEntrySaysAreFound(t *testing.T) {
	c := parse(t, plain) // AskFRED: 7 days
	with := func(life time.Duration, outcome string, generation int64) doctor.Server {
		s := running()
		x := &s.Connections["askfred"][0]
		x.Generation, x.ExpiresAt = 3, at(life)
		x.Journal = []wire.Entry{{At: today, Outcome: outcome, Generation: generation}, {At: today.Add(time.Minute), Outcome: "not_acted", Generation: 3}}
		return s
	}
	has(t, with(time.Hour, "saved", 3).Findings(c), doctor.Warning, "lifetime", "of 1 of 1 active connections live shorter than the 168h0m0s that the entry of askfred says, down to 1h0m0s")
	for name, s := range map[string]doctor.Server{
		"as it says": with(7*24*time.Hour-time.Minute, "saved", 3), "longer": with(30*24*time.Hour, "created", 3), "from another token": with(time.Hour, "saved", 2),
	} {
		t.Run(name, func(t *testing.T) { lacks(t, s.Findings(c), doctor.Warning, "lifetime") })
	}
	lacks(t, with(time.Hour, "saved", 3).Findings(nil), doctor.Warning, "lifetime")
}

func TestOpenIDWithoutTheScopeForRefreshTokensIsFound(t *testing.T) {
	c := parse(t, plain)
	i := &c.Integrations[0]
	i.Scopes, i.Entry.Refresh.Supported = []string{"openid", "email"}, provider.Unknown
	has(t, doctor.Configuration(c, today), doctor.Warning, "offline_scope", "openid without offline_access")
	for name, change := range map[string]func(){
		"asked for":     func() { i.Scopes = []string{"openid", "offline_access"} },
		"not needed":    func() { i.Entry.Refresh.Supported = provider.Yes },
		"another scope": func() { i.Entry.OfflineScope = "offline" },
	} {
		i.Scopes, i.Entry.Refresh.Supported, i.Entry.OfflineScope = []string{"openid"}, provider.Unknown, ""
		change()
		t.Run(name, func(t *testing.T) { lacks(t, doctor.Configuration(c, today), doctor.Warning, "offline_scope") })
	}
}

func TestTheGravestComesFirst(t *testing.T) {
	all := []doctor.Finding{{Level: doctor.Fine, Check: "a"}, {Level: doctor.Warning, Check: "b"}, {Level: doctor.Problem, Check: "c"}, {Level: doctor.Problem, Check: "b"}}
	doctor.Sort(all)
	if all[0].Check != "b" || all[1].Check != "c" || all[3].Level != doctor.Fine || doctor.Count(all, doctor.Problem) != 2 {
		t.Errorf("%v", all)
	}
}

// A look ends with its context.
func TestALookEnds(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all := doctor.Prober{
		Provider: &provider.Client{Transport: provider.NewTransport(provider.TransportOptions{AllowLoopback: true}), AllowLoopback: true},
		Public:   http.DefaultClient, Now: time.Now,
	}.Network(ctx, s.config(nil))
	has(t, all, doctor.Problem, "endpoints", "context canceled")
}
