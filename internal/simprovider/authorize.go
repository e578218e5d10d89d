package simprovider

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// authorization is an authorization request whose client and redirect URI are
// good, so that the browser may be sent back.
type authorization struct {
	client                                   Client
	redirectURI, state, scope                string
	sentURI                                  string // of an entry, which may have a name for it
	responseType, challenge, challengeMethod string
}

// authorize is the authorization endpoint of every service: GET shows the consent
// page, POST decides.
func (sv *service) authorize(q *request) answer {
	a, problem := sv.readAuthorization(q)
	if problem != "" {
		return sv.errorPage(problem)
	}
	if code, text := a.fault(); code != "" {
		return a.back(url.Values{"error": {code}, "error_description": {text}})
	}
	if q.http.Method != http.MethodPost {
		if user := sv.rememberedUser(q, a); user != "" {
			return sv.allow(a, user, q.now)
		}
		return sv.consentPage(q, a)
	}
	return sv.decide(q, a)
}

func (sv *service) decide(q *request, a authorization) answer {
	user := q.param("user")
	if user == "" {
		user = Users()[0].Login
	}
	_, known := userByLogin(user)
	switch decision := q.param("decision"); {
	case decision == "" && sv.d.authorizesByPost:
		return sv.consentPage(q, a)
	case decision == "deny":
		return a.back(maps.Clone(sv.d.denial))
	case decision != "allow":
		return sv.errorPage("The form does not say whether to allow or to deny.")
	case !known:
		return sv.errorPage("There is no such user.")
	}
	answer := sv.allow(a, user, q.now)
	if sv.d.authorizesOnce {
		sv.consents[consent{client: a.client.ID, user: user}] = true
		u, _ := url.Parse(sv.base)
		c := http.Cookie{Name: sv.rememberCookie(), Value: user, Path: u.Path, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		answer = answer.with("Set-Cookie", c.String())
	}
	return answer
}

// rememberedUser is the user whose browser this is, if that user has approved the
// client before and the service asks only once.
func (sv *service) rememberedUser(q *request, a authorization) string {
	c, err := q.http.Cookie(sv.rememberCookie())
	if err != nil || !sv.consents[consent{client: a.client.ID, user: c.Value}] {
		return ""
	}
	return c.Value
}

func (sv *service) rememberCookie() string { return "sim_" + sv.d.id + "_user" }

// readAuthorization returns a problem for a person to read if the request must not
// be answered by a redirect (RFC 6749 section 4.1.2.1).
func (sv *service) readAuthorization(q *request) (authorization, string) {
	if q.malformed {
		return authorization{}, "The request is malformed, or names a parameter twice."
	}
	c, ok := sv.clients[q.param("client_id")]
	if !ok {
		return authorization{}, "No application is registered under this client_id."
	}
	uri := q.param("redirect_uri")
	matches := func(registered string) bool { return sv.d.redirectMatches(registered, uri) }
	if !slices.ContainsFunc(c.RedirectURIs, matches) {
		return authorization{}, "The redirect_uri is not one that the application has registered."
	}
	a := authorization{
		client: c, redirectURI: uri, state: q.param("state"), scope: q.param("scope"),
		responseType: q.param("response_type"),
		challenge:    q.param("code_challenge"), challengeMethod: q.param("code_challenge_method"),
	}
	// League's server, on which FF Logs runs, does not redirect here.
	if c.Secret == "" && a.challenge == "" {
		return authorization{}, "An application without a secret must send a code_challenge (PKCE)."
	}
	return a, ""
}

// fault returns an error code and its text if the request is bad in a way that the
// application is told by redirect.
func (a authorization) fault() (code, text string) {
	switch {
	case a.responseType == "":
		return "invalid_request", "The parameter response_type is missing."
	case a.responseType != "code":
		return "unsupported_response_type", "The authorization server does not support this response type."
	case a.challenge != "" && a.challengeMethod != "S256":
		return "invalid_request", "The code challenge method must be S256."
	case a.challenge != "" && !isChallenge(a.challenge):
		return "invalid_request", "The code challenge is malformed."
	}
	return "", ""
}

// isChallenge checks the form of an S256 challenge: base64url of 32 bytes (RFC 7636
// section 4.2).
func isChallenge(s string) bool {
	sum, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(sum) == sha256.Size
}

func (sv *service) allow(a authorization, user string, now time.Time) answer {
	g := &grant{client: a.client.ID, user: user, scope: a.scope}
	sv.grants = append(sv.grants, g)
	value := opaque(32)
	if f := sv.d.facts; f != nil && f.has("code_needs_url_decoding") {
		value += "^/+#="
	}
	sv.codes[value] = &code{
		grant: g, redirectURI: or(a.sentURI, a.redirectURI), challenge: a.challenge, expires: now.Add(sv.d.codeTTL),
	}
	if f := sv.d.facts; f != nil {
		return a.back(f.callback(sv.base, value, a.scope))
	}
	return a.back(url.Values{"code": {value}})
}

// back sends the browser to the redirect URI, keeping the query that it has.
func (a authorization) back(v url.Values) answer {
	u, err := url.Parse(a.redirectURI)
	if err != nil {
		return textAnswer(http.StatusBadRequest, "The redirect_uri is not a URL.\n")
	}
	if a.state != "" {
		v.Set("state", a.state)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += v.Encode()
	return redirectAnswer(u.String())
}

func sameURI(registered, given string) bool { return registered == given }

// sameHostAndPath lets the query differ.
func sameHostAndPath(registered, given string) bool {
	r, err := url.Parse(registered)
	if err != nil {
		return false
	}
	g, err := url.Parse(given)
	if err != nil || g.Fragment != "" || g.User != nil {
		return false
	}
	return r.Scheme == g.Scheme && r.Host == g.Host && r.EscapedPath() == g.EscapedPath()
}
