package providers

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
)

// TestTheWayOfAContribution goes the way that docs/contributing-a-provider.md describes:
// the template is checked, and rehearsed without being in the catalogue.
func TestTheWayOfAContribution(t *testing.T) {
	text, err := os.ReadFile("../../docs/contributing-a-provider.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)<!-- entry -->\n```json\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("there is no template")
	}
	template := found[1]
	if r := provider.Check(template, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)); !r.Sound() || len(r.Old) > 0 {
		t.Fatalf("the template: %+v", r)
	}
	e, err := provider.ParseEntry(template)
	if err != nil {
		t.Fatal(err)
	}
	st, inline := newStage(t), map[string]any{}
	st.Must(json.Unmarshal(template, &inline))
	e.ID = "acme"
	st.Must(st.Sim.Add(e.ID, template))
	maps.Copy(inline, st.Sim.Inline(e.ID))
	delete(inline, "extends")
	a, err := st.cast(e, inline, template)
	st.Must(err)
	if err := a.rehearse(); err != nil {
		t.Errorf("%v\n%s", err, st.Log)
	}
}
