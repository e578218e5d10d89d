package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
)

func TestConnectReadRefreshDisconnect(t *testing.T) {
	w := newWorld(t)
	session, link := w.Session("freeagent", "alice")
	w.Call("all", "GET", "/v1/connect-sessions/"+session, "").Want(t, 200, `"status":"open","connection_id":null,"error":null`)
	back := w.Return(w.Browser(), link, "")
	w.Call("all", "GET", "/v1/connect-sessions/"+session, "").Want(t, 200, `"awaiting_confirm"`)
	if back.Get("evergrant_session") != session {
		t.Fatalf("the browser brings back session %q", back.Get("evergrant_session"))
	}
	confirm := `{"confirm":"` + back.Get("evergrant_confirm") + `","owner":"alice"}`
	first := w.Call("all", "POST", "/v1/connect-sessions/"+session+"/confirm", confirm).Want(t, 200, `"status":"active"`)
	again := w.Call("all", "POST", "/v1/connect-sessions/"+session+"/confirm", confirm).Want(t, 200, "")
	id := first.JSON(t)["id"].(string)
	if again.JSON(t)["id"] != id {
		t.Error("the same confirmation gave another connection")
	}

	token := w.Call("all", "GET", "/v1/connections/"+id+"/token?min_ttl_s=60", "").Want(t, 200, "").JSON(t)
	same := w.Call("all", "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":1,"if_token_id":"0011223344556677"}`).Want(t, 200, "").JSON(t)
	if same["token_id"] != token["token_id"] {
		t.Error("a report about another token changed the token")
	}
	w.Advance(time.Minute)
	fresh := w.Call("all", "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":1,"if_token_id":"`+token["token_id"].(string)+`"}`).Want(t, 200, "").JSON(t)
	if fresh["token_id"] == token["token_id"] || fresh["access_token"] == token["access_token"] {
		t.Error("the refused token was handed out again")
	}

	w.Call("all", "PATCH", "/v1/connections/"+id, `{"tags":{"plan":"pro"}}`).Want(t, 200, `"tags":{"plan":"pro"}`)
	w.Call("all", "GET", "/v1/connections?owner=alice&tag.plan=pro", "").Want(t, 200, id)
	w.Call("all", "GET", "/v1/connections?owner=alice&tag.plan=free", "").Want(t, 200, `"items":[],"next":null`)
	w.Call("all", "DELETE", "/v1/connections/"+id, "").Want(t, 200, `"in_flight":false`)
	w.Call("all", "GET", "/v1/connections/"+id+"/token", "").Want(t, 410, `"code":"disconnected"`)
	w.Call("all", "GET", "/v1/connections/"+id, "").Want(t, 200, `"receipt":{"disconnected_at":"2026-03-01T12:01:00Z"`)

	for _, held := range []string{token["access_token"].(string), fresh["access_token"].(string), back.Get("evergrant_confirm"), session, w.Key("all")} {
		if strings.Contains(w.Log.String(), held) {
			t.Errorf("the log holds a secret of length %d", len(held))
		}
	}
}

var (
	_ = mutant("T33", "internal/broker/view.go", `parts := []string{c.Name, r.Owner,`, `parts := []string{r.Owner,`)
	_ = mutant("T33", "internal/broker/view.go", `r.Owner, r.Integration, string(r.Status)}`, `r.Owner, string(r.Status)}`)
	_ = mutant("T33", "internal/broker/cursor.go", `after, err := b.Keys.Open(ctx, secret.PurposeToken, at, sealed)`, `after, err := secret.New(string(sealed)), error(nil)`)
)

func TestThreat_T33_a_cursor_serves_its_own_list_alone(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for _, owner := range []string{"a", "b", "c"} {
		seen[w.connect("freeagent", owner)] = false
	}
	path := "/v1/connections?integration=freeagent&limit=2"
	for cursor := ""; ; {
		m := w.Call("all", "GET", path+cursor, "").Want(t, 200, "").JSON(t)
		for _, item := range m["items"].([]any) {
			seen[item.(map[string]any)["id"].(string)] = true
		}
		if m["next"] == nil {
			break
		}
		cursor = "&cursor=" + m["next"].(string)
		w.Call("manage", "GET", path+cursor, "").Want(t, 400, "cursor") // another caller's
		// Of another list, damaged, made up.
		w.Call("all", "GET", "/v1/connections?integration=redbooth&limit=2"+cursor, "").Want(t, 400, "cursor")
		w.Call("all", "GET", path+"&owner=a"+cursor, "").Want(t, 400, "cursor")
		w.Call("all", "GET", path+cursor[:len(cursor)-4], "").Want(t, 400, "cursor")
		w.Call("all", "GET", path+"&cursor=Y29ubl9h", "").Want(t, 400, "cursor")
	}
	for id, found := range seen {
		if !found {
			t.Errorf("%s is on no page", id)
		}
	}
}

