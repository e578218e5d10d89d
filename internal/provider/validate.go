package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
)

// mistakes gathers what is wrong with an entry, each under its JSON name.
type mistakes []error

func (m *mistakes) add(field, format string, a ...any) {
	*m = append(*m, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, a...)))
}

// oneOf admits the empty string, which says unknown.
func (m *mistakes) oneOf(field, v string, allowed ...string) {
	if v != "" && !slices.Contains(allowed, v) {
		m.add(field, "%q is not one of %s", v, strings.Join(allowed, ", "))
	}
}

// Validate returns all mistakes of an entry, joined, each beginning with its JSON
// field. What depends on the client is judged by ValidateClient.
func (e Entry) Validate() error {
	var m mistakes
	e.checkEndpoints(&m)
	e.checkVariables(&m)
	e.checkAuthentication(&m)
	e.checkRequests(&m)
	e.checkAnswers(&m)
	e.checkRefresh(&m)
	e.checkIdentity(&m)
	e.checkKeep(&m)
	for _, name := range slices.Sorted(maps.Keys(e.Evidence)) {
		m.oneOf("evidence."+name+".kind", e.Evidence[name].Kind, "documented", "code", "inferred", "recalled")
	}
	return errors.Join(m...)
}

// ValidateClient returns what is wrong with using this entry as a public client
// (one without a secret) or as a confidential one, all mistakes joined.
func (e Entry) ValidateClient(public bool) error {
	var m mistakes
	if public && e.grants(GrantAuthorizationCode) && e.PKCE != "S256" && e.PKCE != "required" {
		// Without a secret only PKCE ties a code to who asked for it (RFC 7636,
		// RFC 9700 section 2.1.1).
		m.add("pkce", "a client without a secret needs PKCE, which this provider is not known to support")
	}
	if !public && e.PublicClientID == "" && e.AuthMethod(GrantRefreshToken, false) == methodNone && e.AuthMethod(GrantAuthorizationCode, false) == methodNone {
		m.add("token_endpoint_auth_method", "none, so a client secret would never be sent; leave it out")
	}
	return errors.Join(m...)
}

// grants reports whether a grant is supported, or not known not to be.
func (e Entry) grants(g Grant) bool {
	return len(e.GrantTypesSupported) == 0 || slices.Contains(e.GrantTypesSupported, string(g))
}

func (e Entry) checkEndpoints(m *mistakes) {
	if e.TokenEndpoint == "" && e.DiscoveryURL == "" {
		m.add("token_endpoint", "is missing")
	}
	if e.AuthorizationEndpoint == "" && e.DiscoveryURL == "" && e.grants(GrantAuthorizationCode) {
		m.add("authorization_endpoint", "is missing")
	}
	urls := e.endpoints()
	for _, name := range slices.Sorted(maps.Keys(urls)) {
		e.checkTemplate(m, name, *urls[name])
	}
	for i, u := range e.API.BaseURLs {
		// They are for people: what stands in braces may come from an answer.
		if !variable.MatchString(u) {
			e.checkTemplate(m, fmt.Sprintf("api.base_urls[%d]", i), u)
		}
	}
}

// checkTemplate checks a URL, each {variable} taken for a word.
func (e Entry) checkTemplate(m *mistakes, field, template string) {
	if template == "" {
		return
	}
	for _, v := range variable.FindAllStringSubmatch(template, -1) {
		if _, ok := e.Variables[v[1]]; !ok {
			m.add(field, "{%s} is not among the variables", v[1])
		}
	}
	if err := checkURL(variable.ReplaceAllString(template, "x")); err != nil {
		m.add(field, "%v", err)
	}
}

