package threats_test

import (
	"net/http"
	"testing"

	"github.com/evergrant/evergrant/internal/connection"
)

var _ = mutant("T31", "internal/refresh/consent.go", `c.AccountID != "" && s.Account.ID != c.AccountID:`, `c.AccountID == "x":`)

// Whatever tokens a provider answers a reconnect with, they do not get into a connection
// of another account: they are kept apart, and the connection goes on with its own.
func TestThreat_T31_another_users_token_does_not_get_into_a_connection(t *testing.T) {
	w := newWorld(t)
	id := w.ConnectHTTP("redbooth", "tenant", "alice")
	before := w.Record(id)
	if before.AccountID == "" {
		t.Fatal("the account is not known: the test shows nothing")
	}
	body := `{"integration":"redbooth","owner":"tenant","connection_id":"` + id + `","return_to":"http://127.0.0.1:9/back"}`
	made := w.Call("all", "POST", "/v1/connect-sessions", body).Want(t, http.StatusCreated, "").JSON(t)
	session := made["id"].(string)
	confirm := w.Return(w.Browser(), made["authorize_url"].(string), "bob").Get("evergrant_confirm")
	refused := w.Confirm("all", session, confirm, "tenant").Want(t, http.StatusConflict, `"code":"account_mismatch"`).JSON(t)
	after := w.Record(id)
	if after.AccountID != before.AccountID || after.Gen != before.Gen || after.Status != connection.Active {
		t.Errorf("the connection was %s of %s and is %s of %s", before.Status, before.AccountID, after.Status, after.AccountID)
	}
	if kept, _ := refused["connection_id"].(string); kept == "" || kept == id || w.Record(kept).AccountID == before.AccountID {
		t.Errorf("the other account is kept as %q", kept)
	}
	w.CheckSecrets()
}
