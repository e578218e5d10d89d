package httpapi

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/wire"
)

// reseal is POST /v1/admin/reseal.
func (x *exchange) reseal() (answer, error) {
	if err := x.decodeNothing(); err != nil {
		return answer{}, err
	}
	rep, err := x.Broker.Reseal(x.r.Context(), x.r.URL.Query().Get("cursor"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, wire.ResealResult{
		Resealed: rep.Resealed, Current: rep.Current, Busy: rep.Busy, Failed: rep.Failed, Next: wire.TextOrNull(rep.Next),
	})
}
