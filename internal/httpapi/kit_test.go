package httpapi_test

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/httpapi"
)

const (
	integrations = `
  freeagent: {client_id: app, client_secret: "${env:SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  redbooth: {client_id: app, client_secret: "${env:SECRET}", return_to: ["http://127.0.0.1:9/back"]}
  fflogs: {client_id: app, client_secret: "${env:SECRET}", connect: public, return_to: ["http://127.0.0.1:9/back"]}
`
	gatewayCallers = `
iam_callers:
  - {arn: "arn:aws:sts::123456789012:assumed-role/backend/*", allow: [connect, token, manage], integrations: ["*"], owners: ["*"]}
  - {arn: "arn:aws:sts::123456789012:assumed-role/all/*", allow: [connect, token, manage, admin], integrations: ["*"], owners: ["*"]}
  - {arn: "arn:aws:sts::123456789012:assumed-role/connect/*", allow: [connect], integrations: ["*"], owners: ["*"]}
  - {arn: "arn:aws:sts::123456789012:assumed-role/token/*", allow: [token], integrations: ["*"], owners: ["*"]}
  - {arn: "arn:aws:sts::123456789012:assumed-role/manage/*", allow: [manage], integrations: ["*"], owners: ["*"]}
  - {arn: "arn:aws:sts::123456789012:assumed-role/admin/*", allow: [admin], integrations: ["*"], owners: ["*"]}
`
)

// world is a whole Evergrant with simulated providers, each of whose answers to anybody
// is checked for what must stand in all of them.
type world struct {
	*brokertest.World
	cfg httpapi.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: brokertest.New(t, brokertest.Options{
		Integrations: integrations, More: gatewayCallers, Start: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Keys: []config.APIKey{
			{Name: "none", Rights: config.Rights{Allow: []string{"connect"}, Integrations: []string{"fflogs"}, Owners: []string{"nobody"}}},
			{Name: "metrics", Rights: config.Rights{Allow: []string{"metrics"}, Integrations: []string{"*"}, Owners: []string{"*"}}},
			{Name: "foreign", Rights: config.Rights{Allow: []string{"connect", "token", "manage"}, Integrations: []string{"redbooth"}, Owners: []string{"*"}}},
		},
	})}
	w.Transport = underContract{w.T, func() string { return w.Origin }}
	w.cfg = w.HTTP(w.Home)
	w.cfg.Admin = nil
	w.Serve(w.cfg)
	return w
}

// checkHeaders checks what every answer of ours must say.
func checkHeaders(t *testing.T, status int, header http.Header) {
	t.Helper()
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, header.Get(name), want)
		}
	}
	if header.Get("X-Request-Id") == "" {
		t.Error("the answer has no request id")
	}
	for name := range header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("the answer has the header %s", name)
		}
	}
	kind := header.Get("Content-Type")
	switch {
	case strings.HasPrefix(kind, "text/html"):
		csp := header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || !strings.HasSuffix(csp, "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'") || header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("a page may be framed or load something: %q, %q", csp, header.Get("X-Frame-Options"))
		}
	case status >= 400 && kind == "application/json" && header.Get("Pragma") == "no-cache": // of the token endpoint
	case status >= 400 && kind != "application/problem+json":
		t.Errorf("error %d is of type %q", status, kind)
	}
}

// connect connects the owner and returns the connection's id.
func (w *world) connect(integration, owner string) string {
	w.T.Helper()
	return w.ConnectHTTP(integration, owner, "")
}

// absent is an id of the right form that nothing has.
func absent(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
