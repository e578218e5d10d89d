package config_test

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/secret"
)

// cleaned is u's path as a server that decodes and then cleans it sees it.
func cleaned(t *testing.T, u string) string {
	t.Helper()
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatalf("allowed, and no URL: %q", u)
	}
	return path.Clean(parsed.Path)
}

func TestRightsMatch(t *testing.T) {
	r := config.Rights{
		Allow:        []string{config.ScopeToken},
		Integrations: []string{"askfred"},
		Owners:       []string{"tenant-1", "team-*"},
	}
	for _, c := range []struct {
		scope, integration, owner string
		want                      bool
	}{
		{"token", "askfred", "tenant-1", true},
		{"token", "askfred", "team-", true},
		{"token", "askfred", "team-7", true},
		{"token", "askfred", "team", false},
		{"token", "askfred", "tenant-10", false},
		{"token", "askfred", "Tenant-1", false},
		{"token", "askfred", "", false},
		{"token", "askfred", "*", false},
		{"token", "freeagent", "tenant-1", false},
		{"token", "", "tenant-1", false},
		{"manage", "askfred", "tenant-1", false},
		{"", "askfred", "tenant-1", false},
	} {
		if got := r.Allows(c.scope, c.integration, c.owner); got != c.want {
			t.Errorf("Allows(%q, %q, %q) = %v", c.scope, c.integration, c.owner, got)
		}
	}
	all := config.Rights{Allow: []string{"admin"}, Integrations: []string{"*"}, Owners: []string{"*"}}
	if !all.Allows("admin", "askfred", "anybody") || all.MayOwner("") || all.MayScope("token") {
		t.Error("stars do not mean all, or admin implies another scope")
	}
	if (config.Rights{}).Allows("", "", "") {
		t.Error("the zero Rights allow something")
	}
}

func TestIAMCallerMatchesWholeParts(t *testing.T) {
	role := config.IAMCaller{ARN: "arn:aws:sts::123456789012:assumed-role/backend/*"}
	user := config.IAMCaller{ARN: "arn:aws:iam::123456789012:user/alice"}
	for _, c := range []struct {
		caller config.IAMCaller
		arn    string
		want   bool
	}{
		{role, "arn:aws:sts::123456789012:assumed-role/backend/i-0abc", true},
		{role, "arn:aws:sts::123456789012:assumed-role/backend/", false},
		{role, "arn:aws:sts::123456789012:assumed-role/backend", false},
		{role, "arn:aws:sts::123456789012:assumed-role/backend-evil/x", false},
		{role, "arn:aws:sts::999999999999:assumed-role/backend/x", false},
		{role, "", false},
		{user, "arn:aws:iam::123456789012:user/alice", true},
		{user, "arn:aws:iam::123456789012:user/alice2", false},
		{config.IAMCaller{}, "", false},
	} {
		if got := c.caller.Matches(c.arn); got != c.want {
			t.Errorf("%q matches %q: %v", c.caller.ARN, c.arn, got)
		}
	}
	cfg := config.Config{IAMCallers: []config.IAMCaller{user, role}}
	if got, ok := cfg.CallerByARN("arn:aws:sts::123456789012:assumed-role/backend/x"); !ok || got.ARN != role.ARN {
		t.Errorf("got %v, %v", got, ok)
	}
	if _, ok := cfg.CallerByARN("arn:aws:iam::123456789012:user/bob"); ok {
		t.Error("bob was let in")
	}
}

func TestAPIKeyIsFoundByWhatIsShown(t *testing.T) {
	key, hash := config.NewAPIKey()
	other, _ := config.NewAPIKey()
	if shown := key.Reveal(); len(shown) != 47 || !strings.HasPrefix(shown, "evg_") {
		t.Errorf("a key of %d characters", len(shown))
	}
	if key.Equal(other) || fmt.Sprint(key) != secret.Redacted {
		t.Error("keys are equal or print")
	}
	cfg := config.Config{APIKeys: []config.APIKey{
		{Name: "first", Hash: config.HashAPIKey(secret.New("evg_first"))},
		{Name: "second", Hash: hash},
	}}
	if got, previous, ok := cfg.KeyFor(key, 1); !ok || previous || got.Name != "second" {
		t.Errorf("got %v, %v", got, ok)
	}
	for _, shown := range []string{"", "evg_", hash, other.Reveal(), key.Reveal() + " "} {
		if got, _, ok := cfg.KeyFor(secret.New(shown), 1); ok {
			t.Errorf("%s was let in", got.Name)
		}
	}
	// A key that has been replaced works on under the same name until its time.
	replaced := config.Config{APIKeys: []config.APIKey{{Name: "first", Hash: hash, Previous: config.PreviousKey{Hash: config.HashAPIKey(other), Until: 100}}}}
	for now, want := range map[int64]bool{0: true, 99: true, 100: false, 101: false} {
		if got, previous, ok := replaced.KeyFor(other, now); ok != want || ok && (!previous || got.Name != "first") {
			t.Errorf("the previous key at %d: %v, %v", now, got, ok)
		}
		if _, previous, ok := replaced.KeyFor(key, now); !ok || previous {
			t.Errorf("the new key at %d is refused", now)
		}
	}
	// The SHA-256 of "abc", from FIPS 180-2 appendix B.1.
	const want = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := config.HashAPIKey(secret.New("abc")); got != want {
		t.Errorf("got %s", got)
	}
}
