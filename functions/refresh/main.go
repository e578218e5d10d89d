// Command refresh is the Lambda function that the schedule wakes each minute, and the
// chunk queue and the rescue queue when there is something in them.
package main

import (
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/evergrant/evergrant/internal/app/refresh"
)

func main() {
	lambda.Start(refresh.FromEnvironment())
}
