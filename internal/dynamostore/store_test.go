package dynamostore_test

import (
	"crypto/rand"
	"testing"

	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/dynamostore/dynamolocal"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/item/itemtest"
)

func TestStoreKeepsTheContract(t *testing.T) {
	client := dynamolocal.Client(t)
	itemtest.Run(t, func(t *testing.T) itemtest.Tables {
		connections, authorizations, err := dynamolocal.CreateTables(t.Context(), client, rand.Text())
		if err != nil {
			t.Fatal(err)
		}
		return itemtest.Tables{
			Connections:    dynamostore.New(client, connections, item.ConnectionIndexes()),
			Authorizations: dynamostore.New(client, authorizations, item.AuthorizationIndexes()),
		}
	})
}
