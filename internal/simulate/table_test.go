package simulate_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/item/itemtest"
	"github.com/evergrant/evergrant/internal/simulate"
)

func TestTable(t *testing.T) {
	itemtest.Run(t, func(*testing.T) itemtest.Tables {
		return itemtest.Tables{
			Connections:    simulate.NewTable(item.ConnectionIndexes()),
			Authorizations: simulate.NewTable(item.AuthorizationIndexes()),
		}
	})
}
