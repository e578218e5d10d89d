package main

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// TestEveryProviderCanBeRehearsed makes dev's configuration for all of them. That their
// simulators do what the entries say is shown by test/providers.
func TestEveryProviderCanBeRehearsed(t *testing.T) {
	sims := simprovider.New(simprovider.Config{BaseURL: "http://127.0.0.1:9"})
	all, err := rehearsed(sims, provider.IDs(), 120)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := config.NewAPIKey()
	c, err := devSettings(sims, all, "http://127.0.0.1:8", key)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, card := range cards(sims, all) {
		i, ok := c.Integration(card.Name)
		_, address, _ := card.Call()
		switch {
		case !ok:
			t.Errorf("%s is on the page and not in the configuration", card.Name)
		case card.Title == "" || card.About == "":
			t.Errorf("%s: nothing is said of it", card.Name)
		case !strings.HasPrefix(address, "http://127.0.0.1:9/sim/"+card.Provider+"/"):
			t.Errorf("%s is called at %s", card.Name, address)
		case i.Entry.MinimumTokenAge > 30:
			t.Errorf("%s: no token lives long enough to be refreshed", card.Name)
		}
		shown[card.Provider] = true
	}
	for _, id := range provider.IDs() {
		if !shown[id] {
			t.Errorf("%s is not shown", id)
		}
	}
}
