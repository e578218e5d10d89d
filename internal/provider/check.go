package provider

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Review is what Check found in an entry. Each finding begins with a JSON field.
type Review struct {
	// Essential is what is missing and cannot be done without.
	Essential []string
	// Mistakes make the entry unusable.
	Mistakes []string
	// Contradictions are facts that cannot both hold, and claims without a source.
	Contradictions []string
	// Missing is what is not known and would be good to know: the refresh protocol
	// takes the worst for it.
	Missing []string
	// Old is what has to be looked at again: no day of a check, one long ago, or a
	// sunset that has come.
	Old []string
}

// Sound reports whether the entry could stand in the catalogue.
func (r Review) Sound() bool { return len(r.Essential)+len(r.Mistakes)+len(r.Contradictions) == 0 }

// checkAfter is how long a comparison with the sources counts.
const checkAfter = 400 * 24 * time.Hour

// Check reviews the JSON of one entry of the catalogue.
func Check(b []byte, now time.Time) Review {
	var r Review
	e, err := ParseEntry(b)
	if err != nil {
		r.Mistakes = []string{err.Error()}
		return r
	}
	r.Essential = e.essential()
	for _, err := range unjoin(e.Validate()) {
		if field, _, _ := strings.Cut(err.Error(), ": is missing"); !slices.ContainsFunc(r.Essential, func(s string) bool { return strings.HasPrefix(s, field+":") }) {
			r.Mistakes = append(r.Mistakes, err.Error())
		}
	}
	if e.ID != "" {
		r.Mistakes = append(r.Mistakes, "id: is the name of the file, and not written in it")
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		r.Mistakes = append(r.Mistakes, err.Error())
		return r
	}
	r.Contradictions = append(e.contradictions(), e.unproven(doc)...)
	r.Missing = e.missing()
	r.Old = e.old(now)
	return r
}

// essential is what no connection can be made without.
func (e Entry) essential() []string {
	var out []string
	need := func(there bool, field, why string) {
		if !there {
			out = append(out, field+": "+why)
		}
	}
	need(e.Name != "", "name", "people would not know what it is")
	need(e.TokenEndpoint != "" || e.DiscoveryURL != "", "token_endpoint", "no code could be exchanged and no token refreshed")
	need(e.AuthorizationEndpoint != "" || e.DiscoveryURL != "" || !e.grants(GrantAuthorizationCode), "authorization_endpoint",
		"no user could be sent there; where there is no consent, grant_types_supported says so")
	need(e.TokenEndpointAuthMethod != "", "token_endpoint_auth_method", "how a client shows itself is never guessed; where no source tells, write unknown")
	return out
}