func TestImportAnswers(t *testing.T) {
	w := newWorld(t)
	held := w.Call("all", "POST", "/v1/connections", `{"integration":"redbooth","owner":"a","refresh_token":"rt","hold":true,"external_id":"e1"}`).Want(t, 201, `"status":"held"`)
	w.Call("all", "POST", "/v1/connections", `{"integration":"redbooth","owner":"a","refresh_token":"rt","hold":true,"external_id":"e1"}`).Want(t, 200, held.JSON(t)["id"].(string))
	w.Call("all", "GET", "/v1/connections/"+held.JSON(t)["id"].(string)+"/token", "").Want(t, 409, `"code":"held"`)
	w.Call("all", "POST", "/v1/connections", `{"integration":"redbooth","owner":"a","refresh_token":"rt-unknown"}`).Want(t, 422, `"code":"token_refused"`)
	w.Call("all", "POST", "/v1/connections", `{"integration":"fflogs","owner":"a","grant_type":"client_credentials"}`).Want(t, 201, `"status":"active"`)
}

var (
	_ = mutant("T34", "internal/broker/broker.go", `if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) {
		return connection.Record{}, fail(NotFound, "there is no such connection")`, `if !c.MayIntegration(rec.Integration) || !c.MayOwner(rec.Owner) {
		return connection.Record{}, fail(NotFound, "this key may not see that connection")`)
	_ = mutant("T34", "internal/connection/record.go", `"conn_" + random(20)`, `"conn_" + random(8)`)
)

// A connection that the caller may not see is answered like one that is not there
// (but for the request's own id), and no id is guessed.
func TestThreat_T34_foreign_is_told_as_absent(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{w.connect("freeagent", "somebody"), w.connect("freeagent", "else"), connection.NewRandom()} {
		if _, random, _ := strings.Cut("_"+id, "_"); len(strings.TrimPrefix(random, "conn_")) < 22 { // 128 bits in base64
			t.Errorf("the id %s is guessed", id)
		}
	}
	id := w.connect("freeagent", "alice")
	session, _ := w.Session("freeagent", "alice")
	for _, key := range []string{"foreign", "stranger"} {
		for _, r := range []struct{ method, path, body string }{
			{"GET", "/v1/connections/ID", ""},
			{"GET", "/v1/connections/ID/token", ""},
			{"POST", "/v1/connections/ID/refresh", `{"if_generation":1}`},
			{"POST", "/v1/connections/ID/activate", ""},
			{"PATCH", "/v1/connections/ID", `{"tags":{}}`},
			{"DELETE", "/v1/connections/ID", ""},
			{"GET", "/v1/connect-sessions/SESSION", ""},
			{"POST", "/v1/connect-sessions/SESSION/confirm", `{"confirm":"x","owner":"x-1"}`},
		} {
			there := w.Call(key, r.method, strings.NewReplacer("ID", id, "SESSION", session).Replace(r.path), r.body).Want(t, 404, `"code":"not_found"`)
			gone := w.Call(key, r.method, strings.NewReplacer("ID", absent("conn_"), "SESSION", absent("cs_")).Replace(r.path), r.body)
			if strings.ReplaceAll(there.Body, there.Header.Get("X-Request-Id"), "") != strings.ReplaceAll(gone.Body, gone.Header.Get("X-Request-Id"), "") || gone.Status != there.Status {
				t.Errorf("%s %s tells foreign from absent:\n%s\n%s", r.method, r.path, there.Body, gone.Body)
			}
		}
	}
	w.Call("all", "GET", "/v1/connections/"+id, "").Want(t, 200, `"status":"active"`)
	w.Call("foreign", "GET", "/v1/connections?owner=alice", "").Want(t, 200, `"items":[]`)
}

func TestMissingScopeAndReauth(t *testing.T) {
	w := newWorld(t)
	id := w.connect("redbooth", "alice")
	m := w.Call("all", "GET", "/v1/connections/"+id+"/token?need=a+b", "").Want(t, 409, `"code":"missing_scope"`).JSON(t)
	if m["missing_scope"] != "a b" {
		t.Errorf("missing scope is %v", m["missing_scope"])
	}
	w.Sim.RevokeUser("redbooth", "alice")
	m = w.Call("all", "POST", "/v1/connections/"+id+"/refresh", `{"if_generation":1}`).Want(t, 409, `"code":"needs_reauth"`).JSON(t)
	if m["reason"] != "revoked" || m["connection_id"] != id || !strings.Contains(m["detail"].(string), "/v1/connect-sessions") {
		t.Errorf("the caller is not told how to go on: %v", m)
	}
}
