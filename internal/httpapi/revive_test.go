package httpapi_test

import (
	"testing"
	"time"
)

func TestReviveIsTheOperators(t *testing.T) {
	w := newWorld(t)
	body := `{"integration":"redbooth","since":"` + w.now.Now().Add(-time.Hour).Format(time.RFC3339) + `"}`
	w.call("manage", "POST", "/v1/admin/revive", body).want(t, 403, "forbidden")
	g := w.call("admin", "POST", "/v1/admin/revive", body).want(t, 200, "").json(t)
	if g["recovered"] != 0.0 || g["reopened"] != 0.0 || g["refused"] != 0.0 || g["more"] != false || g["stopped"] != nil {
		t.Errorf("%v", g)
	}
	w.call("admin", "POST", "/v1/admin/revive", `{"integration":"redbooth"}`).want(t, 400, "invalid_request")
	w.call("admin", "POST", "/v1/admin/revive", `{"integration":"none","since":"2026-01-01T00:00:00Z"}`).want(t, 404, "not_found")
	w.call("admin", "POST", "/v1/admin/revive", `{"integration":"redbooth","since":"2026-01-01T00:00:00Z","force":true}`).want(t, 400, "invalid_request")
}
