package simprovider

import (
	"net/http"
	"time"
)

// askfred is AskFRED: a Doorkeeper server with confidential clients only, whose
// credentials stand in the body. Tokens live 7 days, and /oauth/revoke wants the
// client's credentials too. The documents name /api/v1/me but no field of its
// answer; those here are invented.
func askfred() dialect {
	return dialect{
		id: "askfred", title: "AskFRED",
		grants: []string{grantCode, grantRefresh},
		ttl:    604800 * time.Second, codeTTL: doorkeeperCodeTTL,
		policy:          doorkeeperPolicy(),
		auth:            inBody,
		redirectMatches: sameURI,
		denial:          doorkeeperDenial(),
		routes: map[string]route{
			"/oauth/authorize": {[]string{http.MethodGet, http.MethodPost}, onAuthorize, (*service).authorize},
			"/oauth/token":     {[]string{http.MethodPost}, onToken, (*service).token},
			"/oauth/revoke":    {[]string{http.MethodPost}, onRevoke, doorkeeperRevoke},
			"/api/v1/me":       {[]string{http.MethodGet}, onIdentity, doorkeeperAPI(askfredMe)},
		},
		endpoints: map[string]string{
			"authorization_endpoint": "/oauth/authorize",
			"token_endpoint":         "/oauth/token",
			"revocation_endpoint":    "/oauth/revoke",
			"identity.endpoint":      "/api/v1/me",
			"api.base_url":           "/api/v1",
		},
		wrongMethod: http.StatusNotFound, // Rails knows no route of another method
		example:     func(string) Call { return Call{Method: http.MethodGet, URL: "/api/v1/me"} },
		mint:        mintOpaque, mintRefresh: mintOpaqueRefresh,
		complete: doorkeeperComplete,
		refuse:   doorkeeperRefuse,
		tooMany: func() answer {
			return jsonAnswer(http.StatusTooManyRequests, map[string]string{"error": "Rate limit exceeded."})
		},
	}
}

func askfredMe(u User) any {
	return map[string]any{"id": u.ID, "first_name": u.FirstName, "last_name": u.LastName, "email": u.Email}
}
