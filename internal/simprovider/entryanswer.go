package simprovider

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// entryGranted is the answer that hands out a pair, in the entry's form; refresh is the
// refresh token to show, or "".
func (sv *service) entryGranted(r *row, refresh string, q *request) answer {
	f := sv.d.facts
	a := map[string]any{"access_token": r.access, "token_type": f.tokenType()}
	if refresh != "" && f.Refresh.Credential == "" {
		a["refresh_token"] = refresh
	}
	f.tellLife(a, r.accessExpires, q.now, int64(sv.ttl/time.Second))
	f.tellScope(a, r.grant.scope)
	if f.has("created_at_unix_seconds") {
		a["created_at"] = q.now.Unix()
	}
	if f.has("issued_at_milliseconds") {
		a["issued_at"] = strconv.FormatInt(q.now.UnixMilli(), 10)
	}
	for _, label := range []string{"answer_embeds_profile", "extra_field"} {
		if name, ok := f.quirk(label); ok {
			a[name] = map[string]any{"id": r.owner().ID, "email": r.owner().Email}
		}
	}
	top := a
	if f.TokenPath != "" {
		top = map[string]any{}
		put(top, f.TokenPath, a)
	}
	for name, v := range f.kept("token") {
		put(top, name, v)
	}
	if f.has("200_with_error") {
		top["ok"] = true // who answers 200 either way says so
	}
	if f.has("form_encoded_answer_without_accept_header") && !strings.Contains(q.http.Header.Get("Accept"), "json") {
		return formAnswer(a)
	}
	return jsonAnswer(http.StatusOK, top).with("Pragma", "no-cache")
}

func formAnswer(a map[string]any) answer {
	form := url.Values{}
	for name, v := range a {
		switch v := v.(type) {
		case string:
			form.Set(name, v)
		case int64:
			form.Set(name, strconv.FormatInt(v, 10))
		}
	}
	return newAnswer(http.StatusOK, "application/x-www-form-urlencoded; charset=utf-8", []byte(form.Encode()))
}

func (f *facts) tokenType() string {
	if len(f.AcceptTokenTypes) > 0 {
		return f.AcceptTokenTypes[0]
	}
	return "bearer"
}

// tellLife says how long an access token lives, in the entry's way.
func (f *facts) tellLife(a map[string]any, ends, now time.Time, ttl int64) {
	if name, ok := f.quirk("absolute_expiry_field"); ok {
		a[name] = ends.Unix()
		return
	}
	switch {
	case f.has("expires_in_missing"):
	case f.has("expires_in_zero_means_never"):
		a["expires_in"] = int64(0)
	case f.has("expires_in_as_text"):
		a["expires_in"] = strconv.FormatInt(ttl, 10)
	case f.ExpiresInUnit == "ms":
		a["expires_in"] = ttl * 1000
	case f.ExpiresInUnit == "unix":
		a["expires_in"] = now.Unix() + ttl
	default:
		a["expires_in"] = ttl
	}
}

func (f *facts) tellScope(a map[string]any, scope string) {
	switch {
	case scope == "" || f.CallbackScope:
	case f.has("scope_is_a_json_array"):
		a["scope"] = f.scopes(scope)
	case f.has("scope_field_named_scopes"):
		a["scopes"] = scope
	default:
		a["scope"] = scope
	}
}

// put sets the value at a dotted path, in which a[0] is the first of a list.
func put(m map[string]any, path string, v any) {
	name, rest, nested := strings.Cut(path, ".")
	name, _, list := strings.Cut(name, "[")
	if !nested {
		m[name] = v
		if list {
			m[name] = []any{v}
		}
		return
	}
	var in map[string]any
	switch had := m[name].(type) {
	case map[string]any:
		in = had
	case []any:
		in, _ = had[0].(map[string]any)
	}
	if in == nil {
		in = map[string]any{}
		m[name] = in
		if list {
			m[name] = []any{in}
		}
	}
	put(in, rest, v)
}

// refusal is the answer to a request that is refused for another reason than a dead
// refresh token.
func (f *facts) refusal(why refusal) answer {
	switch why {
	case badClient:
		return f.failure(http.StatusUnauthorized, "invalid_client", "")
	case badGrantType:
		return f.failure(http.StatusBadRequest, "unsupported_grant_type", "")
	case usedCode:
		if f.CodeReuseStatus != 0 {
			return textAnswer(f.CodeReuseStatus, "")
		}
	case badRequest:
		return f.failure(http.StatusBadRequest, "invalid_request", "")
	}
	return f.named(f.DeadCode, 0)
}

// tooEarly refuses a refresh of a token that is too young.
func (f *facts) tooEarly() answer {
	return f.failure(http.StatusBadRequest, "access_denied", "The token is too young to be refreshed.")
}

// deadRefusal says that a refresh token is dead, in turn under each of the entry's names
// for it.
func (sv *service) deadRefusal() answer {
	sv.deaths++
	f := sv.d.facts
	if f.has("opaque_400_on_dead_refresh") {
		return jsonAnswer(http.StatusBadRequest, map[string]any{})
	}
	return f.named(f.DeadRefresh, sv.deaths-1)
}

// named fails with the nth of a list of "code[@status][~text]", or else invalid_grant.
func (f *facts) named(list []string, n int) answer {
	rule := "invalid_grant"
	if len(list) > 0 {
		rule = list[n%len(list)]
	}
	head, text, _ := strings.Cut(rule, "~")
	code, status, _ := strings.Cut(head, "@")
	if s, err := strconv.Atoi(status); err == nil {
		return f.failure(s, code, text)
	}
	switch {
	case f.has("dead_refresh_is_http_401"):
		return f.failure(http.StatusUnauthorized, code, text)
	case f.has("dead_refresh_is_http_403"):
		return f.failure(http.StatusForbidden, code, text)
	}
	return f.failure(http.StatusBadRequest, code, text)
}

// failure is an error in the entry's form.
func (f *facts) failure(status int, code, text string) answer {
	if f.has("200_with_error") {
		status = http.StatusOK
	}
	text = or(text, "simulated")
	body := map[string]any{"error": code, "error_description": text}
	switch {
	case f.has("error_object_nested"):
		inner := map[string]any{"message": text, "type": "OAuthException", "code": code}
		if n, err := strconv.Atoi(code); err == nil {
			inner["code"] = n
		}
		body = map[string]any{"error": inner}
	case f.has("error_in_status_field_not_error"):
		body = map[string]any{"status": code, "message": text}
	case f.has("error_text_in_reason_field"):
		body = map[string]any{"error": code, "reason": text}
	}
	return jsonAnswer(status, body)
}
