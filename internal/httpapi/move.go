package httpapi

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// hold is POST /v1/connections/{id}/hold.
func (x *exchange) hold() (answer, error) {
	if err := x.decodeNothing(); err != nil {
		return answer{}, err
	}
	v, err := x.Broker.Hold(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, connectionOf(v))
}

// moveOut is POST /v1/admin/move-out.
func (x *exchange) moveOut() (answer, error) {
	in, err := decode[wire.MoveOutRequest](x)
	if err != nil {
		return answer{}, err
	}
	page, next, err := x.Broker.MoveOut(x.r.Context(), x.caller, in.Integration, in.Recipient, in.Cursor)
	if err != nil {
		return answer{}, err
	}
	items := make([]wire.Moved, 0, len(page))
	for _, m := range page {
		items = append(items, wire.Moved{ID: m.ID, Sealed: m.Sealed})
	}
	return reply(http.StatusOK, wire.List[wire.Moved]{Items: items, Next: wire.TextOrNull(next)})
}

// moveIn is POST /v1/admin/move-in.
func (x *exchange) moveIn() (answer, error) {
	in, err := decode[wire.MoveInRequest](x)
	if err != nil {
		return answer{}, err
	}
	v, err := x.Broker.MoveIn(x.r.Context(), x.caller, secret.New(in.Connection))
	if err != nil {
		return answer{}, err
	}
	x.target = v.ID
	return reply(http.StatusOK, connectionOf(v))
}
