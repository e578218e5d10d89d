package httpapi

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// createSession is POST /v1/connect-sessions.
func (x *exchange) createSession() (answer, error) {
	body, err := decode[wire.SessionRequest](x)
	if err != nil {
		return answer{}, err
	}
	if body.Integration == "" {
		return answer{}, invalid("integration is required.")
	}
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	made, err := x.Broker.CreateSession(x.r.Context(), x.caller, broker.SessionRequest{
		Origin: origin, Integration: body.Integration, Owner: body.Owner, ReturnTo: body.ReturnTo, Scopes: body.Scopes,
		ConnectionID: body.ConnectionID, LoginHint: body.LoginHint, Tags: body.Tags, Variables: body.Variables,
		AllowAccountChange: body.AllowAccountChange, ExpiresIn: body.ExpiresInS,
	})
	if err != nil {
		return answer{}, err
	}
	x.target = sessionTarget(made.ID)
	return reply(http.StatusCreated, wire.NewSession{ID: made.ID, AuthorizeURL: made.AuthorizeURL, ExpiresAt: wire.Time(made.ExpiresAt)})
}

// session is GET /v1/connect-sessions/{id}.
func (x *exchange) session() (answer, error) {
	s, err := x.Broker.Session(x.r.Context(), x.caller, x.r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, wire.Session{
		Status: s.Status, ConnectionID: wire.TextOrNull(s.ConnectionID), Error: wire.TextOrNull(string(s.Error)),
	})
}

// confirm is POST /v1/connect-sessions/{id}/confirm.
func (x *exchange) confirm() (answer, error) {
	body, err := decode[wire.ConfirmRequest](x)
	if err != nil {
		return answer{}, err
	}
	confirm := secret.New(body.Confirm)
	if confirm.IsZero() {
		return answer{}, invalid("confirm is required: the evergrant_confirm of the return address.")
	}
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	v, err := x.Broker.Confirm(x.r.Context(), x.caller, origin, x.r.PathValue("id"), confirm, body.Owner)
	if err != nil {
		return answer{}, err
	}
	x.target = v.ID
	return reply(http.StatusOK, connectionOf(v))
}
