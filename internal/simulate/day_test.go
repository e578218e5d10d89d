package simulate_test

import (
	"testing"

	"github.com/evergrant/evergrant/internal/simulate"
)

// The bars of the full size at a fiftieth of it.
func TestDays(t *testing.T) {
	for _, d := range []simulate.Day{simulate.MixedDay(20_000, 6), simulate.HourlyDay(20_000, 6, 1)} {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			r, err := d.Run()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range r.Rows() {
				t.Log(row[0]+":", row[1])
			}
			for _, wrong := range r.Check() {
				t.Error(wrong)
			}
			if r.Lost == 0 || r.NotActed == 0 || r.ExpiredOutage == 0 || r.Missed < 28 {
				t.Error("the run met no trouble, so it shows nothing")
			}
		})
	}
}
