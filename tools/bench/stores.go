package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/middleware"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
)

func toItem(b []byte) item.Bytes { return item.Bytes(b) }

// dynamo makes tables of their own at DynamoDB Local. The client's connections are those of
// a function: internal/app makes them alike.
func (b *bench) dynamo(ctx context.Context, options ...func(*middleware.Stack) error) (connection.Store, *dynamodb.Client, string, error) {
	if b.dynamodb == "" {
		return connection.Store{}, nil, "", errMissing("DynamoDB Local is not here; run: make reference-dynamodb, then make bench")
	}
	key := rand.Text()
	client := dynamodb.New(dynamodb.Options{
		BaseEndpoint: &b.dynamodb, Region: "us-east-1", APIOptions: options,
		HTTPClient: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 50 * time.Second}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: "local"}, nil
		}),
	})
	connections, authorizations, err := dynamolocal.CreateTables(ctx, client, "bench-")
	if err != nil {
		return connection.Store{}, nil, "", err
	}
	return connection.Store{
		Connections:    dynamostore.New(client, connections, item.ConnectionIndexes()),
		Authorizations: dynamostore.New(client, authorizations, item.AuthorizationIndexes()),
	}, client, connections, nil
}
