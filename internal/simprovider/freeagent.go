package simprovider

import (
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// accessDenied is what FreeAgent says to wrong credentials and to a used code alike.
const accessDenied = "HTTP Basic: Access denied.\n"

// freeagent is FreeAgent. Clients authenticate by Basic; the credentials may be
// form-encoded first or not. A used code is answered like wrong credentials. A
// user who has approved an application is not asked again: the browser is known by
// a cookie. A request to the token endpoint or the API without a User-Agent is
// refused with 403; that one is wanted is known from clients, the status is a
// guess. A refresh does not rotate, since the service now announces a life of 20
// years with each repeated token; whether it then is a new one is not documented.
// Nor is the answer to a dead refresh token; invalid_grant is assumed.
func freeagent(modern bool) dialect {
	d := dialect{
		id: "freeagent", title: "FreeAgent",
		grants: []string{grantCode, grantRefresh},
		ttl:    604800 * time.Second, codeTTL: time.Hour,
		policy:          Policy{KeepsOldAccess: true},
		auth:            inHeaderOrEncoded,
		authorizesOnce:  true,
		redirectMatches: sameURI,
		denial:          url.Values{"error": {"access_denied"}},
		routes: map[string]route{
			"/v2/approve_app":    {[]string{http.MethodGet, http.MethodPost}, onAuthorize, (*service).authorize},
			"/v2/token_endpoint": {[]string{http.MethodPost}, onToken, named((*service).token)},
			"/v2/users/me":       {[]string{http.MethodGet}, onIdentity, freeagentAPI(freeagentMe)},
			"/v2/company":        {[]string{http.MethodGet}, onAPI, freeagentAPI(freeagentCompany)},
		},
		endpoints: map[string]string{
			"authorization_endpoint": "/v2/approve_app",
			"token_endpoint":         "/v2/token_endpoint",
			"identity.endpoint":      "/v2/users/me",
			"api.base_url":           "/v2",
		},
		wrongMethod: http.StatusNotFound,
		example:     func(string) Call { return Call{Method: http.MethodGet, URL: "/v2/company"} },
		mint:        mintOpaque, mintRefresh: mintOpaqueRefresh,
		complete: func(_ *service, _ *row, _ time.Time, a *tokenAnswer) { a.TokenType = "bearer" },
		refuse:   freeagentRefuse,
		tooMany: func() answer {
			return textAnswer(http.StatusTooManyRequests, "You have reached the request limit.\n").with("Retry-After", "60")
		},
	}
	if modern {
		d.ttl, d.codeTTL, d.refreshTTL = time.Hour, 15*time.Minute, 631139040*time.Second
		d.policy.Repeats = true
		d.complete = func(_ *service, r *row, now time.Time, a *tokenAnswer) {
			a.TokenType = "bearer"
			a.RefreshTokenExpiresIn = int64(r.refreshExpires.Sub(now) / time.Second)
		}
	}
	return d
}

// named refuses requests that do not say who sends them.
func named(next func(*service, *request) answer) func(*service, *request) answer {
	return func(sv *service, q *request) answer {
		if q.http.Header.Get("User-Agent") == "" {
			return textAnswer(http.StatusForbidden, "A User-Agent header is required.\n")
		}
		return next(sv, q)
	}
}

func freeagentRefuse(_ *request, why refusal) answer {
	switch why {
	case badClient, wrongGrant, usedCode:
		return newAnswer(http.StatusUnauthorized, "text/html; charset=utf-8", []byte(accessDenied)).
			with("WWW-Authenticate", `Basic realm="Application"`)
	case badRequest:
		return jsonAnswer(http.StatusBadRequest, oauthError{Error: "invalid_request"})
	case badGrantType:
		return jsonAnswer(http.StatusBadRequest, oauthError{Error: "unsupported_grant_type"})
	default:
		return jsonAnswer(http.StatusBadRequest, oauthError{Error: "invalid_grant"})
	}
}

// freeagentAPI wraps an API resource in the check of its access token.
func freeagentAPI(resource func(base string, u User) any) func(*service, *request) answer {
	return named(func(sv *service, q *request) answer {
		r, state := sv.bearer(q)
		if state != tokenLive {
			message := map[string]any{"errors": map[string]any{"error": map[string]string{"message": "Access token not recognised"}}}
			return jsonAnswer(http.StatusUnauthorized, message).with("WWW-Authenticate", `Bearer realm="FreeAgent", error="invalid_token"`)
		}
		return jsonAnswer(http.StatusOK, resource(sv.base+"/v2", r.owner()))
	})
}

func freeagentMe(base string, u User) any {
	return map[string]any{"user": map[string]any{
		"url":        base + "/users/" + strconv.Itoa(u.ID),
		"first_name": u.FirstName, "last_name": u.LastName, "email": u.Email,
		"role": "Owner", "permission_level": 8,
		"ni_number": "CANARY-ni-number-of-" + u.Login, "unique_tax_reference": "CANARY-tax-reference-of-" + u.Login,
	}}
}

func freeagentCompany(base string, u User) any {
	return map[string]any{"company": map[string]any{
		"url": base + "/company", "id": 5000 + u.ID, "name": u.LastName + " Ltd", "subdomain": u.Login, "currency": "GBP",
	}}
}
