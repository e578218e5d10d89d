package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
)

// providersCommand is about the catalogue. It is that of this binary: no server is
// asked.
type providersCommand struct {
	Show  showProvidersCommand `cmd:"" default:"withargs" help:"Show what the catalogue knows of all providers, or of one."`
	Check checkEntryCommand    `cmd:"" help:"Check an entry for the catalogue: what is wrong, contradicts itself, is missing or old."`
}

type showProvidersCommand struct {
	ID   string `arg:"" optional:"" help:"One provider; else all of them."`
	JSON bool   `help:"Print JSON."`
}

// Run prints the catalogue or one entry of it.
func (c *showProvidersCommand) Run(p *process) error {
	if c.ID != "" {
		return c.one(p)
	}
	all := catalog()
	if c.JSON {
		return p.printJSON(all)
	}
	rows := [][]string{{"ID", "NAME", "GRANTS", "CLIENT AUTHENTICATION", "REFRESH TOKENS", "REVOCATION"}}
	for _, e := range all {
		rows = append(rows, []string{
			e.ID, e.Name, strings.Join(e.GrantTypesSupported, " "), e.TokenEndpointAuthMethod, rotation(e), yesNo(e.RevocationEndpoint != ""),
		})
	}
	p.table(rows)
	return nil
}

func rotation(e provider.Entry) string {
	switch e.Refresh.Rotation {
	case "always":
		return "rotate"
	case "none":
		return "stay"
	case "sometimes":
		return "may rotate"
	default:
		return "unknown"
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (c *showProvidersCommand) one(p *process) error {
	e, err := provider.Lookup(c.ID)
	if errors.Is(err, provider.ErrUnknownProvider) {
		return fmt.Errorf("the catalogue has no %q; evergrant providers lists what it has; a provider that it lacks is described in the configuration itself, by a mapping in place of the id", c.ID)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return p.printJSON(e)
	}
	profile := e.Profile(provider.GrantRefreshToken)
	p.facts([][]string{
		{"id", e.ID},
		{"name", e.Name},
		{"docs", e.Docs},
		{"grants", strings.Join(e.GrantTypesSupported, ", ")},
		{"authorization endpoint", e.AuthorizationEndpoint},
		{"token endpoint", e.TokenEndpoint},
		{"revocation endpoint", orDash(e.RevocationEndpoint)},
		{"discovery", e.DiscoveryURL},
		{"client authentication", e.TokenEndpointAuthMethod},
		{"PKCE", e.PKCE},
		{"access tokens live", lifeOf(e)},
		{"refresh tokens", rotation(e)},
		{"old access token at a refresh", map[bool]string{true: "may die", false: "lives on"}[profile.OldAccessDies]},
		{"after a lost answer", lostAnswerMeans(profile)},
	})
	for _, note := range e.Notes {
		p.printf("\n- %s", clean(note))
	}
	if len(e.Notes) > 0 {
		p.printf("\n")
	}
	return nil
}

func lifeOf(e provider.Entry) string {
	if e.AccessTokenTTL == 0 {
		return "as the answer says"
	}
	return span(secondsOf(e.AccessTokenTTL)) + " unless the answer says otherwise"
}

func lostAnswerMeans(p provider.Profile) string {
	switch p.LostAnswer {
	case provider.SendNow:
		return "the old refresh token is sent again"
	case provider.GraceResend:
		return fmt.Sprintf("the old refresh token is sent again within %d s", p.Grace)
	default:
		return "wait until the access token is nearly over: a second use may end the grant"
	}
}

// checkEntryCommand checks a file that is to become an entry of the catalogue.
type checkEntryCommand struct {
	File string `arg:"" help:"The entry, JSON; - reads standard input."`
	JSON bool   `help:"Print JSON."`
}

// Run prints what Check found, and fails where the catalogue could not take the entry.
func (c *checkEntryCommand) Run(p *process) error {
	text, err := readInput(p, c.File)
	if err != nil {
		return err
	}
	r := provider.Check(text, time.Now())
	if c.JSON {
		if err := p.printJSON(struct {
			Sound          bool     `json:"sound"`
			Mistakes       []string `json:"mistakes"`
			Contradictions []string `json:"contradictions"`
			Missing        []string `json:"missing"`
			Old            []string `json:"old"`
		}{r.Sound(), list(r.Mistakes), list(r.Contradictions), list(r.Missing), list(r.Old)}); err != nil {
			return err
		}
	} else {
		p.findings("wrong", r.Mistakes)
		p.findings("contradicts itself", r.Contradictions)
		p.findings("missing, so the worst is assumed", r.Missing)
		p.findings("old", r.Old)
	}
	if !r.Sound() {
		p.sayf("%s: the catalogue could not take this entry", clean(c.File))
		return errReported
	}
	if !c.JSON {
		p.printf("sound\n")
	}
	return nil
}

func (p *process) findings(title string, found []string) {
	if len(found) == 0 {
		return
	}
	p.printf("%s:\n", title)
	for _, f := range found {
		p.printf("  %s\n", clean(f))
	}
}

// list is l, never null in JSON.
func list(l []string) []string { return append([]string{}, l...) }

// readInput reads a file, or standard input for -.
func readInput(p *process, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(p.stdin)
	}
	return os.ReadFile(name)
}
