package simprovider

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// entryParams reads the parameters of a token request where the entry has them: in the
// query of a GET, else in a body of its format. Another one holds none.
func (sv *service) entryParams(q *request, format string) url.Values {
	if q.http.Method == http.MethodGet {
		return q.query
	}
	if len(q.query) > 0 {
		return url.Values{} // nothing secret belongs into a URL
	}
	if format != "json" {
		return q.form
	}
	return q.jsonParams()
}

// jsonParams are the members of a JSON body, all of them texts.
func (q *request) jsonParams() url.Values {
	out := url.Values{}
	var members map[string]string
	if !strings.HasPrefix(q.http.Header.Get("Content-Type"), "application/json") || json.Unmarshal(q.body, &members) != nil {
		return out
	}
	for name, v := range members {
		out.Set(name, v)
	}
	return out
}

// entryToken is the token endpoint of an entry.
func (sv *service) entryToken(q *request) answer {
	f := sv.d.facts
	p := sv.entryParams(q, f.TokenFormat)
	if q.malformed || lacks(f.TokenHeaders, q.http.Header.Get) != "" {
		return f.refusal(badRequest)
	}
	switch p.Get("grant_type") {
	case grantCode:
		if lacks(f.TokenParams, p.Get) != "" {
			return f.refusal(badRequest)
		}
		return sv.entryExchange(q, p)
	case or(f.RefreshParams["grant_type"], grantRefresh):
		if f.RefreshEndpoint != "" {
			return f.refusal(badGrantType)
		}
		return sv.entryRefresh(q)
	}
	return f.refusal(badGrantType)
}

// entryClient finds the client of a request that shows itself in the demanded way, and
// in no other.
func (sv *service) entryClient(q *request, p url.Values, method string) (Client, bool) {
	id := p.Get(or(sv.d.facts.ClientIDParam, "client_id"))
	header := q.http.Header.Get("Authorization")
	if c, ok := sv.clients[id]; ok && (c.Secret == "" || method == "none") {
		return c, header == "" && p.Get("client_secret") == ""
	}
	switch method {
	case "client_secret_post":
		c, ok := sv.clientOf(id, p.Get("client_secret"))
		return c, ok && header == ""
	case "client_secret_basic", "client_secret_basic_raw":
		for _, c := range sv.clients {
			if c.Secret != "" && header == basicOf(c, method) {
				return c, p.Get("client_secret") == ""
			}
		}
	}
	return Client{}, false
}

