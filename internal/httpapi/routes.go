package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
)

// route is one operation of the API.
type route struct {
	method string // a GET is a HEAD too
	path   string
	scope  string   // of the caller; scopeNone, scopeAny or one of package config
	params []string // of the query; one that ends in a dot begins a family
	run    operation
}

// routes is the one list of the API's operations: the mux is filled from it, and a
// test compares it with openapi.json. The operator's are there even where nothing
// stands behind them.
func routes() []route {
	list := []route{
		{http.MethodPost, "/v1/connect-sessions", config.ScopeConnect, nil, (*exchange).createSession},
		{http.MethodGet, "/v1/connect-sessions/{id}", config.ScopeConnect, nil, (*exchange).session},
		{http.MethodPost, "/v1/connect-sessions/{id}/confirm", config.ScopeConnect, nil, (*exchange).confirm},

		{http.MethodPost, "/v1/connections", config.ScopeManage, nil, (*exchange).importConnection},
		{http.MethodGet, "/v1/connections", config.ScopeManage, []string{"owner", "integration", "status", "tag.", "limit", "cursor"}, (*exchange).list},
		{http.MethodGet, "/v1/connections/{id}", config.ScopeToken, nil, (*exchange).connection},
		{http.MethodPatch, "/v1/connections/{id}", config.ScopeManage, nil, (*exchange).setTags},
		{http.MethodDelete, "/v1/connections/{id}", config.ScopeManage, nil, (*exchange).disconnect},
		{http.MethodPost, "/v1/connections/{id}/activate", config.ScopeManage, nil, (*exchange).activate},
		{http.MethodPost, "/v1/connections/{id}/hold", config.ScopeManage, nil, (*exchange).hold},
		{http.MethodGet, "/v1/connections/{id}/token", config.ScopeToken, []string{"min_ttl_s", "need"}, (*exchange).token},
		{http.MethodPost, "/v1/connections/{id}/refresh", config.ScopeToken, nil, (*exchange).refresh},

		{http.MethodPost, "/v1/connections/{id}/stand-ins", config.ScopeManage, nil, (*exchange).createStandIn},
		{http.MethodGet, "/v1/connections/{id}/stand-ins", config.ScopeManage, nil, (*exchange).standIns},
		{http.MethodDelete, "/v1/connections/{id}/stand-ins/{stand_in}", config.ScopeManage, nil, (*exchange).revokeStandIn},
		{http.MethodPost, tokenPath, scopeNone, nil, (*exchange).oauthToken},

		{http.MethodGet, "/v1/integrations", scopeAny, nil, (*exchange).integrations},
		{http.MethodGet, "/v1/providers", scopeAny, nil, (*exchange).providers},
		{http.MethodGet, "/v1/providers/{id}", scopeAny, nil, (*exchange).provider},
		{http.MethodGet, "/v1/stats", config.ScopeManage, []string{"from", "to"}, (*exchange).stats},

		{http.MethodGet, "/v1/openapi.json", scopeNone, nil, (*exchange).openAPI},
		{http.MethodGet, "/healthz", scopeNone, nil, (*exchange).health},
		{http.MethodGet, "/metrics", config.ScopeMetrics, nil, (*exchange).metrics},
	}
	for _, command := range []string{"rotate-key", "rescue-replay", "chunk-replay", "webhook-replay", "restore"} {
		list = append(list, route{http.MethodPost, "/v1/admin/" + command, config.ScopeAdmin, nil, admin(command)})
	}
	list = append(list, route{http.MethodPost, "/v1/admin/revive", config.ScopeAdmin, nil, (*exchange).revive})
	list = append(list, route{http.MethodPost, "/v1/admin/move-out", config.ScopeAdmin, nil, (*exchange).moveOut})
	list = append(list, route{http.MethodPost, "/v1/admin/move-in", config.ScopeAdmin, nil, (*exchange).moveIn})
	list = append(list, route{http.MethodPost, "/v1/admin/reseal", config.ScopeAdmin, []string{"cursor"}, (*exchange).reseal})
	list = append(list, route{http.MethodGet, "/v1/admin/webhook-dead-letters", config.ScopeAdmin, nil, admin("webhook-dead-letters")})
	list = append(list, route{http.MethodGet, "/v1/admin/doctor", config.ScopeAdmin, nil, (*exchange).diagnosis})
	return append(list, route{http.MethodGet, "/v1/admin/export", config.ScopeAdmin, nil, admin("export")})
}

// addAPI adds the routes, and those of /v1 once more under iamPrefix where a gateway
// can tell who calls.
func (f *face) addAPI() {
	paths := map[string]map[string]operation{}
	add := func(path string, r route, viaGateway bool) {
		if paths[path] == nil {
			paths[path] = map[string]operation{}
		}
		run := guard(r.scope, viaGateway, withQuery(r.params, r.run))
		paths[path][r.method] = run
		if r.method == http.MethodGet {
			paths[path][http.MethodHead] = run
		}
	}
	for _, r := range routes() {
		add(r.path, r, false)
		if f.IAMCaller != nil && strings.HasPrefix(r.path, "/v1/") {
			add(iamPrefix+r.path, r, true)
		}
	}
	for path, methods := range paths {
		render := problem
		if path == tokenPath {
			render = oauthError
		}
		f.handle(path, render, methods)
	}
}

func withQuery(params []string, run operation) operation {
	return func(x *exchange) (answer, error) {
		query, err := apiQuery(x.r.URL.RawQuery, params)
		if err != nil {
			return answer{}, err
		}
		x.query = query
		return run(x)
	}
}

// reply is v as the JSON of an answer.
func reply(status int, v any) (answer, error) {
	var b bytes.Buffer
	d := json.NewEncoder(&b)
	d.SetEscapeHTML(false) // the answers are JSON, by their type and by nosniff
	if err := d.Encode(v); err != nil {
		return answer{}, &broker.Error{Code: broker.Internal, Detail: "The answer could not be written.", Err: err}
	}
	return answer{status: status, kind: "application/json", body: b.Bytes()}, nil
}
