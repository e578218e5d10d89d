// Package page says in plain words what the catalogue knows of a provider: what to
// register there, how tokens live and die, what can go wrong and what to do. It is
// text made of facts, for the command line and for the pages in docs/providers.
//
// What an entry does not know is said to be unknown, with what Evergrant does about
// it, and each fact about refreshing tells what it rests on.
package page

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// Section is one part of a page: rows of a name and a text, then single sentences.
type Section struct {
	Title string
	Rows  [][2]string
	Items []string
}

func (s *Section) row(name, text string) {
	if text != "" {
		s.Rows = append(s.Rows, [2]string{name, text})
	}
}

func (s *Section) item(format string, a ...any) { s.Items = append(s.Items, fmt.Sprintf(format, a...)) }

// Sections are the parts of a provider's page, without those that would be empty.
func Sections(e provider.Entry) []Section {
	var out []Section
	for _, s := range []Section{register(e), tokens(e), troubles(e), disconnecting(e), api(e), sources(e)} {
		if len(s.Rows)+len(s.Items) > 0 {
			out = append(out, s)
		}
	}
	return out
}

func register(e provider.Entry) Section {
	s := Section{Title: "Register"}
	s.row("client authentication", authentication(e))
	s.row("redirect URI", redirectRules(e))
	s.row("PKCE", map[string]string{
		"S256": "sent; S256 is supported", "required": "sent, and required", "unsupported": "not sent", "": "sent; whether it counts is not known", "unknown": "sent; whether it counts is not known",
	}[e.PKCE])
	s.row("grants", strings.Join(e.GrantTypesSupported, ", "))
	if e.OfflineScope != "" {
		s.row("scope for refresh tokens", code(e.OfflineScope)+", which Evergrant asks for by itself")
	}
	if e.RedirectURIValue != "" {
		s.item("The provider has a name of its own for the redirect URI, which is sent in its place: %s.", code(e.RedirectURIValue))
	}
	for _, name := range sortedKeys(e.Variables) {
		s.item("%s", variable(e, name))
	}
	if len(e.Environments) > 0 {
		s.item("Other environments: %s. Choose one by %s.", strings.Join(codes(sortedKeys(e.Environments)), ", "), code("environment: "+sortedKeys(e.Environments)[0]))
	}
	return s
}

func authentication(e provider.Entry) string {
	words := map[string]string{
		"client_secret_basic":     "Basic, form-encoded first",
		"client_secret_basic_raw": "Basic, of id and secret as they are",
		"client_secret_post":      "id and secret in the body",
		"private_key_jwt":         "a signed assertion",
		"none":                    "none: the client id alone",
	}
	text, ok := words[e.TokenEndpointAuthMethod]
	if !ok {
		return "not known: look it up, and tell it by " + code("token_endpoint_auth_method")
	}
	text += ", " + code(e.TokenEndpointAuthMethod)
	for _, g := range sortedKeys(e.TokenEndpointAuthMethodByGrant) {
		text += fmt.Sprintf("; for %s %s", code(string(g)), code(e.TokenEndpointAuthMethodByGrant[g]))
	}
	if m := e.TokenEndpointAuthMethodByClient["public_pkce"]; m != "" {
		text += "; a client without a secret " + code(m)
	}
	if evidence(e, "token_endpoint_auth_method") == "recalled" {
		text += " (from memory: try it with a test client first)"
	}
	return text
}

func redirectRules(e provider.Entry) string {
	words := map[string]string{
		"exact": "compared exactly", "same_host_and_path": "host and path are compared", "https_only": "https only",
		"loopback_allowed": "http on loopback is taken", "port_wildcard": "any port on loopback", "no_query_string": "without a query",
	}
	var rules []string
	for _, r := range e.RedirectURIRules {
		rules = append(rules, words[r])
	}
	if len(rules) == 0 {
		return "rules not known; register it exactly as `evergrant config check` prints it"
	}
	return strings.Join(rules, "; ")
}

