// Package lambdahttp serves an http.Handler behind an API Gateway HTTP API: it
// turns an event of payload format 2.0 into the request that net/http would have
// made of the same bytes, and what the handler writes into the answer event.
//
// The handler need not know where it runs. What only the gateway knows reaches
// it by the request's context: Origin, RequestID and IAMCaller. These come from
// requestContext, which the gateway writes, and from nowhere else; no header of
// a client can set or change them.
//
// Three habits of the gateway shape this package.
//
//   - queryStringParameters joins repeated parameters with commas, so that two
//     codes look like one. Only rawQueryString is read, and of the cookies only
//     the cookies field.
//   - The gateway percent-decodes rawPath, although its name says otherwise;
//     function URLs and some emulators do not. A valid escape is therefore taken
//     as an escape, and what cannot stand in an escaped path is escaped. So a
//     decoded "?" never starts a query. Names and ids in our routes need no
//     escapes, hence nothing is lost by the ambiguity of "%2F".
//   - Stages other than $default prefix the path; the prefix is taken off.
//
// Sources: "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway"
// of the API Gateway Developer Guide for the format; for the decoded rawPath,
// captured events as in fastify/aws-lambda-fastify issue 169.
package lambdahttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"github.com/evergrant/evergrant/internal/panicked"
)

// Caller is who signed a request, as the gateway's IAM authorizer found it.
type Caller struct {
	UserARN   string // ARN of the user or of the assumed role's session
	AccountID string // 12 digits
}

// call is what one event says beside the request itself.
type call struct {
	origin    string
	requestID string
	caller    Caller
}

type callKey struct{}

func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

// Origin is "https://" and the domain name at which the gateway took the
// request, never the Host header; empty outside of Handler.
func Origin(ctx context.Context) string { return callOf(ctx).origin }

// RequestID is the gateway's id of the request, the one that its access log
// shows; empty outside of Handler.
func RequestID(ctx context.Context) string { return callOf(ctx).requestID }

// IAMCaller is the identity that the gateway's IAM authorizer proved. It is
// false on routes without that authorizer and outside of Handler.
func IAMCaller(ctx context.Context) (Caller, bool) {
	c := callOf(ctx).caller
	return c, c.UserARN != ""
}

// Handler makes a Lambda handler of h.
//
// A request that net/http would have refused is answered here: 400, or 413 if
// its body is over 6 MiB. A panic of h becomes a plain 500 and one line in log
// that holds the place and the kind of the panic, never its text, since that may
// hold a secret. The only error returned is for an event of another format: the
// integration is then set up wrongly, which must show as a failed invocation.
func Handler(h http.Handler, log *slog.Logger) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		if e.Version != "2.0" {
			return events.APIGatewayV2HTTPResponse{}, errors.New("lambdahttp: the event is not of payload format 2.0")
		}
		r, err := newRequest(ctx, e)
		switch {
		case errors.Is(err, errBodyTooLarge):
			return problem(http.StatusRequestEntityTooLarge, "payload_too_large", "The body is larger than 6 MiB.", e.RequestContext.RequestID), nil
		case err != nil:
			return problem(http.StatusBadRequest, "invalid_request", "The request cannot be read.", e.RequestContext.RequestID), nil
		}
		return serve(h, r, log), nil
	}
}

func serve(h http.Handler, r *http.Request, log *slog.Logger) (answer events.APIGatewayV2HTTPResponse) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		id := RequestID(r.Context())
		if v != http.ErrAbortHandler {
			log.LogAttrs(r.Context(), slog.LevelError, "panic",
				slog.String("request_id", id), slog.String("panic", panicked.Kind(v)), slog.String("at", panicked.Place()))
		}
		answer = problem(http.StatusInternalServerError, "internal", "The request could not be served.", id)
	}()
	w := &recorder{header: http.Header{}}
	h.ServeHTTP(w, r)
	return w.answer(r.Method)
}
