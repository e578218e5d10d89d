package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/httpapi"
)

// request sends what no helper makes by itself.
func (w *world) request(method, path string, header http.Header) brokertest.Answer {
	w.T.Helper()
	r, err := http.NewRequestWithContext(w.T.Context(), method, w.Origin+path, nil)
	if err != nil {
		w.T.Fatal(err)
	}
	r.Header = header
	return w.Browser().Do(r)
}

func TestCallersAreKnownByTheirHeaderAlone(t *testing.T) {
	w := newWorld(t)
	key := w.Key("all")
	for name, header := range map[string]http.Header{
		"nothing":         {},
		"unknown key":     {"Authorization": {"Bearer evg_unknown"}},
		"empty key":       {"Authorization": {"Bearer "}},
		"other scheme":    {"Authorization": {"Basic " + key}},
		"no scheme":       {"Authorization": {key}},
		"two headers":     {"Authorization": {"Bearer " + key, "Bearer " + key}},
		"joined headers":  {"Authorization": {"Bearer " + key + ", Bearer " + key}},
		"a cookie":        {"Cookie": {"Authorization=Bearer " + key + "; key=" + key}},
		"another header":  {"X-Api-Key": {key}},
		"a caller by ARN": {"Test-Arn": {"arn:aws:sts::123456789012:assumed-role/backend/i-1"}},
	} {
		g := w.request("GET", "/v1/integrations", header)
		if g.Want(t, 401, `"code":"unauthorized"`); g.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: WWW-Authenticate is %q", name, g.Header.Get("WWW-Authenticate"))
		}
	}
	w.request("GET", "/v1/integrations?key="+key, nil).Want(t, 401, "")
	w.request("GET", "/v1/integrations", http.Header{"Authorization": {"bearer " + key}}).Want(t, 200, "freeagent")
}

func TestGatewayCallers(t *testing.T) {
	w := newWorld(t)
	known := http.Header{"Test-Arn": {"arn:aws:sts::123456789012:assumed-role/backend/i-1"}}
	w.request("GET", "/iam/v1/integrations", known).Want(t, 200, "freeagent")
	w.request("GET", "/iam/v1/integrations", http.Header{"Test-Arn": {"arn:aws:sts::123456789012:assumed-role/other/i-1"}}).Want(t, 403, "forbidden")
	g := w.request("GET", "/iam/v1/integrations", http.Header{"Authorization": {"Bearer " + w.Key("all")}}).Want(t, 401, "unauthorized")
	if g.Header.Get("WWW-Authenticate") == "Bearer" {
		t.Error("a key is asked for where none counts")
	}
	w.request("GET", "/iam/healthz", known).Want(t, 404, "")
	w.request("GET", "/iam/authorize/freeagent", known).Want(t, 404, "")
}

func TestWithoutAGatewayThereAreNoSuchRoutes(t *testing.T) {
	w := newWorld(t)
	w.cfg.IAMCaller = nil
	serve(t, httpapi.New(w.cfg), "GET", "/iam/v1/integrations", nil).Want(t, 404, "not_found")
}

// Every route with every key: what lets a caller in is the route's scope, and nothing
// else does.
func TestScopes(t *testing.T) {
	w := newWorld(t)
	allow := map[string][]string{
		"all": {"connect", "token", "manage", "admin"}, "connect": {"connect"}, "token": {"token"}, "manage": {"manage"}, "admin": {"admin"},
	}
	for _, r := range httpapi.Routes() {
		path := strings.NewReplacer("{id}", absent("conn_"), "{stand_in}", absent("st_")).Replace(r.Path)
		for key, scopes := range allow {
			g := w.Call(key, r.Method, path, "")
			may := r.Scope == "any" || r.Scope == "none" || slices.Contains(scopes, r.Scope)
			if in := g.Status != 403 && g.Status != 401; in != may {
				t.Errorf("%s %s with the key %s: %d", r.Method, r.Path, key, g.Status)
			}
		}
		want := 401
		switch {
		case r.Path == "/oauth/token":
			want = 400 // it is open to all, and nothing was sent
		case r.Scope == "none":
			want = 200
		}
		if g := w.Call("", r.Method, path, ""); g.Status != want && g.Status != 429 {
			t.Errorf("%s %s without a key: %d", r.Method, r.Path, g.Status)
		}
	}
}

func TestFailedCallersAreSlowedDown(t *testing.T) {
	w := newWorld(t)
	last := brokertest.Answer{}
	for range 70 {
		last = w.request("GET", "/v1/integrations", nil)
	}
	if last.Want(t, 429, "rate_limited"); last.Header.Get("Retry-After") == "" {
		t.Error("no word of when to come back")
	}
	w.Call("all", "GET", "/v1/integrations", "").Want(t, 200, "") // who has a key is served
	w.Advance(61 * time.Second)
	w.request("GET", "/v1/integrations", nil).Want(t, 401, "")
}
