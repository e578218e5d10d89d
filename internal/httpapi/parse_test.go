package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/wire"
)

var (
	_ = mutant("T45", "internal/httpapi/body.go", `return invalid("The member %s occurs twice.", quoted(name))`, `_ = quoted(name)`)
	_ = mutant("T45", "internal/httpapi/body.go", `maxDepth = 16`, `maxDepth = 1600`)
	_ = mutant("T45", "internal/httpapi/body.go", `if !utf8.Valid(body) {`, `if !utf8.Valid(body[:1]) {`)
	_ = mutant("T45", "internal/httpapi/body.go", `maxBody  = 64 << 10`, `maxBody  = 64 << 20`)
)

// What JSON may do in a provider's answer is held by the vectors of internal/provider.
func TestThreat_T45_a_body_has_one_reading(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat("[", 20) + strings.Repeat("]", 20)
	for _, c := range []struct {
		name, body, says string
		status           int
	}{
		{"unknown member", `{"integration":"freeagent","owner":"a","ownr":"b"}`, `no member \"ownr\"`, 400},
		{"other spelling", `{"Integration":"freeagent","owner":"a"}`, `no member \"Integration\"`, 400},
		{"repeated member", `{"integration":"freeagent","owner":"a","owner":"b"}`, `member \"owner\" occurs twice`, 400},
		{"repeated by escape", `{"integration":"freeagent","owner":"a","own\u0065r":"b"}`, `member \"owner\" occurs twice`, 400},
		{"repeated inside", `{"integration":"freeagent","owner":"a","tags":{"x":"1","x":"2"}}`, `member \"x\" occurs twice`, 400},
		{"something behind", `{"integration":"freeagent","owner":"a"} {}`, "follows", 400},
		{"garbage behind", `{"integration":"freeagent","owner":"a"}x`, "follows", 400},
		{"list", `[{"integration":"freeagent","owner":"a"}]`, "one JSON object", 400},
		{"null", `null`, "one JSON object", 400},
		{"no JSON", `integration=freeagent`, "not a JSON object", 400},
		{"cut", `{"integration":"freeagent"`, "not a JSON object", 400},
		{"missing colon", `{"integration" "freeagent"}`, "not a JSON object", 400},
		{"missing comma", `{"integration":"freeagent" "owner":"a"}`, "not a JSON object", 400},
		{"deep", `{"integration":` + deep + `}`, "deeper than 16", 400},
		{"wrong type", `{"integration":"freeagent","owner":7}`, "owner has to be a text", 400},
		{"wrong list", `{"integration":"freeagent","owner":"a","scopes":"a b"}`, "scopes has to be a list", 400},
		{"huge number", `{"integration":"freeagent","owner":"a","expires_in_s":1e999}`, "expires_in_s has to be a whole number", 400},
		{"fraction", `{"integration":"freeagent","owner":"a","expires_in_s":60.5}`, "expires_in_s has to be a whole number", 400},
		{"bad UTF-8", "{\"integration\":\"freeagent\",\"owner\":\"a\xff\"}", "not UTF-8", 400},
		{"byte order mark", "\ufeff{}", "not a JSON object", 400},
		{"too large", `{"owner":"` + strings.Repeat("a", 70_000) + `"}`, "64 KiB", 413},
		{"no integration", `{"owner":"a"}`, "integration is required", 400},
		{"no owner", `{"integration":"freeagent"}`, "owner", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.Call("all", "POST", "/v1/connect-sessions", c.body).Want(t, c.status, c.says)
		})
	}
	w.Call("all", "POST", "/v1/connections", `{"integration":"freeagent","owner":"a","refresh_token":"x","access_token":"y","expires_at":"tomorrow"}`).Want(t, 400, "RFC 3339")
	w.Call("all", "POST", "/v1/connections", `{"integration":"freeagent","owner":"a","refresh_token":"x","expires_at":"2026-01-01T00:00:00Z"}`).Want(t, 400, "expires_at")
	w.Call("all", "POST", "/v1/connections", `{"integration":"freeagent","owner":"a","grant_type":"password"}`).Want(t, 400, "grant_type")
	w.Call("all", "POST", "/v1/connections/conn_a/refresh", `{}`).Want(t, 400, "if_generation is required")
	w.Call("all", "PATCH", "/v1/connections/conn_a", `{}`).Want(t, 400, "tags is required")
	for _, body := range []string{`{"tags":null}`, `{"tags":{"a":null}}`} {
		w.Call("all", "PATCH", "/v1/connections/conn_a", body).Want(t, 400, "null is no value")
	}
}

