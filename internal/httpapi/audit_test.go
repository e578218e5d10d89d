package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
)

// audits are the audit lines of the log, each as caller, action,
// outcome and target.
func (w *world) audits() [][4]string {
	w.T.Helper()
	var list [][4]string
	for line := range strings.Lines(w.Log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.T.Fatal(err)
		}
		if m["msg"] != "audit" {
			continue
		}
		if m["request_id"] == "" || m["source"] != "127.0.0.1" {
			w.T.Errorf("an audit line without request id or source: %s", line)
		}
		text := func(name string) string { s, _ := m[name].(string); return s }
		list = append(list, [4]string{text("caller"), text("action"), text("outcome"), text("target")})
	}
	return list
}

var _ = mutant("T68", "internal/httpapi/audit.go", `if x.caller.Name == "" || look && x.scope != "admin" {`, `if x.caller.Name == "" || look && x.scope != "admin" || s.path == "/v1/connections" {`)

// Every act leaves one line, whatever came of it; a look leaves none, and so does who is
// not known. No text of the caller's is in it.
func TestThreat_T68_acts_are_audited_and_an_import_needs_its_scope(t *testing.T) {
	w := newWorld(t)
	const canary = "CANARY-of-the-owner"
	id, link := w.Session("freeagent", canary)
	session := "session:" + connection.Hash(id)
	confirm := w.Return(w.Browser(), link, "").Get("evergrant_confirm")
	made := w.Call("all", "POST", "/v1/connect-sessions/"+id+"/confirm", `{"confirm":"`+confirm+`","owner":"`+canary+`"}`).Want(t, 200, "").JSON(t)["id"].(string)
	w.Call("all", "POST", "/v1/connect-sessions/"+id+"/confirm", `{"confirm":"wrong","owner":"`+canary+`"}`).Want(t, 409, "")
	w.Call("all", "GET", "/v1/connections/"+made, "").Want(t, 200, "")
	w.Call("all", "GET", "/v1/connections/"+made+"/token", "").Want(t, 200, "")
	w.Call("manage", "PATCH", "/v1/connections/"+made, `{"tags":{"a":"`+canary+`"}}`).Want(t, 200, "")
	w.Call("token", "DELETE", "/v1/connections/"+made, "").Want(t, 403, "")
	w.Call("foreign", "DELETE", "/v1/connections/"+made, "").Want(t, 404, "")
	imported := w.Call("manage", "POST", "/v1/connections", `{"integration":"redbooth","owner":"a","refresh_token":"`+canary+`","hold":true}`).Want(t, 201, "").JSON(t)["id"].(string)
	refused := w.Call("manage", "POST", "/v1/connections", `{"integration":"redbooth","owner":"a","refresh_token":"`+canary+`"}`).Want(t, 422, "").JSON(t)["connection_id"].(string)
	w.Call("manage", "POST", "/v1/connections", `{"owner":"`+canary+`"`).Want(t, 400, "")
	w.Call("all", "DELETE", "/v1/connections/"+made, "").Want(t, 200, "")
	w.Call("admin", "GET", "/v1/admin/export", "")
	w.Call("admin", "DELETE", "/v1/connections/"+canary, "").Want(t, 403, "")
	w.Call("", "DELETE", "/v1/connections/"+made, "").Want(t, 401, "")
	w.request("DELETE", "/iam/v1/connections/"+made, http.Header{brokertest.ARNHeader: {"arn:aws:sts::123456789012:assumed-role/manage/i-1"}}).Want(t, 200, "")
	if log := w.Log.String(); strings.Contains(log, canary) || strings.Contains(log, id) || strings.Contains(log, confirm) {
		t.Error("the log holds what a caller sent")
	}
	want := [][4]string{
		{"all", "POST /v1/connect-sessions", "done", session},
		{"all", "POST /v1/connect-sessions/{id}/confirm", "done", made},
		{"all", "POST /v1/connect-sessions/{id}/confirm", "restart_connect", session},
		{"manage", "PATCH /v1/connections/{id}", "done", made},
		{"token", "DELETE /v1/connections/{id}", "forbidden", made},
		{"foreign", "DELETE /v1/connections/{id}", "not_found", made},
		{"manage", "POST /v1/connections", "done", imported},
		{"manage", "POST /v1/connections", "token_refused", refused},
		{"manage", "POST /v1/connections", "invalid_request", ""},
		{"all", "DELETE /v1/connections/{id}", "done", made},
		{"admin", "GET /v1/admin/export", "not_found", ""},
		{"admin", "DELETE /v1/connections/{id}", "forbidden", ""},
		{"arn:aws:sts::123456789012:assumed-role/manage/*", "DELETE /iam/v1/connections/{id}", "done", made},
	}
	if diff := cmp.Diff(want, w.audits()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
