package threats_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/test/rows"
)

// owed are the threats whose rows are not written yet. Whoever writes one takes its id out
// here; when none is left, the list goes.
const owed = `
	T27 T28 T29 T30 T31 T32 T33 T34 T35 T36 T37 T38 T39 T40 T41 T42 T43 T44 T45 T46
	T47 T48`

// The table of docs/security.md holds every threat once, names a test that exists, and
// each has its mutation or the reason why there is none.
func TestSecurityTableIsWhole(t *testing.T) {
	rows.Check(t, "../..", rows.Table{
		Page: "../../docs/security.md", Letter: "T", Test: "TestThreat_", Rows: 78, WithoutMutation: 25, Owed: strings.Fields(owed),
	})
}
