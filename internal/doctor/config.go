package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
)

const (
	// soon is how long before an end it becomes a person's business.
	soon = 90 * 24 * time.Hour
	// oldSecret is the age at which a client secret should be replaced: a year is what
	// providers that set an end give at most, and who held it once may still.
	oldSecret = 365 * 24 * time.Hour
)

// Configuration looks at a configuration that was read without mistakes, offline.
func Configuration(c *config.Config, now time.Time) []Finding {
	var all []Finding
	sunsets := map[string]bool{} // told by the configuration too, without a date to compare
	for n := range c.Integrations {
		i := &c.Integrations[n]
		if f, ok := sunset(i, now); ok {
			all = append(all, f)
			sunsets[i.Name] = true
		}
		if f, ok := openIDAlone(i); ok {
			all = append(all, f)
		}
		if uri := i.RegisteredURI(c.PublicURL); uri != "" && c.PublicURL != "" {
			all = append(all, Finding{Note, checkRedirectURI, i.Name, "its redirect URI is " + uri, "Register exactly this at the provider."})
		}
	}
	for _, text := range c.Warnings() {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "integration "), ":")
		if i, ok := c.Integration(name); ok && sunsets[name] && strings.Contains(text, i.Entry.Sunset.What+" ends in") {
			continue
		}
		all = append(all, Finding{Level: Warning, Check: checkConfiguration, Text: text})
	}
	if len(c.APIKeys) == 0 && len(c.IAMCallers) == 0 {
		all = append(all, Finding{Problem, checkAPIKeys, "", "the configuration has neither api_keys nor iam_callers: nobody can call the API", "evergrant keys new makes a key and its entry for the file."})
	}
	return all
}

// openIDAlone names a provider of which nobody knows whether it gives refresh tokens, and
// which is asked for OpenID Connect without the scope that is usual for them.
func openIDAlone(i *config.Integration) (Finding, bool) {
	if i.Entry.OfflineScope != "" || i.Entry.Refresh.Supported != provider.Unknown ||
		!slices.Contains(i.Scopes, "openid") || slices.Contains(i.Scopes, usualOffline) {
		return Finding{}, false
	}
	return Finding{
		Warning, checkOfflineScope, i.Name, "scopes has openid without " + usualOffline + ", and it is not known whether " + i.Entry.ID + " gives refresh tokens without it",
		"Look it up, and set offline_scope: " + usualOffline + " in the provider's entry, or refresh.supported.",
	}, true
}

// sunset is an end that the provider has announced with a date that is near or over.
func sunset(i *config.Integration, now time.Time) (Finding, bool) {
	s := i.Entry.Sunset
	at, err := time.Parse(time.DateOnly, s.Date)
	if err != nil {
		at, err = time.Parse("2006-01", s.Date)
	}
	if s.Date == "" || err != nil || at.Sub(now) > soon {
		return Finding{}, false
	}
	remedy := "Read the provider's announcement and change to what it names."
	if s.Successor != "" {
		remedy = "Change to " + s.Successor + "."
	}
	return Finding{Problem, checkSunset, i.Name, fmt.Sprintf("%s: %s ends in %s", i.Entry.ID, s.What, s.Date), remedy}, true
}

// Secrets looks whether the client secrets can be read on this machine, how old they
// are, and who else can read them. resolve is what the server itself uses; where it does
// not know a kind of reference, only the server can tell.
func Secrets(ctx context.Context, c *config.Config, resolve config.Resolver, now time.Time) []Finding {
	var all []Finding
	secrets := config.NewSecrets(resolve, func() time.Time { return now })
	for n := range c.Integrations {
		i := &c.Integrations[n]
		for k := range i.Clients {
			all = append(all, clientSecret(ctx, secrets, i, &i.Clients[k], now)...)
		}
	}
	return all
}

