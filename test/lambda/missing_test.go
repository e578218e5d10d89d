package lambda_test

import (
	"context"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/app/runtimeapi"
)

// missing: whatever is not set up is named, by the first request that needs it at the latest,
// to the operator and without a secret.
func missing(t *testing.T, c *cloud) {
	d := deploy(t, c, confirmMode, nil)
	for name := range at(d.stack.template, "Globals", "Function", "Environment", "Variables").(map[string]any) {
		if name == "EVERGRANT_PUBLIC_URL" || name == "EVERGRANT_RESTORE_EPOCH" || name == "EVERGRANT_CONSOLE" {
			continue // which may be left out
		}
		for _, function := range []string{"AuthorizeFunction", "CallbackFunction", "ApiFunction", "RefreshFunction"} {
			f := d.start(function, func(c *runtimeapi.Config) { delete(c.Env, name) })
			event := `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET"}}}`
			if function == "RefreshFunction" {
				event = `{"tick":"2026-03-12T19:03:00Z"}`
			}
			r, err := f.Invoke(t.Context(), []byte(event))
			if err != nil || !strings.Contains(string(r.Payload), name+" is not set") {
				t.Errorf("%s without %s: %s, %v", function, name, r.Payload, err)
			}
			f.Close()
		}
	}

	// What stands in AWS and is not there, or may not be read, or was named wrongly.
	for _, c := range []struct{ what, settings, says string }{
		{"no such parameter", strings.ReplaceAll(confirmMode, "ssm:/evergrant/askfred", "ssm:/evergrant/absent"), "${ssm:/evergrant/absent}"},
		{"no such secret", strings.ReplaceAll(confirmMode, "ssm:/evergrant/askfred", "secretsmanager:evergrant/absent"), "${secretsmanager:evergrant/absent}"},
		{"a parameter that the role may not read", strings.ReplaceAll(confirmMode, "ssm:/evergrant/askfred", "ssm:/elsewhere/askfred"), "${ssm:/elsewhere/askfred}"},
	} {
		session, back := d.with(c.settings).session("askfred", "tenant-7")
		d.call(503, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)
		if got := list(d.call(200, "GET", "/v1/admin/doctor", ""), "unreadable_secrets"); len(got) != 1 || text(got[0], "integration") != "askfred" {
			t.Errorf("%s: the doctor is told of %v", c.what, got)
		}
		if !d.says(c.says) {
			t.Errorf("%s: the log does not name %s", c.what, c.says)
		}
	}
	for name, value := range map[string]string{
		"EVERGRANT_KMS_KEY":           arn("kms", "key/absent"),
		"EVERGRANT_CONNECTIONS_TABLE": "evergrant-absent",
	} {
		f := d.start("RefreshFunction", func(c *runtimeapi.Config) { c.Env[name] = value })
		_, _ = f.Invoke(context.Background(), []byte(`{"tick":"2026-03-12T19:03:00Z"}`)) // what it answers is not the matter
		f.Close()
		if !d.says(value) {
			t.Errorf("%s=%s is not named", name, value)
		}
	}
	d.silent()
	d.roles.refused = nil // they were meant to be
}

// with packs another configuration with the functions, and starts them anew.
func (d *deployment) with(settings string) *deployment {
	d.t.Helper()
	compiled := d.compile(settings)
	for function, f := range d.functions {
		f.Shutdown()
		d.configure(function, compiled)
	}
	return d
}
