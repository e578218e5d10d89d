// Package gateway provides what the functions behind the API Gateway share: the way
// from an event to their HTTP handler, and what that learns from the gateway.
package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/wire"
)

// Handler is the Lambda handler of a room, with parts from the environment.
func Handler(room func(app.Parts) http.Handler) handler {
	log := app.NewLog()
	parts, err := app.FromEnvironment(log)
	if err != nil {
		return lambdahttp.Handler(NotSetUp(err, log), log)
	}
	return measured(lambdahttp.Handler(room(parts), log), parts)
}

// handler answers one event of the gateway.
type handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// measured writes what an invocation measured before its answer goes out: afterwards the
// environment is frozen, perhaps for good.
func measured(h handler, p app.Parts) handler {
	return func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		defer p.FlushMetrics()
		return h(ctx, e)
	}
}

// Config is that of a room's HTTP face. A room adds what it alone has.
func Config(p app.Parts, b *broker.Broker) httpapi.Config {
	return httpapi.Config{
		Broker: b, Keys: p.Settings, Log: p.Log, Now: p.Now, Version: app.Version(),
		Origin:    func(r *http.Request) string { return lambdahttp.Origin(r.Context()) },
		RequestID: func(r *http.Request) string { return lambdahttp.RequestID(r.Context()) },
	}
}

// NotSetUp answers every request with what the operator has to mend. A function that
// gave up at its start instead would be started again for each request, and its
// callers told nothing but "Internal Server Error". Names of settings are no secrets.
func NotSetUp(err error, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := lambdahttp.RequestID(r.Context())
		log.ErrorContext(r.Context(), "not set up", "request_id", id, "error", err.Error())
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", wire.ProblemType)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(wire.Problem{
			Type: "/problems/" + string(broker.Internal), Title: "Internal error", Status: http.StatusInternalServerError,
			Detail: "Evergrant is not set up: " + err.Error(), Code: string(broker.Internal), RequestID: id,
		})
	})
}
