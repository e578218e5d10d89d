package faults_test

import (
	"testing"

	"github.com/evergrant/evergrant/test/rows"
)

// The table of docs/reliability.md holds every fault once, names a test that exists, and
// each has its mutation or the reason why there is none.
func TestReliabilityTableIsWhole(t *testing.T) {
	rows.Check(t, "../..", rows.Table{Page: "../../docs/reliability.md", Letter: "F", Test: "TestFault_", Rows: 67, WithoutMutation: 20})
}
