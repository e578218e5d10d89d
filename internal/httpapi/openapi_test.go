package httpapi_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/outbox"
	"github.com/evergrant/evergrant/internal/wire"
)

func document(t *testing.T, w *world) *openapi3.T {
	t.Helper()
	g := w.Call("", "GET", "/v1/openapi.json", "").Want(t, 200, "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(g.Body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValid(t *testing.T) {
	doc := document(t, newWorld(t))
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("it is OpenAPI %s", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// The document and the code have the same operations, with the same scopes and
// parameters.
func TestDocumentHasTheRoutes(t *testing.T) {
	described := map[string]httpapi.RouteInfo{}
	for path, item := range document(t, newWorld(t)).Paths.Map() {
		for method, op := range item.Operations() {
			info := httpapi.RouteInfo{Method: method, Path: path}
			if err := json.Unmarshal([]byte(raw(t, op.Extensions["x-scope"])), &info.Scope); err != nil {
				t.Errorf("%s %s: scope: %v", method, path, err)
			}
			for _, p := range op.Parameters {
				info.Params = append(info.Params, p.Value.Name)
			}
			described[method+" "+path] = info
			if open := op.Security != nil && len(*op.Security) == 0; open != (info.Scope == "none") {
				t.Errorf("%s %s: the scope %s does not go with its security", method, path, info.Scope)
			}
		}
	}
	served := map[string]httpapi.RouteInfo{}
	for _, r := range httpapi.Routes() {
		served[r.Method+" "+r.Path] = r
	}
	for _, browser := range []string{"GET /authorize/{integration}", "GET /callback/{integration}"} {
		if described[browser].Scope != "none" {
			t.Errorf("%s is not described as open", browser)
		}
		delete(described, browser)
	}
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("served (-) and described (+) differ:\n%s", diff)
	}
}

func raw(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDocumentHasTheCodes(t *testing.T) {
	doc := document(t, newWorld(t))
	var listed []string
	for _, c := range doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		listed = append(listed, c.(string))
	}
	codes := httpapi.Codes()
	slices.Sort(listed)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(codes)), listed); diff != "" {
		t.Errorf("codes of the table (-) and of the document (+) differ:\n%s", diff)
	}
}

// Each schema has the members of its type in package wire, and demands those that are
// always there.
func TestDocumentHasTheMembers(t *testing.T) {
	doc := document(t, newWorld(t))
	for name, v := range map[string]any{
		"SessionRequest": wire.SessionRequest{}, "NewSession": wire.NewSession{}, "Session": wire.Session{}, "ConfirmRequest": wire.ConfirmRequest{},
		"ImportRequest": wire.ImportRequest{}, "TagsRequest": wire.TagsRequest{}, "Connection": wire.Connection{}, "Account": wire.Account{},
		"Entry": wire.Entry{}, "Receipt": wire.Receipt{}, "RefreshRequest": wire.RefreshRequest{}, "Token": wire.Token{}, "TokenAPI": wire.TokenAPI{}, "Rejection": wire.Rejection{},
		"Integration": wire.Integration{}, "Client": wire.Client{}, "Circuit": wire.Circuit{}, "Hour": wire.Hour{}, "Health": wire.Health{},
		"RotateResult": wire.RotateResult{}, "ResealResult": wire.ResealResult{}, "ReplayResult": wire.ReplayResult{},
		"Problem": wire.Problem{}, "ConnectionList": wire.List[wire.Connection]{}, "IntegrationList": wire.List[wire.Integration]{}, "HourList": wire.List[wire.Hour]{},
		"StandInRequest": wire.StandInRequest{}, "NewStandIn": wire.NewStandIn{}, "StandIn": wire.StandIn{}, "StandInList": wire.List[wire.StandIn]{},
		"Event": wire.Event{}, "Webhook": wire.Webhook{}, "DeadLetter": wire.DeadLetter{}, "DeadLetterList": wire.List[wire.DeadLetter]{},
		"Diagnosis": wire.Diagnosis{}, "OAuthToken": wire.OAuthToken{}, "OAuthError": wire.OAuthError{},
	} {
		schema := doc.Components.Schemas[name]
		if schema == nil {
			t.Errorf("there is no schema %s", name)
			continue
		}
		var all, always []string
		for field := range reflect.TypeOf(v).Fields() {
			member, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			all = append(all, member)
			if options == "" {
				always = append(always, member)
			}
		}
		slices.Sort(all)
		slices.Sort(always)
		if diff := cmp.Diff(all, slices.Sorted(maps.Keys(schema.Value.Properties))); diff != "" {
			t.Errorf("%s: members of the type (-) and of the schema (+) differ:\n%s", name, diff)
		}
		if diff := cmp.Diff(always, slices.Sorted(slices.Values(schema.Value.Required))); diff != "" {
			t.Errorf("%s: members always there in the type (-) and in the schema (+) differ:\n%s", name, diff)
		}
	}
	for name, schema := range doc.Components.Schemas {
		if _, has := schema.Value.Properties["refresh_token"]; has && name != "ImportRequest" && name != "OAuthToken" { // the latter's is a stand-in
			t.Errorf("%s has a refresh token", name)
		}
	}
}

// Each event is described as a webhook, and what is sent of it fits its schema.
func TestDocumentHasTheEvents(t *testing.T) {
	doc := document(t, newWorld(t))
	if len(doc.Webhooks) != len(outbox.Types()) {
		t.Errorf("%d webhooks, %d types of events", len(doc.Webhooks), len(outbox.Types()))
	}
	for _, typ := range outbox.Types() {
		item := doc.Webhooks[string(typ)]
		if item == nil || item.Post == nil {
			t.Errorf("%s is not described", typ)
			continue
		}
		reason := "x"
		e := wire.Event{ID: "evt_1", Type: string(typ), At: time.Unix(1_700_000_000, 0).UTC(), Sequence: 1, Integration: "acme", Client: "default", Status: "active"}
		if strings.HasPrefix(string(typ), "connection.") {
			e.ConnectionID, e.Owner, e.Reason = "conn_1", "alice", &reason
		}
		var v any
		if err := json.Unmarshal([]byte(raw(t, wire.Webhook{Type: e.Type, Timestamp: e.At, Data: e})), &v); err != nil {
			t.Fatal(err)
		}
		schema := item.Post.RequestBody.Value.Content["application/json"].Schema.Value
		if err := schema.VisitJSON(v, openapi3.EnableFormatValidation()); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// A function on AWS does not carry the catalogue: it shows what is configured, to each
// caller its own.
func TestProvidersWithoutTheCatalogue(t *testing.T) {
	w := newWorld(t)
	w.Call("foreign", "GET", "/v1/providers", "").Want(t, 200, `"id":"askfred"`)
	w.cfg.Catalog.IDs, w.cfg.Catalog.Lookup = nil, nil
	h := httpapi.NewAPI(w.cfg)
	get := func(key, path string) brokertest.Answer {
		r := "Bearer " + w.Key(key)
		return serve(t, h, "GET", path, authorized(r))
	}
	if g := get("foreign", "/v1/providers").Want(t, 200, `"id":"redbooth"`); strings.Contains(g.Body, "freeagent") {
		t.Error("a caller sees another's provider")
	}
	get("all", "/v1/providers/freeagent").Want(t, 200, `"token_endpoint"`)
	get("foreign", "/v1/providers/freeagent").Want(t, 404, "not_found")
}
