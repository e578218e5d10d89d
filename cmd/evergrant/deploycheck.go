package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/doctor"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// deployCheckCommand looks at a deployment after it was made or changed, from outside.
type deployCheckCommand struct {
	URL     string `arg:"" help:"Where the deployment stands: the stack's output Origin."`
	Config  string `short:"c" placeholder:"FILE" env:"EVERGRANT_CONFIG" help:"The configuration that was deployed; evergrant.yaml where there is one."`
	KeyFile string `placeholder:"FILE" env:"EVERGRANT_KEY_FILE" help:"File with an API key, else EVERGRANT_API_KEY. With the scopes manage and admin it tells most."`
	Stack   string `help:"On AWS, the stack's name: its schedule and alarms are looked at, too, by the program aws with your credentials."`
	All     bool   `help:"Show what is well, too."`
	JSON    bool   `help:"Print JSON."`
}

// Run looks, prints, and fails where something needs a person.
func (c *deployCheckCommand) Run(p *process) error {
	base, ok := doctor.Origin(c.URL)
	if u, err := url.Parse(base); !ok || err != nil || u.Scheme != "https" && !isLoopback(u.Hostname()) {
		return usagef("URL must be an https origin without a path, or http on this machine")
	}
	d := doctorCommand{Server: Server{URL: base, KeyFile: c.KeyFile, JSON: c.JSON}, All: c.All}
	settings, all, err := loadToLookAt(c.Config)
	if err != nil {
		return err
	}
	if settings != nil {
		if settings.PublicURL == "" {
			settings.PublicURL = base
		}
		all = append(all, doctor.Configuration(settings, time.Now())...)
		all = append(all, d.network(p, settings)...)
	}
	integrations, found := c.server(p, &d, settings)
	all = append(all, found...)
	visitor := doctor.Visitor{Client: newAPI("", secret.Text{}).client, UserAgent: "evergrant/" + version(), Now: time.Now}
	all = append(all, visitor.Visit(p.ctx, base, integrations)...)
	if c.Stack != "" {
		s, err := p.askStack(c.Stack)
		if err != nil {
			return err
		}
		all = append(all, s.Findings()...)
	}
	return d.conclude(p, once(all))
}

// server asks the deployment what an API key may know. The integrations are its own, or
// without a key those of the configuration, at the deployment's address.
func (c *deployCheckCommand) server(p *process, d *doctorCommand, settings *config.Config) ([]wire.Integration, []doctor.Finding) {
	a, err := d.connect(p)
	if err == nil {
		s, err := a.examine(p)
		if err == nil {
			return s.Integrations, s.Findings(settings)
		}
		return configured(settings), []doctor.Finding{{
			Level: doctor.Problem, Check: "server", Text: "the deployment does not answer as it should: " + firstLine(err.Error()), Remedy: "Look at the log of its API function.",
		}}
	}
	return configured(settings), []doctor.Finding{{
		Level: doctor.Note, Check: "server", Text: "the deployment was looked at from outside alone: " + firstLine(err.Error()), Remedy: "With a key of the scopes manage and admin its schedule, secrets, clients and connections are looked at, too.",
	}}
}

func configured(settings *config.Config) []wire.Integration {
	if settings == nil {
		return nil
	}
	var all []wire.Integration
	for n := range settings.Integrations {
		i := &settings.Integrations[n]
		all = append(all, wire.Integration{Name: i.Name, RedirectURI: i.RegisteredURI(settings.PublicURL)})
	}
	return all
}

// once leaves out what two looks have found alike.
func once(all []doctor.Finding) []doctor.Finding {
	var out []doctor.Finding
	for _, f := range all {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// askStack asks AWS for a stack's schedule and alarms. This program has no AWS library; the
// operator who has deployed with SAM has AWS's own command line, with the rights to look.
func (p *process) askStack(name string) (doctor.Stack, error) {
	s := doctor.Stack{Name: name, Alarms: map[string]*doctor.Alarm{}, Schedules: map[string]string{}}
	var resources struct {
		StackResourceSummaries []struct{ LogicalResourceID, PhysicalResourceID, ResourceType, ResourceStatus string }
	}
	if err := p.aws(&resources, "cloudformation", "list-stack-resources", "--stack-name", name); err != nil {
		return s, err
	}
	named := map[string]string{} // alarms, by their physical names
	for _, r := range resources.StackResourceSummaries {
		if !strings.HasSuffix(r.ResourceStatus, "_COMPLETE") {
			s.Unsettled = append(s.Unsettled, r.LogicalResourceID)
		}
		switch r.ResourceType {
		case "AWS::CloudWatch::Alarm":
			named[r.PhysicalResourceID] = r.LogicalResourceID
			s.Alarms[r.LogicalResourceID] = nil
		case "AWS::Scheduler::Schedule":
			var schedule struct{ State string }
			err := p.aws(&schedule, "scheduler", "get-schedule", "--name", r.PhysicalResourceID)
			if err != nil && !strings.Contains(err.Error(), "ResourceNotFoundException") {
				return s, err
			}
			s.Schedules[r.LogicalResourceID] = schedule.State
		}
	}
	if len(named) == 0 {
		return s, nil
	}
	var alarms struct {
		MetricAlarms []struct {
			AlarmName, StateValue string
			ActionsEnabled        bool
			AlarmActions          []string
		}
	}
	arguments := []string{"cloudwatch", "describe-alarms", "--alarm-names"}
	for physical := range named {
		arguments = append(arguments, physical)
	}
	if err := p.aws(&alarms, arguments...); err != nil {
		return s, err
	}
	for _, a := range alarms.MetricAlarms {
		if logical, ok := named[a.AlarmName]; ok {
			s.Alarms[logical] = &doctor.Alarm{State: a.StateValue, Enabled: a.ActionsEnabled, Actions: len(a.AlarmActions)}
		}
	}
	return s, nil
}

// aws runs AWS's command line and decodes what it prints.
func (p *process) aws(out any, args ...string) error {
	p.progressf("asking AWS: %s %s", args[0], args[1])
	cmd := exec.CommandContext(p.ctx, "aws", append(args, "--output", "json")...) // #nosec G204 -- no shell: our own words, and names as arguments of their own
	cmd.Env = append(p.environ(), "AWS_PAGER=")
	var said bytes.Buffer
	cmd.Stderr = &said
	b, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("--stack needs AWS's command line, the program aws, which is not here")
	case err != nil:
		return fmt.Errorf("aws %s %s: %w: %s", args[0], args[1], err, clean(strings.TrimSpace(said.String())))
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("aws %s %s printed no JSON: %w", args[0], args[1], err)
	}
	return nil
}
