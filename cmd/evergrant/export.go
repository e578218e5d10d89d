package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// holdCommand stops the refreshing of connections that another broker goes on with.
type holdCommand struct {
	Server
	ID          string `arg:"" optional:"" help:"The connection, conn_…"`
	Integration string `short:"i" help:"All active connections of an integration."`
	Concurrency int    `default:"8" help:"How many at once."`
}

// Run holds one and shows it, or all of an integration with a report.
func (c *holdCommand) Run(p *process) error {
	return c.change(p, activateCommand{c.Server, c.ID, c.Integration, c.Concurrency}, "active", "/hold", "held")
}

// transferKeyCommand makes the key of a move.
type transferKeyCommand struct {
	Out string `arg:"" help:"File for the private half, which opens an export. It must not exist."`
}

// Run writes the private half and prints the public one.
func (c *transferKeyCommand) Run(p *process) error {
	private, public, err := secret.NewTransferKey()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(private.Reveal() + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	p.printf("%s\n", public)
	p.sayf("%s opens what is exported for this key: keep it as you would the tokens, and erase it after the move.", c.Out)
	return nil
}

// exportCommand writes held connections, sealed, into a file.
type exportCommand struct {
	Server
	Integration string `short:"i" required:"" help:"Name of the integration whose held connections leave."`
	To          string `required:"" placeholder:"KEY" help:"The public half of a transfer key, evgmovepub_… (evergrant keys new-transfer makes one)."`
	Out         string `required:"" placeholder:"FILE" help:"File to write. It must not exist."`
}

// exportHead is the first line of an export.
type exportHead struct {
	Export      int    `json:"evergrant_export"` // version of the form: 1
	Integration string `json:"integration"`
	Recipient   string `json:"recipient"`
}

// Run writes page after page, so that it takes any number.
func (c *exportCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	total, err := c.write(p, a, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%w\n%s is not whole: erase it", err, c.Out)
	}
	return c.show(p, map[string]any{"exported": total, "file": c.Out}, func() {
		p.printf("exported: %d held connections of %s into %s\n", total, c.Integration, c.Out)
		if total == 0 {
			p.printf("Only held connections leave: evergrant hold --integration %s\n", c.Integration)
		}
	})
}

func (c *exportCommand) write(p *process, a *api, f io.Writer) (total int, err error) {
	lines := json.NewEncoder(f)
	if err := lines.Encode(exportHead{1, c.Integration, c.To}); err != nil {
		return 0, err
	}
	defer p.progressEnd()
	request := wire.MoveOutRequest{Integration: c.Integration, Recipient: c.To}
	for {
		var page wire.List[wire.Moved]
		if err := a.call(p.ctx, http.MethodPost, "/v1/admin/move-out", request, &page); err != nil {
			return total, err
		}
		for _, m := range page.Items {
			if err := lines.Encode(m); err != nil {
				return total, err
			}
		}
		total += len(page.Items)
		p.progressf("%d connections so far", total)
		if page.Next == nil {
			return total, nil
		}
		request.Cursor = *page.Next
	}
}

// arrivals imports an export of another deployment. A repeat changes nothing.
func (c *importCommand) arrivals(p *process) error {
	if len(c.Source) != 1 || c.TransferKey == "" {
		return usagef("name one export and the file with the private half of its key: evergrant import --from evergrant FILE --transfer-key KEYFILE")
	}
	if c.TakeOver || c.DryRun {
		return usagef("an export of Evergrant is held first, and evergrant activate begins to refresh: --take-over and --dry-run do not go with it")
	}
	private, err := readSecretFile(c.TransferKey)
	if err != nil {
		return err
	}
	all, err := readExport(c.Source[0], private)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Source[0], err)
	}
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards r
	r := eachReport{Total: len(all), Statuses: map[string]int{}, Failures: []eachFailure{}}
	b := newBulk(p, len(all), c.Concurrency)
	stopped := b.run(func(ctx context.Context, n int) error {
		text, err := secret.OpenTransfer(private, all[n].ID, all[n].Sealed)
		if err != nil {
			return apiError{Problem: wire.Problem{Code: "unreadable", Status: http.StatusBadRequest, Detail: err.Error()}}
		}
		var x wire.Connection
		if err := a.call(ctx, http.MethodPost, "/v1/admin/move-in", wire.MoveInRequest{Connection: text.Reveal()}, &x); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		r.Done++
		r.Statuses[x.Status]++
		return nil
	}, func(n int, err error) {
		if refused := (apiError{}); errors.As(err, &refused) {
			mu.Lock()
			defer mu.Unlock()
			r.Failures = append(r.Failures, eachFailure{ID: all[n].ID, Code: refused.Code, Detail: refused.Detail})
		}
	})
	r.Left = r.Total - b.done
	return c.Server.report(p, r, "imported", stopped)
}

// readExport reads an export and checks that it is for this key.
func readExport(path string, private secret.Text) ([]wire.Moved, error) {
	public, err := secret.TransferPublic(private)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	lines := json.NewDecoder(bufio.NewReader(f))
	var head exportHead
	switch err := lines.Decode(&head); {
	case err != nil || head.Export != 1:
		return nil, errors.New("it is no export of evergrant")
	case head.Recipient != public:
		return nil, errors.New("it is sealed for another transfer key")
	}
	var all []wire.Moved
	for {
		var m wire.Moved
		if err := lines.Decode(&m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("after %d connections it is broken: export it anew", len(all))
		}
		all = append(all, m)
	}
}
