package provider_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
)

func entryText(t *testing.T, change func(e map[string]any)) []byte {
	t.Helper()
	recalled := map[string]any{"source": "memory", "kind": "recalled"}
	read := map[string]any{"source": "https://acme.example/docs", "kind": "documented"}
	e := map[string]any{
		"name": "Acme", "docs": "https://acme.example/docs", "verified_at": "2026-11-21",
		"authorization_endpoint": "https://acme.example/authorize", "token_endpoint": "https://acme.example/token",
		"revocation_endpoint": "https://acme.example/revoke", "token_endpoint_auth_method": "client_secret_post", "pkce": "S256",
		"refresh": map[string]any{
			"supported": true, "rotation": "always", "previous_token": "dies_at_once", "reuse": "rejected", "old_access_token_dies_on_refresh": false,
		},
		"identity":           map[string]any{"endpoint": "https://acme.example/me", "id_field": "id"},
		"redirect_uri_rules": []any{"exact"},
		"evidence": map[string]any{
			"authorization_endpoint": read, "token_endpoint": read, "revocation_endpoint": read, "token_endpoint_auth_method": read,
			"pkce": read, "refresh": read, "identity": recalled, "redirect_uri_rules": read,
		},
	}
	change(e)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unset takes a field and its evidence away.
func unset(e map[string]any, field string) {
	delete(e, field)
	delete(e["evidence"].(map[string]any), field)
}

// What is missing is said once.
func TestCheckSaysWhatIsEssentialOnce(t *testing.T) {
	r := provider.Check([]byte(`{}`), time.Now())
	if len(r.Essential) != 4 || len(r.Mistakes) != 0 || r.Sound() {
		t.Errorf("%+v", r)
	}
}

func TestCheckFindsNothingInASoundEntry(t *testing.T) {
	r := provider.Check(entryText(t, func(map[string]any) {}), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
	if all := slices.Concat(r.Essential, r.Mistakes, r.Contradictions, r.Missing, r.Old); len(all) != 0 || !r.Sound() {
		t.Errorf("found %q", all)
	}
}

func TestCheckTellsWhatIsWrong(t *testing.T) {
	refresh := func(set map[string]any) func(map[string]any) {
		return func(e map[string]any) {
			for k, v := range set {
				e["refresh"].(map[string]any)[k] = v
			}
		}
	}
	set := func(k string, v any) func(map[string]any) { return func(e map[string]any) { e[k] = v } }
	of := func(r provider.Review, list string) []string {
		return map[string][]string{"essential": r.Essential, "mistake": r.Mistakes, "contradiction": r.Contradictions, "missing": r.Missing, "old": r.Old}[list]
	}
	for begins, c := range map[string]struct {
		list   string
		change func(map[string]any)
	}{
		"json: unknown field":             {"mistake", set("token_url", "x")},
		"token_endpoint: must be":         {"mistake", set("token_endpoint", "http://acme.example/")},
		"name: people":                    {"essential", set("name", "")},
		"token_endpoint: no code":         {"essential", func(e map[string]any) { unset(e, "token_endpoint") }},
		"authorization_endpoint: no":      {"essential", func(e map[string]any) { unset(e, "authorization_endpoint") }},
		"token_endpoint_auth_method: how": {"essential", func(e map[string]any) { unset(e, "token_endpoint_auth_method") }},
		"retry_errors: \"gone\"": {"contradiction", func(e map[string]any) {
			e["dead_refresh_errors"], e["retry_errors"] = []any{"gone"}, []any{"Gone"}
		}},
		"retry_status: 409":          {"contradiction", func(e map[string]any) { e["retry_status"], e["code_reuse_status"] = []any{409}, 409 }},
		"token_endpoint: is another": {"contradiction", set("token_endpoint", "https://acme.example/revoke")},
		"minimum_token_age_s: not below refresh": {"contradiction", func(e map[string]any) {
			e["minimum_token_age_s"], e["refresh"].(map[string]any)["idle_lifetime_s"] = 10, 10
		}},
		"id: is the name":            {"mistake", set("id", "acme")},
		"refresh.previous_token: d":  {"contradiction", refresh(map[string]any{"rotation": "none"})},
		"refresh.reuse: rejected":    {"contradiction", refresh(map[string]any{"previous_token": "stays"})},
		"refresh.reuse: same_answer": {"contradiction", refresh(map[string]any{"reuse": "same_answer"})},
		"refresh.grace_s: given":     {"contradiction", refresh(map[string]any{"grace_s": 60})},
		"refresh.idle_lifetime_s: l": {"contradiction", refresh(map[string]any{"idle_lifetime_s": 20, "absolute_lifetime_s": 10})},
		"access_token_ttl_s: longer": {"contradiction", func(e map[string]any) {
			e["access_token_ttl_s"], e["refresh"].(map[string]any)["absolute_lifetime_s"] = 20, 10
		}},
		"minimum_token_age_s: not": {"contradiction", func(e map[string]any) { e["access_token_ttl_s"], e["minimum_token_age_s"] = 10, 10 }},
		"grant_types_supported: h": {"contradiction", func(e map[string]any) {
			e["grant_types_supported"], e["refresh"].(map[string]any)["supported"] = []any{"refresh_token"}, false
		}},
		"grant_types_supported: l": {"contradiction", set("grant_types_supported", []any{"authorization_code"})},
		"refresh.supported: false": {"contradiction", refresh(map[string]any{"supported": false, "idle_lifetime_s": 10})},
		"variables.host: is used":  {"contradiction", set("variables", map[string]any{"host": "^[a-z]$"})},
		"offline_scope: has no":    {"contradiction", set("offline_scope", "offline")},
		"evidence.pkce: lacks": {"contradiction", func(e map[string]any) {
			e["evidence"].(map[string]any)["pkce"] = map[string]any{"source": "", "kind": ""}
		}},
		"evidence.issuer: speaks": {"contradiction", func(e map[string]any) {
			e["evidence"].(map[string]any)["issuer"] = map[string]any{"source": "x", "kind": "code"}
		}},
		"revocation.per_token: given": {"contradiction", func(e map[string]any) {
			delete(e, "revocation_endpoint")
			e["revocation"] = map[string]any{"per_token": true}
		}},
		"refresh.rotation: unknown": {"missing", refresh(map[string]any{"rotation": "unknown"})},
		"refresh.reuse: from memory": {"missing", func(e map[string]any) {
			e["evidence"].(map[string]any)["refresh.reuse"] = map[string]any{"source": "memory", "kind": "recalled"}
		}},
		"token_endpoint_auth_method:": {"missing", set("token_endpoint_auth_method", "unknown")},
		"revocation_endpoint: none": {"missing", func(e map[string]any) {
			delete(e, "revocation_endpoint")
			delete(e["evidence"].(map[string]any), "revocation_endpoint")
		}},
		"verified_at: nobody": {"old", func(e map[string]any) { delete(e, "verified_at") }},
		"verified_at: 2024":   {"old", set("verified_at", "2024-01-01")},
		"verified_at: lies":   {"old", set("verified_at", "2027-01-01")},
		"sunset: v1": {"old", func(e map[string]any) {
			e["sunset"], e["evidence"].(map[string]any)["sunset"] = map[string]any{"what": "v1", "date": "2026-12"}, map[string]any{"source": "x", "kind": "code"}
		}},
	} {
		r := provider.Check(entryText(t, c.change), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
		if !slices.ContainsFunc(of(r, c.list), func(s string) bool { return strings.HasPrefix(s, begins) }) {
			t.Errorf("no %s %q: %+v", c.list, begins, r)
		}
		if r.Sound() == (c.list == "essential" || c.list == "mistake" || c.list == "contradiction") {
			t.Errorf("%q: sound %v", begins, r.Sound())
		}
	}
}
