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
	e.checkTemplates(&m)
	e.checkRevocation(&m)
	e.checkDates(&m)
	e.checkEnvironments(&m)
	for _, name := range slices.Sorted(maps.Keys(e.Evidence)) {
		m.oneOf("evidence."+name+".kind", e.Evidence[name].Kind, "documented", "code", "inferred", "recalled")
	}
	return errors.Join(m...)
}

// ValidateClient returns what is wrong with using this entry as a public client
// (one without a secret) or as a confidential one, all mistakes joined.
func (e Entry) ValidateClient(public bool) error {
	var m mistakes
	if !public && e.AuthMethod(GrantRefreshToken, false) == methodUnknown {
		m.add("token_endpoint_auth_method", "is not known for this provider, and never guessed; look it up and write provider: {extends: %s, token_endpoint_auth_method: …}", e.ID)
	}
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
		e.checkURLTemplate(m, name, *urls[name], map[string][]string{
			"identity.endpoint": {hintAccess}, "revocation_request.url": {hintAccess, hintRefresh},
		}[name]...)
	}
	for i, u := range e.API.BaseURLs {
		// These are for callers, who may know what we do not: any name will do.
		if !variable().MatchString(u) {
			e.checkURLTemplate(m, fmt.Sprintf("api.base_urls[%d]", i), u)
		}
	}
}

// checkURLTemplate checks a URL, each {variable} taken for a word. A variable with
// which it begins is a URL itself, which its pattern has to say.
func (e Entry) checkURLTemplate(m *mistakes, field, template string, also ...string) {
	if template == "" {
		return
	}
	e.checkTemplate(m, field, template, also...)
	if first := variable().FindStringSubmatchIndex(template); first != nil && first[0] == 0 {
		name := template[first[2]:first[3]]
		if pattern := e.patternOf(name); !strings.HasPrefix(pattern, "^https://") {
			m.add(field, "begins with {%s}, whose pattern does not begin with ^https://", name)
			return
		}
		template = "https://x" + template[first[1]:]
	}
	if err := checkURL(variable().ReplaceAllString(template, "x")); err != nil {
		m.add(field, "%v", err)
	}
}

// checkTemplate checks that each {name} is a variable, something that is kept, or
// one of also.
func (e Entry) checkTemplate(m *mistakes, field, template string, also ...string) {
	for _, v := range variable().FindAllStringSubmatch(template, -1) {
		if e.patternOf(v[1]) == "" && v[1] != "client_id" && !slices.Contains(also, v[1]) {
			m.add(field, "{%s} is not among the variables", v[1])
		}
	}
}

// patternOf returns the pattern that the value of {name} must match, "" where no
// such thing is declared.
func (e Entry) patternOf(name string) string {
	if p, ok := e.Variables[name]; ok {
		return p
	}
	for _, k := range e.Keep {
		if k.name() == name {
			return k.Pattern
		}
	}
	return ""
}

// checkTemplates checks the {variables} outside of URLs.
func (e Entry) checkTemplates(m *mistakes) {
	for field, values := range map[string]map[string]string{
		"authorization_params": e.AuthorizationParams,
		"token_params":         e.TokenParams,
		"token_headers":        e.TokenHeaders,
	} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			e.checkTemplate(m, field+"."+name, values[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.RefreshParams)) {
		e.checkTemplate(m, "refresh_params."+name, e.RefreshParams[name], "refresh_token")
	}
	for _, name := range slices.Sorted(maps.Keys(e.SecondExchange.Params)) {
		e.checkTemplate(m, "second_exchange.params."+name, e.SecondExchange.Params[name], "client_secret", "access_token")
	}
	m.oneOf("second_exchange.method", e.SecondExchange.Method, "GET", "POST")
	m.oneOf("refresh_method", e.RefreshMethod, "GET", "POST")
	e.checkTemplate(m, "redirect_uri_value", e.RedirectURIValue)
}

// checkRevocation checks the template of a revocation that is not RFC 7009.
func (e Entry) checkRevocation(m *mistakes) {
	r := e.RevocationRequest
	if r.URL == "" {
		if r.Method != "" || r.Auth != "" || r.Token != "" || len(r.Headers)+len(r.Body) > 0 {
			m.add("revocation_request.url", "is missing")
		}
		return
	}
	if e.RevocationEndpoint != "" {
		m.add("revocation_request", "stands beside revocation_endpoint; one of them ends a token here")
	}
	secrets := []string{hintAccess, hintRefresh, "client_secret"}
	m.oneOf("revocation_request.method", r.Method, "POST", "DELETE", "GET")
	m.oneOf("revocation_request.auth", r.Auth, append(authMethods(), "client", "bearer", "secret_as_bearer")...)
	m.oneOf("revocation_request.format", r.Format, "form", "json")
	if !slices.Contains([]string{hintAccess, hintRefresh, "none"}, r.Token) {
		m.add("revocation_request.token", "must be access_token, refresh_token or none")
	}
	for field, values := range map[string]map[string]string{"revocation_request.headers": r.Headers, "revocation_request.body": r.Body} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			e.checkTemplate(m, field+"."+name, values[name], secrets...)
		}
	}
	e.checkHeaders(m, "revocation_request.headers", r.Headers)
}

