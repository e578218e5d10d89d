package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// importCommand brings connections in: one, or with --from many.
type importCommand struct {
	Server
	Source            []string          `arg:"" optional:"" help:"Name of the integration in the configuration. With --from: the files to read, none or - for stdin."`
	Owner             string            `short:"o" help:"Whose connection it is: your application's own id."`
	ClientCredentials bool              `help:"There is no user: use the client's own credentials."`
	TokenFile         string            `placeholder:"FILE" help:"File with the refresh token; else it is read from stdin, so that it stands in no process list."`
	Client            string            `help:"Name of the client that got the token, if it is not the current one."`
	Scope             string            `help:"What the token was granted."`
	ExternalID        string            `help:"Your id of this import: the same one again imports nothing anew."`
	Hold              bool              `help:"Store it and do not refresh it yet: another broker still does."`
	Tag               map[string]string `help:"Tags, NAME=VALUE."`

	From        string            `enum:"nango,csv,jsonl,env,evergrant," default:"" help:"Bring many in: nango, csv, jsonl, an export of another evergrant, or one from the environment: env."`
	TakeOver    bool              `help:"With --from: refresh each at once. The other broker has stopped for good."`
	DryRun      bool              `help:"With --from: only read and check. Nothing is imported."`
	Integration string            `short:"i" help:"With --from: the integration of rows that name none."`
	Rename      map[string]string `placeholder:"THEIRS=OURS" help:"With --from nango: integrations that have another name here."`
	Variable    []string          `placeholder:"NAME" help:"With --from nango: members of connection_config that are variables here."`
	TransferKey string            `placeholder:"FILE" help:"With --from evergrant: the file with the private half of the transfer key."`
	Concurrency int               `default:"8" help:"With --from: how many requests at once."`
}

// Run imports one connection and shows it, or many with a report.
func (c *importCommand) Run(p *process) error {
	if c.From != "" {
		return c.many(p)
	}
	if len(c.Source) != 1 || c.Owner == "" {
		return usagef("name the integration and its --owner, or with --from where connections are to be read\nTry: evergrant import --help")
	}
	return c.one(p)
}

func (c *importCommand) one(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	in := wire.ImportRequest{
		Integration: c.Source[0], Owner: c.Owner, Client: c.Client, Scope: c.Scope, ExternalID: c.ExternalID, Hold: c.Hold, Tags: c.Tag,
	}
	if c.ClientCredentials {
		in.GrantType = wire.ClientCredentials
	} else {
		token, err := c.refreshToken(p)
		if err != nil {
			return err
		}
		in.RefreshToken = token.Reveal()
	}
	var x wire.Connection
	if err := a.call(p.ctx, http.MethodPost, "/v1/connections", in, &x); err != nil {
		return a.namingIntegrations(p, err)
	}
	if x.Status == "connecting" {
		p.sayf("Stored. The provider has not answered yet; it is tried again.")
	}
	return c.print(p, x)
}

