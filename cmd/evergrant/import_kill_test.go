package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// TestImportTenThousand moves ten thousand connections in: stored while another broker
// still refreshes them, and then taken over. On the way the command is killed twice and
// the server once; each time the same command goes on. The provider rotates and ends the
// grant of whoever sends a spent token, so that a token sent twice could not be hidden.
func TestImportTenThousand(t *testing.T) {
	t.Parallel()
	const many = manyRows
	sims := startRotating(t)
	d := placeDeployment(t)
	d.configure("pasted", map[string]any{"client_id": pastedClient, "provider": rotatingEntry(sims)})
	source := d.writeRows(sims, many)
	d.start()
	t.Cleanup(func() { d.kill() })

	args := []string{"import", "--from", "jsonl", source, "--hold", "--concurrency", "32", "--json"}
	cli := d.begin(args...)
	d.awaitStored(many / 5)
	d.killCommand(cli)
	cli = d.begin(args...)
	d.awaitStored(2 * many / 5)
	d.kill() // the server; the command bears it and goes on
	d.start()
	d.awaitStored(3 * many / 5)
	d.killCommand(cli)
	var report importReport
	d.run(&report, args...)
	if report.Total != many || report.Existed+report.Imported != many || report.Statuses["held"] != many || report.Failed+report.Left != 0 || report.Existed < 3*many/5-100 {
		t.Fatalf("%+v", report)
	}
	if sent := sims.Requests("whenfresh")["refresh_token"]; sent != 0 {
		t.Fatalf("%d refreshes were sent for held connections", sent)
	}
	t.Logf("%d stored in several runs; the last: %d in %.1f s", many, report.Imported, report.TookS)

	began := time.Now()
	switching := []string{"activate", "--integration", "pasted", "--concurrency", "32", "--json"}
	cli = d.begin(switching...)
	d.await(func() error { return atLeast(sims.Requests("whenfresh")["refresh_token"], many/4) })
	d.killCommand(cli)
	var switched eachReport
	d.run(&switched, switching...)
	if switched.Total > 3*many/4 || switched.Done != switched.Total || switched.Left != 0 {
		t.Fatalf("%+v", switched)
	}
	t.Logf("activated in two runs, %.1f s", time.Since(began).Seconds())
	d.noneDoubled(sims, many)
}

const pastedClient = "r5e6j0k1oevsfgmb9secod9qd"

// startRotating is a simulator whose pasted tokens rotate without mercy.
func startRotating(t *testing.T) *simprovider.Server {
	t.Helper()
	p := &interrupted{} // never armed
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	sims := simprovider.New(simprovider.Config{BaseURL: srv.URL, TokenTTL: 30 * 24 * time.Hour})
	p.next = sims
	if err := sims.SetPolicy("whenfresh", simprovider.Policy{Rotates: true, Previous: simprovider.DiesAtOnce, ReuseEndsGrant: true}); err != nil {
		t.Fatal(err)
	}
	return sims
}

func rotatingEntry(sims *simprovider.Server) map[string]any {
	return map[string]any{
		"token_endpoint": sims.Endpoints("whenfresh")["token_endpoint"], "token_endpoint_auth_method": "none", "pkce": "unsupported",
		"grant_types_supported": []string{"refresh_token"},
		"refresh":               map[string]any{"supported": true, "rotation": "always", "previous_token": "dies_at_once", "reuse": "revokes_family"},
	}
}

// writeRows writes a source of as many connections as that.
func (d *deployment) writeRows(sims *simprovider.Server, many int) string {
	d.t.Helper()
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	for n := range many {
		row := wire.ImportRequest{
			Integration: "pasted", Owner: fmt.Sprintf("tenant-%d", n/4), ExternalID: fmt.Sprintf("there-%d", n), RefreshToken: sims.IssueRefreshToken("whenfresh", "alice"),
		}
		if err := lines.Encode(row); err != nil {
			d.t.Fatal(err)
		}
	}
	path := filepath.Join(d.folder, "rows.jsonl")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// command is the command line as a process of its own.
func (d *deployment) command(args ...string) *exec.Cmd {
	d.t.Helper()
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(d.t.Context(), self, args...)
	cmd.Env = append(os.Environ(), runServe+"=1", "EVERGRANT_URL="+d.api.base, "EVERGRANT_API_KEY="+d.api.key.Reveal())
	return cmd
}

// run runs a command to its good end and reads the JSON that it prints.
func (d *deployment) run(into any, args ...string) {
	d.t.Helper()
	cmd := d.command(args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%v: %v\n%s\n%.2000s", args, err, said.Bytes(), out)
	}
	if err := json.Unmarshal(out, into); err != nil {
		d.t.Fatalf("%v: %v\n%.2000s", args, err, out)
	}
}

// begin starts a command.
func (d *deployment) begin(args ...string) *exec.Cmd {
	d.t.Helper()
	cli := d.command(args...)
	if err := cli.Start(); err != nil {
		d.t.Fatal(err)
	}
	return cli
}

// killCommand ends a command without a word.
func (d *deployment) killCommand(cli *exec.Cmd) {
	_ = cli.Process.Kill() // it may have ended
	_ = cli.Wait()         // it was killed
}

// awaitStored waits until that row is stored, and so about as many as that.
func (d *deployment) awaitStored(row int) {
	d.t.Helper()
	path := fmt.Sprintf("/v1/connections?owner=tenant-%d", row/4)
	d.await(func() error {
		var page wire.List[wire.Connection]
		if err := d.call(http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		return atLeast(len(page.Items), 1)
	})
}

func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d, not yet %d", got, want)
	}
	return nil
}

// noneDoubled checks that there are as many connections as there were rows, each alive
// and each refreshed once.
func (d *deployment) noneDoubled(sims *simprovider.Server, many int) {
	d.t.Helper()
	// Those whose caller was killed before they were sent are the schedule's, a minute
	// later; a caller who wants their token now has them refreshed at once.
	waiting, err := d.api.inStatus(d.t.Context(), "pasted", "connecting")
	if err != nil || len(waiting) > 32 {
		d.t.Fatalf("%d are not yet refreshed, %v", len(waiting), err)
	}
	for _, x := range waiting {
		d.await(func() error { return d.refresh(x) })
	}
	seen := map[string]bool{}
	for _, status := range []string{"active", "connecting", "held", "needs_reauth", "disconnected"} {
		all, err := d.api.inStatus(d.t.Context(), "pasted", status)
		if err != nil {
			d.t.Fatal(err)
		}
		if status != "active" && len(all) > 0 {
			d.t.Errorf("%d are %s", len(all), status)
		}
		for _, x := range all {
			seen[x.ID] = true
		}
	}
	if len(seen) != many {
		d.t.Errorf("%d connections of %d rows", len(seen), many)
	}
	if sent := sims.Requests("whenfresh")["refresh_token"]; sent != many {
		d.t.Errorf("%d refreshes for %d connections", sent, many)
	}
}
