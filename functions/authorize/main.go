// Command authorize is the Lambda function behind /authorize/{integration}: it sends browsers to providers.
package main

import (
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/evergrant/evergrant/internal/app/authorize"
	"github.com/evergrant/evergrant/internal/app/gateway"
)

func main() {
	lambda.Start(gateway.Handler(authorize.New))
}
