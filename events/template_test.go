// Package events_test holds the sample events and the template that they are
// run against to each other, to the code, and to what each role may do.
package events_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// noMutant says why a row of docs/security.md has no mutation; tools/mutants reads it.
func noMutant(_, _ string) bool { return true }

// node is a part of the template. Intrinsic functions in the short form read as
// their arguments: "!Ref X" as "X", "!GetAtt X.Arn" as "X.Arn".
type node struct{ v any }

// at walks down a path of names; the node is empty where one is absent.
func (n node) at(path ...string) node {
	for _, name := range path {
		m, _ := n.v.(map[string]any)
		n = node{m[name]}
	}
	return n
}

func (n node) text() string { s, _ := n.v.(string); return s }

func (n node) list() []node {
	vs, ok := n.v.([]any)
	if !ok && n.v != nil {
		vs = []any{n.v}
	}
	var out []node
	for _, v := range vs {
		out = append(out, node{v})
	}
	return out
}

func (n node) texts() []string {
	var out []string
	for _, v := range n.list() {
		out = append(out, v.text())
	}
	return out
}

func (n node) each(f func(name string, n node)) {
	m, _ := n.v.(map[string]any)
	for name, v := range m {
		f(name, node{v})
	}
}

func template(t *testing.T) node {
	t.Helper()
	b, err := os.ReadFile("../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return node{v}
}

func resource(t *testing.T, name string) node { return template(t).at("Resources", name, "Properties") }

func TestTablesHaveTheKeysThatTheCodeUses(t *testing.T) {
	for table, want := range map[string][]item.Index{
		"ConnectionsTable":    item.ConnectionIndexes(),
		"AuthorizationsTable": item.AuthorizationIndexes(),
	} {
		p := resource(t, table)
		if got := p.at("KeySchema").list()[0].at("AttributeName").text(); got != item.KeyName {
			t.Errorf("%s: key %q, want %q", table, got, item.KeyName)
		}
		var got []item.Index
		for _, i := range p.at("GlobalSecondaryIndexes").list() {
			keys := i.at("KeySchema").list()
			got = append(got, item.Index{Name: i.at("IndexName").text(), Hash: keys[0].at("AttributeName").text(), Range: keys[1].at("AttributeName").text()})
			if i.at("Projection", "ProjectionType").text() != "KEYS_ONLY" {
				t.Errorf("%s: index %s holds more than keys", table, got[len(got)-1].Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: indexes (-code +template):\n%s", table, diff)
		}
	}
}

// TestSessionsExpireByTheTemplatesAttribute: what the code writes as the end of an item, DynamoDB must read as
// that. Of the connections none may ever end by itself.
func TestSessionsExpireByTheTemplatesAttribute(t *testing.T) {
	if v := resource(t, "ConnectionsTable").at("TimeToLiveSpecification").v; v != nil {
		t.Errorf("connections expire: %v", v)
	}
	spec := resource(t, "AuthorizationsTable").at("TimeToLiveSpecification")
	if enabled, _ := spec.at("Enabled").v.(bool); !enabled {
		t.Error("nothing expires")
	}
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store := connection.Store{Connections: db.Connections(), Authorizations: db.Authorizations()}
	const expires = 1_800_000_000
	session := connection.Session{Hash: connection.Hash("s"), State: connection.SessionOpen, Integration: "acme", Owner: "o", CreatedAt: expires - 900, ExpiresAt: expires}
	if err := store.CreateSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	state := connection.State{Hash: connection.Hash("t"), Session: session.Hash, Integration: "acme", ExpiresAt: expires}
	if err := store.PutState(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{session.Hash, state.Hash} {
		i, err := store.Authorizations.Get(t.Context(), hash)
		if at := i.Int(spec.at("AttributeName").text()); err != nil || at < expires || at > expires+30*24*3600 {
			t.Errorf("%s at %d of an item that ends at %d, %v", spec.at("AttributeName").text(), at, expires, err)
		}
	}
}

// TestScheduleWakesEachMinute: slots, retries and lateness all count in minutes.
func TestScheduleWakesEachMinute(t *testing.T) {
	tick := resource(t, "Tick")
	if got := tick.at("ScheduleExpression").text(); got != "rate(1 minute)" {
		t.Errorf("schedule %s", got)
	}
	if got := tick.at("FlexibleTimeWindow", "Mode").text(); got != "OFF" {
		t.Errorf("a window %s puts minutes off", got)
	}
	var event struct {
		Tick string `json:"tick"`
	}
	if err := json.Unmarshal([]byte(tick.at("Target", "Input").text()), &event); err != nil || event.Tick != "<aws.scheduler.scheduled-time>" {
		t.Errorf("the event says %q of its minute, %v", event.Tick, err)
	}
	// One tick walks exactly what is due at its minute and the one after walks the rest.
	if got, want := schedule.Walk(28_000_000, 28_000_001)[:len(schedule.Ladder())], schedule.Slots(28_000_001); !slices.Equal(got, want) {
		t.Errorf("a minute after the last tick these are walked: %v, want %v", got, want)
	}
}

// TestOperationsOnTables: what may be done over all roles is what the tests of the store and of all faults hold
// themselves to.
func TestOperationsOnTables(t *testing.T) {
	granted := map[string]bool{}
	for _, role := range []string{"AuthorizeRole", "CallbackRole", "ApiRole", "RefreshRole"} {
		for _, s := range permissions(t, role) {
			for _, action := range s.actions {
				if op, ok := strings.CutPrefix(action, "dynamodb:"); ok {
					granted[op] = true
				}
			}
		}
	}
	if got := slices.Sorted(maps.Keys(granted)); !slices.Equal(got, dynamolocal.Operations()) {
		t.Errorf("granted are %v, and the tests allow themselves %v", got, dynamolocal.Operations())
	}
}

// statement is one permission, in the short form that the table below uses.
type statement struct{ actions, resources []string }

func permissions(t *testing.T, role string) (out []statement) {
	t.Helper()
	for _, s := range resource(t, role).at("Policies").list()[0].at("PolicyDocument", "Statement").list() {
		out = append(out, statement{s.at("Action").texts(), s.at("Resource").texts()})
	}
	return out
}

var _ = noMutant("T55", "what is held are the roles of template.yaml, which is no Go code")

func TestThreat_T55_a_role_may_do_no_more_than_its_part(t *testing.T) {
	template(t).at("Resources").each(func(name string, r node) {
		docs := []node{r.at("Properties", "PolicyDocument")}
		for _, p := range r.at("Properties", "Policies").list() {
			docs = append(docs, p.at("PolicyDocument"))
		}
		for _, d := range docs {
			for _, s := range d.at("Statement").list() {
				if s.at("Effect").text() != "Allow" {
					continue
				}
				if slices.ContainsFunc(s.at("Action").texts(), func(a string) bool { return strings.Contains(a, "*") }) {
					t.Errorf("%s allows %v", name, s.at("Action").texts())
				}
				if slices.Contains(s.at("Resource").texts(), "*") || len(s.at("NotAction").list())+len(s.at("NotResource").list()) > 0 {
					t.Errorf("%s allows %v on anything", name, s.at("Action").texts())
				}
			}
		}
	})
	for role, forbidden := range map[string][]string{
		"AuthorizeRole": {"dynamodb:Query", "dynamodb:Scan", "dynamodb:PutItem", "dynamodb:DeleteItem", "ssm:GetParameters", "secretsmanager:GetSecretValue", "sqs:SendMessage", "events:PutEvents"},
		"CallbackRole":  {"dynamodb:Query", "dynamodb:Scan", "dynamodb:PutItem", "ssm:GetParameters", "secretsmanager:GetSecretValue"},
		"ApiRole":       {"dynamodb:PutItem"},
		"RefreshRole":   {"dynamodb:PutItem", "dynamodb:DeleteItem"},
	} {
		got := permissions(t, role)
		if len(got) == 0 {
			t.Fatalf("%s has no permissions at all", role)
		}
		for _, s := range got {
			for _, action := range forbidden {
				if slices.Contains(s.actions, action) {
					t.Errorf("%s may %s", role, action)
				}
			}
		}
	}
}

func TestDataKeysAreApart(t *testing.T) {
	const context, leading = "kms:EncryptionContext:", "dynamodb:LeadingKeys"
	for role, want := range map[string][]string{
		"AuthorizeRole": {"flow"}, "CallbackRole": {"flow"}, "RefreshRole": {"token"}, "ApiRole": {"flow", "token"},
	} {
		for _, s := range resource(t, role).at("Policies").list()[0].at("PolicyDocument", "Statement").list() {
			if s.at("Resource").text() == "SealingKey.Arn" {
				if diff := cmp.Diff(want, s.at("Condition", "StringEquals", context+"purpose").texts()); diff != "" {
					t.Errorf("%s, purpose (-want +got):\n%s", role, diff)
				}
				if got := s.at("Condition", "StringEquals", context+"deployment").text(); got != "AWS::StackName" {
					t.Errorf("%s, deployment %q", role, got)
				}
			}
			narrowed := role == "AuthorizeRole" || role == "CallbackRole"
			if narrowed && s.at("Resource").text() == "ConnectionsTable.Arn" {
				if diff := cmp.Diff([]string{"sys#datakey#flow#*"}, s.at("Condition", "ForAllValues:StringLike", leading).texts()); diff != "" {
					t.Errorf("%s, rows of connections (-want +got):\n%s", role, diff)
				}
			}
		}
	}
}

func TestAccessLogHoldsNeitherPathNorQuery(t *testing.T) {
	allowed := []string{
		"requestId", "requestTime", "identity.sourceIp", "httpMethod", "routeKey", "status", "responseLength",
		"responseLatency", "integrationStatus", "integrationLatency", "identity.userArn",
	}
	format := resource(t, "HttpApi").at("AccessLogSettings", "Format").text()
	found := regexp.MustCompile(`\$context\.([A-Za-z.]+)`).FindAllStringSubmatch(format, -1)
	if len(found) != len(allowed) || !json.Valid([]byte(format)) {
		t.Errorf("access log format %s", format)
	}
	for _, f := range found {
		if !slices.Contains(allowed, f[1]) {
			t.Errorf("the access log holds %s", f[1])
		}
	}
}

// routesOf are the template's routes: key to logical id of the function, and
// whether the gateway checks a signature.
func routesOf(t *testing.T) (functions map[string]string, signed map[string]bool) {
	t.Helper()
	functions, signed = map[string]string{}, map[string]bool{}
	template(t).at("Resources").each(func(function string, r node) {
		if r.at("Type").text() != "AWS::Serverless::Function" {
			return
		}
		if r.at("Properties", "FunctionUrlConfig").v != nil {
			t.Errorf("%s has a URL that bypasses the gateway", function)
		}
		r.at("Properties", "Events").each(func(_ string, e node) {
			if p := e.at("Properties"); e.at("Type").text() == "HttpApi" {
				key := p.at("Method").text() + " " + p.at("Path").text()
				functions[key], signed[key] = function, p.at("Auth", "Authorizer").text() == "AWS_IAM"
			}
		})
	})
	return functions, signed
}

func TestRoutesAndSampleEventsAgree(t *testing.T) {
	functions, signed := routesOf(t)
	want := map[string]string{
		"ANY /authorize/{integration}": "AuthorizeFunction", "ANY /callback/{integration}": "CallbackFunction",
		"ANY /healthz": "ApiFunction", "ANY /v1/{proxy+}": "ApiFunction", "ANY /iam/v1/{proxy+}": "ApiFunction",
		"ANY /oauth/token": "ApiFunction",
		"ANY /console":     "ApiFunction", "ANY /console/{proxy+}": "ApiFunction",
	}
	if diff := cmp.Diff(want, functions); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	for key, is := range signed {
		if is != strings.HasPrefix(key, "ANY /iam/") {
			t.Errorf("%s: signature checked by the gateway: %v", key, is)
		}
	}
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no sample events", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if function, _, _ := strings.Cut(strings.TrimSuffix(file, ".json"), "-"); function != "refresh" {
			reachesItsFunction(t, file, b, functions, signed)
		}
	}
}

func reachesItsFunction(t *testing.T, file string, b []byte, functions map[string]string, signed map[string]bool) {
	t.Helper()
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(file, err)
	}
	function, _, _ := strings.Cut(strings.TrimSuffix(file, ".json"), "-")
	if !strings.EqualFold(functions[e.RouteKey], function+"Function") {
		t.Errorf("%s: its route %q leads to %q", file, e.RouteKey, functions[e.RouteKey])
	}
	h := func(w http.ResponseWriter, r *http.Request) {
		if _, got := lambdahttp.IAMCaller(r.Context()); got != signed[e.RouteKey] || r.URL.Path != e.RawPath {
			t.Errorf("%s: path %s, signed %v", file, r.URL.Path, got)
		}
		w.WriteHeader(http.StatusNoContent)
	}
	a, err := lambdahttp.Handler(http.HandlerFunc(h), slog.New(slog.DiscardHandler))(t.Context(), e)
	if err != nil || a.StatusCode != http.StatusNoContent {
		t.Errorf("%s: answer %d, error %v", file, a.StatusCode, err)
	}
}
