// Package callback provides the function that takes browsers back from providers.
package callback

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
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// New returns the handler of /callback/{integration}. Secrets and the rescue queue are
// for integrations bound by a cookie, whose codes are exchanged here.
func New(p app.Parts) http.Handler {
	p.IDTokens = idtoken.By
	secrets := awssecrets.New(ssm.NewFromConfig(p.AWS(app.SSM)), secretsmanager.NewFromConfig(p.AWS(app.SecretsManager)))
	rescue := sqsqueue.NewRescue(sqs.NewFromConfig(p.AWS(app.SQS)), p.Env.RescueQueue)
	return httpapi.NewCallback(gateway.Config(p, p.Broker(secrets, rescue, true)))
}