func variable(e provider.Entry, name string) string {
	text := fmt.Sprintf("Variable %s, of the form %s", code(name), code(e.Variables[name]))
	if v := e.DefaultVariables[name]; v != "" {
		text += ", " + code(v) + " unless told"
	}
	switch {
	case e.Keeps(name):
		return text + "; told by the provider for each connection."
	case slices.Contains(e.ConnectionVariables, name):
		return text + "; set for all connections, or for each by " + code("variables") + " of its connect session."
	}
	return text + "; set in the configuration."
}

// tokens is how tokens live and die, with what each fact rests on.
func tokens(e provider.Entry) Section {
	s := Section{Title: "How tokens live and die"}
	s.row("access token", accessLife(e))
	r := e.Refresh
	if r.Supported == provider.No {
		s.row("refresh token", "none"+basis(e, "refresh.supported"))
		return s
	}
	s.row("a refresh brings a new refresh token", fact(e, "refresh.rotation", r.Rotation, map[string]string{
		"none": "no: the same one stays", "always": "yes", "sometimes": "sometimes: what comes is kept",
	}))
	s.row("the one before", fact(e, "refresh.previous_token", r.PreviousToken, map[string]string{
		"dies_at_once": "dies at once", "dies_on_first_use_of_new": "dies when the new access token is first used",
		"grace_s": fmt.Sprintf("may be sent for %s more", Span(r.GraceS)), "stays": "stays",
	}))
	if r.Rotation != "none" && r.PreviousToken != "stays" {
		s.row("a spent one, sent again", fact(e, "refresh.reuse", r.Reuse, map[string]string{
			"rejected": "is refused, and nothing else ends", "revokes_family": "ends the whole grant", "same_answer": "gets the same answer again",
		}))
	}
	dies := map[provider.Tri]string{provider.Yes: "dies", provider.No: "lives on", provider.Unknown: ""}[r.OldAccessTokenDiesOnRefresh]
	s.row("the old access token at a refresh", fact(e, "refresh.old_access_token_dies_on_refresh", dies, map[string]string{"dies": "dies", "lives on": "lives on"}))
	s.row("refresh token, unused", life(e, "refresh.idle_lifetime_s", r.IdleLifetimeS))
	s.row("refresh token, from the consent", life(e, "refresh.absolute_lifetime_s", r.AbsoluteLifetimeS))
	s.row("after a lost answer", lostAnswer(e.Profile(provider.GrantRefreshToken)))
	if r.Condition != "" {
		s.item("This holds when %s.", strings.TrimSuffix(r.Condition, "."))
	}
	return s
}

func accessLife(e provider.Entry) string {
	if e.AccessTokenTTL == 0 {
		return "as long as the answer says; where it does not, a refused call is the signal"
	}
	return Span(e.AccessTokenTTL) + ", unless the answer says otherwise"
}

func life(e provider.Entry, field string, s int64) string {
	if s == 0 {
		return ""
	}
	return Span(s) + basis(e, field)
}

// fact is a fact in words, or that it is not known.
func fact(e provider.Entry, field, value string, words map[string]string) string {
	text := words[value]
	if text == "" {
		return "not known, so the worst is assumed"
	}
	return text + basis(e, field)
}

// basis says what a fact rests on.
func basis(e provider.Entry, field string) string {
	switch evidence(e, field) {
	case "documented":
		return " (documented)"
	case "code":
		return " (seen in code)"
	case "inferred":
		return " (inferred)"
	case "recalled":
		return " (from memory, so the worst is assumed)"
	}
	return ""
}

// evidence is the kind of evidence that a field has, or what it stands in.
func evidence(e provider.Entry, field string) string {
	for f := field; f != ""; {
		if ev, ok := e.Evidence[f]; ok {
			return ev.Kind
		}
		i := strings.LastIndex(f, ".")
		if i < 0 {
			break
		}
		f = f[:i]
	}
	return ""
}

