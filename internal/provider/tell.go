package provider

import (
	"encoding/json"
	"slices"
)

// Told returns the entry as JSON in which what is not known says "unknown", so that who
// reads it need not know which fields there could be.
func (e Entry) Told() (map[string]any, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var told map[string]any
	if err := json.Unmarshal(b, &told); err != nil {
		return nil, err
	}
	fillUnknown(told, []string{
		"name", "docs", "authorization_endpoint", "token_endpoint", "revocation_endpoint", "token_endpoint_auth_method",
		"grant_types_supported", "pkce", "access_token_ttl_s", "dead_refresh_errors", "redirect_uri_rules", "verified_at",
	})
	refresh, ok := told["refresh"].(map[string]any)
	if !ok {
		refresh = map[string]any{}
		told["refresh"] = refresh
	}
	fillUnknown(refresh, []string{
		"supported", "rotation", "previous_token", "grace_s", "reuse", "absolute_lifetime_s", "idle_lifetime_s",
		"old_access_token_dies_on_refresh", "concurrent_limit",
	})
	return told, nil
}

func fillUnknown(m map[string]any, names []string) {
	for _, name := range names {
		if _, ok := m[name]; !ok {
			m[name] = "unknown"
		}
	}
}

// SafetyEvidence counts by what an entry's SafetyFacts are known: documented, code,
// inferred, recalled, or unknown. A fact that does not apply is not counted.
func (e Entry) SafetyEvidence() map[string]int {
	kinds := map[string]int{}
	if e.Refresh.Supported == No {
		return kinds
	}
	for _, field := range SafetyFacts() {
		switch value := e.safetyFact(field); {
		case value == notApplicable:
		case !known(value):
			kinds["unknown"]++
		default:
			kinds[e.kindOf(field)]++
		}
	}
	return kinds
}

// EvidenceKinds are the kinds of evidence, the strongest first, and unknown at the end.
func EvidenceKinds() []string {
	return []string{"documented", "code", "inferred", "recalled", "unknown"}
}

// kindOf is the kind of evidence for a field, or for what it stands in; unknown without.
func (e Entry) kindOf(field string) string {
	for _, f := range enclosing(field) {
		if ev, ok := e.Evidence[f]; ok && slices.Contains(EvidenceKinds(), ev.Kind) {
			return ev.Kind
		}
	}
	return "unknown"
}