// contradictions are pairs of facts of which one must be wrong.
func (e Entry) contradictions() []string {
	r := e.Refresh
	var out []string
	clash := func(bad bool, format string, a ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	none := r.Rotation == "none"
	clash(none && known(r.PreviousToken) && r.PreviousToken != "stays",
		"refresh.previous_token: %s, though rotation is none: without a new token the old one cannot end", r.PreviousToken)
	clash((none || r.PreviousToken == "stays") && known(r.Reuse),
		"refresh.reuse: %s, though a used token stays: there are no spent ones", r.Reuse)
	clash(r.GraceS > 0 && r.PreviousToken != "grace_s" && r.PreviousToken != "dies_on_first_use_of_new",
		"refresh.grace_s: given, though previous_token is %q", r.PreviousToken)
	clash(r.PreviousToken == "dies_at_once" && r.Reuse == "same_answer",
		"refresh.reuse: same_answer, though the previous token dies at once")
	clash(r.AbsoluteLifetimeS > 0 && r.IdleLifetimeS > r.AbsoluteLifetimeS,
		"refresh.idle_lifetime_s: longer than absolute_lifetime_s, so it never counts")
	clash(r.AbsoluteLifetimeS > 0 && e.AccessTokenTTL > r.AbsoluteLifetimeS,
		"access_token_ttl_s: longer than the refresh token lives")
	clash(e.MinimumTokenAge > 0 && e.AccessTokenTTL > 0 && e.MinimumTokenAge >= e.AccessTokenTTL,
		"minimum_token_age_s: not below access_token_ttl_s, so no refresh could come in time")
	refreshes := slices.Contains(e.GrantTypesSupported, string(GrantRefreshToken))
	clash(r.Supported == No && refreshes, "grant_types_supported: holds refresh_token, though refresh.supported is false")
	clash(r.Supported == Yes && len(e.GrantTypesSupported) > 0 && !refreshes,
		"grant_types_supported: lacks refresh_token, though refresh.supported is true")
	clash(r.Supported == No && (r.IdleLifetimeS > 0 || r.AbsoluteLifetimeS > 0 || known(r.PreviousToken) || known(r.Reuse) || r.GraceS > 0 || e.OfflineScope != "" || e.RefreshEndpoint != "" || r.ConcurrentLimit > 0),
		"refresh.supported: false, though there are facts about refresh tokens")
	clash(e.PKCE == "unsupported" && (e.TokenEndpointAuthMethod == methodNone || e.TokenEndpointAuthMethodByClient[clientPublic] == methodNone),
		"pkce: unsupported, though clients without a secret are taken: nothing would tie a code to its client")
	clash(e.Revocation.PerToken == Yes && e.RevocationEndpoint == "", "revocation.per_token: given, though there is no revocation_endpoint")
	clash(len(e.Revocation.Accepts) > 0 && e.RevocationEndpoint == "", "revocation.accepts: given, though there is no revocation_endpoint")
	clash(e.IssParameter && e.Issuer == "" && e.DiscoveryURL == "", "authorization_response_iss_parameter_supported: true, though there is no issuer to compare with")
	clash(r.IdleLifetimeS > 0 && e.MinimumTokenAge >= r.IdleLifetimeS, "minimum_token_age_s: not below refresh.idle_lifetime_s, so no refresh could come in time")
	for _, rule := range e.DeadRefreshErrors {
		clash(slices.ContainsFunc(e.RetryErrors, func(s string) bool { return strings.EqualFold(s, rule) }),
			"retry_errors: %q, which dead_refresh_errors has too: it cannot mean both later and never", rule)
	}
	clash(e.CodeReuseStatus != 0 && slices.Contains(e.RetryStatus, e.CodeReuseStatus),
		"retry_status: %d, which is code_reuse_status too: it cannot mean both later and start again", e.CodeReuseStatus)
	clash(e.TokenEndpoint != "" && (e.TokenEndpoint == e.AuthorizationEndpoint || e.TokenEndpoint == e.RevocationEndpoint),
		"token_endpoint: is another endpoint's URL too")
	for _, name := range slices.Sorted(maps.Keys(e.Variables)) {
		clash(!e.uses(name), "variables.%s: is used nowhere", name)
	}
	return out
}

// uses reports whether {name} occurs anywhere in the entry.
func (e Entry) uses(name string) bool {
	e.Variables, e.DefaultVariables, e.Evidence = nil, nil, nil
	b, err := json.Marshal(e)
	return err == nil && strings.Contains(string(b), "{"+name+"}")
}

func known(v string) bool { return v != "" && v != "unknown" }

// A fact is one scalar of an entry that needs a source.
type fact struct {
	path  string
	value any
}

// unproven are facts without evidence, and evidence without a fact.
func (e Entry) unproven(doc map[string]any) []string {
	var facts []fact
	flatten("", doc, &facts)
	var out []string
	for _, f := range facts {
		if f.value != "unknown" && !slices.Contains([]string{"name", "docs", "notes", "connection_variables"}, f.path) && !e.proven(f.path) {
			out = append(out, f.path+": has no evidence")
		}
	}
	for _, field := range slices.Sorted(maps.Keys(e.Evidence)) {
		if ev := e.Evidence[field]; ev.Source == "" || ev.Kind == "" {
			out = append(out, "evidence."+field+": lacks source or kind")
		}
		if !slices.ContainsFunc(facts, func(f fact) bool { return f.path == field || strings.HasPrefix(f.path, field+".") }) {
			out = append(out, "evidence."+field+": speaks of what the entry does not tell")
		}
	}
	return out
}

// flatten lists the scalars and lists of an entry by dotted path, sorted.
func flatten(prefix string, v any, out *[]fact) {
	m, ok := v.(map[string]any)
	if !ok {
		*out = append(*out, fact{prefix, v})
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if prefix == "" && (k == "verified_at" || k == "evidence") {
			continue
		}
		flatten(strings.TrimPrefix(prefix+"."+k, "."), m[k], out)
	}
}

// proven reports whether there is evidence for a field or for what it stands in.
func (e Entry) proven(field string) bool {
	return slices.ContainsFunc(enclosing(field), func(f string) bool {
		_, ok := e.Evidence[f]
		return ok
	})
}

// enclosing are a dotted path and what it stands in, from the inside.
func enclosing(field string) []string {
	paths := []string{field}
	for i := len(field) - 1; i > 0; i-- {
		if field[i] == '.' {
			paths = append(paths, field[:i])
		}
	}
	return paths
}

// missing is what a connection would be safer for.
func (e Entry) missing() []string {
	var out []string
	need := func(there bool, field, why string) {
		if !there {
			out = append(out, field+": "+why)
		}
	}
	need(e.TokenEndpointAuthMethod != methodUnknown, "token_endpoint_auth_method", "unknown, so whoever uses the entry has to tell it")
	need(e.Docs != "", "docs", "no page of the vendor is named")
	need(known(e.PKCE), "pkce", "unknown; it is sent, and may be ignored")
	need(e.Refresh.Supported != Unknown, "refresh.supported", "unknown")
	if e.Refresh.Supported != No {
		for _, f := range SafetyFacts() {
			value := e.safetyFact(f)
			need(known(value), f, "unknown, so the worst is assumed")
			need(!known(value) || !e.hearsay(f), f, "from memory, so it counts as unknown")
		}
	}
	need(e.RevocationEndpoint != "" || e.RevocationRequest.URL != "", "revocation_endpoint", "none, so a disconnect does not reach the provider")
	need(e.Identity.IDField != "" || e.Identity.Kept != "" || e.UserinfoEndpoint != "", "identity", "none, so an account is not recognized")
	need(len(e.RedirectURIRules) > 0, "redirect_uri_rules", "unknown")
	return out
}

// old is what time has overtaken.
func (e Entry) old(now time.Time) []string {
	var out []string
	at, err := time.Parse(time.DateOnly, e.VerifiedAt)
	switch {
	case err != nil:
		out = append(out, "verified_at: nobody has compared the entry with its sources")
	case at.After(now.Add(24 * time.Hour)):
		out = append(out, "verified_at: lies in the future")
	case now.Sub(at) > checkAfter:
		out = append(out, "verified_at: "+e.VerifiedAt+", more than a year ago")
	}
	if e.Sunset.Ended(now) {
		out = append(out, "sunset: "+e.Sunset.What+" was to end in "+e.Sunset.Date)
	}
	return out
}

// Ended reports whether the day, or the first day of the month, has come.
func (s Sunset) Ended(now time.Time) bool {
	date := s.Date
	if len(date) == len("2006-01") {
		date += "-01"
	}
	at, err := time.Parse(time.DateOnly, date)
	return err == nil && !now.Before(at)
}

// SafetyFacts are the fields by which the refresh protocol decides what may be sent
// again and when.
func SafetyFacts() []string {
	return []string{"refresh.rotation", "refresh.previous_token", "refresh.reuse", "refresh.old_access_token_dies_on_refresh"}
}

// notApplicable is the value of a safety fact that has no meaning beside the others.
const notApplicable = "not applicable"

// safetyFact returns the value of one of SafetyFacts.
func (e Entry) safetyFact(field string) string {
	r := e.Refresh
	switch field {
	case "refresh.rotation":
		return r.Rotation
	case "refresh.previous_token":
		return r.PreviousToken
	case "refresh.reuse":
		if r.Rotation == "none" || r.PreviousToken == "stays" {
			return notApplicable // there are no spent tokens
		}
		return r.Reuse
	case "refresh.old_access_token_dies_on_refresh":
		b, err := r.OldAccessTokenDiesOnRefresh.MarshalJSON()
		if err != nil {
			return ""
		}
		return strings.Trim(string(b), `"`)
	}
	return ""
}
