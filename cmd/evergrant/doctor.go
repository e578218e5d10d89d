package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/doctor"
	"github.com/evergrant/evergrant/internal/egress"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// doctorCommand finds what is wrong.
type doctorCommand struct {
	Server
	Config  string `short:"c" placeholder:"FILE" env:"EVERGRANT_CONFIG" help:"The configuration; evergrant.yaml where there is one."`
	Data    string `short:"d" placeholder:"DIR" env:"EVERGRANT_DATA" help:"The data folder of serve, where it is on this machine."`
	Offline bool   `help:"Look at files alone: ask neither providers nor a server."`
	All     bool   `help:"Show what is well, too."`
}

// looked is the result as JSON.
type looked struct {
	OK       bool             `json:"ok"` // nothing needs a person
	Problems int              `json:"problems"`
	Warnings int              `json:"warnings"`
	Findings []doctor.Finding `json:"findings"`
}

// Run looks, prints, and fails where something needs a person.
func (c *doctorCommand) Run(p *process) error {
	settings, all, err := c.files(p)
	if err != nil {
		return err
	}
	if settings != nil && !c.Offline {
		all = append(all, c.network(p, settings)...)
	}
	if !c.Offline {
		all = append(all, c.server(p, settings)...)
	}
	return c.conclude(p, all)
}

// conclude prints what was found, and fails where something needs a person.
func (c *doctorCommand) conclude(p *process, all []doctor.Finding) error {
	p.progressEnd()
	doctor.Sort(all)
	result := looked{Problems: doctor.Count(all, doctor.Problem), Warnings: doctor.Count(all, doctor.Warning), Findings: all}
	result.OK = result.Problems == 0
	if err := c.show(p, result, func() { c.tell(p, result) }); err != nil {
		return err
	}
	if !result.OK {
		return errReported
	}
	return nil
}

// files looks at the configuration and the data folder. Without a configuration the rest
// is looked at all the same.
func (c *doctorCommand) files(p *process) (*config.Config, []doctor.Finding, error) {
	all := []doctor.Finding{}
	if c.Data != "" {
		key := keyFile
		if p.getenv("EVERGRANT_KEY") != "" {
			key = ""
		}
		all = append(all, doctor.Folder(c.Data, storeFile, key)...)
	}
	settings, found, err := loadToLookAt(c.Config)
	all = append(all, found...)
	if settings == nil || err != nil {
		return nil, all, err
	}
	now := time.Now()
	all = append(all, doctor.Configuration(settings, now)...)
	return settings, append(all, doctor.Secrets(p.ctx, settings, config.FileResolver(p.getenv, os.ReadFile), now)...), nil
}

// loadToLookAt reads the configuration file, or evergrant.yaml where there is one. It is nil
// where there is none, or none without mistakes, which the findings then tell.
func loadToLookAt(file string) (*config.Config, []doctor.Finding, error) {
	if file == "" {
		file = "evergrant.yaml"
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, []doctor.Finding{{Level: doctor.Note, Check: "configuration", Text: "no configuration was looked at: there is no evergrant.yaml here", Remedy: "Name it by --config."}}, nil
		}
	}
	settings, err := yamlfile.Load(file)
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) {
		return settings, nil, err
	}
	var all []doctor.Finding
	for _, m := range mistakes {
		all = append(all, doctor.Finding{
			Level: doctor.Problem, Check: "configuration", Text: fmt.Sprintf("%s:%d:%d: %s: %s", m.File, m.Line, m.Column, m.Path, m.Text),
			Remedy: "Correct it; evergrant config check tells when it is good.",
		})
	}
	return nil, all, nil
}

func (c *doctorCommand) network(p *process, settings *config.Config) []doctor.Finding {
	return doctor.Prober{
		Provider: egress.New(settings, time.Now, "evergrant/"+version()), Public: newAPI("", secret.Text{}).client, Now: time.Now,
		Progress: func(done, total int) { p.progressf("asking providers: %d of %d integrations", done, total) },
	}.Network(p.ctx, settings)
}

// server asks a running one. That there is none, or no key for it, is a note where
// nobody has named one.
func (c *doctorCommand) server(p *process, settings *config.Config) []doctor.Finding {
	named := c.URL != defaultServer || c.KeyFile != "" || p.getenv("EVERGRANT_API_KEY") != ""
	a, err := c.connect(p)
	var s doctor.Server
	if err == nil {
		s, err = a.examine(p)
	}
	if err != nil {
		f := doctor.Finding{
			Level: doctor.Note, Check: "server", Text: "no server was looked at: " + firstLine(err.Error()),
			Remedy: "Name it by --url and a key by --key-file or EVERGRANT_API_KEY; with the scopes manage and admin it tells most.",
		}
		if named {
			f.Level = doctor.Problem
		}
		return []doctor.Finding{f}
	}
	return s.Findings(settings)
}

// maxExamined is how many connections of each integration are looked at.
const maxExamined = 1000

// examine asks for all that the doctor judges. What the key may not ask is left out.
func (a *api) examine(p *process) (doctor.Server, error) {
	s := doctor.Server{Connections: map[string][]wire.Connection{}}
	if err := a.call(p.ctx, http.MethodGet, "/healthz", nil, &s.Health); err != nil {
		return s, err
	}
	var list wire.List[wire.Integration]
	if err := a.call(p.ctx, http.MethodGet, "/v1/integrations", nil, &list); err != nil {
		return s, err
	}
	s.Integrations = list.Items
	for n, i := range s.Integrations {
		p.progressf("looking at connections: %d of %d integrations", n, len(s.Integrations))
		for _, status := range []string{"active", "needs_reauth"} {
			some, err := a.some(p.ctx, i.Name, status)
			if err != nil && !forbidden(err) {
				return s, err
			}
			s.Connections[i.Name] = append(s.Connections[i.Name], some...)
		}
	}
	var d wire.Diagnosis
	s.Began = time.Now()
	err := a.call(p.ctx, http.MethodGet, "/v1/admin/doctor", nil, &d)
	s.Ended = time.Now()
	switch {
	case err == nil:
		s.Diagnosis = &d
	case !forbidden(err):
		return s, err
	}
	return s, nil
}

func forbidden(err error) bool {
	refused := new(apiError)
	return errors.As(err, refused) && (refused.Code == "forbidden" || refused.Code == "not_found")
}

// some lists connections of an integration, maxExamined at most.
func (a *api) some(ctx context.Context, integration, status string) ([]wire.Connection, error) {
	q := url.Values{"limit": {"100"}, "integration": {integration}, "status": {status}}
	var all []wire.Connection
	for len(all) < maxExamined {
		var page wire.List[wire.Connection]
		if err := a.call(ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &page); err != nil {
			return all, err
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			break
		}
		q.Set("cursor", *page.Next)
	}
	return all, nil
}

// tell prints findings for people.
func (c *doctorCommand) tell(p *process, r looked) {
	for _, f := range r.Findings {
		if f.Level == doctor.Fine && !c.All {
			continue
		}
		subject := f.Check
		if f.Integration != "" {
			subject += " of " + f.Integration
		}
		p.printf("%-7s  %s: %s\n", f.Level, clean(subject), clean(f.Text))
		if f.Remedy != "" {
			p.printf("         %s\n", clean(f.Remedy))
		}
	}
	p.printf("\nProblems: %d, warnings: %d, well: %d.\n", r.Problems, r.Warnings, doctor.Count(r.Findings, doctor.Fine))
}
