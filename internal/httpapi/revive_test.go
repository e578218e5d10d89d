package httpapi_test

import (
	"testing"
	"time"
)

func TestReviveIsTheOperators(t *testing.T) {
	w := newWorld(t)
	body := `{"integration":"redbooth","since":"` + w.Now().Add(-time.Hour).Format(time.RFC3339) + `"}`
	w.Call("manage", "POST", "/v1/admin/revive", body).Want(t, 403, "forbidden")
	g := w.Call("admin", "POST", "/v1/admin/revive", body).Want(t, 200, "").JSON(t)
	if g["recovered"] != 0.0 || g["reopened"] != 0.0 || g["refused"] != 0.0 || g["more"] != false || g["stopped"] != nil {
		t.Errorf("%v", g)
	}
	w.Call("admin", "POST", "/v1/admin/revive", `{"integration":"redbooth"}`).Want(t, 400, "invalid_request")
	w.Call("admin", "POST", "/v1/admin/revive", `{"integration":"none","since":"2026-01-01T00:00:00Z"}`).Want(t, 404, "not_found")
	w.Call("admin", "POST", "/v1/admin/revive", `{"integration":"redbooth","since":"2026-01-01T00:00:00Z","force":true}`).Want(t, 400, "invalid_request")
}