// basicOf is the header of a client (RFC 6749 section 2.3.1, or without its encoding).
func basicOf(c Client, method string) string {
	plain := c.ID + ":" + c.Secret
	if method == "client_secret_basic" {
		plain = url.QueryEscape(c.ID) + ":" + url.QueryEscape(c.Secret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(plain))
}

// entryExchange turns a code into tokens.
func (sv *service) entryExchange(q *request, p url.Values) answer {
	f := sv.d.facts
	c, ok := sv.entryClient(q, p, f.authMethod(grantCode))
	if !ok {
		return f.refusal(badClient)
	}
	co, ok := sv.codes[p.Get("code")]
	verifier := p.Get("code_verifier")
	switch {
	case ok && co.used:
		return f.refusal(usedCode)
	case !ok || co.grant.ended || co.grant.client != c.ID || !q.now.Before(co.expires):
		return f.refusal(unknownCode)
	case p.Get("redirect_uri") != co.redirectURI:
		return f.refusal(wrongRedirect)
	case co.challenge != "" && challengeOf(verifier) != co.challenge, f.PKCE == "unsupported" && verifier != "":
		return f.refusal(wrongVerifier)
	}
	co.used = true
	sv.limit(co.grant)
	r := sv.entryIssue(co.grant, q.now)
	return sv.entryGranted(r, r.refresh, q)
}

// limit ends the oldest grants of a user beyond the entry's limit.
func (sv *service) limit(newest *grant) {
	limit := sv.d.facts.Refresh.ConcurrentLimit
	if limit == 0 {
		return
	}
	var same []*grant
	for _, g := range sv.grants {
		if !g.ended && g.client == newest.client && g.user == newest.user {
			same = append(same, g)
		}
	}
	for _, g := range same[:max(0, len(same)-limit)] {
		g.ended = true
	}
}

// entryIssue adds a pair with a fresh refresh token to a grant, or an access token alone
// where the user did not allow more.
func (sv *service) entryIssue(g *grant, now time.Time) *row {
	f := sv.d.facts
	if g.began.IsZero() {
		g.began = now
	}
	r := sv.issue(g, "", now)
	switch {
	case !f.refreshes() || f.OfflineScope != "" && !slices.Contains(f.scopes(g.scope), f.OfflineScope):
		return r
	case f.Refresh.Credential == "access_token":
		r.refresh = r.access
	default:
		r.refresh = sv.d.mintRefresh()
	}
	r.refreshExpires = f.refreshEnds(g, now)
	sv.byRefresh[r.refresh] = r
	return r
}

// entrySecond turns the token of an exchange into the one to keep.
func (sv *service) entrySecond(q *request) answer {
	f := sv.d.facts
	p := sv.entryParams(q, "form")
	for name, template := range f.SecondExchange.Params {
		if template != "{access_token}" {
			continue
		}
		first, ok := sv.byAccess[p.Get(name)]
		if !ok || first.accessState(q.now) != tokenLive {
			return f.refusal(unknownCode)
		}
		c := sv.clients[first.grant.client]
		wanted := map[string]string{}
		for other, t := range f.SecondExchange.Params {
			wanted[other] = fillIn(t, map[string]string{"access_token": first.access, "client_id": c.ID, "client_secret": c.Secret})
		}
		if lacks(wanted, p.Get) != "" {
			return f.refusal(badClient)
		}
		first.revoked = true
		r := sv.entryIssue(first.grant, q.now)
		return sv.entryGranted(r, r.refresh, q)
	}
	return f.refusal(badRequest)
}

// entryRefresh turns a refresh token into tokens.
func (sv *service) entryRefresh(q *request) answer {
	f := sv.d.facts
	p := sv.entryParams(q, f.TokenFormat)
	wanted, place := map[string]string{}, "refresh_token"
	for _, m := range []map[string]string{f.TokenParams, f.RefreshParams} {
		for name, v := range m {
			wanted[name] = v
			if strings.Contains(v, "{refresh_token}") {
				place = name
			}
		}
	}
	wanted["grant_type"] = or(f.RefreshParams["grant_type"], grantRefresh)
	if q.malformed || lacks(wanted, p.Get) != "" || p.Get(place) == "" {
		return f.refusal(badRequest)
	}
	c, ok := sv.entryClient(q, p, f.authMethod(grantRefresh))
	if !ok {
		return f.refusal(badClient)
	}
	if f.RefreshRedirect && !slices.Contains(c.RedirectURIs, p.Get("redirect_uri")) {
		return f.refusal(wrongRedirect)
	}
	old, ok := sv.byRefresh[p.Get(place)]
	if !ok || old.grant.client != c.ID || !old.refreshUsable(q.now) {
		return sv.deadRefusal()
	}
	if old.spent && !old.inGrace(f, q.now) {
		return sv.reused(old, q)
	}
	if youngest := old.grant.rows[len(old.grant.rows)-1]; q.now.Before(youngest.issued.Add(time.Duration(f.MinimumAge) * time.Second)) {
		return f.tooEarly()
	}
	return sv.entryRotate(old, q)
}

func (r *row) inGrace(f *facts, now time.Time) bool {
	return f.Refresh.PreviousToken == "grace_s" && now.Before(r.spentAt.Add(time.Duration(f.Refresh.GraceS)*time.Second))
}

// reused answers a spent refresh token.
func (sv *service) reused(old *row, q *request) answer {
	switch sv.d.facts.Refresh.Reuse {
	case "same_answer":
		if old.next != nil && old.next.refreshUsable(q.now) {
			return sv.entryGranted(old.next, old.next.refresh, q)
		}
	case "revokes_family":
		old.grant.ended = true
	}
	return sv.deadRefusal()
}

// entryRotate issues the next pair, and does to the old one what the entry says. One that
// rotates sometimes does so at every other refresh, the first included.
func (sv *service) entryRotate(old *row, q *request) answer {
	f := sv.d.facts
	old.grant.refreshes++
	dies := f.Refresh.OldAccessDies == true && f.Refresh.PreviousToken != "dies_on_first_use_of_new"
	if dies {
		old.grant.endAccess()
	}
	if f.Refresh.Rotation == "none" || f.Refresh.Rotation == "sometimes" && old.grant.refreshes%2 == 0 {
		next := sv.issue(old.grant, old.refresh, q.now)
		next.refreshExpires, next.previous = f.refreshEnds(old.grant, q.now), old.previous
		return sv.entryGranted(next, "", q)
	}
	next := sv.entryIssue(old.grant, q.now)
	old.next = next
	switch f.Refresh.PreviousToken {
	case "dies_on_first_use_of_new":
		next.previous = old
	case "stays":
	default:
		if !old.spent {
			old.spent, old.spentAt = true, q.now
		}
	}
	return sv.entryGranted(next, next.refresh, q)
}

// grantType is that of a token request, wherever it stands.
func (q *request) grantType() string {
	for _, p := range []url.Values{q.form, q.query, q.jsonParams()} {
		if kind := p.Get("grant_type"); kind != "" {
			return kind
		}
	}
	return ""
}
