// Package callback provides the function that takes browsers back from providers.
package callback

import (
	"net/http"
	"slices"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/eventbus"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/idtoken"
)

// New returns the handler of /callback/{integration}. Secrets are for integrations bound by
// a cookie, whose codes are exchanged here. Nothing is refreshed, so nothing is rescued: the
// answer of an exchange is kept in its session.
func New(p app.Parts) http.Handler {
	p.IDTokens = idtoken.By
	if slices.ContainsFunc(p.Settings.Integrations, func(i config.Integration) bool { return i.Binding == config.BindingCookie }) {
		// Only there does it write connections, and may it tell of them.
		p.Events = eventbus.New(awsjson.New(p.AWS(app.EventBridge), awsjson.EventBridge()), p.Env.EventBus)
	}
	secrets := awssecrets.New(awsjson.New(p.AWS(app.SSM), awsjson.SSM()), awsjson.New(p.AWS(app.SecretsManager), awsjson.SecretsManager()))
	return httpapi.NewCallback(gateway.Config(p, p.Broker(secrets, nil, true)))
}
