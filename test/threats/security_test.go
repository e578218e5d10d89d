package threats_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/test/rows"
)

// owed are the threats whose rows are not written yet. Whoever writes one takes its id out
// here; when none is left, the list goes.
const owed = `
`

// The table of docs/security.md holds every threat once, names a test that exists, and
// each has its mutation or the reason why there is none.
func TestSecurityTableIsWhole(t *testing.T) {
	rows.Check(t, "../..", rows.Table{
		Page: "../../docs/security.md", Letter: "T", Test: "TestThreat_", Rows: 78, WithoutMutation: 25, Owed: strings.Fields(owed),
	})
}
