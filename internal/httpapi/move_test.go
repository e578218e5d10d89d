package httpapi_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/evergrant/evergrant/internal/secret"
)

// A held connection leaves sealed, for an operator alone, and comes in again opened; what
// is not held stays.
func TestMovingIsTheOperators(t *testing.T) {
	w := newWorld(t)
	private, public, err := secret.NewTransferKey()
	if err != nil {
		t.Fatal(err)
	}
	made := w.Call("manage", "POST", "/v1/connections", `{"integration":"redbooth","owner":"tenant","refresh_token":"CANARY-rt","hold":true}`).Want(t, 201, "").JSON(t)
	id := fmt.Sprint(made["id"])
	w.Call("token", "POST", "/v1/connections/"+id+"/hold", "").Want(t, 403, "forbidden")
	w.Call("manage", "POST", "/v1/connections/"+id+"/hold", "").Want(t, 200, "held")
	w.Call("manage", "POST", "/v1/connections/conn_none/hold", "").Want(t, 404, "not_found")

	ask := fmt.Sprintf(`{"integration":"redbooth","recipient":%q}`, public)
	w.Call("manage", "POST", "/v1/admin/move-out", ask).Want(t, 403, "forbidden")
	w.Call("admin", "POST", "/v1/admin/move-out", `{"integration":"redbooth","recipient":"evgmovepub_"}`).Want(t, 400, "invalid_request")
	w.Call("admin", "POST", "/v1/admin/move-out", fmt.Sprintf(`{"integration":"none","recipient":%q}`, public)).Want(t, 404, "not_found")
	var page struct {
		Items []struct {
			ID     string `json:"id"`
			Sealed []byte `json:"sealed"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(w.Call("admin", "POST", "/v1/admin/move-out", ask).Want(t, 200, "").Body), &page); err != nil || len(page.Items) != 1 {
		t.Fatalf("%v, %d items", err, len(page.Items))
	}
	text, err := secret.OpenTransfer(private, id, page.Items[0].Sealed)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"connection": text.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	w.Call("manage", "POST", "/v1/admin/move-in", string(body)).Want(t, 403, "forbidden")
	w.Call("admin", "POST", "/v1/admin/move-in", `{"connection":"{}"}`).Want(t, 400, "invalid_request")
	w.Call("admin", "POST", "/v1/admin/move-in", string(body)).Want(t, 200, "held")
}
