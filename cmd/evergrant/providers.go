package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/provider/page"
)

// providersCommand is about the catalogue. It is that of this binary: no server is
// asked.
type providersCommand struct {
	Show     showProvidersCommand `cmd:"" default:"withargs" help:"Show what the catalogue knows of all providers, or of one."`
	Discover discoverCommand      `cmd:"" help:"Read a server's discovery document and propose an entry of it."`
	Check    checkEntryCommand    `cmd:"" help:"Check an entry for the catalogue: what is wrong, contradicts itself, is missing or old."`
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
	all, err := catalog()
	if err != nil {
		return err
	}
	if err := c.all(p, all); err != nil {
		return err
	}
	p.summary(all)
	return nil
}

func (c *showProvidersCommand) all(p *process, all []provider.Entry) error {
	if c.JSON {
		told := make([]map[string]any, len(all))
		for n, e := range all {
			var err error
			if told[n], err = e.Told(); err != nil {
				return err
			}
		}
		return p.printJSON(told)
	}
	rows := [][]string{{"ID", "NAME", "GRANTS", "CLIENT AUTHENTICATION", "REFRESH TOKENS", "REVOCATION"}}
	for _, e := range all {
		rows = append(rows, []string{
			e.ID, e.Name, strings.Join(e.GrantTypesSupported, " "), e.TokenEndpointAuthMethod, rotation(e),
			yesNo(e.RevocationEndpoint != "" || e.RevocationRequest.URL != ""),
		})
	}
	p.table(rows)
	return nil
}

// summary says what the facts rest on by which tokens are kept safe.
func (p *process) summary(all []provider.Entry) {
	kinds, sum := map[string]int{}, 0
	for _, e := range all {
		for kind, n := range e.SafetyEvidence() {
			kinds[kind] += n
			sum += n
		}
	}
	var parts []string
	for _, kind := range provider.EvidenceKinds() {
		if n := kinds[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%.0f%%)", n, kind, 100*float64(n)/float64(sum)))
		}
	}
	p.sayf("%d providers. Of the %d facts by which a refresh is judged: %s. What is recalled counts as unknown, and what is unknown as the worst.",
		len(all), sum, strings.Join(parts, ", "))
}

func rotation(e provider.Entry) string {
	if e.Refresh.Supported == provider.No {
		return "none"
	}
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

func (c *showProvidersCommand) one(p *process) error {
	e, err := provider.Lookup(c.ID)
	if errors.Is(err, provider.ErrUnknownProvider) {
		return fmt.Errorf("the catalogue has no %q; evergrant providers lists what it has; a provider that it lacks is described in the configuration itself, by a mapping in place of the id", c.ID)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		told, err := e.Told()
		if err != nil {
			return err
		}
		return p.printJSON(told)
	}
	p.facts([][]string{
		{"id", e.ID},
		{"name", e.Name},
		{"docs", e.Docs},
		{"authorization endpoint", e.AuthorizationEndpoint},
		{"token endpoint", e.TokenEndpoint},
		{"revocation endpoint", e.RevocationEndpoint},
		{"discovery", e.DiscoveryURL},
	})
	for _, s := range page.Sections(e) {
		p.printf("\n%s\n", s.Title)
		var rows [][]string
		for _, r := range s.Rows {
			rows = append(rows, []string{"  " + r[0], strings.ReplaceAll(r[1], "`", "")})
		}
		p.facts(rows)
		for _, item := range s.Items {
			p.printf("  - %s\n", clean(strings.ReplaceAll(item, "`", "")))
		}
	}
	return nil
}

// discoverCommand reads a discovery document.
type discoverCommand struct {
	URL  string `arg:"" help:"The document, or the server's issuer."`
	Name string `default:"acme" help:"Name of the integration that is proposed."`
	JSON bool   `help:"Print the entry as JSON, for the catalogue."`
}

// discoverTime bounds the reading of all documents that are tried.
const discoverTime = 20 * time.Second

// Run prints the proposal, and to stderr what the document does not tell.
func (c *discoverCommand) Run(p *process) error {
	addresses, err := provider.DiscoveryURLs(c.URL)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(p.ctx, discoverTime)
	defer cancel()
	// Only who names this machine reaches it: a document elsewhere cannot lead here.
	u, err := url.Parse(addresses[0])
	client := &provider.Client{UserAgent: "evergrant/" + version(), AllowLoopback: err == nil && isLoopback(u.Hostname())}
	var m provider.Metadata
	var tried []error
	for _, address := range addresses {
		if m, err = client.Discover(ctx, address); err == nil && m.TokenEndpoint != "" {
			return c.propose(p, address, m)
		}
		if err == nil {
			err = fmt.Errorf("%s: names no token endpoint", address)
		}
		tried = append(tried, err)
	}
	return errors.Join(tried...)
}

func (c *discoverCommand) propose(p *process, address string, m provider.Metadata) error {
	e, open := m.Propose()
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if c.JSON {
		err = p.printJSON(e)
	} else {
		err = p.proposal(c.Name, text)
	}
	p.sayf("Read from %s. What it does not tell:", clean(address))
	for _, o := range open {
		p.sayf("  %s", clean(o))
	}
	return err
}

// proposal prints an entry as it stands in a configuration. A flat one: each value is
// JSON, which YAML takes as it is.
func (p *process) proposal(name string, entry []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(entry, &fields); err != nil {
		return err
	}
	p.printf("integrations:\n  %s:\n    client_id: your-client-id\n    client_secret: ${env:CLIENT_SECRET}\n    provider:\n", clean(name))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		p.printf("      %s: %s\n", key, fields[key])
	}
	return nil
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
			Essential      []string `json:"essential"`
			Mistakes       []string `json:"mistakes"`
			Contradictions []string `json:"contradictions"`
			Missing        []string `json:"missing"`
			Old            []string `json:"old"`
		}{r.Sound(), list(r.Essential), list(r.Mistakes), list(r.Contradictions), list(r.Missing), list(r.Old)}); err != nil {
			return err
		}
	} else {
		p.findings("essential, and missing", r.Essential)
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
