package devpage

import (
	"embed"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
)

// Config is what the page is made of. All fields are required but those that say
// otherwise.
type Config struct {
	// API is Evergrant's own HTTP API.
	API http.Handler
	// Key is the API key of the page's backend; it needs the scopes connect, token and
	// manage.
	Key secret.Text
	// Origin is where the page and the API are reached, such as http://127.0.0.1:8080,
	// without a slash at the end. Every integration with a consent must allow
	// Origin + "/app/return" as its return_to.
	Origin string
	// Integrations are shown in this order.
	Integrations []Integration
	// Now is the clock.
	Now func() time.Time
	// Client carries the calls to the providers' APIs. Nil: one with a timeout, which
	// follows no redirect.
	Client *http.Client
	// Faults makes a provider misbehave, so that a person can watch the recovery. Nil:
	// the page does not offer it.
	Faults func(provider string, kind Fault) error
}

// Fault is a kind of misbehaviour that the page offers.
type Fault string

// The faults.
const (
	// LoseAnswer: the provider's token endpoint acts on its next request and never
	// answers.
	LoseAnswer Fault = "lost_answer"
	// RevokeAccess: all users of the provider take back what they granted.
	RevokeAccess Fault = "revoke_access"
)

// How a connection of an Integration begins: the grant type of its first token
// request (RFC 6749 sections 4.1, 4.4 and 6).
const (
	ByConsent           = "authorization_code"
	ByImport            = "refresh_token"
	ByClientCredentials = "client_credentials"
)

// Integration is one card of the page.
type Integration struct {
	Name     string // in Evergrant's configuration
	Provider string // as Faults takes it
	Title    string
	About    string // one or two short sentences
	Grant    string // ByConsent, ByImport or ByClientCredentials
	// Call is the example request to the provider's API; the body is JSON, or empty.
	Call func() (method, url, body string)
	// Headers go with that request, besides the token. Optional.
	Headers map[string]string
	// Paste returns a fresh refresh token of the user with that account name, as the
	// provider's account page shows it. ByImport only.
	Paste func(account string) secret.Text
	// AccountURL is that page, for a person to look at. Optional.
	AccountURL string
}

//go:embed static
var static embed.FS

// pageHeader is the header that state-changing requests of the page carry. A form
// cannot set it, and a script of another origin is stopped by its preflight.
const pageHeader = "Evergrant-Page"

// policy lets the page load its own files and talk to its own backend, and nothing
// else (CSP level 3). Text never becomes markup: require-trusted-types-for refuses
// innerHTML and its kin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// page is the application.
type page struct {
	Config
	api    *backend
	mux    *http.ServeMux
	guard  *http.CrossOriginProtection
	byName map[string]Integration
}

// New returns the handler of the page: of / and of all paths under /app/. It answers
// 404 elsewhere.
func New(cfg Config) http.Handler {
	p := &page{
		Config: cfg, mux: http.NewServeMux(), guard: http.NewCrossOriginProtection(), byName: map[string]Integration{},
		api: &backend{handler: cfg.API, origin: cfg.Origin, key: cfg.Key, now: cfg.Now, client: cfg.Client, calls: map[string][]call{}},
	}
	if p.api.client == nil {
		p.api.client = &http.Client{
			Timeout:       15 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	for _, i := range cfg.Integrations {
		p.byName[i.Name] = i
	}
	p.mux.Handle("GET /{$}", file("index.html", "text/html; charset=utf-8"))
	p.mux.Handle("GET /app/style.css", file("style.css", "text/css; charset=utf-8"))
	p.mux.Handle("GET /app/page.js", file("page.js", "text/javascript; charset=utf-8"))
	p.mux.Handle("GET /app/icon.svg", file("icon.svg", "image/svg+xml"))
	p.mux.HandleFunc("GET /app/return", p.comeBack)
	p.mux.HandleFunc("GET /app/done", donePage())
	p.mux.HandleFunc("GET /app/integrations", p.reply(p.integrations))
	p.mux.HandleFunc("GET /app/state", p.reply(p.state))
	p.mux.HandleFunc("POST /app/login", p.login)
	p.mux.HandleFunc("POST /app/connect", p.reply(p.connect))
	p.mux.HandleFunc("POST /app/call", p.reply(p.call))
	p.mux.HandleFunc("POST /app/refresh", p.reply(p.refresh))
	p.mux.HandleFunc("POST /app/disconnect", p.reply(p.disconnect))
	p.mux.HandleFunc("POST /app/fault", p.reply(p.fault))
	return p
}

// file serves one of the embedded files. They are small and change with the binary, so
// they are not cached.
func file(name, kind string) http.Handler {
	data, err := static.ReadFile("static/" + name)
	if err != nil {
		panic(err) // it is embedded: the build is wrong
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data)
	})
}

// ServeHTTP implements http.Handler: nothing is done before the request is known to
// come from the page itself.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	switch {
	case !p.ownHost(r.Host):
		p.elsewhere(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead && (r.Header.Get(pageHeader) == "" || p.guard.Check(r) != nil):
		http.Error(w, "Only the page itself may ask for this.", http.StatusForbidden)
	default:
		p.mux.ServeHTTP(w, r)
	}
}

func (p *page) ownHost(host string) bool {
	return "http://"+host == p.Origin || "https://"+host == p.Origin
}

// elsewhere answers a request for another host name. localhost is this machine under a
// name with another cookie jar, so a person is sent to the one that everything uses.
func (p *page) elsewhere(w http.ResponseWriter, r *http.Request) {
	own, err := url.Parse(p.Origin)
	if err == nil && r.Method == http.MethodGet && r.URL.Path == "/" && strings.TrimSuffix(r.Host, ":"+own.Port()) == "localhost" {
		http.Redirect(w, r, p.Origin+"/", http.StatusFound)
		return
	}
	http.Error(w, "This server does not go by that name.", http.StatusMisdirectedRequest)
}

// action does what the page asks for on behalf of a person. What it returns becomes
// JSON.
type action func(r *http.Request, who person) (any, error)

// reply answers with what do returns. A refusal of Evergrant is an answer like any
// other, {"problem": …} and 200: to the page it is news, not a failure of its own.
func (p *page) reply(do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r, whoIs(r))
		if err != nil {
			v = map[string]any{"problem": problemOf(err)}
		}
		writeJSON(w, v)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "The answer could not be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}
