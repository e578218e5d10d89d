// Package api provides the function behind the API for the application's backend.
package api

import (
	"context"
	"net/http"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/console"
	"github.com/evergrant/evergrant/internal/eventbus"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// New returns the handler of /v1, /iam/v1, /oauth/token, /healthz and, where it is asked for,
// /console. Under /iam/v1 the caller is
// who the gateway says it is.
func New(p app.Parts) http.Handler {
	p.IDTokens = idtoken.By
	p.Events = eventbus.New(awsjson.New(p.AWS(app.EventBridge), awsjson.EventBridge()), p.Env.EventBus)
	secrets := awssecrets.New(awsjson.New(p.AWS(app.SSM), awsjson.SSM()), awsjson.New(p.AWS(app.SecretsManager), awsjson.SecretsManager()))
	queues := awsjson.New(p.AWS(app.SQS), awsjson.SQS())
	rescue, chunks := sqsqueue.NewRescue(queues, p.Env.RescueQueue), sqsqueue.NewChunks(queues, p.Env.ChunkQueue)
	c := gateway.Config(p, p.Broker(secrets, rescue, true))
	c.IAMCaller = func(r *http.Request) (string, bool) {
		caller, ok := lambdahttp.IAMCaller(r.Context())
		return caller.UserARN, ok
	}
	c.Admin = httpapi.Commands(c.Broker) // the restore epoch is a parameter of the template
	c.Admin["rescue-replay"] = func(ctx context.Context) (any, error) { return rescue.Redrive(ctx, p.Env.RescueDeadLetters) }
	c.Admin["chunk-replay"] = func(ctx context.Context) (any, error) { return chunks.Redrive(ctx, p.Env.ChunkDeadLetters) }
	if p.Env.Console {
		return console.Before(httpapi.NewAPI(c))
	}
	return httpapi.NewAPI(c)
}