func lostAnswer(p provider.Profile) string {
	switch p.LostAnswer {
	case provider.SendNow:
		return "the old refresh token is sent again"
	case provider.GraceResend:
		return fmt.Sprintf("the old refresh token is sent again within %s", Span(p.Grace))
	default:
		return "Evergrant waits until the access token is nearly over: a second use might end the grant"
	}
}

// troubles are what can go wrong and what to do about it.
func troubles(e provider.Entry) Section {
	s := Section{Title: "What can go wrong"}
	r := e.Refresh
	switch {
	case r.Supported == provider.No:
		s.item("A connection ends with its access token. `reconnect_by` says when; send the user through a reconnect before.")
	case r.Reuse == "revokes_family":
		s.item("A token that is refreshed by other software too ends for all. Let Evergrant alone refresh it, and import with `hold` while another system still does.")
	case r.PreviousToken == "dies_at_once":
		s.item("Whoever else refreshes a token of this client's connection spends it. Let Evergrant alone refresh it.")
	}
	if r.AbsoluteLifetimeS > 0 {
		s.item("The grant ends %s after the consent, whatever use is made of it. `connection.reconnect_soon` comes before.", Span(r.AbsoluteLifetimeS))
	}
	if r.ConcurrentLimit > 0 {
		s.item("A user keeps %s with a client; one more consent ends the oldest in silence. Reconnect an owner with `connection_id`.", plural(r.ConcurrentLimit, "live refresh token"))
	}
	if e.MinimumTokenAge > 0 {
		s.item("A refresh within %s of the last one is refused, so none is sent.", Span(e.MinimumTokenAge))
	}
	if e.Refresh.Credential == "access_token" {
		s.item("The access token itself is renewed, while it lives: a connection whose token has ended needs its user.")
	}
	if len(e.DeadRefreshErrors) > 0 {
		s.item("These too mean that the grant is gone: %s.", strings.Join(codes(e.DeadRefreshErrors), ", "))
	}
	if len(e.RetryErrors)+len(e.RetryStatus) > 0 {
		list := codes(e.RetryErrors)
		for _, status := range e.RetryStatus {
			list = append(list, "HTTP status "+strconv.Itoa(status)+" without a code")
		}
		s.item("These mean later, and never that the grant is gone: %s.", strings.Join(list, ", "))
	}
	if e.CallbackScope {
		s.item("A user may grant less than was asked for; the callback says what, and `missing_scope` shows the rest.")
	}
	if e.Sunset.What != "" {
		s.item("%s", sunset(e.Sunset))
	}
	s.Items = append(s.Items, e.Notes...)
	return s
}

func sunset(t provider.Sunset) string {
	text := "Announced to end"
	if t.Date != "" {
		text += " in " + t.Date
	}
	text += ": " + t.What
	if t.Successor != "" {
		text += "; then " + t.Successor
	}
	return text + "."
}

func disconnecting(e provider.Entry) Section {
	s := Section{Title: "Disconnect"}
	switch {
	case e.RevocationRequest.URL != "":
		s.item("By a request of the provider's own, for %s.", map[string]string{
			"access_token": "the access token", "refresh_token": "the refresh token", "none": "the whole grant",
		}[e.RevocationRequest.Token])
	case e.RevocationEndpoint != "":
		text := "By RFC 7009"
		if len(e.Revocation.Accepts) == 1 {
			text += ", the " + strings.ReplaceAll(e.Revocation.Accepts[0], "_", " ") + " alone"
		}
		s.item("%s.", text)
	default:
		s.item("No revocation is known: a disconnect erases the tokens here, and the user takes the consent back at the provider.")
	}
	if e.Profile(provider.GrantRefreshToken).ProofSafe && (e.RevocationEndpoint != "" || e.RevocationRequest.URL != "") && e.Refresh.Supported != provider.No {
		s.item("It is proved: the refresh token is sent once more, and its refusal noted in the receipt.")
	}
	return s
}

