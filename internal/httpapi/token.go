package httpapi

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/wire"
)

// Bounds of min_ttl_s in seconds: how long the token has to last at least, and what
// is taken where the caller does not say.
const (
	defaultMinTTL = 60
	largestMinTTL = 86400
)

// token is GET /v1/connections/{id}/token.
func (x *exchange) token() (answer, error) {
	minTTL, err := x.number("min_ttl_s", defaultMinTTL, 0, largestMinTTL)
	if err != nil {
		return answer{}, err
	}
	t, err := x.Broker.Token(x.r.Context(), x.caller, x.r.PathValue("id"), minTTL, strings.Fields(x.query["need"]))
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, tokenOf(t))
}

// refresh is POST /v1/connections/{id}/refresh.
func (x *exchange) refresh() (answer, error) {
	body, err := decode[wire.RefreshRequest](x)
	if err != nil {
		return answer{}, err
	}
	if body.IfGeneration < 1 {
		return answer{}, invalid("if_generation is required: the generation of the token that was refused.")
	}
	t, err := x.Broker.Refresh(x.r.Context(), x.caller, x.r.PathValue("id"), body.IfGeneration, body.IfTokenID)
	if err != nil {
		return answer{}, err
	}
	return reply(http.StatusOK, tokenOf(t))
}

// tokenOf is the one place of this package that reveals a secret: to the caller who
// asked for it.
func tokenOf(t broker.TokenView) wire.Token {
	return wire.Token{
		AccessToken: t.AccessToken.Reveal(), TokenType: t.TokenType, TokenID: t.TokenID,
		ExpiresAt: wire.TimeOrNull(t.ExpiresAt), UseUntil: wire.TimeOrNull(t.UseUntil),
		Generation: t.Generation, Scope: t.Scope, Fields: object(t.Fields),
		API: tokenAPIOf(t.API),
	}
}

// tokenAPIOf is how an API takes and refuses a token, nil where that is the usual way:
// as a client that knows nothing of providers would do it.
func tokenAPIOf(a provider.API) *wire.TokenAPI {
	if a.AuthHeaderName == "" && a.AuthHeaderScheme == "" && len(a.BaseURLs) == 0 && len(a.RejectedWhen) == 0 {
		return nil
	}
	api := &wire.TokenAPI{
		BaseURLs:   append([]string{}, a.BaseURLs...),
		HeaderName: cmp.Or(a.AuthHeaderName, "Authorization"), HeaderScheme: cmp.Or(a.AuthHeaderScheme, "Bearer"),
	}
	if a.AuthHeaderScheme == provider.NoScheme {
		api.HeaderScheme = ""
	}
	for _, r := range a.Rejections() {
		api.RejectedWhen = append(api.RejectedWhen, wire.Rejection{Status: r.Status, HeaderMatch: r.HeaderMatch, JSONField: r.JSONField, Equals: r.Equals})
	}
	return api
}
