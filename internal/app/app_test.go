package app_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/authorize"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/app/refresh"
)

func getenv(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestAllThatIsMissingIsToldAtOnce(t *testing.T) {
	_, err := app.ReadEnv(getenv(nil), "/var/task/bootstrap")
	if err == nil {
		t.Fatal("an empty environment will do")
	}
	for _, name := range []string{
		"EVERGRANT_DEPLOYMENT", "EVERGRANT_CONNECTIONS_TABLE", "EVERGRANT_AUTHORIZATIONS_TABLE", "EVERGRANT_KMS_KEY",
		"EVERGRANT_CHUNK_QUEUE", "EVERGRANT_RESCUE_QUEUE", "EVERGRANT_CHUNK_DEAD_LETTERS", "EVERGRANT_RESCUE_DEAD_LETTERS", "EVERGRANT_EVENT_BUS", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
	} {
		if !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func TestWrongSettingsAreNamedAndNotQuoted(t *testing.T) {
	d := newDeployment(t, nil)
	for name, values := range map[string][]string{
		"EVERGRANT_RESTORE_EPOCH": {"-1", "1.5", "CANARY"},
		"EVERGRANT_CONSOLE":       {"yes", "TRUE", "CANARY"},
		"EVERGRANT_CHUNK_QUEUE":   {"CANARY", "evergrant-ChunkQueue"},
		"EVERGRANT_PUBLIC_URL": {
			"auth.example.com", "http://auth.example.com", "https://auth.example.com/path", "https://auth.example.com?CANARY", "https://", "ftp://127.0.0.1", "https://CANARY@auth.example.com",
		},
	} {
		for _, value := range values {
			vars := maps.Clone(d.vars)
			vars[name] = value
			_, err := app.ReadEnv(getenv(vars), "")
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
	for _, value := range []string{"", "https://auth.example.com", "https://auth.example.com/", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"} {
		d.vars["EVERGRANT_PUBLIC_URL"] = value
		if e, err := app.ReadEnv(getenv(d.vars), ""); err != nil || e.PublicURL != strings.TrimSuffix(value, "/") {
			t.Errorf("%q: %q, %v", value, e.PublicURL, err)
		}
	}
}

func TestSettingsDoNotPrintCredentials(t *testing.T) {
	d := newDeployment(t, nil)
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, d.parts.Env); strings.Contains(text, "CANARY") {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

func TestEndpointsOfAllServicesAndOfOne(t *testing.T) {
	d := newDeployment(t, map[string]string{"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SQS": "http://one"})
	if d.parts.Env.Endpoints[app.SQS] != "http://one" || d.parts.Env.Endpoints[app.KMS] != "http://all" {
		t.Errorf("%v", d.parts.Env.Endpoints)
	}
	if got := *d.parts.AWS(app.SQS).BaseEndpoint; got != "http://one" {
		t.Error(got)
	}
}

func TestWhereTheConfigurationStands(t *testing.T) {
	d := newDeployment(t, nil)
	delete(d.vars, "EVERGRANT_CONFIG")
	for root, want := range map[string]string{"": "/opt/x/evergrant.json", "/var/task": "/var/task/evergrant.json"} {
		d.vars["LAMBDA_TASK_ROOT"] = root
		e, err := app.ReadEnv(getenv(d.vars), "/opt/x/bootstrap")
		if err != nil || e.ConfigFile != want {
			t.Errorf("%q, %v; want %q", e.ConfigFile, err, want)
		}
	}
}

const minimal = `{"public_url": "PUBLIC", "integrations": {"acme": {
	"provider": {"name": "Acme", "token_endpoint": "https://acme.example/token", "grant_types_supported": ["client_credentials"], "token_endpoint_auth_method": "client_secret_basic"},
	"client_id": "abc", "client_secret": "SECRET"}}}`

func TestConfigurationThatAFunctionCannotUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "evergrant.json")
	read := func(origin, public, secret string) (string, error) {
		text := strings.NewReplacer("PUBLIC", public, "SECRET", secret).Replace(minimal)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := app.ReadSettings(app.Env{ConfigFile: file, PublicURL: origin})
		if err != nil {
			return "", err
		}
		return s.PublicURL, nil
	}
	const ssm = "${ssm:/evergrant/acme}"
	if _, err := read("", "https://a.example", "${env:ACME_SECRET}"); err == nil || !strings.Contains(err.Error(), "${env:ACME_SECRET}") || !strings.Contains(err.Error(), "acme") {
		t.Error("a secret in the environment:", err)
	}
	if _, err := read("", "http://127.0.0.1:8080", ssm); err == nil || !strings.Contains(err.Error(), "public_url") {
		t.Error("a public_url on loopback:", err)
	}
	for _, c := range []struct{ origin, public, want string }{
		{"", "https://file.example", "https://file.example"},
		{"https://env.example", "https://file.example", "https://env.example"},
		{"https://env.example", "http://127.0.0.1:8080", "https://env.example"},
	} {
		if got, err := read(c.origin, c.public, ssm); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	if _, err := app.ReadSettings(app.Env{ConfigFile: file + ".gone"}); err == nil || !strings.Contains(err.Error(), "evergrant config build") {
		t.Error("no file:", err)
	}
}

// TestFunctionsAreMadeOfTheEnvironment: set up, they answer; not set up, they say what
// is missing, to each caller and not by ending.
func TestFunctionsAreMadeOfTheEnvironment(t *testing.T) {
	d := newDeployment(t, nil)
	event := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: "/authorize/none", RequestContext: events.APIGatewayV2HTTPRequestContext{
		DomainName: gatewayHost, RequestID: "r1", HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: "GET"},
	}}
	for name, value := range d.vars {
		t.Setenv(name, value)
	}
	a, err := gateway.Handler(authorize.New)(t.Context(), event)
	if err != nil || a.StatusCode != 404 {
		t.Errorf("set up: %d %s, %v", a.StatusCode, a.Body, err)
	}
	t.Setenv("EVERGRANT_KMS_KEY", "")
	t.Setenv("EVERGRANT_CONFIG", "/nowhere/evergrant.json")
	a, err = gateway.Handler(authorize.New)(t.Context(), event)
	if err != nil || a.StatusCode != 500 || a.Headers["content-type"] != "application/problem+json" {
		t.Errorf("not set up: %d %v, %v", a.StatusCode, a.Headers, err)
	}
	_, failed := refresh.FromEnvironment().Invoke(t.Context(), []byte(`{"tick":"2026-03-12T19:03:00Z"}`))
	if failed == nil {
		t.Fatal("the refresh function works without its settings")
	}
	for _, text := range []string{a.Body, failed.Error()} {
		if !strings.Contains(text, "EVERGRANT_KMS_KEY is not set") || !strings.Contains(text, "/nowhere/evergrant.json") || strings.Contains(text, "CANARY") {
			t.Errorf("not set up: %s", text)
		}
	}
}

// TestFunctionsLinkOnlyWhatTheyUse: what is linked is paid for at every cold start.
// Templates cost most: with them the linker must keep every exported method.
func TestFunctionsLinkOnlyWhatTheyUse(t *testing.T) {
	const sdk, own = "github.com/aws/aws-sdk-go-v2/", "github.com/evergrant/evergrant/internal/"
	everywhere := []string{
		"html/template", "text/template", "net/rpc", "net/http/pprof", "expvar", "testing", "github.com/goccy/go-yaml", "go.etcd.io/bbolt", "github.com/alecthomas/kong",
		sdk + "config", sdk + "service/eventbridge", sdk + "service/kms", sdk + "service/sqs", sdk + "service/ssm", sdk + "service/secretsmanager", own + "config/yamlfile", own + "boltstore", own + "simprovider", own + "app/awssim", own + "keyfile", own + "rescue",
	}
	for function, forbidden := range map[string][]string{
		"authorize": {own + "eventbus", own + "awssecrets", own + "sqsqueue"},
		"callback":  {own + "sqsqueue"},
		"api":       nil,
		"refresh":   {own + "httpapi", own + "lambdahttp", own + "app/gateway"},
	} {
		out, err := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "../../functions/"+function).Output()
		if err != nil {
			t.Fatal(err)
		}
		linked := strings.Fields(string(out))
		for _, name := range slices.Concat(everywhere, forbidden) {
			if slices.Contains(linked, name) {
				t.Errorf("%s links %s", function, name)
			}
		}
	}
}
