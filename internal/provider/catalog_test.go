package provider_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/google/go-cmp/cmp"
)

func lookup(t *testing.T, id string) provider.Entry {
	t.Helper()
	e, err := provider.Lookup(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCatalogueEntriesAreSoundAndSurviveJSON(t *testing.T) {
	if n := len(provider.IDs()); n < 96 {
		t.Errorf("%d entries", n)
	}
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, id := range provider.IDs() {
		b, err := provider.Source(id)
		if err != nil {
			t.Fatal(err)
		}
		r := provider.Check(b, now)
		for _, finding := range slices.Concat(r.Essential, r.Mistakes, r.Contradictions) {
			t.Errorf("%s: %s", id, finding)
		}
		e := lookup(t, id)
		if e.ID != id {
			t.Errorf("%s: id %q", id, e.ID)
		}
		if e.TokenEndpointAuthMethod != "unknown" {
			if err := e.ValidateClient(e.TokenEndpointAuthMethod == "none"); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		} else if e.ValidateClient(false) == nil {
			t.Errorf("%s: a client whose authentication nobody knows is taken", id)
		}
		b, err = json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again provider.Entry
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Errorf("%s changed on its way through JSON:\n%s", id, diff)
		}
		for name := range e.Environments {
			if _, err := e.In(name); err != nil {
				t.Errorf("%s in %s: %v", id, name, err)
			}
		}
	}
	for _, id := range []string{"", "acme", "../catalog/askfred", "askfred.json"} {
		if _, err := provider.Lookup(id); !errors.Is(err, provider.ErrUnknownProvider) {
			t.Errorf("Lookup(%q): %v", id, err)
		}
	}
}

// What it costs a cold start that the catalogue is large: one entry is read, the
// others lie there.
func BenchmarkLookup(b *testing.B) {
	for b.Loop() {
		if _, err := provider.Lookup("askfred"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupOfAll(b *testing.B) {
	for b.Loop() {
		for _, id := range provider.IDs() {
			if _, err := provider.Lookup(id); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func TestCatalogueProfiles(t *testing.T) {
	code, machine := provider.GrantAuthorizationCode, provider.GrantClientCredentials
	doorkeeper := provider.Profile{
		Grant: code, Rotation: provider.RotationAlways, LostAnswer: provider.SendNow, AfterGrace: provider.SendNow,
		OldAccessDies: true, ProofSafe: true,
	}
	unknown := provider.Profile{
		Grant: code, Rotation: provider.RotationUnknown, LostAnswer: provider.Wait, AfterGrace: provider.Wait, OldAccessDies: true,
	}
	static := provider.Profile{
		Grant: code, Rotation: provider.RotationNone, LostAnswer: provider.SendNow, AfterGrace: provider.SendNow,
		OldAccessDies: true, ProofSafe: true,
	}
	for id, want := range map[string]provider.Profile{
		"askfred": doorkeeper, "redbooth": doorkeeper, "freeagent": unknown, "fflogs": unknown, "whenfresh": static,
	} {
		if got := lookup(t, id).Profile(code); got != want {
			t.Errorf("%s: %+v\nwant %+v", id, got, want)
		}
	}
	got := lookup(t, "fflogs").Profile(machine)
	if want := (provider.Profile{Grant: machine, Rotation: provider.RotationNone, LostAnswer: provider.SendNow, AfterGrace: provider.SendNow}); got != want {
		t.Errorf("fflogs client_credentials: %+v", got)
	}
}

func TestProfileTakesTheUnknownForTheWorst(t *testing.T) {
	for name, c := range map[string]struct {
		refresh       provider.Refresh
		recalled      string
		within, after provider.LostAnswer
		grace         int64
	}{
		"nothing known":             {provider.Refresh{}, "", provider.Wait, provider.Wait, 0},
		"none":                      {provider.Refresh{Rotation: "none"}, "", provider.SendNow, provider.SendNow, 0},
		"none, by hearsay":          {provider.Refresh{Rotation: "none"}, "refresh.rotation", provider.Wait, provider.Wait, 0},
		"at once, rejected":         {provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "rejected"}, "", provider.SendNow, provider.SendNow, 0},
		"at once, hearsay":          {provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "rejected"}, "refresh.reuse", provider.Wait, provider.Wait, 0},
		"at once, unknown reuse":    {provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once"}, "", provider.Wait, provider.Wait, 0},
		"at once, same answer":      {provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "same_answer"}, "", provider.SendNow, provider.SendNow, 0},
		"family":                    {provider.Refresh{Rotation: "always", PreviousToken: "dies_at_once", Reuse: "revokes_family"}, "", provider.Wait, provider.Wait, 0},
		"on first use":              {provider.Refresh{Rotation: "sometimes", PreviousToken: "dies_on_first_use_of_new"}, "", provider.SendNow, provider.SendNow, 0},
		"on first use, family":      {provider.Refresh{Rotation: "always", PreviousToken: "dies_on_first_use_of_new", Reuse: "revokes_family"}, "", provider.Wait, provider.Wait, 0},
		"on first use, by hearsay":  {provider.Refresh{Rotation: "always", PreviousToken: "dies_on_first_use_of_new"}, "refresh.previous_token", provider.Wait, provider.Wait, 0},
		"grace, rejected":           {provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 60, Reuse: "rejected"}, "", provider.GraceResend, provider.SendNow, 60},
		"grace, family":             {provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 60, Reuse: "revokes_family"}, "", provider.GraceResend, provider.Wait, 60},
		"grace of unknown length":   {provider.Refresh{Rotation: "always", PreviousToken: "grace_s", Reuse: "rejected"}, "", provider.SendNow, provider.SendNow, 0},
		"grace by hearsay":          {provider.Refresh{Rotation: "always", PreviousToken: "grace_s", GraceS: 60}, "refresh.grace_s", provider.Wait, provider.Wait, 0},
		"stays":                     {provider.Refresh{Rotation: "always", PreviousToken: "stays"}, "", provider.SendNow, provider.SendNow, 0},
		"words nobody has heard of": {provider.Refresh{Rotation: "perhaps", PreviousToken: "melts", Reuse: "rejected"}, "", provider.Wait, provider.Wait, 0},
	} {
		e := provider.Entry{Refresh: c.refresh}
		if c.recalled != "" {
			e.Evidence = map[string]provider.Evidence{c.recalled: {Kind: "recalled"}}
		}
		p := e.Profile(provider.GrantRefreshToken)
		if p.LostAnswer != c.within || p.AfterGrace != c.after || p.Grace != c.grace || !p.OldAccessDies {
			t.Errorf("%s: %+v", name, p)
		}
	}
	e := provider.Entry{
		Refresh:    provider.Refresh{OldAccessTokenDiesOnRefresh: provider.No, AbsoluteLifetimeS: 9, IdleLifetimeS: 8},
		Revocation: provider.Revocation{PerToken: provider.Yes},
	}
	if p := e.Profile(provider.GrantRefreshToken); p.OldAccessDies || p.AbsoluteLifetime != 9 || p.IdleLifetime != 8 || !p.RevokePerToken || p.ProofSafe {
		t.Errorf("%+v", p)
	}
}
