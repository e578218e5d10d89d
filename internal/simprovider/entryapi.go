package simprovider

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// entryBearer finds the access token of a request to the API, under the entry's header
// and scheme.
func (sv *service) entryBearer(q *request) string {
	f := sv.d.facts
	if t := q.variables["access_token"]; t != "" {
		return t // some have it in the path
	}
	value := q.http.Header.Get(or(f.API.Header, "Authorization"))
	scheme := or(f.API.Scheme, "Bearer")
	if scheme == "none" {
		return value
	}
	given, token, _ := strings.Cut(value, " ")
	if !strings.EqualFold(given, scheme) {
		return ""
	}
	return token
}

// entryAccess judges the access token of a request to the API.
func (sv *service) entryAccess(q *request) (*row, bool) {
	f := sv.d.facts
	r, ok := sv.byAccess[sv.entryBearer(q)]
	if !ok {
		return nil, false
	}
	state := r.accessState(q.now)
	if state == tokenExpired && f.has("expires_in_zero_means_never") {
		state = tokenLive
	}
	if state != tokenLive {
		return nil, false
	}
	if r.previous != nil {
		r.previous.spent, r.previous.spentAt = true, q.now
		r.previous.accessDead = f.Refresh.OldAccessDies == true
		r.previous = nil
	}
	return r, true
}

// rejected is the answer to a dead access token.
func (f *facts) rejected() answer {
	if len(f.API.RejectedWhen) == 0 {
		return jsonAnswer(http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
	}
	why := f.API.RejectedWhen[len(f.API.RejectedWhen)-1] // the one that differs most from 401
	body := map[string]any{}
	if why.JSONField != "" {
		put(body, why.JSONField, or(why.Equals, "invalid_token"))
	}
	return jsonAnswer(why.Status, body)
}

// entryAPI stands for everything below the entry's API.
func (sv *service) entryAPI(q *request) answer {
	f := sv.d.facts
	if f.API.UserAgent && q.http.Header.Get("User-Agent") == "" {
		return textAnswer(http.StatusForbidden, "A User-Agent is required.\n")
	}
	if name := lacks(f.API.ExtraHeaders, q.http.Header.Get); name != "" {
		return textAnswer(http.StatusBadRequest, "The header "+name+" is required.\n")
	}
	r, ok := sv.entryAccess(q)
	if !ok {
		return f.rejected()
	}
	return jsonAnswer(http.StatusOK, map[string]any{"provider": sv.d.title, "user": r.grant.user})
}

// entryIdentity tells whose account it is, in the fields that the entry reads.
func (sv *service) entryIdentity(q *request) answer {
	f := sv.d.facts
	r, ok := sv.entryAccess(q)
	if !ok {
		return f.rejected()
	}
	u, body := r.owner(), map[string]any{}
	put(body, or(f.Identity.IDField, "sub"), u.ID)
	if f.Identity.NameField != "" {
		put(body, f.Identity.NameField, u.Name())
	}
	for name, v := range f.kept("identity") {
		put(body, name, v)
	}
	return jsonAnswer(http.StatusOK, body)
}

// entryRevoke is RFC 7009. A refresh token takes its grant along.
func (sv *service) entryRevoke(q *request) answer {
	f := sv.d.facts
	method := or(f.Revocation.Auth, f.authMethod(grantRefresh))
	if _, ok := sv.entryClient(q, q.form, method); !ok {
		return f.refusal(badClient)
	}
	if known := f.Revocation.Parameters; len(known) > 0 && q.form.Get("token_type_hint") != "" && !slices.Contains(known, "token_type_hint") {
		return f.refusal(badRequest)
	}
	token := q.form.Get("token")
	r, refresh := sv.byRefresh[token]
	kind := "refresh_token"
	if !refresh {
		r, kind = sv.byAccess[token], "access_token"
	}
	accepts := f.Revocation.Accepts
	if f.has("revocation_accepts_refresh_token_only") {
		accepts = []string{"refresh_token"}
	}
	switch {
	case len(accepts) > 0 && !slices.Contains(accepts, kind):
		return f.failure(http.StatusBadRequest, "unsupported_token_type", "")
	case r == nil:
	case refresh || f.has("revoking_one_token_ends_the_whole_authorisation"):
		r.grant.ended = true
	default:
		r.accessDead = true
	}
	return jsonAnswer(http.StatusOK, map[string]any{})
}

// entryRevokeByTemplate is the entry's own way to end a grant: the request must be
// what the template makes of a token of that grant.
func (sv *service) entryRevokeByTemplate(q *request) answer {
	f := sv.d.facts
	t := f.RevocationRequest
	p := sv.entryParams(q, t.Format)
	ended := false
	for _, r := range sv.byAccess {
		if sv.meant(q, p, r) {
			r.grant.ended, ended = true, true
		}
	}
	if !ended {
		return f.failure(http.StatusNotFound, "invalid_token", "")
	}
	return jsonAnswer(http.StatusOK, map[string]any{"ok": true})
}

// meant reports whether the request is the template's for this row.
func (sv *service) meant(q *request, p url.Values, r *row) bool {
	t := sv.d.facts.RevocationRequest
	c := sv.clients[r.grant.client]
	known := map[string]string{"access_token": r.access, "refresh_token": r.refresh, "client_id": c.ID, "client_secret": c.Secret}
	header, wanted := q.http.Header.Get("Authorization"), map[string]string{}
	for name, v := range t.Body {
		wanted[name] = fillIn(v, known)
	}
	for name, v := range q.variables {
		if own, ok := known[name]; ok && own != v {
			return false
		}
	}
	switch t.Auth {
	case "bearer":
		token := r.access
		if t.Token == "refresh_token" {
			token = r.refresh
		}
		if header != "Bearer "+token {
			return false
		}
	case "secret_as_bearer":
		if header != "Bearer "+c.Secret {
			return false
		}
	case "none":
	default:
		method := t.Auth
		if method == "" || method == "client" {
			method = sv.d.facts.authMethod(grantRefresh)
		}
		if found, ok := sv.entryClient(q, p, method); !ok || found.ID != c.ID {
			return false
		}
	}
	return lacks(wanted, p.Get) == ""
}