var _ = mutant("T64", "internal/httpapi/body.go", `if err != nil || media != "application/json" ||`, `if err != nil || media == "" ||`)

func TestThreat_T64_a_body_is_JSON_and_says_so(t *testing.T) {
	w := newWorld(t)
	for kind, status := range map[string]int{
		"application/json": 201, "application/json; charset=utf-8": 201, "Application/JSON;charset=UTF-8": 201,
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/json; charset=latin1": 415,
		"application/problem+json": 415, "application/json, text/plain": 415, "multipart/form-data; boundary=x": 415,
	} {
		body := `{"integration":"freeagent","owner":"a"}`
		r, err := http.NewRequestWithContext(t.Context(), "POST", w.Origin+"/v1/connect-sessions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+w.Key("all"))
		r.Header.Set("Content-Type", kind)
		if g := w.Browser().Do(r); g.Status != status {
			t.Errorf("%q: %d, want %d", kind, g.Status, status)
		}
	}
}

func TestQueries(t *testing.T) {
	w := newWorld(t)
	for path, says := range map[string]string{
		"/v1/connections":                                                   "owner or integration",
		"/v1/connections?owner=a&owner=b":                                   `\"owner\"`,
		"/v1/connections?owner=a&own%65r=b":                                 `\"owner\"`,
		"/v1/connections?owner=a&ownr=b":                                    `no parameter \"ownr\"`,
		"/v1/connections?owner=a&tag.=b":                                    `no parameter \"tag.\"`,
		"/v1/connections?owner=a&status=ready":                              "status has to be",
		"/v1/connections?owner=a&status=":                                   "status has to be",
		"/v1/connections?owner=a&limit=101":                                 "limit has to be",
		"/v1/connections?owner=a&limit=0x10":                                "limit has to be",
		"/v1/connections?owner=%":                                           "encoded",
		"/v1/connections?owner=a;integration=b":                             "", // one owner with a semicolon
		"/v1/connections?owner=%FF":                                         "UTF-8",
		"/v1/connections?owner=a&cursor=forged":                             "cursor",
		"/v1/connections/conn_a/token?min_ttl_s=-1":                         "min_ttl_s has to be",
		"/v1/connections/conn_a/token?min_ttl_s=1&min_ttl_s=2":              "twice",
		"/v1/stats?from=yesterday":                                          "RFC 3339",
		"/v1/stats?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z":       "before",
		"/v1/integrations?" + strings.Repeat("a", 9000):                     "too long",
		"/v1/integrations?evil=" + strings.Repeat("%E2%80%AE", 3) + "&%1B=": "no parameter",
	} {
		status := 400
		if says == "" {
			status = 200
		}
		if g := w.Call("all", "GET", path, ""); g.Status != status || !strings.Contains(g.Body, says) {
			t.Errorf("%.60s: %d %s", path, g.Status, g.Body)
		}
	}
	w.Call("all", "GET", "/v1/stats", "").Want(t, 200, `"items":[`)
}

// FuzzQuery: what is read was said once, and says what net/url reads, as far as that
// reads it at all.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"code=a&state=b", "code=a&code=b", "c%6Fde=a&code=b", "a;b=c&d", "%", "&&=&x=%00", "error=x&error_description=%E2%80%AE+y", "=a&=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		params, err := httpapi.ParseQuery(raw, 16<<10)
		if err != nil {
			if strings.Contains(err.Error(), "%") {
				t.Errorf("the error repeats the query: %v", err)
			}
			return
		}
		pairs := 0
		for pair := range strings.SplitSeq(raw, "&") {
			if pair != "" {
				pairs++
			}
		}
		if len(params) != pairs {
			t.Errorf("%d parameters of %d pairs", len(params), pairs)
		}
		for name := range params {
			if !utf8.ValidString(name) {
				t.Errorf("name %q", name)
			}
		}
	})
}

// FuzzBody: what is accepted is an object that encoding/json reads to the same.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"integration":"a","owner":"b"}`, `{"owner":"a","owner":"b"}`, `{"OWNER":"a"}`, `{"tags":{"a":"b"}}`, `[]`, `{"owner":"\ud800"}`,
		`{"owner":1}`, `{} {}`, `{"expires_in_s":1e3}`, `{"scopes":["a",null]}`, "{\"owner\":\"\x00\"}", `{"a":[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var read, plain wire.SessionRequest
		if err := httpapi.Unmarshal(body, &read); err != nil {
			return
		}
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if diff := cmp.Diff(plain, read); diff != "" {
			t.Error(diff)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("accepted what is no object: %v", err)
		}
	})
}
