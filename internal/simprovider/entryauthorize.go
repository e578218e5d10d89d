package simprovider

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// entryAuthorize is the authorization endpoint of an entry: the page of every service,
// over what the entry demands besides.
func (sv *service) entryAuthorize(q *request) answer {
	f := sv.d.facts
	a, problem := sv.readEntryAuthorization(q)
	if problem != "" {
		return sv.errorPage(problem)
	}
	code, text := a.fault()
	if code == "" {
		code, text = f.authorizationFault(q, a)
	}
	if code != "" {
		return a.back(url.Values{"error": {code}, "error_description": {text}})
	}
	if q.http.Method != http.MethodPost {
		return sv.consentPage(q, a)
	}
	return sv.decide(q, a)
}

// readEntryAuthorization reads the request under the entry's names.
func (sv *service) readEntryAuthorization(q *request) (authorization, string) {
	f := sv.d.facts
	if q.malformed {
		return authorization{}, "The request is malformed, or names a parameter twice."
	}
	c, ok := sv.clients[q.param(or(f.ClientIDParam, "client_id"))]
	if !ok {
		return authorization{}, "No application is registered under this client_id."
	}
	uri := q.param("redirect_uri")
	a := authorization{
		client: c, redirectURI: uri, sentURI: uri, state: q.param("state"), scope: q.param(or(f.ScopeParam, "scope")),
		responseType: q.param("response_type"),
		challenge:    q.param("code_challenge"), challengeMethod: q.param("code_challenge_method"),
	}
	if f.RedirectValue != "" && !strings.Contains(uri, "://") && len(c.RedirectURIs) > 0 {
		a.redirectURI = c.RedirectURIs[0] // uri is the provider's name for it
		return a, ""
	}
	if f.RedirectValue != "" || !slices.Contains(c.RedirectURIs, uri) {
		return authorization{}, "The redirect_uri is not one that the application has registered."
	}
	return a, ""
}

func (f *facts) authorizationFault(q *request, a authorization) (code, text string) {
	missing := lacks(f.AuthorizationParams, q.param)
	switch {
	case missing != "":
		return "invalid_request", "The parameter " + missing + " is missing, or has another value."
	case f.PKCE == "required" && a.challenge == "":
		return "invalid_request", "A code_challenge is required."
	case f.PKCE == "unsupported" && a.challenge != "":
		return "invalid_request", "The parameter code_challenge is not known."
	case f.has("state_must_be_8_chars_or_more") && len(a.state) < 8:
		return "invalid_state", "The state is shorter than 8 characters."
	case f.ScopeRequired == true && a.scope == "":
		return "invalid_scope", "A scope is required."
	case f.ScopeSeparator != "" && f.ScopeSeparator != " " && strings.Contains(a.scope, " "):
		return "invalid_scope", "Scopes are separated by " + f.ScopeSeparator
	}
	return "", ""
}

// lacks names a parameter that does not have the value it must have; where that depends
// on a variable, one that is not there.
func lacks(wanted map[string]string, get func(string) string) string {
	for name, want := range wanted {
		got := get(name)
		if got == "" || !strings.Contains(want, "{") && got != want {
			return name
		}
	}
	return ""
}

// scopes takes a scope parameter apart.
func (f *facts) scopes(scope string) []string {
	if f.ScopeSeparator == "" {
		return strings.Fields(scope)
	}
	return strings.Split(scope, f.ScopeSeparator)
}

// callback is what the browser brings back with a code.
func (f *facts) callback(base, code, scope string) url.Values {
	v := url.Values{or(f.CodeParam, "code"): {code}}
	if f.IssParameter {
		v.Set("iss", f.issuer(base))
	}
	if f.CallbackScope {
		v.Set("scope", scope)
	}
	for name, value := range f.kept("callback") {
		v.Set(name, value)
	}
	return v
}
