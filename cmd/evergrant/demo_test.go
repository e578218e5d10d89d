package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/simprovider"
)

// TestDemoNoticesABrokenDialect breaks a simulator in each way that it knows, and
// names the step in which that has to show.
func TestDemoNoticesABrokenDialect(t *testing.T) {
	st := openStage(t)
	for _, tt := range []struct {
		integration string
		what        simprovider.Breakage
		steps       []string // that fail; a later one may fail too
	}{
		{"askfred", simprovider.AcceptReusedRefreshToken, []string{"lost_answer"}},
		{"askfred", simprovider.NeverRotate, []string{"lost_answer"}},
		{"askfred", simprovider.WrongAuthPlace, []string{"connect", "call", "refresh", "lost_answer", "revoked", "disconnect"}},
		{"askfred", simprovider.RevokeDoesNothing, []string{"disconnect"}},
		{"askfred", simprovider.IgnoreExpiry, []string{"refresh"}},
		{"askfred", simprovider.IgnoreUserRevocation, []string{"revoked"}},
		{"freeagent", simprovider.WrongAuthPlace, []string{"connect"}},
		{"freeagent", simprovider.IgnoreUserRevocation, []string{"revoked"}},
		{"whenfresh", simprovider.IgnoreExpiry, []string{"refresh"}},
		{"whenfresh-machine", simprovider.WrongAuthPlace, []string{"connect"}},
		{"redbooth", simprovider.NeverRotate, []string{"lost_answer"}},
		{"redbooth", simprovider.IgnoreUserRevocation, []string{"revoked"}},
		{"fflogs-pkce", simprovider.AcceptReusedRefreshToken, []string{"lost_answer"}},
		{"fflogs-client", simprovider.IgnoreExpiry, []string{"refresh"}},
	} {
		t.Run(tt.integration+" "+string(tt.what), func(t *testing.T) {
			s := integrationOf(t, tt.integration)
			if err := st.sims.Break(s.provider, tt.what); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.sims.Break(s.provider, "") }() // known, as it was a line ago
			row := runLife(t, st, s)
			if !row.failed() {
				t.Fatal("the row is good")
			}
			for _, result := range row.results {
				if slices.Contains(tt.steps, result.step) && !result.failed() {
					t.Errorf("%s is good", result.step)
				}
				if slices.Contains(tt.steps, result.step) {
					t.Logf("%s: %v", result.step, result.err)
				}
			}
			line, err := json.Marshal(row)
			if err != nil || !strings.Contains(string(line), `"`+tt.steps[0]+`":false`) {
				t.Errorf("JSON line %s, %v", line, err)
			}
		})
	}
}

// TestDemoWithANewPolicy: a provider that ends the whole grant when a spent refresh
// token comes again is not what the catalogue says of AskFRED. The demo must not take
// the one for the other.
func TestDemoNoticesADyingGrant(t *testing.T) {
	st := openStage(t)
	if err := st.sims.SetPolicy("redbooth", simprovider.Policy{Rotates: true, Previous: simprovider.Stays, KeepsOldAccess: true}); err != nil {
		t.Fatal(err)
	}
	if row := runLife(t, st, integrationOf(t, "redbooth")); !row.failed() {
		t.Error("the row is good though old tokens live on")
	}
}

func TestADialectIsGoodAgainOnceItIsMended(t *testing.T) {
	st := openStage(t)
	s := integrationOf(t, "redbooth")
	if err := st.sims.Break(s.provider, simprovider.IgnoreExpiry); err != nil {
		t.Fatal(err)
	}
	if row := runLife(t, st, s); !row.failed() {
		t.Error("the broken row is good")
	}
	if err := st.sims.Break(s.provider, ""); err != nil {
		t.Fatal(err)
	}
	row := runLife(t, st, s)
	for _, result := range row.results {
		if result.err != nil {
			t.Errorf("%s: %v", result.step, result.err)
		}
	}
}

func openStage(t *testing.T) *stage {
	t.Helper()
	st, err := newStage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.close)
	return st
}

func integrationOf(t *testing.T, name string) simulated {
	t.Helper()
	all := simulatedIntegrations()
	i := slices.IndexFunc(all, func(s simulated) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no integration %s", name)
	}
	return all[i]
}

func runLife(t *testing.T, st *stage, s simulated) demoRow {
	t.Helper()
	row, err := st.live(s)
	if err != nil {
		t.Fatal(err)
	}
	return row
}
