package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
)

// demoCommand takes every dialect through its life.
type demoCommand struct {
	JSON bool `help:"Print one line of JSON for each dialect and grant."`
}

// demoSteps are the steps of a life, in their order.
func demoSteps() []demoStep {
	return []demoStep{
		{"connect", (*life).connect},
		{"call", (*life).call},
		{"refresh", (*life).refresh},
		{"lost_answer", (*life).lostAnswer},
		{"revoked", (*life).revoked},
		{"disconnect", (*life).disconnect},
	}
}

// demoStep is one step. run returns a note for people; its error is why the step
// failed, or a notApplicable.
type demoStep struct {
	name string
	run  func(*life) (note string, err error)
}

// notApplicable is why a dialect has no such step.
type notApplicable string

func (n notApplicable) Error() string { return "n/a: " + string(n) }

// demoRow is what came of one life.
type demoRow struct {
	of      simulated
	results []demoResult
}

type demoResult struct {
	step string
	err  error // nil: as it must be
	note string
	// reconnected: well, by a second consent of the user.
	reconnected bool
}

func (r demoResult) failed() bool {
	_, na := r.err.(notApplicable)
	return r.err != nil && !na
}

func (r demoRow) failed() bool {
	for _, result := range r.results {
		if result.failed() {
			return true
		}
	}
	return false
}

// MarshalJSON writes each step as true, false, or a text that begins with n/a.
func (r demoRow) MarshalJSON() ([]byte, error) {
	notes := map[string]string{}
	line := map[string]any{"provider": r.of.provider, "grant": r.of.grant, "integration": r.of.name, "notes": notes}
	for _, result := range r.results {
		switch {
		case result.failed():
			line[result.step], notes[result.step] = false, result.err.Error()
		case result.err != nil:
			line[result.step] = result.err.Error()
		default:
			line[result.step] = true
			if result.note != "" {
				notes[result.step] = result.note
			}
		}
	}
	return json.Marshal(line)
}

// Run runs all lives, one after the other on one clock, and prints them.
func (c *demoCommand) Run(p *process) error {
	began := time.Now()
	st, err := newStage(p.ctx)
	if err != nil {
		return err
	}
	defer st.close()
	from := st.clock.Now()
	rows, err := c.rows(p, st)
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range rows {
		if r.failed() {
			failed++
		}
	}
	if !c.JSON {
		printDemo(p, rows)
		p.printf("\n%d of %d as they must be, in %.1f s; the clock went %s.\n", len(rows)-failed, len(rows),
			time.Since(began).Seconds(), span(st.clock.Now().Sub(from)))
	}
	if failed > 0 {
		return errReported
	}
	return nil
}

func (c *demoCommand) rows(p *process, st *stage) ([]demoRow, error) {
	var rows []demoRow
	for _, s := range simulatedIntegrations() {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		row, err := st.live(s)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
		if c.JSON {
			line, err := json.Marshal(row)
			if err != nil {
				return nil, err
			}
			p.printf("%s\n", line)
		}
	}
	return rows, nil
}

func printDemo(p *process, rows []demoRow) {
	head := []string{"PROVIDER", "GRANT"}
	for _, step := range demoSteps() {
		head = append(head, strings.ToUpper(strings.ReplaceAll(step.name, "_", " ")))
	}
	lines, remarks := [][]string{head}, [][]string{}
	for _, r := range rows {
		line := []string{r.of.title, string(r.of.grant)}
		for _, result := range r.results {
			switch {
			case result.failed():
				line = append(line, "FAILED")
				remarks = append(remarks, []string{r.of.name, result.step, result.err.Error()})
			case result.err != nil:
				line = append(line, "n/a")
				remarks = append(remarks, []string{r.of.name, result.step, result.err.Error()})
			default:
				line = append(line, map[bool]string{true: "reconnect", false: "ok"}[result.reconnected])
				if result.note != "" {
					remarks = append(remarks, []string{r.of.name, result.step, result.note})
				}
			}
		}
		lines = append(lines, line)
	}
	p.table(lines)
	p.printf("\nreconnect: the answer held the only good token, so the user consented again, and the connection is the same.\n" +
		"n/a: there is nothing of the kind.\n\n")
	p.table(remarks)
}

// dialectSays is what a simulated service does that shows from outside; the demo holds
// it, and the broker's picture of it, to that.
type dialectSays struct {
	// oldAccessDies: a refresh ends the access token handed out before.
	oldAccessDies bool
	// spendsAtOnce: a refresh whose answer is lost has spent the refresh token, and
	// nothing but the user's consent brings another one.
	spendsAtOnce bool
	// revokes: there is a revocation endpoint.
	revokes bool
}

func saysOf(s simulated) dialectSays {
	if s.grant == provider.GrantClientCredentials {
		return dialectSays{}
	}
	switch s.provider {
	case "askfred":
		return dialectSays{oldAccessDies: true, spendsAtOnce: true, revokes: true}
	case "redbooth", "fflogs":
		return dialectSays{oldAccessDies: true, spendsAtOnce: true}
	default: // FreeAgent and WhenFresh keep what they gave
		return dialectSays{}
	}
}

// live takes one integration through all steps. A step after a failed connect fails
// too: there is nothing to try it on.
func (st *stage) live(s simulated) (demoRow, error) {
	who, err := newPerson("alice")
	if err != nil {
		return demoRow{}, err
	}
	l := &life{stage: st, s: s, says: saysOf(s), who: who}
	row := demoRow{of: s}
	for _, step := range demoSteps() {
		result := demoResult{step: step.name}
		if l.conn.ID == "" && step.name != "connect" {
			result.err = fmt.Errorf("there is no connection to try it on")
		} else {
			l.reconnected = false
			result.note, result.err = step.run(l)
			result.reconnected = l.reconnected
		}
		row.results = append(row.results, result)
	}
	return row, nil
}