var (
	day   = pattern(`^\d{4}-\d\d-\d\d$`)
	month = pattern(`^\d{4}-\d\d(-\d\d)?$`)
)

func (e Entry) checkDates(m *mistakes) {
	if e.VerifiedAt != "" && !day().MatchString(e.VerifiedAt) {
		m.add("verified_at", "must be a day, YYYY-MM-DD")
	}
	if e.Sunset.Date != "" && !month().MatchString(e.Sunset.Date) {
		m.add("sunset.date", "must be YYYY-MM-DD or YYYY-MM; leave it out where it is not told")
	}
	if e.Sunset.What == "" && e.Sunset != (Sunset{}) {
		m.add("sunset.what", "is missing")
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
	for i, name := range e.ConnectionVariables {
		if _, ok := e.Variables[name]; !ok {
			m.add(fmt.Sprintf("connection_variables[%d]", i), "%s is not among the variables", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.DefaultVariables)) {
		if !matchesWhole(e.Variables[name], e.DefaultVariables[name]) {
			m.add("default_variables."+name, "does not match the pattern of the variable")
		}
	}
}

func (e Entry) checkAuthentication(m *mistakes) {
	methods := authMethods()
	if e.TokenEndpointAuthMethod == "" {
		m.add("token_endpoint_auth_method", "is missing; it is one of %s, never guessed", strings.Join(methods, ", "))
	}
	m.oneOf("token_endpoint_auth_method", e.TokenEndpointAuthMethod, append(methods, methodUnknown)...)
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
			// A refresh may have a grant type of its own.
			if slices.Contains(reservedParams(), name) && field+"."+name != "refresh_params.grant_type" {
				m.add(field+"."+name, "is not for an entry to set")
			}
		}
	}
	for field, headers := range map[string]map[string]string{
		"token_headers":     e.TokenHeaders,
		"api.extra_headers": e.API.ExtraHeaders,
	} {
		e.checkHeaders(m, field, headers)
	}
	for i, rule := range e.RedirectURIRules {
		m.oneOf(fmt.Sprintf("redirect_uri_rules[%d]", i), rule,
			"exact", "same_host_and_path", "https_only", "loopback_allowed", "port_wildcard", "no_query_string")
	}
}

func (e Entry) checkHeaders(m *mistakes, field string, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !headerName().MatchString(name) || reservedHeader(name) || !printable(headers[name]) {
			m.add(field+"."+name, "is not a header that an entry may set")
		}
	}
}

var headerName = pattern(`^[A-Za-z0-9-]+$`)

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
	for i, status := range e.RetryStatus {
		if status/100 != 4 {
			m.add(fmt.Sprintf("retry_status[%d]", i), "must be a 4xx status")
		}
	}
	for i, r := range e.API.RejectedWhen {
		field := fmt.Sprintf("api.rejected_when[%d]", i)
		if r.Status < 100 || r.Status > 599 {
			m.add(field+".status", "must be an HTTP status")
		}
		if r.Equals != "" && r.JSONField == "" {
			m.add(field+".equals", "goes with json_field")
		}
		if r.Status/100 == 2 && r.JSONField == "" && len(r.HeaderMatch) == 0 {
			m.add(field, "would take every good answer for a refusal")
		}
		for name, pattern := range r.HeaderMatch {
			if _, err := regexp.Compile(pattern); err != nil || pattern == "" || !headerName().MatchString(name) {
				m.add(field+".header_match."+name, "must be a header and a regular expression (RE2)")
			}
		}
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
	m.oneOf("refresh.credential", r.Credential, hintRefresh, hintAccess)
	if r.ConcurrentLimit < 0 {
		m.add("refresh.concurrent_limit", "must not be negative")
	}
	for i, t := range e.Revocation.Accepts {
		m.oneOf(fmt.Sprintf("revocation.accepts[%d]", i), t, hintAccess, hintRefresh)
	}
}

func (e Entry) checkIdentity(m *mistakes) {
	id := e.Identity
	if id.Kept != "" && !slices.ContainsFunc(e.Keep, func(k Keep) bool { return k.name() == id.Kept && !k.Secret }) {
		m.add("identity.kept", "is not among what keep keeps in the open")
	}
	if id.Kept != "" && (id.Endpoint != "" || id.IDField != "") {
		m.add("identity.kept", "stands beside an endpoint; the account is known by one of them")
	}
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
		if k.From != "callback" && k.From != "token" && k.From != "identity" {
			m.add(field+"from", "must be callback, token or identity")
		}
		if _, clash := e.Variables[k.name()]; clash && e.Variables[k.name()] != "" && k.Secret {
			m.add(field+"secret", "a secret cannot be a variable of a URL")
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
