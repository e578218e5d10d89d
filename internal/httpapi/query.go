package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/broker"
)

// Bounds of a whole query in bytes. A callback's has to pass codes of 6 KB; browsers
// and gateways stop not far beyond.
const (
	maxQuery         = 8 << 10
	maxCallbackQuery = 16 << 10
	maxParameters    = 100
)

// queryError says what is wrong with a query. Its text is fit for our own pages: it
// repeats nothing of the query.
type queryError struct {
	text      string
	parameter string // decoded, the caller's own text; "" for none
}

func (e *queryError) Error() string { return e.text }

// parseQuery reads a raw query. Pairs are parted by & alone, so that a semicolon is a
// character like others. A name that occurs twice is refused: two readers of the same
// request must not take different values for it.
func parseQuery(raw string, limit int) (map[string]string, error) {
	if len(raw) > limit {
		return nil, &queryError{text: "The query is too long."}
	}
	params := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(name)
		value, errValue := url.QueryUnescape(value)
		if errName != nil || errValue != nil || !utf8.ValidString(name) {
			return nil, &queryError{text: "The query is not encoded correctly."}
		}
		if _, twice := params[name]; twice {
			return nil, &queryError{text: "A parameter occurs twice.", parameter: name}
		}
		if len(params) == maxParameters {
			return nil, &queryError{text: "There are too many parameters."}
		}
		params[name] = value
	}
	return params, nil
}

// apiQuery reads the query of an API operation that takes the parameters named; a
// name that ends in a dot admits all that begin with it. Others are refused: a
// misspelt one that is silently left out would be worse.
func apiQuery(raw string, names []string) (map[string]string, error) {
	params, err := parseQuery(raw, maxQuery)
	if err != nil {
		detail := err.Error()
		if q, ok := err.(*queryError); ok && q.parameter != "" {
			detail += " It is " + quoted(q.parameter) + "."
		}
		return nil, invalid("%s", detail)
	}
	for name, value := range params {
		known := slices.ContainsFunc(names, func(n string) bool {
			if family := strings.HasSuffix(n, "."); family {
				return strings.HasPrefix(name, n) && name != n
			}
			return n == name
		})
		if !known {
			return nil, invalid("This operation takes no parameter %s.", quoted(name))
		}
		if !utf8.ValidString(value) {
			return nil, invalid("The parameter %s is not UTF-8.", quoted(name))
		}
	}
	return params, nil
}

// number reads the parameter name, a whole number from low to high, or gives absent.
func (x *exchange) number(name string, absent, low, high int64) (int64, error) {
	text, ok := x.query[name]
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, invalid("%s has to be a whole number from %d to %d.", name, low, high)
	}
	return n, nil
}

// moment reads the parameter name, a time, or gives absent. Unix seconds.
func (x *exchange) moment(name string, absent int64) (int64, error) {
	text, ok := x.query[name]
	if !ok {
		return absent, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, invalid("%s has to be a time of RFC 3339, such as 2026-01-31T12:00:00Z.", name)
	}
	return t.Unix(), nil
}

// invalid is an invalid_request. No argument may be a value that was sent, only its
// name: a value may be a secret.
func invalid(format string, args ...any) *broker.Error {
	return &broker.Error{Code: broker.InvalidRequest, Detail: fmt.Sprintf(format, args...)}
}

// quoted is a name that the caller chose, cut and made visible.
func quoted(name string) string { return `"` + visible(name, 60) + `"` }
