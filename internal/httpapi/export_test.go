package httpapi

import (
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
)

// What tests outside of the package look into.

// RouteInfo is a route without what it does.
type RouteInfo struct {
	Method, Path, Scope string
	Params              []string
}

// Routes are the API's operations.
func Routes() []RouteInfo {
	var list []RouteInfo
	for _, r := range routes() {
		list = append(list, RouteInfo{r.method, r.path, r.scope, r.params})
	}
	return list
}

// Codes are the problem codes with their status.
func Codes() map[string]int {
	m := map[string]int{}
	for _, k := range problemKinds() {
		m[string(k.code)] = k.status
	}
	return m
}

// Markup writes a page.
func Markup(look config.Pages, p broker.Page) string {
	return (&exchange{face: &face{look: newLook(look)}, id: "request-id"}).markup(p)
}

// InkOn is the color of texts on another.
func InkOn(color string) string { return inkOn(color) }

// ParseQuery and Unmarshal read what comes from outside.
func ParseQuery(raw string, limit int) (map[string]string, error) { return parseQuery(raw, limit) }

// Unmarshal reads a body.
func Unmarshal(body []byte, into any) error { return unmarshal(body, into) }
