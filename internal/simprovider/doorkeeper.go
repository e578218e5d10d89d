package simprovider

import (
	"net/http"
	"net/url"
	"time"
)

// What AskFRED and Redbooth have in common: both run Doorkeeper, a Rails engine.
// Redbooth's documents show its realm; AskFRED's show its routes and its
// created_at. What they leave open follows Doorkeeper's defaults: codes live 10
// minutes, a rotation ends the old pair at once, and a spent refresh token is
// refused without ending anything else.

// doorkeeperCodeTTL is Doorkeeper's authorization_code_expires_in.
const doorkeeperCodeTTL = 10 * time.Minute

func doorkeeperPolicy() Policy { return Policy{Rotates: true, Previous: DiesAtOnce} }

func doorkeeperDenial() url.Values {
	return url.Values{
		"error":             {"access_denied"},
		"error_description": {"The resource owner or authorization server denied the request."},
	}
}

// doorkeeperComplete adds created_at, in Unix seconds, and the scope where there is one.
func doorkeeperComplete(_ *service, r *row, now time.Time, a *tokenAnswer) {
	a.CreatedAt, a.Scope = now.Unix(), r.grant.scope
}

// oauthError is the body of an error answer (RFC 6749 section 5.2).
type oauthError struct {
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description,omitempty"`
}

func doorkeeperRefuse(_ *request, why refusal) answer {
	switch why {
	case badRequest:
		return jsonAnswer(http.StatusBadRequest, oauthError{
			"invalid_request", "The request is missing a required parameter, or is otherwise malformed.",
		})
	case badGrantType:
		return jsonAnswer(http.StatusBadRequest, oauthError{
			"unsupported_grant_type", "The authorization grant type is not supported by the authorization server.",
		})
	case badClient, wrongGrant:
		e := oauthError{
			"invalid_client",
			"Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.",
		}
		return jsonAnswer(http.StatusUnauthorized, e).with("WWW-Authenticate", doorkeeperChallenge(e))
	default:
		return jsonAnswer(http.StatusBadRequest, oauthError{
			"invalid_grant",
			"The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.",
		})
	}
}

func doorkeeperChallenge(e oauthError) string {
	return `Bearer realm="Doorkeeper", error="` + e.Error + `", error_description="` + e.ErrorDescription + `"`
}

// doorkeeperAPI wraps an API resource in Doorkeeper's check of the access token.
func doorkeeperAPI(resource func(u User) any) func(*service, *request) answer {
	return func(sv *service, q *request) answer {
		r, state := sv.bearer(q)
		e := oauthError{"invalid_token", ""}
		switch state {
		case tokenLive:
			return jsonAnswer(http.StatusOK, resource(r.owner()))
		case tokenExpired:
			e.ErrorDescription = "The access token expired"
		case tokenRevoked:
			e.ErrorDescription = "The access token was revoked"
		case tokenMissing, tokenUnknown:
			e.ErrorDescription = "The access token is invalid"
		}
		return jsonAnswer(http.StatusUnauthorized, map[string]string{"error": e.ErrorDescription}).
			with("WWW-Authenticate", doorkeeperChallenge(e))
	}
}

// doorkeeperRevoke is RFC 7009 as Doorkeeper does it: an unknown token is a
// success, the access and the refresh token of one row go together, and a row
// whose access token has expired is left as it is, in spite of the 200.
func doorkeeperRevoke(sv *service, q *request) answer {
	c, ok := sv.authenticate(q)
	r := sv.byAccess[q.form.Get("token")]
	if r == nil {
		r = sv.byRefresh[q.form.Get("token")]
	}
	if !ok || q.malformed || r != nil && r.grant.client != c.ID {
		return jsonAnswer(http.StatusForbidden, oauthError{
			"unauthorized_client", "You are not authorized to revoke this token",
		})
	}
	if r != nil && r.accessState(q.now) == tokenLive && sv.broken != RevokeDoesNothing {
		r.revoked = true
	}
	return jsonAnswer(http.StatusOK, struct{}{})
}
