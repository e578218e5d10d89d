package devpage_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/devpage"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/keyfile"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/rescue"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// stack is the page over a real broker and simulated providers, on loopback.
type stack struct {
	t      *testing.T
	origin string
	key    secret.Text // the page's
	sims   *simprovider.Server
	log    *brokertest.Log // of the API

	mu   sync.Mutex
	seen bytes.Buffer // every answer that the page's backend gave; guarded by mu
}

// handlerOf makes a handler that is made later than the server that it is for.
type handlerOf struct{ http.Handler }

func (h *handlerOf) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.Handler.ServeHTTP(w, r) }

func newStack(t *testing.T) *stack {
	t.Helper()
	late, lateSims := &handlerOf{}, &handlerOf{}
	server, simServer := httptest.NewServer(late), httptest.NewServer(lateSims)
	t.Cleanup(server.Close)
	t.Cleanup(simServer.Close)
	s := &stack{t: t, origin: server.URL, log: &brokertest.Log{}}
	s.sims = simprovider.New(simprovider.Config{BaseURL: simServer.URL, TokenTTL: time.Hour})
	lateSims.Handler = s.sims
	key, hash := config.NewAPIKey()
	s.key = key
	api := s.api(hash)
	page := devpage.New(devpage.Config{
		API: api, Key: key, Origin: s.origin, Integrations: s.integrations(), Now: time.Now,
		Faults: func(provider string, kind devpage.Fault) error {
			if kind == devpage.RevokeAccess {
				s.sims.RevokeUser(provider, "alice")
				return nil
			}
			return s.sims.AddFault(provider, simprovider.Fault{On: "token", Kind: "lost_answer"})
		},
	})
	late.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/app/") {
			page.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	return s
}

// api is Evergrant over the simulators.
func (s *stack) api(keyHash string) http.Handler {
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	dir := s.t.TempDir()
	must(s.sims.Register("redbooth", simprovider.Client{ID: "app", Secret: "app-secret", RedirectURIs: []string{s.origin + "/callback/redbooth"}}))
	must(s.sims.Register("whenfresh", simprovider.Client{ID: "machine", Secret: "machine-secret"}))
	redbooth, whenfresh := s.sims.Endpoints("redbooth"), s.sims.Endpoints("whenfresh")
	file, err := json.Marshal(map[string]any{
		"public_url": s.origin,
		"integrations": map[string]any{
			"redbooth": map[string]any{
				"client_id": "app", "client_secret": "app-secret", "return_to": []string{s.origin + "/app/*"},
				"provider": map[string]any{
					"extends": "redbooth", "authorization_endpoint": redbooth["authorization_endpoint"], "token_endpoint": redbooth["token_endpoint"],
					"identity": map[string]any{"endpoint": redbooth["identity.endpoint"]},
				},
			},
			"whenfresh": map[string]any{"provider": map[string]any{
				"extends": "whenfresh", "token_endpoint": whenfresh["token_endpoint"], "authorization_endpoint": "", "discovery_url": "",
				"grant_types_supported": []string{"refresh_token"},
			}},
			"machine": map[string]any{"client_id": "machine", "client_secret": "machine-secret", "provider": map[string]any{
				"extends": "whenfresh", "token_endpoint": whenfresh["token_endpoint"], "authorization_endpoint": "", "discovery_url": "",
				"grant_types_supported": []string{"client_credentials"},
			}},
		},
		"api_keys": []any{map[string]any{
			"name": "app", "hash": keyHash, "allow": []string{"connect", "token", "manage"}, "integrations": []string{"*"}, "owners": []string{"*"},
		}},
	})
	must(err)
	settings, err := yamlfile.Parse(file)
	must(err)
	rescued, err := rescue.Open(filepath.Join(dir, "rescue.log"), 64<<10)
	must(err)
	s.t.Cleanup(func() { must(rescued.Close()) })
	wrapper, err := keyfile.Open(filepath.Join(dir, "key"), settings.Deployment)
	must(err)
	store := brokertest.Bolt(s.t)
	logger := slog.New(slog.NewJSONHandler(s.log, nil))
	b := broker.New(broker.Config{
		Settings: settings, Secrets: config.NewSecrets(nil, time.Now), Store: store, Keys: secret.NewKeyring(settings.Deployment, wrapper, store),
		Provider: &provider.Client{AllowLoopback: true}, Rescue: rescued, Now: time.Now, Log: logger, Timers: true,
	})
	return httpapi.New(httpapi.Config{Broker: b, Keys: settings, Log: logger, Now: time.Now})
}

func (s *stack) integrations() []devpage.Integration {
	card := func(name, provider, grant string) devpage.Integration {
		return devpage.Integration{
			Name: name, Provider: provider, Title: strings.ToUpper(name), About: "About " + name, Grant: grant,
			Call: func() (method, url, body string) {
				example, err := s.sims.Example(provider, grant)
				if err != nil {
					s.t.Error(err)
				}
				return example.Method, example.URL, example.Body
			},
			Paste: func(account string) secret.Text { return secret.New(s.sims.IssueRefreshToken(provider, account)) },
		}
	}
	return []devpage.Integration{
		card("redbooth", "redbooth", devpage.ByConsent),
		card("whenfresh", "whenfresh", devpage.ByImport),
		card("machine", "whenfresh", devpage.ByClientCredentials),
	}
}

// person is a browser without a screen.
type person struct {
	*stack
	client *http.Client
}

func (s *stack) browser() *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &person{s, &http.Client{Jar: jar}}
}

// get fetches a page, following redirects, and returns where it ended.
func (p *person) get(address string) (*url.URL, string) {
	p.t.Helper()
	res, err := p.client.Get(address)
	return p.read(res, err)
}

func (p *person) read(res *http.Response, err error) (*url.URL, string) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %d, %v: %s", res.Request.URL, res.StatusCode, err, data)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.HasPrefix(res.Request.URL.String(), p.origin) {
		p.seen.Write(data)
	}
	return res.Request.URL, string(data)
}

// reply is what the page's backend answered, the fields of every answer together.
type reply struct {
	Problem struct{ Code string }

	Navigate, Connection string
	Existed              bool
	Generation           int64

	Status  int
	Body    string
	TokenID string `json:"token_id"`
	Retried bool

	Revoked, Proof string

	Person      string
	Connections []struct {
		ID, Integration, Owner, Status, Reason string
		Generation                             int64
	}
	Calls []struct {
		To, Method, Path, Why string
		Status                int
	}
	Items []struct {
		Name, Grant string
		RedirectURI string `json:"redirect_uri"`
	}
}

// ask sends what the page's script would send.
func (p *person) ask(path string, body any) reply {
	p.t.Helper()
	method, data := http.MethodGet, []byte(nil)
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			p.t.Fatal(err)
		}
		method = http.MethodPost
	}
	r, err := http.NewRequest(method, p.origin+path, bytes.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Evergrant-Page", "1")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	_, text := p.read(p.client.Do(r))
	var v reply
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
	return v
}

type fields map[string]string

// consent goes to the provider and back, and returns the fragment of the page that it
// comes back to.
func (p *person) consent(link, decision string) string {
	p.t.Helper()
	consent, _ := p.get(link)
	form := consent.Query()
	form.Set("decision", decision)
	end, _ := p.read(p.client.PostForm(consent.String(), form))
	if end.Path != "/" || !strings.HasPrefix(end.String(), p.origin) {
		p.t.Fatalf("ended at %s", end)
	}
	return end.Fragment
}