func (e Entry) checkVariables(m *mistakes) {
	for _, name := range slices.Sorted(maps.Keys(e.Variables)) {
		p := e.Variables[name]
		if _, err := regexp.Compile(p); err != nil {
			m.add("variables."+name, "is not a regular expression (RE2)")
		} else if !strings.HasPrefix(p, "^") || !strings.HasSuffix(p, "$") {
			m.add("variables."+name, "must be anchored: ^…$")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.DefaultVariables)) {
		if !matchesWhole(e.Variables[name], e.DefaultVariables[name]) {
			m.add("default_variables."+name, "does not match the pattern of the variable")
		}
	}
}

func (e Entry) checkAuthentication(m *mistakes) {
	methods := []string{methodBasic, methodBasicRaw, methodPost, methodNone}
	if e.TokenEndpointAuthMethod == "" {
		m.add("token_endpoint_auth_method", "is missing; it is one of %s, never guessed", strings.Join(methods, ", "))
	}
	m.oneOf("token_endpoint_auth_method", e.TokenEndpointAuthMethod, methods...)
	for _, g := range slices.Sorted(maps.Keys(e.TokenEndpointAuthMethodByGrant)) {
		field := "token_endpoint_auth_method_by_grant." + string(g)
		m.oneOf(field, e.TokenEndpointAuthMethodByGrant[g], methods...)
		m.oneOf(field, string(g), string(GrantAuthorizationCode), string(GrantRefreshToken), string(GrantClientCredentials))
	}
	for _, c := range slices.Sorted(maps.Keys(e.TokenEndpointAuthMethodByClient)) {
		field := "token_endpoint_auth_method_by_client." + c
		m.oneOf(field, e.TokenEndpointAuthMethodByClient[c], methods...)
		m.oneOf(field, c, clientConfidential, clientPublic)
	}
	m.oneOf("revocation.client_authentication", e.Revocation.ClientAuthentication, methods...)
	m.oneOf("pkce", e.PKCE, "S256", "required", "unsupported", "unknown")
}

// reservedParams are what we send ourselves: an entry that overrode them could
// undo PKCE or the state.
func reservedParams() []string {
	return []string{
		"client_id", "client_secret", "code", "code_challenge", "code_challenge_method", "code_verifier",
		"grant_type", "nonce", "redirect_uri", "refresh_token", "response_type", "state",
	}
}

