package httpapi

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/wire"
)

// createStandIn is POST /v1/connections/{id}/stand-ins.
func (x *exchange) createStandIn() (answer, error) {
	body, err := decode[wire.StandInRequest](x)
	if err != nil {
		return answer{}, err
	}
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	made, err := x.Broker.CreateStandIn(x.r.Context(), x.caller, x.r.PathValue("id"), body.Name, body.WithClient)
	if err != nil {
		return answer{}, err
	}
	out := wire.NewStandIn{
		ID: made.ID, Name: made.Name, Token: made.Token.Reveal(), TokenEndpoint: origin + tokenPath, CreatedAt: wire.Time(made.CreatedAt),
	}
	if made.WithClient {
		out.ClientID, out.ClientSecret = wire.TextOrNull(made.ID), wire.TextOrNull(made.ClientSecret.Reveal())
	}
	return reply(http.StatusCreated, out)
}

// standIns is GET /v1/connections/{id}/stand-ins. There are few: one page holds them.
func (x *exchange) standIns() (answer, error) {
	list, err := x.Broker.StandIns(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	items := make([]wire.StandIn, 0, len(list))
	for _, s := range list {
		items = append(items, standInOf(s))
	}
	return reply(http.StatusOK, wire.List[wire.StandIn]{Items: items})
}

func standInOf(s broker.StandIn) wire.StandIn {
	return wire.StandIn{ID: s.ID, Name: s.Name, WithClient: s.WithClient, CreatedBy: s.CreatedBy, CreatedAt: wire.Time(s.CreatedAt)}
}

// revokeStandIn is DELETE /v1/connections/{id}/stand-ins/{stand_in}.
func (x *exchange) revokeStandIn() (answer, error) {
	if err := x.Broker.RevokeStandIn(x.r.Context(), x.caller, x.r.PathValue("id"), x.r.PathValue("stand_in")); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}
