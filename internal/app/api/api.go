// Package api provides the function behind the API for the application's backend.
package api

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/eventbus"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// New returns the handler of /v1, /iam/v1, /oauth/token and /healthz. Under /iam/v1 the caller is
// who the gateway says it is.
func New(p app.Parts) http.Handler {
	p.IDTokens = idtoken.By
	p.Events = eventbus.New(eventbridge.NewFromConfig(p.AWS(app.EventBridge)), p.Env.EventBus)
	secrets := awssecrets.New(ssm.NewFromConfig(p.AWS(app.SSM)), secretsmanager.NewFromConfig(p.AWS(app.SecretsManager)))
	queues := sqs.NewFromConfig(p.AWS(app.SQS))
	rescue, chunks := sqsqueue.NewRescue(queues, p.Env.RescueQueue), sqsqueue.NewChunks(queues, p.Env.ChunkQueue)
	c := gateway.Config(p, p.Broker(secrets, rescue, true))
	c.IAMCaller = func(r *http.Request) (string, bool) {
		caller, ok := lambdahttp.IAMCaller(r.Context())
		return caller.UserARN, ok
	}
	c.Admin = httpapi.Commands(c.Broker) // the restore epoch is a parameter of the template
	c.Admin["rescue-replay"] = func(ctx context.Context) (any, error) { return rescue.Redrive(ctx, p.Env.RescueDeadLetters) }
	c.Admin["chunk-replay"] = func(ctx context.Context) (any, error) { return chunks.Redrive(ctx, p.Env.ChunkDeadLetters) }
	return httpapi.NewAPI(c)
}
