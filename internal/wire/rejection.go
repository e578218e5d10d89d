package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// maxJudged is how much of an answer is read, in bytes, to see whether it refuses the token.
const maxJudged = 64 << 10

// Refused reports whether an answer of the provider's API refuses the token: by 401 (also
// where a is nil), or by one of the provider's rules. What it reads of the body stands in
// it again.
func (a *TokenAPI) Refused(resp *http.Response) (bool, error) {
	if a == nil {
		return resp.StatusCode == http.StatusUnauthorized, nil
	}
	for _, rule := range a.RejectedWhen {
		if rule.Status != resp.StatusCode || !headersMatch(resp.Header, rule.HeaderMatch) {
			continue
		}
		if rule.JSONField == "" {
			return true, nil
		}
		start, err := peek(resp)
		if err != nil {
			return false, err
		}
		if value, ok := jsonField(start, rule.JSONField); ok && (rule.Equals == "" || value == rule.Equals) {
			return true, nil
		}
	}
	return false, nil
}

// headersMatch reports whether each pattern occurs in its header. A pattern that is none of Go's
// matches nothing.
func headersMatch(h http.Header, patterns map[string]string) bool {
	for name, pattern := range patterns {
		re, err := regexp.Compile(pattern)
		if err != nil || !re.MatchString(strings.Join(h.Values(name), ", ")) {
			return false
		}
	}
	return true
}

// peek returns the beginning of the body, and puts it back.
func peek(resp *http.Response) ([]byte, error) {
	start, err := io.ReadAll(io.LimitReader(resp.Body, maxJudged))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), resp.Body), resp.Body}
	return start, err
}

// jsonField is the text at a dotted path such as a[0].b, and whether there is something there.
func jsonField(body []byte, path string) (string, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return "", false
	}
	for step := range strings.SplitSeq(strings.ReplaceAll(path, "[", ".["), ".") {
		if v = child(v, step); v == nil {
			return "", false
		}
	}
	if s, ok := v.(string); ok {
		return s, true
	}
	text, err := json.Marshal(v)
	return string(text), err == nil
}

// child is the member of an object, or with [n] an element of a list; nil if there is none.
func child(v any, step string) any {
	switch v := v.(type) {
	case map[string]any:
		return v[step]
	case []any:
		n, err := strconv.Atoi(strings.Trim(step, "[]"))
		if err == nil && strings.HasPrefix(step, "[") && n >= 0 && n < len(v) {
			return v[n]
		}
	}
	return nil
}
