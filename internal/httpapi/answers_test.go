package httpapi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// The answers of this file come of what goes wrong elsewhere: at the provider, in another
// process, in the registration.

func (w *world) token(id string) brokertest.Answer {
	w.T.Helper()
	return w.Call("token", "GET", "/v1/connections/"+id+"/token", "")
}

func (w *world) fault(provider string, f simprovider.Fault) {
	w.T.Helper()
	w.Must(w.Sim.AddFault(provider, f))
}

// reconnected is the answer to the confirmation of a reconnect in which the user of that
// name consents.
func (w *world) reconnected(integration, id, user string) brokertest.Answer {
	w.T.Helper()
	body := `{"integration":"` + integration + `","owner":"alice","connection_id":"` + id + `","return_to":"` + brokertest.ReturnTo + `"}`
	m := w.Call("all", "POST", "/v1/connect-sessions", body).Want(w.T, 201, "").JSON(w.T)
	back := w.Return(w.Browser(), m["authorize_url"].(string), user)
	return w.Confirm("all", m["id"].(string), back.Get("evergrant_confirm"), "alice")
}

func TestAProviderThatIsAway(t *testing.T) {
	w := newWorld(t)
	id := w.connect("freeagent", "alice")
	w.Advance(30 * 24 * time.Hour)
	w.fault("freeagent", simprovider.Fault{On: "token", Kind: "status", Status: 503, Count: -1})
	g := w.token(id).Want(t, 503, "provider_unavailable")
	if g.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to ask again")
	}
}

func TestARefreshOfAnother(t *testing.T) {
	w := newWorld(t)
	id := w.connect("freeagent", "alice")
	w.Advance(30 * 24 * time.Hour)
	other := w.Start()
	other.OnWire(brokertest.OnSend, 1, brokertest.CrashBefore[*http.Response](other))
	other.Crashes(func() { _, _ = other.Read(id, 60) })
	g := w.token(id).Want(t, 409, "refresh_in_progress")
	if g.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", g.Header.Get("Retry-After"))
	}
}

func TestAnApplicationThatTheProviderRefuses(t *testing.T) {
	w := newWorld(t)
	id := w.connect("redbooth", "alice")
	w.SetSecret("another")
	w.Restart()
	w.Advance(30 * 24 * time.Hour)
	w.token(id).Want(t, 503, "integration_suspended")
	w.Call("all", "GET", "/v1/integrations", "").Want(t, 200, `"status":"suspended"`)
}

func TestAReconnectOfAnotherAccount(t *testing.T) {
	w := newWorld(t)
	id := w.connect("redbooth", "alice")
	w.reconnected("redbooth", id, "bob").Want(t, 409, "account_mismatch")
}

func TestAReconnectWithoutARefreshToken(t *testing.T) {
	w := newWorld(t)
	// Nothing of FreeAgent's says whose account it is, so that nothing may be joined.
	id := w.connect("freeagent", "alice")
	w.fault("freeagent", simprovider.Fault{On: "token", Kind: "no_refresh_token"})
	w.reconnected("freeagent", id, "alice").Want(t, 409, "no_refresh_token")
}

func TestOperatorsRoutesAnswer(t *testing.T) {
	w := newWorld(t)
	w.connect("redbooth", "alice")
	w.cfg.Admin = httpapi.Commands(w.Home.Broker)
	// What only a data folder has: the shapes are those of serve.
	w.cfg.Admin["rescue-replay"] = func(context.Context) (any, error) { return wire.ReplayResult{Replayed: 1}, nil }
	w.cfg.Admin["restore"] = func(context.Context) (any, error) { return map[string]any{"restore_epoch": 1, "restart": true}, nil }
	w.cfg.Metrics = func() (string, []byte, error) { return "text/plain; version=0.0.4", []byte("evergrant_up 1\n"), nil }
	w.Serve(w.cfg)
	for _, command := range []string{"rotate-key", "rescue-replay", "restore"} {
		w.Call("admin", "POST", "/v1/admin/"+command, "").Want(t, 200, "")
	}
	w.Call("admin", "GET", "/v1/admin/export", "").Want(t, 200, "redbooth")
	w.Call("metrics", "GET", "/metrics", "").Want(t, 200, "evergrant_up 1")
	w.Call("all", "GET", "/metrics", "").Want(t, 403, "forbidden")
}

func TestAHeldConnectionIsActivated(t *testing.T) {
	w := newWorld(t)
	_, elsewhere := w.Tokens(w.connect("freeagent", "bob"))
	body := `{"integration":"freeagent","owner":"alice","refresh_token":"` + elsewhere + `","hold":true}`
	id := w.Call("manage", "POST", "/v1/connections", body).Want(t, 201, `"status":"held"`).JSON(t)["id"].(string)
	w.token(id).Want(t, 409, "held")
	w.Call("manage", "POST", "/v1/connections/"+id+"/activate", "").Want(t, 200, `"status":"active"`)
}
