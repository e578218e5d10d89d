package httpapi

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/wire"
)

// revive is POST /v1/admin/revive.
func (x *exchange) revive() (answer, error) {
	in, err := decode[wire.ReviveRequest](x)
	if err != nil {
		return answer{}, err
	}
	rep, err := x.Broker.Revive(x.r.Context(), x.caller, broker.ReviveRequest{Integration: in.Integration, Since: in.Since.Unix()})
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, wire.ReviveResult{
		Recovered: rep.Recovered, Refused: rep.Refused, Reopened: rep.Reopened, More: rep.More, Stopped: wire.TextOrNull(rep.Stopped),
	})
}
