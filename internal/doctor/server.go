package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/wire"
)

// lateTick is how old the last finished minute of the schedule may be: a tick ends
// within its minute and the next one.
const lateTick = 3 * time.Minute

// Server is what a running server has answered.
type Server struct {
	Health       wire.Health
	Integrations []wire.Integration
	// Diagnosis is null where the key may not ask for it.
	Diagnosis *wire.Diagnosis
	// Began and Ended are when it was asked for and here, by our clock.
	Began, Ended time.Time
	// Connections are those that were looked at, by integration.
	Connections map[string][]wire.Connection
}

// Findings judges it. c is the configuration that the server should run with; nil where
// there is none here.
func (s Server) Findings(c *config.Config) []Finding {
	all := []Finding{}
	if s.Health.Store != "ok" {
		all = append(all, Finding{Problem, checkStore, "", "the server cannot reach its store", "Look at its log: the disk of serve, or DynamoDB and the role of the functions."})
	}
	all = append(all, s.diagnosis()...)
	for _, i := range s.Integrations {
		all = append(all, s.integration(i)...)
		all = append(all, connections(i, s.Connections[i.Name], s.Ended, refreshes(c, i.Name))...)
		if f, ok := shortLives(c, i.Name, s.Connections[i.Name]); ok {
			all = append(all, f)
		}
	}
	if c != nil {
		all = append(all, s.sameAs(c)...)
	}
	return all
}

func (s Server) diagnosis() []Finding {
	d := s.Diagnosis
	if d == nil {
		return []Finding{{Note, checkServer, "", "the API key may not ask the server about its schedule, its clock and a restore", "Use a key with the scope admin."}}
	}
	all := []Finding{skewed("the server", -skewOf(d.Now, s.Began, s.Ended), "that of this machine"), s.schedule(), s.restore()}
	for _, c := range d.UnreadableSecrets {
		all = append(all, unreadable(c.Integration, c.Client))
	}
	if len(d.UnreadableSecrets) == 0 {
		all = append(all, Finding{Fine, checkSecret, "", "the server can read every secret", ""})
	}
	return all
}

func unreadable(integration, client string) Finding {
	return Finding{
		Problem, checkSecret, integration, "the server cannot read the secret of client " + client,
		"Put it where the reference of the configuration leads, and let the server's user or role read it. The server's log says what was wrong.",
	}
}

// knownUnreadable reports whether the diagnosis has told so already.
func (s Server) knownUnreadable(integration, client string) bool {
	return s.Diagnosis != nil && slices.Contains(s.Diagnosis.UnreadableSecrets, wire.ClientName{Integration: integration, Client: client})
}

func (s Server) schedule() Finding {
	d := s.Diagnosis
	remedy := "Under serve: look for \"tick\" in its log. On AWS: is the schedule of the stack enabled, does the refresh function fail, is its concurrency used up?"
	switch {
	case d.LastTickAt == nil:
		return Finding{Problem, checkSchedule, "", "the schedule has never run: nothing is refreshed ahead of time", remedy}
	case d.Now.Sub(*d.LastTickAt) > lateTick:
		return Finding{
			Problem, checkSchedule, "", fmt.Sprintf("the schedule last finished a minute at %s, %s ago", d.LastTickAt.Format(time.RFC3339), d.Now.Sub(*d.LastTickAt).Round(time.Second)), remedy,
		}
	}
	return Finding{Fine, checkSchedule, "", "the schedule runs", ""}
}

func (s Server) restore() Finding {
	if s.Diagnosis.StoreMoved {
		return Finding{
			Problem, checkRestore, "", fmt.Sprintf("the store is not where it was in restore epoch %d: a backup was restored, or it was moved", s.Diagnosis.RestoreEpoch),
			"Raise the restore epoch at once, before spent tokens are sent: under serve POST /v1/admin/restore and a restart, on AWS the parameter RestoreEpoch. After a mere move that costs nothing but a look at each connection.",
		}
	}
	return Finding{Fine, checkRestore, "", "the store is where it was", ""}
}

func (s Server) integration(i wire.Integration) []Finding {
	var all []Finding
	for _, client := range i.Clients {
		if client.SecretSince != nil {
			all = append(all, secretAge(i.Name, client.Name, *client.SecretSince, s.Ended)...)
		}
		if client.Circuit.State != "open" {
			continue
		}
		reason := ""
		if client.Circuit.Reason != nil {
			reason = *client.Circuit.Reason
		}
		if reason == "secret_unreadable" {
			if !s.knownUnreadable(i.Name, client.Name) {
				all = append(all, unreadable(i.Name, client.Name))
			}
			continue
		}
		all = append(all, Finding{
			Problem, checkClient, i.Name, fmt.Sprintf("the provider refuses client %s (%s): nothing is sent for it but a probe now and then", client.Name, codeOf(reason)),
			"Compare client id and secret with the provider's console, and correct the configuration: the changed one is tried at once. No connection is lost by this.",
		})
	}
	if len(all) == 0 {
		all = append(all, Finding{Fine, checkClient, i.Name, "its clients are not refused", ""})
	}
	return all
}

