// Package dynamolocal provides tables in Amazon DynamoDB Local, for tests of what
// runs on DynamoDB. A deployment's tables come from the template instead.
package dynamolocal

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/evergrant/evergrant/internal/item"
)

// Operations are those that the roles of template.yaml may carry out on the tables, over all
// functions; a test compares the two.
func Operations() []string { return []string{"DeleteItem", "GetItem", "Query", "Scan", "UpdateItem"} }

// granted fails the test at an operation that no role may carry out. So whatever runs on
// DynamoDB Local, every fault among it, is known to do without.
func granted(t testing.TB) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("granted",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				if op := awsmiddleware.GetOperationName(ctx); op != "CreateTable" && !slices.Contains(Operations(), op) {
					t.Errorf("dynamodb:%s is granted to no function", op)
				}
				return next.HandleInitialize(ctx, in)
			}), middleware.After)
	}
}

// Client is a client of the DynamoDB Local whose address EVERGRANT_DYNAMODB holds.
// Where it is not set the test is skipped. Each client has tables of its own: without
// -sharedDb the server keeps them apart by access key.
func Client(t testing.TB) *dynamodb.Client {
	t.Helper()
	endpoint := os.Getenv("EVERGRANT_DYNAMODB")
	if endpoint == "" {
		t.Skip("EVERGRANT_DYNAMODB is not set; run: make reference-dynamodb, then tools/dynamodb-run go test ./internal/dynamostore/...")
	}
	key := rand.Text()
	return dynamodb.New(dynamodb.Options{
		BaseEndpoint: &endpoint,
		Region:       "us-east-1",
		APIOptions:   []func(*middleware.Stack) error{granted(t)},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: "local"}, nil
		}),
	})
}

// CreateTables makes the two tables, empty, and returns their names. Nothing expires
// by itself in them, since a test may have a clock of its own.
func CreateTables(ctx context.Context, client *dynamodb.Client, prefix string) (connections, authorizations string, err error) {
	connections, authorizations = prefix+"connections", prefix+"authorizations"
	if err := create(ctx, client, connections, item.ConnectionIndexes()); err != nil {
		return "", "", err
	}
	return connections, authorizations, create(ctx, client, authorizations, item.AuthorizationIndexes())
}

func create(ctx context.Context, client *dynamodb.Client, table string, indexes []item.Index) error {
	in := &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		KeySchema:   []types.KeySchemaElement{{AttributeName: aws.String(item.KeyName), KeyType: types.KeyTypeHash}},
	}
	defined := map[string]bool{}
	define := func(name string) {
		if !defined[name] {
			defined[name] = true
			in.AttributeDefinitions = append(in.AttributeDefinitions,
				types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS})
		}
	}
	define(item.KeyName)
	for _, x := range indexes {
		define(x.Hash)
		define(x.Range)
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, types.GlobalSecondaryIndex{
			IndexName: &x.Name,
			KeySchema: []types.KeySchemaElement{
				{AttributeName: &x.Hash, KeyType: types.KeyTypeHash},
				{AttributeName: &x.Range, KeyType: types.KeyTypeRange},
			},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
		})
	}
	if _, err := client.CreateTable(ctx, in); err != nil {
		return fmt.Errorf("create table %s: %w", table, err)
	}
	return nil
}
