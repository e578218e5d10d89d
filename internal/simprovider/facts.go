package simprovider

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// facts are what a simulator needs of an entry of the provider catalogue, under the
// names of its JSON. What is absent is unknown.
type facts struct {
	Name                  string
	DiscoveryURL          string `json:"discovery_url"`
	Issuer                string
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	RefreshEndpoint       string `json:"refresh_endpoint"`
	RefreshMethod         string `json:"refresh_method"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	UserinfoEndpoint      string `json:"userinfo_endpoint"`
	SecondExchange        struct {
		Endpoint, Method string
		Params           map[string]string
	} `json:"second_exchange"`
	RevocationRequest struct {
		Method, URL, Auth, Token, Format string
		Headers, Body                    map[string]string
	} `json:"revocation_request"`

	Auth           string            `json:"token_endpoint_auth_method"`
	AuthByGrant    map[string]string `json:"token_endpoint_auth_method_by_grant"`
	AuthByClient   map[string]string `json:"token_endpoint_auth_method_by_client"`
	PublicClientID string            `json:"public_client_id"`
	ClientIDParam  string            `json:"client_id_param"`
	CodeParam      string            `json:"code_param"`
	ScopeParam     string            `json:"scope_param"`
	RedirectValue  string            `json:"redirect_uri_value"`

	PKCE           string
	ScopeSeparator string `json:"scope_separator"`
	OfflineScope   string `json:"offline_scope"`
	ScopeRequired  any    `json:"scope_required"`
	CallbackScope  bool   `json:"callback_scope"`
	IssParameter   bool   `json:"authorization_response_iss_parameter_supported"`

	AuthorizationParams map[string]string `json:"authorization_params"`
	TokenParams         map[string]string `json:"token_params"`
	RefreshParams       map[string]string `json:"refresh_params"`
	RefreshRedirect     bool              `json:"refresh_sends_redirect_uri"`
	TokenHeaders        map[string]string `json:"token_headers"`
	TokenFormat         string            `json:"token_request_format"`

	TokenPath        string   `json:"token_path"`
	AcceptTokenTypes []string `json:"accept_token_types"`
	ExpiresInUnit    string   `json:"expires_in_unit"`
	DeadRefresh      []string `json:"dead_refresh_errors"`
	DeadCode         []string `json:"dead_code_errors"`
	RetryStatus      []int    `json:"retry_status"`
	CodeReuseStatus  int      `json:"code_reuse_status"`
	Quirks           []string `json:"response_quirks"`
	TTL              int64    `json:"access_token_ttl_s"`
	CodeTTL          int64    `json:"authorization_code_ttl_s"`
	MinimumAge       int64    `json:"minimum_token_age_s"`

	Refresh    refreshFacts
	Revocation struct {
		Parameters, Accepts []string
		Auth                string `json:"client_authentication"`
	}
	API struct {
		BaseURLs     []string          `json:"base_urls"`
		Scheme       string            `json:"auth_header_scheme"`
		Header       string            `json:"auth_header_name"`
		UserAgent    bool              `json:"user_agent_required"`
		ExtraHeaders map[string]string `json:"extra_headers"`
		RejectedWhen []rejection       `json:"rejected_when"`
	}
	Identity struct {
		Endpoint, Method, Kept string
		IDField                string `json:"id_field"`
		NameField              string `json:"name_field"`
	}
	Keep []struct {
		From, Field, As, Pattern string
	}
	Variables  map[string]string
	Defaults   map[string]string `json:"default_variables"`
	Entry      string            `json:"connection_entry"`
	discovered bool              // the endpoints of tokens are to be found by discovery
	Evidence   map[string]struct{ Kind string }
}

// refreshFacts are how refresh tokens behave.
type refreshFacts struct {
	Supported       any
	Rotation        string
	PreviousToken   string `json:"previous_token"`
	GraceS          int64  `json:"grace_s"`
	Reuse           string
	AbsoluteS       int64 `json:"absolute_lifetime_s"`
	IdleS           int64 `json:"idle_lifetime_s"`
	OldAccessDies   any   `json:"old_access_token_dies_on_refresh"`
	ConcurrentLimit int   `json:"concurrent_limit"`
	Credential      string
}

// rejection is an answer by which an API refuses an access token.
type rejection struct {
	Status    int
	JSONField string `json:"json_field"`
	Equals    string
}

// readFacts reads an entry, and says what it lacks to be simulated.
func readFacts(entry []byte) (facts, error) {
	var f facts
	if err := json.Unmarshal(entry, &f); err != nil {
		return f, fmt.Errorf("entry: %w", err)
	}
	methods := []string{f.Auth, f.AuthByGrant[grantCode], f.AuthByGrant[grantRefresh], f.AuthByClient["confidential"], f.Revocation.Auth, f.RevocationRequest.Auth}
	switch {
	case f.TokenEndpoint == "" && f.DiscoveryURL == "":
		return f, errors.New("entry: token_endpoint is missing, and so is a discovery_url that could tell it")
	case f.AuthorizationEndpoint == "" && f.DiscoveryURL == "" && f.Entry == "":
		return f, errors.New("entry: authorization_endpoint is missing, and so is a discovery_url that could tell it")
	case slices.Contains(methods, "private_key_jwt"):
		return f, errors.New("entry: private_key_jwt is not simulated")
	}
	if err := f.checkPatterns(); err != nil {
		return f, err
	}
	if f.TokenEndpoint == "" {
		f.discovered = true
		f.TokenEndpoint, f.AuthorizationEndpoint = f.DiscoveryURL+"/token", f.DiscoveryURL+"/authorize"
	}
	f.worstCase()
	return f, nil
}

// worstCase has what nobody knows, or only remembers, happen in the way that harms
// most.
func (f *facts) worstCase() {
	r := &f.Refresh
	for _, fact := range []struct {
		name, worst string
		value       *string
	}{
		{"rotation", "always", &r.Rotation},
		{"previous_token", "dies_at_once", &r.PreviousToken},
		{"reuse", "revokes_family", &r.Reuse},
	} {
		if *fact.value == "" || *fact.value == "unknown" || f.hearsay("refresh."+fact.name) {
			*fact.value = fact.worst
		}
	}
	if r.PreviousToken == "grace_s" && (r.GraceS == 0 || f.hearsay("refresh.grace_s")) {
		r.PreviousToken = "dies_at_once"
	}
	if r.OldAccessDies != false || f.hearsay("refresh.old_access_token_dies_on_refresh") {
		r.OldAccessDies = true
	}
}

// hearsay reports whether a fact, or what it stands in, is from memory.
func (f *facts) hearsay(name string) bool {
	for {
		if e, ok := f.Evidence[name]; ok {
			return e.Kind == "recalled"
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			return false
		}
		name = name[:i]
	}
}

// quirk reports whether the entry has a label; what follows its colon is detail.
func (f *facts) quirk(label string) (detail string, ok bool) {
	for _, q := range f.Quirks {
		if name, detail, _ := strings.Cut(q, ":"); name == label {
			return detail, true
		}
	}
	return "", false
}

func (f *facts) has(label string) bool {
	_, ok := f.quirk(label)
	return ok
}

// refreshes reports whether there are refresh tokens, or what stands in for them.
func (f *facts) refreshes() bool {
	return f.Refresh.Supported != false && (!f.has("no_refresh_token") || f.Refresh.Credential != "")
}

// authMethod is how a confidential client has to show itself. Where nobody knows it is
// the one that RFC 6749 section 2.3.1 has every server take.
func (f *facts) authMethod(grant string) string {
	for _, m := range []string{f.AuthByGrant[grant], f.AuthByClient["confidential"], f.Auth} {
		if m != "" && m != "unknown" {
			return m
		}
	}
	return "client_secret_basic"
}

func (f *facts) takesPublicClients() bool {
	return f.Auth == "none" || f.AuthByClient["public_pkce"] == "none" || f.PublicClientID != ""
}

// ttl is the life of an access token; an hour where nobody knows.
func (f *facts) ttl() time.Duration {
	if f.TTL == 0 {
		return time.Hour
	}
	return time.Duration(f.TTL) * time.Second
}

func (f *facts) codeTTL() time.Duration {
	if f.CodeTTL == 0 {
		return time.Minute // what a careful server would give
	}
	return time.Duration(f.CodeTTL) * time.Second
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// local is where the simulator serves what stands at a URL of the entry, whose
// {variables} stay: the same path below its host's name.
func local(base, address string) string {
	if address == "" {
		return ""
	}
	return base + "/" + strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
}

// issuer is what the simulator calls itself in a callback.
func (f *facts) issuer(base string) string {
	return local(base, or(f.Issuer, hostOf(f.AuthorizationEndpoint)))
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
