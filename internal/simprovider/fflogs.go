package simprovider

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// leagueMalformed is the description that League's server gives to every
// invalid_request; the hint beside it says what is wrong.
const leagueMalformed = "The request is missing a required parameter, includes an invalid parameter value, " +
	"includes a parameter more than once, or is otherwise malformed."

// fflogs is FF Logs: client credentials for the public API, a code with or without
// a secret for the user's, both GraphQL. Its documents say Basic for clients with
// a secret, and PKCE with S256 for those without, for whom it is required here. They
// show Laravel, whose Passport is built on League's OAuth server; version 8 of that
// answers a dead refresh token with invalid_request and 401. Passport's other
// defaults are assumed: codes live 10 minutes, access tokens 360 days, a refresh
// rotates and ends the old pair at once. A token without a user gets 403 at
// the user API; a user's token is good at the public one too.
func fflogs() dialect {
	return dialect{
		id: "fflogs", title: "FF Logs",
		grants: []string{grantCode, grantRefresh, grantCredentials},
		ttl:    31104000 * time.Second, codeTTL: 10 * time.Minute,
		policy:          Policy{Rotates: true, Previous: DiesAtOnce},
		auth:            inHeader,
		publicClients:   true,
		multipart:       true, // the documents speak of multipart and show a plain form
		redirectMatches: sameURI,
		denial: url.Values{
			"error":             {"access_denied"},
			"error_description": {"The resource owner or authorization server denied the request."},
			"hint":              {"The user denied the request"},
		},
		routes: map[string]route{
			"/oauth/authorize": {[]string{http.MethodGet, http.MethodPost}, onAuthorize, (*service).authorize},
			"/oauth/token":     {[]string{http.MethodPost}, onToken, (*service).token},
			"/api/v2/client":   {[]string{http.MethodPost}, onAPI, fflogsClientAPI},
			"/api/v2/user":     {[]string{http.MethodPost}, onIdentity, fflogsUserAPI},
		},
		endpoints: map[string]string{
			"authorization_endpoint":                   "/oauth/authorize",
			"token_endpoint":                           "/oauth/token",
			"identity.endpoint":                        "/api/v2/user",
			"api.base_url":                             "/api/v2/user",
			"api.base_url_by_grant.authorization_code": "/api/v2/user",
			"api.base_url_by_grant.client_credentials": "/api/v2/client",
		},
		wrongMethod: http.StatusMethodNotAllowed,
		example:     fflogsExample,
		mint:        mintJWT, mintRefresh: mintEncrypted,
		refuse: fflogsRefuse,
		tooMany: func() answer {
			return jsonAnswer(http.StatusTooManyRequests, map[string]string{"message": "Too Many Attempts."})
		},
	}
}

func fflogsExample(grant string) Call {
	if grant == grantCredentials {
		return Call{http.MethodPost, "/api/v2/client", `{"query":"{ rateLimitData { limitPerHour pointsSpentThisHour } }"}`}
	}
	return Call{http.MethodPost, "/api/v2/user", `{"query":"{ userData { currentUser { id name } } }"}`}
}

// leagueError is League's error body; message repeats the description.
type leagueError struct {
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
	Hint             string `json:"hint,omitempty"`
	Message          string `json:"message"`
}

func leagueAnswer(status int, code, text, hint string) answer {
	return jsonAnswer(status, leagueError{Error: code, ErrorDescription: text, Hint: hint, Message: text})
}

func fflogsRefuse(q *request, why refusal) answer {
	const invalidGrant = "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is " +
		"invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client."
	switch why {
	case badClient, wrongGrant:
		a := leagueAnswer(http.StatusUnauthorized, "invalid_client", "Client authentication failed", "")
		if strings.HasPrefix(q.http.Header.Get("Authorization"), "Basic ") {
			a = a.with("WWW-Authenticate", `Basic realm="OAuth"`)
		}
		return a
	case badGrantType:
		return leagueAnswer(http.StatusBadRequest, "unsupported_grant_type",
			"The authorization grant type is not supported by the authorization server.", "Check that all required parameters have been provided")
	case deadRefresh:
		return leagueAnswer(http.StatusUnauthorized, "invalid_request", "The refresh token is invalid.", "Token has been revoked")
	case usedCode:
		return leagueAnswer(http.StatusBadRequest, "invalid_grant", invalidGrant, "Authorization code has been revoked")
	case expiredCode:
		return leagueAnswer(http.StatusBadRequest, "invalid_grant", invalidGrant, "Authorization code has expired")
	case wrongVerifier:
		return leagueAnswer(http.StatusBadRequest, "invalid_grant", invalidGrant, "Failed to verify `code_verifier`.")
	default:
		return leagueAnswer(http.StatusBadRequest, "invalid_request", leagueMalformed, leagueHint(why))
	}
}

func leagueHint(why refusal) string {
	switch why {
	case unknownCode:
		return "Cannot decrypt the authorization code"
	case foreignCode:
		return "Authorization code was not issued to this client"
	case wrongRedirect:
		return "Invalid redirect URI"
	case needlessProof:
		return "code_verifier received when no code_challenge is present"
	default:
		return "Check the request for a missing parameter"
	}
}

// graphQLError is an answer of a GraphQL API that has no data.
func graphQLError(status int, message string) answer {
	return jsonAnswer(status, map[string]any{"errors": []map[string]string{{"message": message}}})
}

func fflogsClientAPI(sv *service, q *request) answer {
	_, state := sv.bearer(q)
	if state != tokenLive {
		return graphQLError(http.StatusUnauthorized, "Unauthenticated.")
	}
	return fflogsQuery(q, map[string]any{"userData": map[string]any{"currentUser": nil}})
}

func fflogsUserAPI(sv *service, q *request) answer {
	r, state := sv.bearer(q)
	if state != tokenLive {
		return graphQLError(http.StatusUnauthorized, "Unauthenticated.")
	}
	if r.grant.user == "" {
		return graphQLError(http.StatusForbidden, "This token belongs to no user. Use /api/v2/client.")
	}
	u := r.owner()
	return fflogsQuery(q, map[string]any{
		"userData": map[string]any{"currentUser": map[string]any{"id": u.ID, "name": u.Name()}},
	})
}

// fflogsQuery answers the fields of the root that a query names. It does not parse
// GraphQL: whoever asks for a field gets all of it.
func fflogsQuery(q *request, data map[string]any) answer {
	var in struct {
		Query string `json:"query"`
	}
	if json.Unmarshal(q.body, &in) != nil || in.Query == "" {
		return graphQLError(http.StatusBadRequest, "The request holds no query.")
	}
	data["rateLimitData"] = map[string]any{"limitPerHour": 3600, "pointsSpentThisHour": 1, "pointsResetIn": 1800}
	data["worldData"] = map[string]any{"expansions": []map[string]any{{"id": 1, "name": "A Realm Reborn"}}}
	for name := range data {
		if !strings.Contains(in.Query, name) {
			delete(data, name)
		}
	}
	if len(data) == 0 {
		return graphQLError(http.StatusOK, "Cannot query that field on type \"Query\".")
	}
	return jsonAnswer(http.StatusOK, map[string]any{"data": data})
}
