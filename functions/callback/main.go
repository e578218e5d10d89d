// Command callback is the Lambda function behind /callback/{integration}: it takes browsers back from providers.
package main

import (
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/evergrant/evergrant/internal/app/callback"
	"github.com/evergrant/evergrant/internal/app/gateway"
)

func main() {
	lambda.Start(gateway.Handler(callback.New))
}