// scheduled is a life of access tokens that a schedule refreshes ahead in every kind of
// deployment; on AWS shorter ones are refreshed when somebody asks.
const scheduled = 15 * time.Minute

// refreshes reports whether the provider of an integration gives refresh tokens at all,
// as far as is known here.
func refreshes(c *config.Config, integration string) bool {
	if c == nil {
		return true
	}
	i, ok := c.Integration(integration)
	return !ok || i.Entry.Refresh.Supported != provider.No
}

// connections judges those of an integration: users who have to consent again, and
// connections to which no refresh token came.
func connections(i wire.Integration, all []wire.Connection, now time.Time, refreshes bool) []Finding {
	waiting, unrefreshed := 0, 0
	for _, x := range all {
		switch {
		case x.Status == "needs_reauth":
			waiting++
		case x.Status == "active" && refreshes && i.Refresh == "ahead" && x.NextRefreshAt == nil && x.ExpiresAt != nil &&
			x.ExpiresAt.After(now) && x.ExpiresAt.Sub(x.UpdatedAt) > scheduled:
			unrefreshed++
		}
	}
	var found []Finding
	if waiting > 0 {
		found = append(found, Finding{
			Note, checkConnections, i.Name, fmt.Sprintf("%d connections wait for their users to consent again", waiting),
			"evergrant list --status needs_reauth names them and the reason. Many at once: evergrant revive, after an incident at the provider.",
		})
	}
	if unrefreshed > 0 {
		found = append(found, Finding{
			Problem, checkOfflineScope, i.Name, fmt.Sprintf("%d active connections have no refresh token and end with their access token", unrefreshed),
			"Ask for what makes the provider give one (a scope such as offline_access, or access_type=offline with prompt=consent in authorization_params), and reconnect them.",
		})
	}
	return found
}

// shortLives names access tokens that live much shorter than the provider's entry says.
func shortLives(c *config.Config, integration string, all []wire.Connection) (Finding, bool) {
	if c == nil {
		return Finding{}, false
	}
	i, ok := c.Integration(integration)
	if !ok || i.Entry.AccessTokenTTL == 0 {
		return Finding{}, false
	}
	says := time.Duration(i.Entry.AccessTokenTTL) * time.Second
	short, known, shortest := 0, 0, says
	for _, x := range all {
		life, told := lifeOf(x)
		if !told {
			continue
		}
		if known++; life < says*9/10 {
			short++
			shortest = min(shortest, life)
		}
	}
	if short == 0 {
		return Finding{}, false
	}
	return Finding{
		Warning, checkLifetime, integration,
		fmt.Sprintf("the access tokens of %d of %d active connections live shorter than the %s that the entry of %s says, down to %s", short, known, says, i.Entry.ID, shortest),
		"What an answer tells counts, so nothing is refreshed too late. But the provider has changed, or this client is set otherwise: compare the entry with its documentation, and put access_token_ttl_s right under provider: {extends: " + i.Entry.ID + "}.",
	}, true
}

// lifeOf is how long the access token of an active connection lives from when it came, as
// far as the journal still tells.
func lifeOf(x wire.Connection) (time.Duration, bool) {
	if x.Status != "active" || x.ExpiresAt == nil {
		return 0, false
	}
	for _, e := range slices.Backward(x.Journal) {
		if e.Generation == x.Generation && slices.Contains([]string{"created", "consented", "saved", "rescued"}, e.Outcome) {
			return x.ExpiresAt.Sub(e.At), true
		}
	}
	return 0, false
}

// sameAs compares the server with the configuration that it should run with.
func (s Server) sameAs(c *config.Config) []Finding {
	var all []Finding
	var names []string
	for _, i := range s.Integrations {
		names = append(names, i.Name)
		own, ok := c.Integration(i.Name)
		if ok && c.PublicURL != "" && i.RedirectURI != "" && i.RedirectURI != own.RedirectURI(c.PublicURL) {
			all = append(all, Finding{
				Problem, checkRedirectURI, i.Name, fmt.Sprintf("the server uses the redirect URI %s, the configuration here has %s", i.RedirectURI, own.RedirectURI(c.PublicURL)),
				"Set public_url to the address by which browsers reach the server, restart it with this file, and register that redirect URI.",
			})
		}
	}
	var missing []string
	for n := range c.Integrations {
		if !slices.Contains(names, c.Integrations[n].Name) {
			missing = append(missing, c.Integrations[n].Name)
		}
	}
	if len(missing) > 0 {
		all = append(all, Finding{
			Warning, checkConfiguration, "", "the server does not show " + strings.Join(missing, ", ") + ", which the configuration here has",
			"Restart the server with this file, or use a key that may use them.",
		})
	}
	return all
}
