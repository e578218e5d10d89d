package app_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/evergrant/evergrant/internal/app/api"
	"github.com/evergrant/evergrant/internal/app/authorize"
	"github.com/evergrant/evergrant/internal/app/callback"
	"github.com/evergrant/evergrant/internal/lambdahttp"
)

// TestSampleEvents feeds each event of the folder events to the function that it is
// for. The ids in them are of nothing that exists.
func TestSampleEvents(t *testing.T) {
	files, err := filepath.Glob("../../events/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no sample events", err)
	}
	want := map[string]struct {
		status int
		text   string
	}{
		"api-connect.json":   {201, "https://" + gatewayHost + "/authorize/askfred?session=cs_"},
		"api-health.json":    {200, `"store":"ok"`},
		"api-token.json":     {404, `"code":"not_found"`},
		"api-token-iam.json": {404, `"code":"not_found"`},
		"authorize.json":     {409, "This link has expired"},
		"callback.json":      {409, "start again"},
		"refresh-chunk.json": {0, `{"batchItemFailures":[]}`},
		"refresh-tick.json":  {0, "null"},
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			d := onBolt(t)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			status, body := d.answerTo(name, b)
			if w, listed := want[name]; !listed || status != w.status || !strings.Contains(body, w.text) {
				t.Errorf("answered %d: %s", status, body)
			}
		})
	}
}

// answerTo feeds an event to the function that its file is named after. A status of 0
// stands for an invocation that succeeded.
func (d *deployment) answerTo(name string, event []byte) (status int, body string) {
	d.t.Helper()
	function, _, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
	if function == "refresh" {
		body, err := d.wake(string(event))
		if err != nil {
			d.t.Fatal(err)
		}
		return 0, body
	}
	room := map[string]http.Handler{"authorize": authorize.New(d.parts), "callback": callback.New(d.parts), "api": api.New(d.parts)}[function]
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(event, &e); err != nil {
		d.t.Fatal(err)
	}
	a, err := lambdahttp.Handler(room, d.parts.Log)(d.t.Context(), e)
	if err != nil {
		d.t.Fatal(err)
	}
	return a.StatusCode, a.Body
}

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var (
	_ = mutant("T37", "internal/httpapi/auth.go", `	if viaGateway {`, `	if !viaGateway {`)
	_ = mutant("T37", "internal/httpapi/auth.go", `		return broker.Caller{}, &broker.Error{Code: broker.Unauthorized, Detail: "Sign the request (AWS Signature Version 4)."}`, `		return x.callerByKey()`)
)

// Without the authorizer's word nobody is known there, whatever headers say, and an API
// key does not count. That no function has a URL past the gateway, and that the gateway
// checks signatures under /iam, is tested with the template, in the folder events.
func TestThreat_T37_a_caller_under_iam_comes_from_the_gateway_alone(t *testing.T) {
	b, err := os.ReadFile("../../events/api-token-iam.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*events.APIGatewayV2HTTPRequest)
		status int
	}{
		"no authorizer": {func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.Authorizer = nil }, 401},
		"an API key": {func(e *events.APIGatewayV2HTTPRequest) {
			e.RequestContext.Authorizer, e.Headers["authorization"] = nil, "Bearer "+apiKey
		}, 401},
		"a role that is not configured": {func(e *events.APIGatewayV2HTTPRequest) {
			e.RequestContext.Authorizer.IAM.UserARN = "arn:aws:sts::123456789012:assumed-role/other/x"
		}, 403},
		"the key's own path": {func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = strings.TrimPrefix(e.RawPath, "/iam") }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			d := onBolt(t)
			var e events.APIGatewayV2HTTPRequest
			if err := json.Unmarshal(b, &e); err != nil {
				t.Fatal(err)
			}
			c.change(&e)
			changed, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if status, body := d.answerTo("api.json", changed); status != c.status {
				t.Errorf("answered %d, want %d: %s", status, c.status, body)
			}
		})
	}
}
