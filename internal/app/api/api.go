// Package api provides the function behind the API for the application's backend.
package api

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// New returns the handler of /v1, /iam/v1, /oauth/token and /healthz. Under /iam/v1 the caller is
// who the gateway says it is.
func New(p app.Parts) http.Handler {
	p.IDTokens = idtoken.By
	secrets := awssecrets.New(ssm.NewFromConfig(p.AWS(app.SSM)), secretsmanager.NewFromConfig(p.AWS(app.SecretsManager)))
	rescue := sqsqueue.NewRescue(sqs.NewFromConfig(p.AWS(app.SQS)), p.Env.RescueQueue)
	c := gateway.Config(p, p.Broker(secrets, rescue, true))
	c.IAMCaller = func(r *http.Request) (string, bool) {
		caller, ok := lambdahttp.IAMCaller(r.Context())
		return caller.UserARN, ok
	}
	c.Admin = httpapi.Commands(c.Broker) // rescues are replayed by their queue, the epoch is a template parameter
	return httpapi.NewAPI(c)
}
