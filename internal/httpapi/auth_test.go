package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
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

var (
	_ = mutant("T35", "internal/httpapi/auth.go", `if len(shown) == 1 {`, `if len(shown) >= 1 {`)
	_ = mutant("T35", "internal/httpapi/limit.go", `maxFailures = 60`, `maxFailures = 60000`)
	_ = mutant("T35", "internal/config/access.go", `random := make([]byte, 32)`, `random := make([]byte, 12)`)
)

func TestThreat_T35_a_key_is_not_guessed(t *testing.T) {
	t.Run("header alone", callersAreKnownByTheirHeaderAlone)
	t.Run("slowed down", failedCallersAreSlowedDown)
	seen := map[string]bool{}
	for range 100 {
		key, hash := config.NewAPIKey()
		if seen[hash] || key.Len() != len("evg_")+43 || strings.Contains(hash, key.Reveal()) { // 256 bits in base64
			t.Errorf("a key of %d characters, stored as %s", key.Len(), hash)
		}
		seen[hash] = true
	}
}

func callersAreKnownByTheirHeaderAlone(t *testing.T) {
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

var (
	_ = mutant("T32", "internal/httpapi/auth.go", `if scope != scopeAny && !caller.MayScope(scope) {`, `if scope == "" {`)
	_ = mutant("T32", "internal/httpapi/auth.go", `return s != config.ScopeMetrics }) {`, `return s != config.ScopeMetrics+" " }) {`)
	_ = mutant("T32", "internal/broker/broker.go", `if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) {`, `if !c.MayOwner(rec.Owner) {`)
	_ = mutant("T32", "internal/broker/broker.go", `if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) {`, `if !c.MayIntegration(rec.Integration) {`)
	_ = mutant("T32", "internal/broker/view.go", `if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) || (r.Integration`, `if (r.Integration`)
)

func TestThreat_T32_a_key_opens_what_its_rights_say(t *testing.T) {
	t.Run("scopes of every operation", everyScope)
	t.Run("integrations and owners", func(t *testing.T) {
		w := newWorld(t)
		id := w.connect("freeagent", "alice")
		for _, key := range []string{"foreign", "stranger"} {
			for method, path := range map[string]string{"GET": "", "DELETE": ""} {
				w.Call(key, method, "/v1/connections/"+id+path, "").Want(t, 404, `"code":"not_found"`)
			}
			w.Call(key, "GET", "/v1/connections/"+id+"/token", "").Want(t, 404, `"code":"not_found"`)
			for _, list := range []string{"owner=alice", "integration=freeagent"} {
				if g := w.Call(key, "GET", "/v1/connections?"+list, ""); strings.Contains(g.Body, id) {
					t.Errorf("%s lists what is not its own: %d %s", key, g.Status, g.Body)
				}
			}
		}
		w.Call("all", "GET", "/v1/connections/"+id+"/token", "").Want(t, 200, "access_token")
	})
	t.Run("metrics alone", func(t *testing.T) {
		w := newWorld(t)
		for _, path := range []string{"/v1/integrations", "/v1/providers", "/v1/providers/xero"} {
			w.Call("metrics", "GET", path, "").Want(t, 403, `"code":"forbidden"`)
		}
	})
}

// Every operation that the OpenAPI document describes, with every kind of caller: what
// lets one in is the operation's x-scope, and nothing else does. Callers that AWS has
// authenticated are judged alike, under their own paths.
func everyScope(t *testing.T) {
	w := newWorld(t)
	allow := map[string][]string{
		"all": {"connect", "token", "manage", "admin"}, "connect": {"connect"}, "token": {"token"}, "manage": {"manage"}, "admin": {"admin"},
	}
	operations := 0
	for path, item := range document(t, w).Paths.Map() {
		if !strings.HasPrefix(path, "/v1/") && path != "/healthz" {
			continue // for browsers, or with a way of its own to know who asks
		}
		for method, op := range item.Operations() {
			operations++
			scope, _ := op.Extensions["x-scope"].(string)
			at := strings.NewReplacer("{id}", absent("conn_"), "{stand_in}", absent("st_")).Replace(path)
			for key, scopes := range allow {
				may := scope == "any" || scope == "none" || slices.Contains(scopes, scope)
				check := func(how string, g brokertest.Answer) {
					t.Helper()
					if in := g.Status != 403 && g.Status != 401; in != may {
						t.Errorf("%s %s with %s %s: %d", method, path, how, key, g.Status)
					}
				}
				check("the key", w.Call(key, method, at, ""))
				if strings.HasPrefix(path, "/v1/") {
					check("the role", w.request(method, "/iam"+at, http.Header{brokertest.ARNHeader: {"arn:aws:sts::123456789012:assumed-role/" + key + "/i-1"}}))
				}
			}
			want := 401
			if scope == "none" {
				want = 200
			}
			if g := w.Call("", method, at, ""); g.Status != want {
				t.Errorf("%s %s without a key: %d", method, path, g.Status)
			}
			w.Advance(61 * time.Second) // past the limit of refusals
		}
	}
	for _, r := range httpapi.Routes() {
		if strings.HasPrefix(r.Path, "/v1/") || r.Path == "/healthz" {
			operations--
		}
	}
	if operations != 0 {
		t.Errorf("%d more operations are described than served", operations)
	}
}

var _ = mutant("T36", "internal/config/access.go", `== 1 && now < k.Previous.Until {`, `== 1 && k.Previous.Until > 0 {`)

// A key that has been replaced is the same caller until its time is over, for its
// connect sessions too. Then it is refused at once: nothing remembers who was let in.
func TestThreat_T36_a_replaced_key_ends_when_its_time_is_over(t *testing.T) {
	w := newWorld(t)
	id, link := w.Session("freeagent", "alice")
	fresh, hash := config.NewAPIKey()
	for n := range w.cfg.Keys.APIKeys {
		if k := &w.cfg.Keys.APIKeys[n]; k.Name == "all" {
			k.Previous = config.PreviousKey{Hash: k.Hash, Until: w.Now().Add(time.Hour).Unix()}
			k.Hash = hash
		}
	}
	body := `{"confirm":"` + w.Return(w.Browser(), link, "").Get("evergrant_confirm") + `","owner":"alice"}`
	withNew := func(method, path, body string) brokertest.Answer {
		r := w.Request("", method, path, body)
		r.Header.Set("Authorization", "Bearer "+fresh.Reveal())
		return w.Browser().Do(r)
	}
	withNew("POST", "/v1/connect-sessions/"+id+"/confirm", body).Want(t, 200, "")
	w.Call("all", "POST", "/v1/connect-sessions/"+id+"/confirm", body).Want(t, 200, "") // the same caller repeats it
	if log := w.Log.String(); strings.Count(log, `"previous_key":true`) != 2 {          // of the request and of the audit
		t.Errorf("the log does not tell the old key: %s", log)
	}
	w.Advance(time.Hour)
	w.Call("all", "GET", "/v1/integrations", "").Want(t, 401, "")
	withNew("GET", "/v1/integrations", "").Want(t, 200, "")
	if log := w.Log.String(); strings.Contains(log, w.Key("all")) || strings.Contains(log, fresh.Reveal()) {
		t.Error("a key is in the log")
	}
}

func failedCallersAreSlowedDown(t *testing.T) {
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