func api(e provider.Entry) Section {
	s := Section{Title: "The API"}
	s.row("base URL", strings.Join(codes(e.API.BaseURLs), ", "))
	switch {
	case e.API.AuthHeaderScheme == provider.NoScheme:
		s.row("token", "bare, in "+code(e.API.AuthHeaderName))
	case e.API.AuthHeaderScheme != "" || e.API.AuthHeaderName != "":
		header, scheme := e.API.AuthHeaderName, e.API.AuthHeaderScheme
		if header == "" {
			header = "Authorization"
		}
		if scheme == "" {
			scheme = "Bearer"
		}
		s.row("token", code(header+": "+scheme+" …"))
	}
	if len(e.API.RejectedWhen) > 0 {
		s.row("a dead token is answered by", rejections(e.API.RejectedWhen))
	}
	for _, name := range sortedKeys(e.API.ExtraHeaders) {
		s.row("header", code(name+": "+e.API.ExtraHeaders[name]))
	}
	if e.API.UserAgentRequired {
		s.row("User-Agent", "wanted")
	}
	var kept []string
	for _, k := range e.Keep {
		name := k.As
		if name == "" {
			name = k.Field
		}
		kept = append(kept, code(name)+" of the "+map[string]string{"callback": "callback", "token": "answer", "identity": "account"}[k.From])
	}
	s.row("kept with the connection", strings.Join(kept, ", "))
	s.row("account", account(e))
	return s
}

func rejections(list []provider.Rejection) string {
	var out []string
	for _, r := range list {
		text := strconv.Itoa(r.Status)
		for _, name := range sortedKeys(r.HeaderMatch) {
			text += " with " + code(name) + " matching " + code(r.HeaderMatch[name])
		}
		if r.JSONField != "" {
			text += " with " + code(r.JSONField)
		}
		if r.Equals != "" {
			text += " = " + code(r.Equals)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

func account(e provider.Entry) string {
	switch {
	case e.Identity.Kept != "":
		return "known by " + code(e.Identity.Kept)
	case e.Identity.IDField != "":
		return "known by " + code(e.Identity.IDField) + " of " + code(e.Identity.Endpoint)
	case e.UserinfoEndpoint != "":
		return "known by `sub` of " + code(e.UserinfoEndpoint)
	}
	return "not known: two connects of one person stay two connections"
}

// sources is what the entry rests on.
func sources(e provider.Entry) Section {
	s := Section{Title: "What this rests on"}
	if e.VerifiedAt == "" {
		s.item("Nobody has compared this entry with its sources yet.")
	} else {
		s.item("Last compared with its sources on %s.", e.VerifiedAt)
	}
	fields := map[string][]string{}
	for _, field := range sortedKeys(e.Evidence) {
		ev := e.Evidence[field]
		key := ev.Kind + ", " + ev.Source
		if ev.Kind == "recalled" {
			key = "from memory"
		}
		fields[key] = append(fields[key], field)
	}
	for _, key := range sortedKeys(fields) {
		s.item("%s: %s", key, strings.Join(codes(fields[key]), ", "))
	}
	return s
}

// Span is a number of seconds in the largest units that fit.
func Span(s int64) string {
	for _, unit := range []struct {
		seconds int64
		name    string
	}{{365 * 86400, "year"}, {86400, "day"}, {3600, "hour"}, {60, "minute"}} {
		if s >= unit.seconds && s%unit.seconds == 0 && (unit.name != "day" || s > 86400) {
			return plural(s/unit.seconds, unit.name)
		}
	}
	if s > 2*86400 {
		return fmt.Sprintf("%.1f days", float64(s)/86400)
	}
	return plural(s, "second")
}

func plural(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func code(s string) string { return "`" + s + "`" }

func codes(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, code(s))
	}
	return out
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
