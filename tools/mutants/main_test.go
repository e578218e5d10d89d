package main

import "testing"

// Running them takes an hour. That each still has its text to change is known at once, so
// that a change of the code does not leave a row without its mutation in silence.
func TestEachMutationHasItsText(t *testing.T) {
	all, err := collect("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 200 {
		t.Errorf("only %d are declared", len(all))
	}
	for _, m := range all {
		if m.reason != "" {
			continue
		}
		if _, err := target("../..", m); err != nil {
			t.Errorf("%s %s: %v", m.id, m.where, err)
		}
	}
}
