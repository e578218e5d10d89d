package provider

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// maxCode bounds an error code, characters.
const maxCode = 256

// code finds the error code of an answer: first in error (RFC 6749 section 5.2),
// at the top or in the object that holds the tokens; then, unless tokens came, in
// the other places where providers put it.
func (c *classification) code() string {
	for _, o := range []*object{c.top, c.nested} {
		if code := errorCode(o.get("error")); code != "" {
			return code
		}
	}
	success := c.status/100 == 2
	if at := c.tokens().get("access_token"); success && at != nil && at != "" {
		return ""
	}
	for _, o := range []*object{c.top, c.nested} {
		if code := otherCode(o, success); code != "" {
			return code
		}
	}
	return ""
}

// errorPresent reports whether the answer says error at all, with or without a
// code that can be read.
func (c *classification) errorPresent() bool {
	return !nothing(c.top.get("error")) || !nothing(c.nested.get("error"))
}

// nothing reports whether a value of error says that there is none.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case []any:
		return len(v) == 0
	case *object:
		return len(v.fields) == 0
	}
	return false
}

// errorCode reads error itself: a word, a number, or an object as Google and
// Facebook send it.
func errorCode(v any) string {
	if nothing(v) {
		return ""
	}
	o, ok := v.(*object)
	if !ok {
		return firstOf(wordCode(v), integerCode(v))
	}
	return firstOf(wordCode(o.get("code")), wordCode(o.get("status")), integerCode(o.get("code")), wordCode(o.get("type")))
}

// otherCode reads the places besides error. There a number is a code on success
// only (TikTok's 200 with error_code): with an HTTP error status it mostly
// repeats that status.
func otherCode(o *object, success bool) string {
	if o == nil {
		return ""
	}
	var first *object
	if list, ok := o.get("errors").([]any); ok && len(list) > 0 {
		first, _ = list[0].(*object)
	}
	for _, v := range []any{
		o.get("error_code"), o.get("errorCode"),
		first.get("code"), first.get("errorType"), first.get("type"),
		o.get("code"),
	} {
		if code := wordCode(v); code != "" {
			return code
		}
		if code := integerCode(v); success && code != "" && !fine(code) {
			return code
		}
	}
	return statusWord(wordCode(o.get("status")))
}

// fine reports whether a number in place of a code says that all went well.
func fine(code string) bool {
	n, err := strconv.Atoi(code)
	return err == nil && (n == 0 || n/100 == 2)
}

// statusWord returns s unless it only says that there was an error, or repeats
// the HTTP status.
func statusWord(s string) string {
	switch strings.ToLower(s) {
	case "error", "fail", "failed", "failure", "ok", "success":
		return ""
	}
	if strings.Trim(s, "0123456789") == "" {
		return ""
	}
	return s
}

// wordCode returns v if it is a legal code: 1…256 characters 0x20–0x7E.
func wordCode(v any) string {
	s, ok := v.(string)
	if !ok || len(s) > maxCode || strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) >= 0 {
		return ""
	}
	return s
}

// integerCode returns v's digits if it is a JSON number without fraction and
// exponent.
func integerCode(v any) string {
	n, ok := v.(json.Number)
	if !ok || strings.ContainsAny(n.String(), ".eE") {
		return ""
	}
	return wordCode(n.String())
}

func firstOf(codes ...string) string {
	for _, c := range codes {
		if c != "" {
			return c
		}
	}
	return ""
}

// challengeCode finds error="…" in WWW-Authenticate (RFC 6750 section 3). It steps
// over other quoted strings, so that a description cannot pose as the code.
func challengeCode(headers []string) string {
	for _, h := range headers {
		for _, m := range authParam().FindAllStringSubmatch(h, -1) {
			if !strings.EqualFold(m[1], "error") {
				continue
			}
			if code := wordCode(quotedPair().ReplaceAllString(m[2], "$1")); code != "" {
				return code
			}
		}
	}
	return ""
}

var (
	authParam  = pattern(`([A-Za-z0-9!#$%&'*+.^_|~-]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"`)
	quotedPair = pattern(`\\(.)`)
)

// judge says what a code means. First match; case never counts, since codes are
// shouted by some (HubSpot). An unknown code never ends a connection.
func (c *classification) judge(code string) (v Verdict, lost bool) {
	e := c.entry
	switch {
	case c.req.Grant == GrantRefreshToken && c.listed(e.DeadRefreshErrors, code),
		c.req.Grant == GrantAuthorizationCode && c.listed(e.DeadCodeErrors, code):
		return VerdictNeedsReauth, false
	case c.listed(e.RetryErrors, code), slices.Contains(laterCodes(), strings.ToLower(code)):
		return VerdictRetry, false
	case slices.Contains(brokenCodes(), strings.ToLower(code)):
		return VerdictRetry, true
	case !slices.Contains(deadCodes(), strings.ToLower(code)):
		return VerdictConfigError, false
	case c.req.Grant == GrantClientCredentials:
		return VerdictConfigError, false // there is no user who could start again
	}
	return VerdictNeedsReauth, false
}

// laterCodes mean that nothing was done and that later it may be.
func laterCodes() []string {
	return []string{
		"temporarily_unavailable", "service_unavailable", "unavailable", "slow_down",
		"rate_limit_exceeded", "rate_limited", "ratelimited", "too_many_requests",
	}
}

// brokenCodes mean that the server broke midway: it may have spent the token.
func brokenCodes() []string {
	return []string{
		"server_error", "internal_error", "internal_server_error", "internal_failure",
		"fatal_error", "unknown_error",
	}
}

// deadCodes mean that the code or the grant is gone.
func deadCodes() []string {
	return []string{
		"invalid_grant", "bad_refresh_token", "invalid_refresh_token", "token_inactive", "token_revoked",
		"token_expired", "bad_verification_code", "bad_auth_code", "invalid_code", "code_expired",
		"code_already_used", "interaction_required", "consent_required", "login_required",
	}
}

// errorRule is one "code[@status][~text]" of an entry's lists.
type errorRule struct {
	code   string
	status int // 0: any
	text   string
}

func parseErrorRule(s string) (errorRule, bool) {
	head, text, _ := strings.Cut(s, "~")
	code, status, given := strings.Cut(head, "@")
	r := errorRule{code: code, text: text}
	if given {
		n, err := strconv.Atoi(status)
		if err != nil || n < 100 || n > 599 {
			return errorRule{}, false
		}
		r.status = n
	}
	return r, code != "" && !strings.ContainsAny(text, "@~")
}

// listed reports whether one of the rules fits this answer and its code.
func (c *classification) listed(rules []string, code string) bool {
	return slices.ContainsFunc(rules, func(s string) bool {
		r, ok := parseErrorRule(s)
		return ok && strings.EqualFold(r.code, code) && (r.status == 0 || r.status == c.status) && c.tells(r.text)
	})
}

// descriptions are the fields in which answers describe an error in words.
func descriptions() []string {
	return []string{"error_description", "message", "description", "errorSummary", "reason"}
}

// tells reports whether text occurs in a description of the answer.
func (c *classification) tells(text string) bool {
	if text == "" {
		return true
	}
	nested, _ := c.top.get("error").(*object)
	for _, o := range []*object{c.top, nested, c.nested} {
		for _, key := range descriptions() {
			if strings.Contains(strings.ToLower(o.text(key)), strings.ToLower(text)) {
				return true
			}
		}
	}
	return false
}
