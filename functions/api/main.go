// Command api is the Lambda function behind /v1, /iam/v1 and /healthz.
package main

import (
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/evergrant/evergrant/internal/app/api"
	"github.com/evergrant/evergrant/internal/app/gateway"
)

func main() {
	lambda.Start(gateway.Handler(api.New))
}
