package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// webhooksCommand is about the dead letters of serve's webhooks.
type webhooksCommand struct {
	Dead   deadLettersCommand    `cmd:"" help:"List the events that were given up after three days."`
	Replay replayWebhooksCommand `cmd:"" help:"Send them anew."`
}

type deadLettersCommand struct{ Server }

// Run prints a table.
func (c *deadLettersCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	var list wire.List[wire.DeadLetter]
	if err := a.call(p.ctx, http.MethodGet, "/v1/admin/webhook-dead-letters", nil, &list); err != nil {
		return err
	}
	if c.JSON {
		return p.printJSON(list)
	}
	rows := [][]string{{"EVENT", "TYPE", "ENDPOINT", "TRIES", "GIVEN UP", "BECAUSE"}}
	for _, l := range list.Items {
		rows = append(rows, []string{l.ID, l.Type, l.Endpoint, strconv.FormatInt(l.Tries, 10), l.At.Format(time.RFC3339), clean(l.Error)})
	}
	p.table(rows)
	return nil
}

type replayWebhooksCommand struct{ Server }

// Run has the server send all dead letters anew.
func (c *replayWebhooksCommand) Run(p *process) error { return c.replay(p, "webhook-replay") }
