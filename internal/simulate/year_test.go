package simulate_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/simulate"
)

// The bars of the year, over a week and a tenth of its fleet.
func TestYear(t *testing.T) {
	t.Parallel()
	r, err := simulate.Year{Connections: 1000, Days: 7}.Run()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows() {
		t.Log(row[0]+":", row[1])
	}
	for _, wrong := range r.Check() {
		t.Error(wrong)
	}
	if r.Missed != 30 {
		t.Errorf("%d minutes without a tick, the outage has 30", r.Missed)
	}
}