func (e Entry) checkRequests(m *mistakes) {
	m.oneOf("token_request_format", e.TokenRequestFormat, "form", "json")
	for field, params := range map[string]map[string]string{
		"authorization_params": e.AuthorizationParams,
		"token_params":         e.TokenParams,
		"refresh_params":       e.RefreshParams,
	} {
		for _, name := range slices.Sorted(maps.Keys(params)) {
			if slices.Contains(reservedParams(), name) {
				m.add(field+"."+name, "is not for an entry to set")
			}
		}
	}
	for field, headers := range map[string]map[string]string{
		"token_headers":     e.TokenHeaders,
		"api.extra_headers": e.API.ExtraHeaders,
	} {
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			if !headerName.MatchString(name) || reservedHeader(name) || !printable(headers[name]) {
				m.add(field+"."+name, "is not a header that an entry may set")
			}
		}
	}
	for i, rule := range e.RedirectURIRules {
		m.oneOf(fmt.Sprintf("redirect_uri_rules[%d]", i), rule,
			"exact", "same_host_and_path", "https_only", "loopback_allowed", "port_wildcard", "no_query_string")
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// reservedHeader: authentication is ours, the framing is net/http's, and with an
// idempotency key net/http would repeat a POST by itself.
func reservedHeader(name string) bool {
	return slices.Contains([]string{
		"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host",
		"Idempotency-Key", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Idempotency-Key",
	}, textproto.CanonicalMIMEHeaderKey(name))
}

// printable reports whether s can stand in a header: visible ASCII and blanks.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

func (e Entry) checkAnswers(m *mistakes) {
	if len([]rune(e.ScopeSeparator)) > 1 {
		m.add("scope_separator", "must be one character")
	}
	m.oneOf("expires_in_unit", e.ExpiresInUnit, "s", "ms", "unix")
	if e.CodeReuseStatus != 0 && e.CodeReuseStatus/100 != 4 {
		m.add("code_reuse_status", "must be a 4xx status")
	}
	for field, list := range map[string][]string{
		"dead_refresh_errors": e.DeadRefreshErrors,
		"dead_code_errors":    e.DeadCodeErrors,
		"retry_errors":        e.RetryErrors,
	} {
		for i, rule := range list {
			if _, ok := parseErrorRule(rule); !ok {
				m.add(fmt.Sprintf("%s[%d]", field, i), "must be code, code@status, code~text or code@status~text")
			}
		}
	}
	for field, s := range map[string]int64{
		"access_token_ttl_s":          e.AccessTokenTTL,
		"authorization_code_ttl_s":    e.AuthorizationCodeTTL,
		"minimum_token_age_s":         e.MinimumTokenAge,
		"refresh.grace_s":             e.Refresh.GraceS,
		"refresh.absolute_lifetime_s": e.Refresh.AbsoluteLifetimeS,
		"refresh.idle_lifetime_s":     e.Refresh.IdleLifetimeS,
	} {
		if s < 0 || s > maxLife {
			m.add(field, "must be between 0 and %d seconds", int64(maxLife))
		}
	}
}

func (e Entry) checkRefresh(m *mistakes) {
	r := e.Refresh
	m.oneOf("refresh.rotation", r.Rotation, "none", "always", "sometimes", "unknown")
	m.oneOf("refresh.previous_token", r.PreviousToken, "dies_at_once", "dies_on_first_use_of_new", "grace_s", "stays", "unknown")
	m.oneOf("refresh.reuse", r.Reuse, "rejected", "revokes_family", "same_answer", "unknown")
	if r.PreviousToken == "grace_s" && r.GraceS == 0 {
		m.add("refresh.grace_s", "is missing, though previous_token names it")
	}
	if r.ConcurrentLimit < 0 {
		m.add("refresh.concurrent_limit", "must not be negative")
	}
	for i, t := range e.Revocation.Accepts {
		m.oneOf(fmt.Sprintf("revocation.accepts[%d]", i), t, hintAccess, hintRefresh)
	}
}

func (e Entry) checkIdentity(m *mistakes) {
	id := e.Identity
	m.oneOf("identity.method", id.Method, "GET", "POST")
	if id.Endpoint == "" && e.UserinfoEndpoint == "" && e.DiscoveryURL == "" && (id.IDField != "" || id.NameField != "") {
		m.add("identity.endpoint", "is missing, though a field of its answer is named")
	}
	if id.Body != "" && id.Method != "POST" {
		m.add("identity.body", "goes with the method POST")
	}
	for _, private := range id.NeverKeep {
		for field, path := range map[string]string{"identity.id_field": id.IDField, "identity.name_field": id.NameField} {
			if path == private || strings.HasPrefix(path, private+".") {
				m.add(field, "lies within identity.never_keep")
			}
		}
	}
}

func (e Entry) checkKeep(m *mistakes) {
	seen := map[string]bool{}
	for i, k := range e.Keep {
		field := fmt.Sprintf("keep[%d].", i)
		if k.From != "callback" && k.From != "token" {
			m.add(field+"from", "must be callback or token")
		}
		if k.Field == "" {
			m.add(field+"field", "is missing")
		}
		if _, err := regexp.Compile(k.Pattern); err != nil || k.Pattern == "" {
			m.add(field+"pattern", "must be a regular expression (RE2) for the whole value")
		}
		if seen[k.name()] {
			m.add(field+"as", "%q is kept twice", k.name())
		}
		seen[k.name()] = true
		if slices.Contains([]string{"access_token", "refresh_token", "id_token"}, k.Field) {
			m.add(field+"field", "tokens are kept elsewhere, sealed")
		}
	}
}
