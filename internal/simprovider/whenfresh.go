package simprovider

import (
	"net/http"
	"strings"
	"time"
)

// whenfreshClient is the client_id that WhenFresh's documents give to every
// developer; a client of that name has no secret.
const whenfreshClient = "r5e6j0k1oevsfgmb9secod9qd"

// whenfresh is WhenFresh, which runs on Amazon Cognito. A developer copies a
// refresh token from the page "My Tokens" and uses it under a fixed public client,
// without any credentials: an Authorization header is refused, as Cognito does. An
// answer holds an id_token and never a refresh token. A machine uses client
// credentials by Basic, over the plain id:secret. The discovery document names two
// endpoints and no issuer. There is nothing to revoke with, and no code flow for
// us: the authorization page only says so.
func whenfresh() dialect {
	return dialect{
		id: "whenfresh", title: "WhenFresh",
		grants:          []string{grantRefresh, grantCredentials},
		ttl:             3600 * time.Second,
		policy:          Policy{KeepsOldAccess: true},
		auth:            inHeader,
		pastedBy:        whenfreshClient,
		redirectMatches: sameURI,
		routes: map[string]route{
			"/.well-known/openid-configuration": {[]string{http.MethodGet}, "", whenfreshDiscovery},
			"/oauth2/authorize":                 {[]string{http.MethodGet, http.MethodPost}, onAuthorize, whenfreshAuthorize},
			"/oauth2/token":                     {[]string{http.MethodPost}, onToken, whenfreshToken},
			"/account":                          {[]string{http.MethodGet}, "", whenfreshAccount},
			"/v1/status":                        {[]string{http.MethodGet}, onAPI, whenfreshStatus},
		},
		endpoints: map[string]string{
			"discovery_url":          "/.well-known/openid-configuration",
			"authorization_endpoint": "/oauth2/authorize",
			"token_endpoint":         "/oauth2/token",
			"account_url":            "/account",
			"api.base_url":           "/v1",
		},
		wrongMethod: http.StatusMethodNotAllowed,
		example:     func(string) Call { return Call{Method: http.MethodGet, URL: "/v1/status"} },
		mint:        mintJWT, mintRefresh: mintJWE,
		complete: whenfreshComplete,
		refuse:   whenfreshRefuse,
		tooMany: func() answer {
			return jsonAnswer(http.StatusTooManyRequests, map[string]string{"message": "Too Many Requests"})
		},
	}
}

// whenfreshToken demands a form, as Cognito does; other services just find no
// parameters in another body.
func whenfreshToken(sv *service, q *request) answer {
	if !strings.HasPrefix(q.http.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return whenfreshRefuse(q, badRequest)
	}
	return sv.token(q)
}

func whenfreshDiscovery(sv *service, _ *request) answer {
	return jsonAnswer(http.StatusOK, map[string]string{
		"authorization_endpoint": sv.base + "/oauth2/authorize",
		"token_endpoint":         sv.base + "/oauth2/token",
	})
}

func whenfreshAuthorize(sv *service, _ *request) answer {
	return sv.errorPage("Applications do not send their users here. Copy a refresh token from the page “My Tokens” instead.")
}

// whenfreshAccount is the page "My Tokens", also as JSON for programs.
func whenfreshAccount(sv *service, q *request) answer {
	u := Users()[0]
	if login := q.query.Get("user"); login != "" {
		known := false
		if u, known = userByLogin(login); !known {
			return sv.errorPage("There is no such user.")
		}
	}
	token := sv.pastedToken(u.Login, q.now)
	if strings.Contains(q.http.Header.Get("Accept"), "application/json") {
		return jsonAnswer(http.StatusOK, map[string]string{
			"user": u.Login, "client_id": whenfreshClient, "refresh_token": token,
		})
	}
	return sv.page(http.StatusOK, "tokens", page{
		User: u, ClientID: whenfreshClient, Token: token, Action: q.http.URL.EscapedPath(),
	})
}

func whenfreshComplete(sv *service, r *row, now time.Time, a *tokenAnswer) {
	if r.grant.user == "" {
		return
	}
	u := r.owner()
	a.IDToken = jwt(map[string]any{
		"iss": sv.base, "sub": u.Login, "aud": r.grant.client, "token_use": "id",
		"email": u.Email, "name": u.Name(), "iat": now.Unix(), "exp": r.accessExpires.Unix(),
	})
}

// whenfreshRefuse answers with 400 and a bare code throughout, as Cognito does,
// wrong clients included.
func whenfreshRefuse(_ *request, why refusal) answer {
	code := "invalid_grant"
	switch why {
	case badRequest:
		code = "invalid_request"
	case badGrantType:
		code = "unsupported_grant_type"
	case badClient:
		code = "invalid_client"
	case wrongGrant:
		code = "unauthorized_client"
	}
	return jsonAnswer(http.StatusBadRequest, oauthError{Error: code})
}

// whenfreshStatus stands for the API, of which the documents of authentication
// name no resource.
func whenfreshStatus(sv *service, q *request) answer {
	r, state := sv.bearer(q)
	if state != tokenLive {
		return jsonAnswer(http.StatusUnauthorized, map[string]string{"message": "Unauthorized"}).
			with("WWW-Authenticate", `Bearer error="invalid_token"`)
	}
	return jsonAnswer(http.StatusOK, map[string]string{
		"status": "ok", "client_id": r.grant.client, "user": r.grant.user,
	})
}
