package httpapi

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
)

// audit writes the line of a known caller's act: whatever is not a mere look, and all
// that an operator's key does. It is told whatever came of it, a refusal too. It holds
// no text of the caller's, neither an owner nor a tag, since anything may stand in
// those; what was done to whom is found by the target.
func (s resource) audit(x *exchange, status int) {
	look := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	if x.caller.Name == "" || look && x.scope != "admin" {
		return
	}
	outcome := "done"
	switch {
	case x.code != "":
		outcome = string(x.code)
	case status == http.StatusAccepted:
		outcome = "pending"
	}
	attrs := []slog.Attr{
		slog.String("caller", x.caller.Name), slog.String("action", method(x.r)+" "+s.path), slog.String("outcome", outcome),
		slog.String("source", source(x.r.RemoteAddr)), slog.String("request_id", x.id),
	}
	if target := x.actedOn(); target != "" {
		attrs = append(attrs, slog.String("target", target))
	}
	if x.previousKey {
		attrs = append(attrs, slog.Bool("previous_key", true))
	}
	s.Log.LogAttrs(x.r.Context(), slog.LevelInfo, "audit", attrs...)
}

// actedOn is what the operation made, or else what its path names.
func (x *exchange) actedOn() string {
	id := x.r.PathValue("id")
	switch {
	case x.target != "":
		return x.target
	case len(id) > 64: // no id of ours
		return ""
	case strings.HasPrefix(id, "conn_"):
		return id
	case strings.HasPrefix(id, "cs_"):
		return sessionTarget(id)
	}
	return ""
}

// sessionTarget names a connect session by the key under which it is stored: its id is
// a secret, since it opens the link.
func sessionTarget(id string) string { return "session:" + connection.Hash(id) }

// failedOn notes the connection that a refusal concerns.
func (x *exchange) failedOn(e *broker.Error) {
	if x.target == "" {
		x.target = e.ConnectionID
	}
}
