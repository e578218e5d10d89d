package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
)

// The scopes of routes beside those of package config.
const (
	scopeNone = "none" // anybody
	scopeAny  = "any"  // every known caller
)

// iamPrefix is where the gateway's IAM authorizer stands before the same routes.
const iamPrefix = "/iam"

// guard lets run have the callers that have the scope. They are known by their API
// key, or by the gateway under iamPrefix: never the one way under the other's paths.
func guard(scope string, viaGateway bool, run operation) operation {
	if scope == scopeNone {
		return run
	}
	identify := (*exchange).callerByKey
	if viaGateway {
		identify = (*exchange).callerByARN
	}
	return func(x *exchange) (answer, error) {
		caller, err := identify(x)
		if err != nil {
			return answer{}, err
		}
		x.caller, x.scope = caller, scope
		if scope != scopeAny && !caller.MayScope(scope) {
			return answer{}, &broker.Error{Code: broker.Forbidden, Detail: "The caller lacks the scope " + scope + "."}
		}
		if scope == scopeAny && !slices.ContainsFunc(caller.Allow, func(s string) bool { return s != config.ScopeMetrics }) {
			return answer{}, &broker.Error{Code: broker.Forbidden, Detail: "The caller may read the metrics alone."}
		}
		return run(x)
	}
}

// callerByKey finds the caller by "Authorization: Bearer evg_…" (RFC 6750 section
// 2.1), the one place where a key is looked for: neither the query, which gets into
// logs, nor a cookie, which a browser sends unasked. The limit is on refusals: who has
// a key is served, whoever else may be knocking from behind the same address.
func (x *exchange) callerByKey() (broker.Caller, error) {
	shown := x.r.Header.Values("Authorization")
	if len(shown) == 1 {
		scheme, key, _ := strings.Cut(shown[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			if k, previous, ok := x.Keys.KeyFor(secret.New(strings.TrimSpace(key)), x.Now().Unix()); ok {
				x.previousKey = previous
				return broker.Caller{Name: k.Name, Rights: k.Rights}, nil
			}
		}
	}
	if wait, over := x.failures.over(source(x.r.RemoteAddr), x.Now()); over {
		return broker.Caller{}, &broker.Error{Code: broker.RateLimited, RetryAfter: wait, Detail: "Too many requests without a valid API key came from this address."}
	}
	return broker.Caller{}, &broker.Error{Code: broker.Unauthorized, Detail: "Send a valid API key: Authorization: Bearer evg_…"}
}

// callerByARN finds the caller by what the gateway proved. It is named by the entry
// of the configuration, so that two sessions of one role are one caller.
func (x *exchange) callerByARN() (broker.Caller, error) {
	arn, ok := x.IAMCaller(x.r)
	if !ok {
		return broker.Caller{}, &broker.Error{Code: broker.Unauthorized, Detail: "Sign the request (AWS Signature Version 4)."}
	}
	c, ok := x.Keys.CallerByARN(arn)
	if !ok {
		return broker.Caller{}, &broker.Error{Code: broker.Forbidden, Detail: "The configuration names no such caller under iam_callers."}
	}
	return broker.Caller{Name: c.ARN, Rights: c.Rights}, nil
}

// challenge is the WWW-Authenticate of a 401.
func challenge(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, iamPrefix+"/") {
		return "AWS4-HMAC-SHA256"
	}
	return "Bearer"
}
