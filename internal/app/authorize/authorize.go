// Package authorize provides the function that sends browsers to providers.
package authorize

import (
	"net/http"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/httpapi"
)

// New returns the handler of /authorize/{integration}. It reads no client secret and
// has nothing to rescue, since it exchanges and refreshes nothing.
func New(p app.Parts) http.Handler {
	return httpapi.NewAuthorize(gateway.Config(p, p.Broker(nil, nil, true)))
}
