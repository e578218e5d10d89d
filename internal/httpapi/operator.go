package httpapi

import (
	"context"
	_ "embed"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/wire"
)

// openAPIDocument describes the API in OpenAPI 3.1.
//
//go:embed openapi.json
var openAPIDocument []byte

// openAPI is GET /v1/openapi.json.
func (x *exchange) openAPI() (answer, error) {
	return answer{status: http.StatusOK, kind: "application/json", body: openAPIDocument}, nil
}

// storeWait is how long /healthz waits for the store.
const storeWait = 2 * time.Second

// health is GET /healthz. It answers 200 as long as the process does, since a restart
// would not bring a store back; the body tells how the store is.
func (x *exchange) health() (answer, error) {
	ctx, cancel := context.WithTimeout(x.r.Context(), storeWait)
	defer cancel()
	h := wire.Health{Status: "ok", Version: x.Version, Store: "ok"}
	if err := x.Broker.Ping(ctx); err != nil {
		x.cause = err
		h.Status, h.Store = "degraded", "unreachable"
	}
	return reply(http.StatusOK, h)
}

// metrics is GET /metrics.
func (x *exchange) metrics() (answer, error) {
	if x.Metrics == nil {
		return answer{}, &broker.Error{Code: broker.NotFound, Detail: "This deployment puts its metrics elsewhere: a function writes them into its log, from which CloudWatch takes them."}
	}
	kind, text, err := x.Metrics()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, kind: kind, body: text}, nil
}

// integrations is GET /v1/integrations.
func (x *exchange) integrations() (answer, error) {
	origin, err := x.origin()
	if err != nil {
		return answer{}, err
	}
	views, err := x.Broker.Integrations(x.r.Context(), x.caller, origin)
	if err != nil {
		return answer{}, err
	}
	items := make([]wire.Integration, 0, len(views))
	for _, v := range views {
		items = append(items, integrationOf(v))
	}
	return reply(http.StatusOK, wire.List[wire.Integration]{Items: items})
}

func integrationOf(v broker.IntegrationView) wire.Integration {
	i := wire.Integration{
		Name: v.Name, Provider: v.Provider, DisplayName: v.DisplayName, Grants: append([]string{}, v.Grants...),
		Scopes: append([]string{}, v.Scopes...), Binding: v.Binding, Connect: v.Connect, Refresh: v.Refresh,
		RedirectURI: v.RedirectURI, Status: v.Status, Clients: []wire.Client{},
	}
	for _, c := range v.Clients {
		i.Clients = append(i.Clients, wire.Client{Name: c.Name, State: c.State, Circuit: wire.Circuit{
			State: c.Circuit, Since: wire.TimeOrNull(c.Since), Reason: wire.TextOrNull(c.Reason), NextProbeAt: wire.TimeOrNull(c.NextProbe),
		}, SecretSince: wire.TimeOrNull(c.SecretSince)})
	}
	return i
}

// providers is GET /v1/providers.
func (x *exchange) providers() (answer, error) {
	if x.Catalog.IDs == nil {
		return reply(http.StatusOK, wire.List[provider.Entry]{Items: x.configured()})
	}
	items := []provider.Entry{}
	for _, id := range x.Catalog.IDs() {
		e, err := x.Catalog.Lookup(id)
		if err != nil {
			return answer{}, err
		}
		items = append(items, e)
	}
	return reply(http.StatusOK, wire.List[provider.Entry]{Items: items})
}

// provider is GET /v1/providers/{id}.
func (x *exchange) provider() (answer, error) {
	id, unknown := x.r.PathValue("id"), &broker.Error{Code: broker.NotFound, Detail: "The catalogue has no such provider."}
	if x.Catalog.Lookup != nil {
		e, err := x.Catalog.Lookup(id)
		switch {
		case errors.Is(err, provider.ErrUnknownProvider):
			return answer{}, unknown
		case err != nil:
			return answer{}, err
		}
		return reply(http.StatusOK, e)
	}
	for _, e := range x.configured() {
		if e.ID == id {
			return reply(http.StatusOK, e)
		}
	}
	return answer{}, unknown
}

// configured are the entries of the integrations that the caller may use, sorted by
// id.
func (x *exchange) configured() []provider.Entry {
	list := []provider.Entry{}
	for _, i := range x.Keys.Integrations {
		if x.caller.MayIntegration(i.Name) {
			e := i.Entry
			e.ID = i.Provider
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b provider.Entry) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(list, func(a, b provider.Entry) bool { return a.ID == b.ID })
}

// statsSpan is the span of /v1/stats where the caller names no beginning, in seconds.
const statsSpan = 24 * 3600

// stats is GET /v1/stats.
func (x *exchange) stats() (answer, error) {
	to, err := x.moment("to", x.Now().Unix())
	if err != nil {
		return answer{}, err
	}
	from, err := x.moment("from", to-statsSpan)
	if err != nil {
		return answer{}, err
	}
	if from >= to {
		return answer{}, invalid("from has to be before to.")
	}
	s, err := x.Broker.Stats(x.r.Context(), x.caller, from, to)
	if err != nil {
		return answer{}, err
	}
	items := make([]wire.Hour, 0, len(s.Hours))
	for _, h := range s.Hours {
		items = append(items, wire.Hour{Hour: wire.Time(h.Hour), Integration: h.Integration, Outcomes: counters(h.Outcomes), LatenessS: counters(h.Lateness)})
	}
	return reply(http.StatusOK, wire.List[wire.Hour]{Items: items})
}

// counters is m, as {} where it is nil.
func counters(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

// admin is an operator's command.
func admin(command string) operation {
	return func(x *exchange) (answer, error) {
		run := x.Admin[command]
		if run == nil {
			return answer{}, &broker.Error{Code: broker.NotFound, Detail: "This deployment has no such command."}
		}
		if x.r.Method == http.MethodPost {
			if err := x.decodeNothing(); err != nil {
				return answer{}, err
			}
		}
		result, err := run(x.r.Context())
		if err != nil {
			return answer{}, err
		}
		return reply(http.StatusOK, result)
	}
}

// diagnosis is GET /v1/admin/doctor.
func (x *exchange) diagnosis() (answer, error) {
	d, err := x.Broker.Diagnose(x.r.Context())
	if err != nil {
		return answer{}, err
	}
	out := wire.Diagnosis{
		Now: wire.Time(d.Now), LastTickAt: wire.TimeOrNull(d.LastTick), RestoreEpoch: d.Epoch, StoreMoved: d.Moved, UnreadableSecrets: []wire.ClientName{},
	}
	for _, c := range d.Unreadable {
		out.UnreadableSecrets = append(out.UnreadableSecrets, wire.ClientName{Integration: c[0], Client: c[1]})
	}
	return reply(http.StatusOK, out)
}