func clientSecret(ctx context.Context, secrets *config.Secrets, i *config.Integration, client *config.Client, now time.Time) []Finding {
	ref := client.Secret.String()
	switch _, err := secrets.Get(ctx, client); {
	case client.Public():
		return nil
	case errors.Is(err, config.ErrSecretKind):
		return []Finding{{Note, checkSecret, i.Name, ref + " cannot be read here; whether the server can is seen at the server", ""}}
	case err != nil:
		return []Finding{{
			Problem, checkSecret, i.Name, fmt.Sprintf("client %s: %v", client.Name, err),
			"Put the secret there, for the user and in the environment that serve runs with. Until then everything of this client is suspended, and nothing is lost.",
		}}
	}
	all := []Finding{{Fine, checkSecret, i.Name, ref + " can be read", ""}}
	if client.Secret.Kind() != config.SecretFile {
		return all
	}
	info, err := os.Stat(client.Secret.Name())
	if err != nil {
		return all
	}
	if f, wide := wideMode(client.Secret.Name(), info, checkSecret, i.Name); wide {
		all = append(all, f)
	}
	return append(all, secretAge(i.Name, client.Name, info.ModTime(), now)...)
}

// secretAge names a secret that is old.
func secretAge(integration, client string, since, now time.Time) []Finding {
	if now.Sub(since) < oldSecret {
		return nil
	}
	return []Finding{{
		Warning, checkSecretAge, integration,
		fmt.Sprintf("the secret of client %s has been the same for %d days", client, int(now.Sub(since).Hours()/24)),
		"Make a new secret at the provider, put it where the reference leads, and revoke the old one once a refresh has succeeded.",
	}}
}

func wideMode(name string, info fs.FileInfo, check, integration string) (Finding, bool) {
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return Finding{}, false
	}
	return Finding{
		Problem, check, integration, fmt.Sprintf("%s is open to others than its owner (mode %04o)", name, info.Mode().Perm()),
		"chmod 600 " + name + ", and if somebody else may have read it, replace what is in it.",
	}, true
}

// Folder looks at a data folder of serve. key is the file of the wrapping key, "" where
// the key comes from elsewhere; store is the file of the store. Neither is opened.
func Folder(folder, store, key string) []Finding {
	info, err := os.Stat(filepath.Join(folder, store))
	if err != nil {
		return []Finding{{Problem, checkStore, "", fmt.Sprintf("%s has no %s", folder, store), "Is this the folder of --data? A new one is made by the first start of evergrant serve."}}
	}
	var all []Finding
	if f, wide := wideMode(filepath.Join(folder, store), info, checkStore, ""); wide {
		all = append(all, f)
	}
	if key == "" {
		return all
	}
	name := filepath.Join(folder, key)
	info, err = os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return append(all, Finding{
			Problem, checkKeyFile, "", name + " is missing: no token in the store can be opened",
			"Bring it back from its backup before serve is started: it would make a new key, which opens nothing of old. Or name the key by EVERGRANT_KEY.",
		})
	case err != nil:
		return append(all, Finding{Problem, checkKeyFile, "", fmt.Sprintf("%s cannot be looked at: %v", name, err), "Look as the user that serve runs as."})
	}
	if f, wide := wideMode(name, info, checkKeyFile, ""); wide {
		return append(all, f)
	}
	return append(all, Finding{Fine, checkKeyFile, "", name + " is there, for its owner alone", ""})
}

// usualOffline is OpenID Connect's scope for refresh tokens (Core 1.0 section 11).
const usualOffline = "offline_access"

// offlineScope looks for the scope without which no refresh token comes. The entry's own
// is always asked for; one that only the provider's metadata knows is not.
func offlineScope(i *config.Integration, e provider.Entry, supported []string) (Finding, bool) {
	asked := e.OfflineScope != ""
	known := false
	for _, scope := range supported {
		known = known || scope == usualOffline
	}
	for _, scope := range i.Scopes {
		asked = asked || scope == usualOffline
	}
	if asked || !known || e.Refresh.Supported == provider.No {
		return Finding{}, false
	}
	return Finding{
		Problem, checkOfflineScope, i.Name, "the provider knows the scope " + usualOffline + ", and it is not asked for: most that know it give no refresh token without",
		"Set offline_scope: " + usualOffline + " in the provider's entry, or add it to scopes; then reconnect.",
	}, true
}
