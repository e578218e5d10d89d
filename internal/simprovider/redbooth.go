package simprovider

import (
	"net/http"
	"time"
)

// redbooth is Redbooth: a Doorkeeper server whose tokens live 2 hours. An
// authorization request may come by POST, the redirect URI must keep the host and
// path of the registered one, and no revocation endpoint is documented. Its
// profile holds secrets of the account, as the real one does, which a client has
// no business keeping.
func redbooth() dialect {
	return dialect{
		id: "redbooth", title: "Redbooth",
		grants: []string{grantCode, grantRefresh},
		ttl:    7200 * time.Second, codeTTL: doorkeeperCodeTTL,
		policy:           doorkeeperPolicy(),
		auth:             inBody,
		authorizesByPost: true,
		redirectMatches:  sameHostAndPath,
		denial:           doorkeeperDenial(),
		routes: map[string]route{
			"/oauth2/authorize": {[]string{http.MethodGet, http.MethodPost}, onAuthorize, (*service).authorize},
			"/oauth2/token":     {[]string{http.MethodPost}, onToken, (*service).token},
			"/api/3/me":         {[]string{http.MethodGet}, onIdentity, doorkeeperAPI(redboothMe)},
			"/api/3/projects":   {[]string{http.MethodGet}, onAPI, doorkeeperAPI(redboothProjects)},
		},
		endpoints: map[string]string{
			"authorization_endpoint": "/oauth2/authorize",
			"token_endpoint":         "/oauth2/token",
			"identity.endpoint":      "/api/3/me",
			"api.base_url":           "/api/3",
		},
		wrongMethod: http.StatusNotFound,
		example:     func(string) Call { return Call{Method: http.MethodGet, URL: "/api/3/projects"} },
		mint:        mintOpaque, mintRefresh: mintOpaqueRefresh,
		complete: doorkeeperComplete,
		refuse:   doorkeeperRefuse,
		tooMany:  func() answer { return textAnswer(http.StatusTooManyRequests, "Retry later\n") },
	}
}

func redboothMe(u User) any {
	return map[string]any{
		"type": "User", "id": u.ID, "username": u.Login,
		"first_name": u.FirstName, "last_name": u.LastName, "email": u.Email,
		"api_token":   "CANARY-api-token-of-" + u.Login,
		"email_token": "CANARY-email-token-of-" + u.Login,
		"calendar":    map[string]string{"feed_token": "CANARY-feed-token-of-" + u.Login},
	}
}

func redboothProjects(u User) any {
	return []map[string]any{{"type": "Project", "id": 7000 + u.ID, "name": u.FirstName + "'s project"}}
}
