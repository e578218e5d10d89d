package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// listCommand lists connections.
type listCommand struct {
	Server
	Owner       string            `short:"o" help:"Those of one owner."`
	Integration string            `short:"i" help:"Those of one integration."`
	Status      string            `enum:"connecting,held,active,needs_reauth,disconnected," default:"" help:"Those in one status: connecting, held, active, needs_reauth, disconnected."`
	Tag         map[string]string `help:"Those with a tag, NAME=VALUE."`
}

// Run prints a table of all pages.
func (c *listCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	integrations := []string{c.Integration}
	if c.Owner == "" && c.Integration == "" {
		if integrations, err = a.integrations(p); err != nil {
			return err
		}
	}
	all := []wire.Connection{}
	for _, name := range integrations {
		some, err := c.list(p, a, name)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	if len(all) == 0 && c.Integration != "" {
		if err := a.hasIntegration(p, c.Integration); err != nil {
			return err
		}
	}
	return c.show(p, all, func() {
		if len(all) == 0 {
			p.sayf("No connections. evergrant connect INTEGRATION --owner OWNER makes one.")
			return
		}
		p.table(listRows(all, time.Now()))
	})
}

func listRows(all []wire.Connection, now time.Time) [][]string {
	rows := [][]string{{"ID", "INTEGRATION", "OWNER", "STATUS", "GEN", "EXPIRES", "NEXT REFRESH"}}
	for _, x := range all {
		rows = append(rows, []string{
			x.ID, x.Integration, x.Owner, statusOf(x), strconv.FormatInt(x.Generation, 10),
			relative(x.ExpiresAt, now), relative(x.NextRefreshAt, now),
		})
	}
	return rows
}

func statusOf(x wire.Connection) string {
	if x.Reason != nil {
		return x.Status + " (" + *x.Reason + ")"
	}
	return x.Status
}

func (c *listCommand) list(p *process, a *api, integration string) ([]wire.Connection, error) {
	q := url.Values{"limit": {"100"}}
	for name, value := range map[string]string{"owner": c.Owner, "integration": integration, "status": c.Status} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range c.Tag {
		q.Set("tag."+name, value)
	}
	var all []wire.Connection
	for {
		var page wire.List[wire.Connection]
		if err := a.call(p.ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all, nil
		}
		q.Set("cursor", *page.Next)
	}
}

// namingIntegrations adds the names that there are to a refusal of one that there is not.
func (a *api) namingIntegrations(p *process, err error) error {
	if refused := new(apiError); !errors.As(err, refused) || refused.Code != "not_found" {
		return err
	}
	names, unknown := a.integrations(p)
	if unknown != nil || len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w\nThe integrations of %s: %s", err, a.base, strings.Join(names, ", "))
}

// hasIntegration refuses a name that no integration has. It is asked where nothing was
// found: an integration that was taken out of the configuration still has connections.
func (a *api) hasIntegration(p *process, name string) error {
	names, err := a.integrations(p)
	if err == nil && !slices.Contains(names, name) {
		return fmt.Errorf("%s has no integration %s for this key\nIts integrations: %s", a.base, name, strings.Join(names, ", "))
	}
	return err
}

// integrations are the names of those that the key may use.
func (a *api) integrations(p *process) ([]string, error) {
	var list wire.List[wire.Integration]
	if err := a.call(p.ctx, http.MethodGet, "/v1/integrations", nil, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, i := range list.Items {
		names = append(names, i.Name)
	}
	return names, nil
}

// showCommand shows a connection.
type showCommand struct{ Target }

// Run prints what is known of the connection, and its journal.
func (c *showCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	var x wire.Connection
	if err := a.call(p.ctx, http.MethodGet, path, nil, &x); err != nil {
		return err
	}
	return c.print(p, x)
}

// print shows a connection, as every command does that changed one.
func (s Server) print(p *process, x wire.Connection) error {
	return s.show(p, x, func() { p.connection(x) })
}

func (p *process) connection(x wire.Connection) {
	now := time.Now()
	account := ""
	if x.Account != nil {
		account = strings.TrimSpace(text(x.Account.Name) + " (" + x.Account.ID + ")")
	}
	rows := [][]string{
		{"id", x.ID},
		{"integration", x.Integration + " at " + x.Provider + ", client " + x.Client},
		{"owner", x.Owner},
		{"external id", x.ExternalID},
		{"account", account},
		{"status", statusOf(x)},
		{"generation", strconv.FormatInt(x.Generation, 10)},
		{"scope", x.GrantedScope},
		{"missing scope", x.MissingScope},
		{"expires", relative(x.ExpiresAt, now)},
		{"next refresh", relative(x.NextRefreshAt, now)},
		{"reconnect by", dated(x.ReconnectBy, now)},
		{"created", relative(&x.CreatedAt, now)},
		{"changed", relative(&x.UpdatedAt, now)},
		{"redirect URI", x.RedirectURI},
	}
	rows = append(rows, sortedFacts("tag ", x.Tags)...)
	rows = append(rows, sortedFacts("field ", x.Fields)...)
	p.facts(rows)
	if len(x.Journal) > 0 {
		p.printf("\n")
		p.table(journalRows(x.Journal, now))
	}
}

func journalRows(journal []wire.Entry, now time.Time) [][]string {
	rows := [][]string{{"WHEN", "OUTCOME", "GEN", "PROVIDER TOOK"}}
	for _, e := range journal {
		if e.Outcome == "saved" {
			e.Generation++ // a refresh notes the generation with which it began
		}
		rows = append(rows, []string{
			relative(&e.At, now), e.Outcome, strconv.FormatInt(e.Generation, 10), fmt.Sprintf("%d ms", e.TookMS),
		})
	}
	return rows
}

func sortedFacts(prefix string, m map[string]string) [][]string {
	var rows [][]string
	for name, value := range m {
		rows = append(rows, []string{prefix + name, value})
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return rows
}

// refreshCommand refreshes a connection.
type refreshCommand struct{ Target }

// Run refreshes the token that is stored now, and shows what became of it.
func (c *refreshCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	var before, after wire.Connection
	if err := a.call(p.ctx, http.MethodGet, path, nil, &before); err != nil {
		return err
	}
	request := wire.RefreshRequest{IfGeneration: before.Generation}
	if err := a.call(p.ctx, http.MethodPost, path+"/refresh", request, nil); err != nil {
		return err
	}
	if err := a.call(p.ctx, http.MethodGet, path, nil, &after); err != nil {
		return err
	}
	return c.show(p, after, func() {
		p.printf("refreshed: generation %d, expires %s\n", after.Generation, relative(after.ExpiresAt, time.Now()))
	})
}

// disconnectCommand ends a connection.
type disconnectCommand struct{ Target }

// Run disconnects and prints the receipt.
func (c *disconnectCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	var r wire.Receipt
	if err := a.call(p.ctx, http.MethodDelete, path, nil, &r); err != nil {
		return err
	}
	return c.show(p, r, func() {
		p.facts([][]string{
			{"disconnected", relative(&r.DisconnectedAt, time.Now())},
			{"revoked", r.Revoked + revokedMeans(r.Revoked)},
			{"proof", r.Proof},
		})
		if r.InFlight {
			p.printf("A refresh was under way: a token of it may live on until it expires.\n")
		}
	})
}

func revokedMeans(revoked string) string {
	switch revoked {
	case "unsupported":
		return " (the provider has no way to revoke; the tokens are erased here, and the user can remove the application at the provider)"
	case "pending":
		return " (the provider has not answered yet; it is tried until it has)"
	}
	return ""
}