func (c *importCommand) refreshToken(p *process) (secret.Text, error) {
	if c.TokenFile != "" {
		return readSecretFile(c.TokenFile)
	}
	p.sayf("Refresh token (one line on stdin):")
	line, err := bufio.NewReader(io.LimitReader(p.stdin, maxAnswer)).ReadString('\n')
	if err != nil && err != io.EOF {
		return secret.Text{}, fmt.Errorf("refresh token: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return secret.Text{}, usagef("a refresh token is needed on stdin, or in a file named by --token-file")
	}
	return secret.New(line), nil
}

// importReport is what became of an import of many.
type importReport struct {
	From   string `json:"from"`
	DryRun bool   `json:"dry_run"`
	Total  int    `json:"total"`
	// Imported are those that this run brought in, Existed those that an earlier one had.
	Imported int `json:"imported"`
	Existed  int `json:"existed"`
	// TookTokens are those of Existed that are held and took newer tokens.
	TookTokens int `json:"took_tokens"`
	// Statuses counts the connections by the status that they have now.
	Statuses map[string]int  `json:"statuses"`
	Failed   int             `json:"failed"`
	Failures []importFailure `json:"failures"`
	// Left were not begun: the run ended before.
	Left    int     `json:"left"`
	Stopped string  `json:"stopped,omitempty"` // why
	TookS   float64 `json:"took_s"`
}

// importFailure is one that could not be imported. It never holds a token.
type importFailure struct {
	Place       string `json:"place"` // in the source
	Integration string `json:"integration"`
	Owner       string `json:"owner"`
	ExternalID  string `json:"external_id"`
	Code        string `json:"code"` // the problem's, or unreadable
	Detail      string `json:"detail"`
	Remedy      string `json:"remedy"`
}

const bothBrokers = `say who refreshes from now on:
  --hold       the other broker still does. Everything is stored and nothing is sent, until evergrant activate.
  --take-over  Evergrant does, at once. Stop the other broker for good before.
Where a provider rotates refresh tokens, two brokers that refresh the same one destroy it: each refresh ends the
token that the other one holds, and some providers end the whole grant when they see an old one again.`

// many imports what a source holds. It may be repeated: what was imported is found again
// by its external id.
func (c *importCommand) many(p *process) error {
	if c.From == "evergrant" {
		return c.arrivals(p)
	}
	if c.Hold == c.TakeOver && !c.DryRun {
		return usagef("%s", bothBrokers)
	}
	if c.Concurrency < 1 || c.Concurrency > 64 {
		return usagef("--concurrency is 1 to 64")
	}
	rows, err := c.rows(p)
	if err != nil {
		return err
	}
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	if err := c.check(p, a, rows); err != nil {
		return err
	}
	run := importing{importCommand: c, api: a, rows: rows, bulk: func(total int) *bulk { return newBulk(p, total, c.Concurrency) }}
	run.report = importReport{From: c.From, DryRun: c.DryRun, Total: len(rows), Statuses: map[string]int{}, Failures: []importFailure{}}
	began := time.Now()
	stopped := run.run(p)
	run.report.TookS = time.Since(began).Round(time.Millisecond).Seconds()
	return run.tell(p, stopped)
}

// rows reads the source wholly, before anything is sent.
func (c *importCommand) rows(p *process) ([]row, error) {
	if c.From == "env" {
		return readEnvironment(p.getenv), nil
	}
	read := map[string]rowReader{"csv": readCSV, "jsonl": readJSONL, "nango": nango(c.Rename, c.Variable)}[c.From]
	if len(c.Source) == 0 {
		c.Source = []string{"-"}
	}
	var all []row
	for _, name := range c.Source {
		some, err := readSource(p, name, read)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(c.Source) > 1 {
			for n := range some {
				some[n].place = name + ", " + some[n].place
			}
		}
		all = append(all, some...)
	}
	return all, nil
}

func readSource(p *process, name string, read rowReader) ([]row, error) {
	if name == "-" {
		return read(p.stdin)
	}
	f, err := openSecretFile(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return read(f)
}

// check marks the rows that cannot be imported, by what the server knows of integrations
// and by the rows themselves: one token in two rows would be refreshed as two.
func (c *importCommand) check(p *process, a *api, rows []row) error {
	var list wire.List[wire.Integration]
	if err := a.call(p.ctx, http.MethodGet, "/v1/integrations", nil, &list); err != nil {
		return err
	}
	clients, names := map[string][]string{}, []string{}
	for _, i := range list.Items {
		names = append(names, i.Name)
		clients[i.Name] = []string{}
		for _, client := range i.Clients {
			clients[i.Name] = append(clients[i.Name], client.Name)
		}
	}
	ids, tokens := map[[2]string]string{}, map[[sha256.Size]byte]string{}
	for n := range rows {
		r := &rows[n]
		if r.in.Integration == "" {
			r.in.Integration = c.Integration
		}
		r.in.Hold = r.in.Hold || c.Hold
		if r.problem != "" {
			continue
		}
		known, ok := clients[r.in.Integration]
		id, token := [2]string{r.in.Integration, r.in.ExternalID}, sha256.Sum256([]byte(r.in.RefreshToken))
		switch {
		case r.in.Integration == "":
			*r = r.refused("it names no integration", "Name it in the row, or for all rows by --integration.")
		case !ok:
			*r = r.refused("the server has no such integration for this key", "There are: "+strings.Join(names, ", ")+". Add it to the configuration, or name it as it is called there (--rename THEIRS=OURS with --from nango).")
		case r.in.Client != "" && !slices.Contains(known, r.in.Client):
			*r = r.refused("the integration has no client of that name", "There are: "+strings.Join(known, ", ")+". Tokens belong to the client that got them.")
		case r.in.Owner == "":
			*r = r.refused("it names no owner", "The owner is your application's own id of its user.")
		case r.in.ExternalID == "" && c.From != "env":
			*r = r.refused("it has no external_id", "Without one an import that was interrupted could not go on without doubling. Any id of yours will do that stays the same.")
		case r.in.RefreshToken == "" && r.in.AccessToken == "" && r.in.GrantType == "":
			*r = r.refused("it has no tokens", "Export it with its refresh token.")
		case r.in.ExternalID != "" && ids[id] != "":
			*r = r.refused("its external_id stands in "+ids[id]+" too", "Give each row of an integration one of its own.")
		case r.in.RefreshToken != "" && tokens[token] != "":
			*r = r.refused("its refresh token stands in "+tokens[token]+" too", "Two connections that refresh one token destroy it: keep one row.")
		default:
			ids[id], tokens[token] = r.place, r.place
		}
	}
	return nil
}

// importing is one run of an import of many.
type importing struct {
	*importCommand
	api  *api
	rows []row
	bulk func(total int) *bulk

	mu     sync.Mutex
	report importReport // guarded by mu
}

// run imports the rows that can be. Its error says why it ended early.
func (run *importing) run(p *process) error {
	var good []int
	for n, r := range run.rows {
		if r.problem != "" {
			run.fail(r, "unreadable", r.problem, r.remedy)
			continue
		}
		good = append(good, n)
	}
	if run.DryRun {
		return nil
	}
	b := run.bulk(len(good))
	stopped := b.run(func(ctx context.Context, n int) error { return run.send(ctx, run.rows[good[n]]) }, func(n int, err error) {
		if err != nil {
			run.failed(run.rows[good[n]], err)
		}
	})
	run.report.Left = len(good) - b.done
	return stopped
}

// send imports one. Without an external id it is not repeated by whoever calls, since a
// lost answer may have been an import.
func (run *importing) send(ctx context.Context, r row) error {
	var x wire.Connection
	status, err := run.api.callStatus(ctx, http.MethodPost, "/v1/connections", r.in, &x)
	if err != nil {
		if refused := new(apiError); r.in.ExternalID == "" && (!errors.As(err, refused) || refused.Status >= 500) {
			return apiError{Problem: wire.Problem{Code: "failed", Status: http.StatusConflict, Detail: firstLine(err.Error()) + "; whether it was imported is not known: evergrant list shows it"}}
		}
		return err
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	if status == http.StatusOK {
		run.report.Existed++
		if x.TookTokens {
			run.report.TookTokens++
		}
	} else {
		run.report.Imported++
	}
	run.report.Statuses[x.Status]++
	return nil
}

func (run *importing) failed(r row, err error) {
	var refused apiError
	errors.As(err, &refused)
	run.fail(r, refused.Code, refused.Detail, remedyFor(refused.Code))
}

// remedyFor is what to do about the refusal of one of many, "" where the detail says it.
func remedyFor(code string) string {
	return map[string]string{
		"token_refused": "The token is dead: the user took the access away, or another broker has refreshed it since. Export it anew and repeat; if it is refused again, the user must connect anew.",
		"forbidden":     "The API key's entry in the configuration must allow manage, this integration and this owner.",
	}[code]
}

func (run *importing) fail(r row, code, detail, remedy string) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.report.Failed++
	run.report.Failures = append(run.report.Failures, importFailure{
		Place: r.place, Integration: r.in.Integration, Owner: r.in.Owner, ExternalID: r.in.ExternalID, Code: code, Detail: detail, Remedy: remedy,
	})
}

// tell prints the report, and ends badly if not all is well.
func (run *importing) tell(p *process, stopped error) error {
	r := run.report
	if stopped != nil {
		r.Stopped = firstLine(stopped.Error())
	}
	if run.JSON {
		if err := p.printJSON(r); err != nil {
			return err
		}
	} else {
		r.print(p)
	}
	switch {
	case stopped != nil:
		return fmt.Errorf("%w\n%d are left. The same command goes on where this one ended: what was imported is not imported again", stopped, r.Left)
	case r.Failed > 0:
		return fmt.Errorf("%d of %d cannot be imported", r.Failed, r.Total)
	}
	return nil
}

func (r importReport) print(p *process) {
	for _, f := range r.Failures {
		p.printf("%s (%s): %s: %s\n", f.Place, clean(strings.TrimSpace(f.Integration+" "+f.ExternalID)), f.Code, cleanLines(f.Detail))
		if f.Remedy != "" {
			p.printf("    %s\n", clean(f.Remedy))
		}
	}
	if r.DryRun {
		p.printf("%d read, %d can be imported, %d cannot. Nothing was imported.\n", r.Total, r.Total-r.Failed, r.Failed)
		return
	}
	newer := ""
	if r.TookTokens > 0 {
		newer = fmt.Sprintf(" (%d took newer tokens)", r.TookTokens)
	}
	p.printf("%d read, %d imported, %d had been imported before%s, %d failed, %d left; took %s\n",
		r.Total, r.Imported, r.Existed, newer, r.Failed, r.Left, span(time.Duration(r.TookS*float64(time.Second))))
	if n := r.Statuses["connecting"]; n > 0 {
		p.printf("%s stored and not yet proved: the provider has not answered yet; the schedule goes on.\n", areMany(n))
	}
	if n := r.Statuses["held"]; n > 0 {
		p.printf("%s held: nothing is sent until they are activated. To switch: stop the other broker, export and import with --hold once more (held\n"+
			"connections take the newer tokens), and then evergrant activate --integration NAME.\n", areMany(n))
	}
}

// areMany is a count as a sentence begins with it.
func areMany(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}
