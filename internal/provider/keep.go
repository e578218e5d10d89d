package provider

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/secret"
)

// CallbackFields returns what the entry's keep list takes from a callback's query
// (Intuit's realmId): JSON objects like Answer.Fields and Answer.SecretFields. A
// callback comes through a browser, so a value that its pattern refuses is an
// error; one that is missing is not.
func (e Entry) CallbackFields(q url.Values) (fields string, secrets secret.Text, err error) {
	fields, secrets, refused := e.kept("callback", func(name string) string { return q.Get(name) })
	if refused != "" {
		return "", secret.Text{}, fmt.Errorf("callback parameter %s does not have the form that its provider documents", refused)
	}
	return fields, secrets, nil
}

// keepFrom is CallbackFields for an answer of the token endpoint. A value that
// the pattern refuses is dropped: the tokens beside it are good.
func (e Entry) keepFrom(o *object) (fields string, secrets secret.Text) {
	fields, secrets, _ = e.kept("token", func(path string) string { return scalar(o.at(path)) })
	return fields, secrets
}

// identityFields is keepFrom for the answer about an account.
func (e Entry) identityFields(o *object) (fields string, secrets secret.Text) {
	fields, secrets, _ = e.kept("identity", func(path string) string { return scalar(o.at(path)) })
	return fields, secrets
}

// kept gathers the fields of one source; refused names one that its pattern did
// not admit.
func (e Entry) kept(from string, get func(field string) string) (fields string, secrets secret.Text, refused string) {
	plain, hidden := map[string]string{}, map[string]string{}
	list := e.Keep
	if e.CallbackScope {
		list = append(slices.Clone(list), Keep{From: "callback", Field: ScopeField, Pattern: `[\x20-\x7e]+`})
	}
	for _, k := range list {
		v := ""
		if k.From == from {
			v = get(k.Field)
		}
		if v == "" {
			continue
		}
		if v = pick(k.Pattern, v); v == "" {
			refused = k.Field
			continue
		}
		to := plain
		if k.Secret {
			to = hidden
		}
		to[k.name()] = v
	}
	return canonical(plain), secret.New(canonical(hidden)), refused
}

// ScopeField is the kept field that holds the granted scope of a callback, see
// Entry.CallbackScope.
const ScopeField = "scope"

// valueGroup is the group of a pattern that is kept in place of the whole value.
const valueGroup = "value"

// picks reports whether a pattern has a group that is kept alone.
func picks(pattern string) bool { return strings.Contains(pattern, "(?P<"+valueGroup+">") }

// pick returns what is kept of a value that matches the pattern from end to end, ""
// where it does not.
func pick(pattern, s string) string {
	if !matchesWhole(pattern, s) {
		return ""
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return ""
	}
	if n := re.SubexpIndex(valueGroup); n > 0 {
		return re.FindStringSubmatch(s)[n]
	}
	return s
}

// Keeps reports whether something is kept under that name.
func (e Entry) Keeps(name string) bool {
	return slices.ContainsFunc(e.Keep, func(k Keep) bool { return k.name() == name })
}

func (k Keep) name() string {
	if k.As != "" {
		return k.As
	}
	return k.Field
}

// matchesWhole reports whether s matches pattern from end to end, whether or not
// the pattern is anchored itself. An empty or broken pattern matches nothing.
func matchesWhole(pattern, s string) bool {
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	return pattern != "" && err == nil && re.MatchString(s)
}

// canonical returns a JSON object with sorted names, or "" for an empty one.
func canonical(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "" // a map of strings always marshals
	}
	return string(b)
}

// scalar returns a string or a number as text, else "".
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
