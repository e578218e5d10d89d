package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// standInCommand is about stand-in refresh tokens.
type standInCommand struct {
	New    newStandInCommand    `cmd:"" help:"Make a stand-in. It is printed once."`
	List   listStandInsCommand  `cmd:"" help:"List the stand-ins of a connection."`
	Revoke revokeStandInCommand `cmd:"" help:"Revoke a stand-in."`
}

type newStandInCommand struct {
	Target
	Name       string `required:"" help:"What will use it, such as rclone."`
	WithClient bool   `help:"Make a client id and secret too, without which it is worth nothing. Else the software may send any, or none."`
}

// Run makes a stand-in and prints what has to be typed into the other software.
func (c *newStandInCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	var made wire.NewStandIn
	if err := a.call(p.ctx, http.MethodPost, path+"/stand-ins", wire.StandInRequest{Name: c.Name, WithClient: c.WithClient}, &made); err != nil {
		return err
	}
	return c.show(p, made, func() {
		id, key := "any", "any"
		if made.ClientID != nil {
			id, key = text(made.ClientID), text(made.ClientSecret)
		}
		p.facts([][]string{
			{"refresh token", made.Token}, {"token endpoint", made.TokenEndpoint}, {"client id", id}, {"client secret", key},
		})
		p.printf("\nPut these into %s. They are not shown again. evergrant stand-in revoke ends it.\n", clean(c.Name))
	})
}

type listStandInsCommand struct{ Target }

// Run prints a table.
func (c *listStandInsCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	list, err := a.standIns(p, path)
	if err != nil {
		return err
	}
	return c.show(p, list, func() {
		rows := [][]string{{"ID", "NAME", "CLIENT", "MADE BY", "MADE"}}
		for _, s := range list {
			rows = append(rows, []string{s.ID, s.Name, map[bool]string{true: "its own", false: "any"}[s.WithClient], s.CreatedBy, relative(&s.CreatedAt, time.Now())})
		}
		if len(list) == 0 {
			p.sayf("No stand-ins. evergrant stand-in new CONNECTION --name NAME makes one.")
			return
		}
		p.table(rows)
	})
}

func (a *api) standIns(p *process, path string) ([]wire.StandIn, error) {
	var list wire.List[wire.StandIn]
	err := a.call(p.ctx, http.MethodGet, path+"/stand-ins", nil, &list)
	return list.Items, err
}

type revokeStandInCommand struct {
	Target
	StandIn string `arg:"" help:"Its id, st_…, or its name if no other one has it."`
}

// Run revokes it.
func (c *revokeStandInCommand) Run(p *process) error {
	a, path, err := c.open(p)
	if err != nil {
		return err
	}
	id, err := c.find(p, a, path)
	if err != nil {
		return err
	}
	if err := a.call(p.ctx, http.MethodDelete, path+"/stand-ins/"+id, nil, nil); err != nil {
		return err
	}
	return c.show(p, struct {
		Revoked string `json:"revoked"`
	}{id}, func() {
		p.printf("revoked: %s. An access token that it was given lives on until it expires.\n", id)
	})
}

func (c *revokeStandInCommand) find(p *process, a *api, path string) (string, error) {
	list, err := a.standIns(p, path)
	if err != nil {
		return "", err
	}
	var ids, names []string
	for _, s := range list {
		if s.ID == c.StandIn {
			return s.ID, nil
		}
		if s.Name == c.StandIn {
			ids = append(ids, s.ID)
		}
		names = append(names, s.Name)
	}
	switch {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		return "", usagef("%d stand-ins have the name %s: name one by its id: %s", len(ids), clean(c.StandIn), strings.Join(ids, ", "))
	case len(names) == 0:
		return "", fmt.Errorf("the connection has no stand-ins")
	}
	return "", fmt.Errorf("the connection has no stand-in %s; it has %s", clean(c.StandIn), strings.Join(names, ", "))
}
