package threats_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("T51", "internal/connection/writes.go", `case w.Older:`, `case w.Older && w.Over != "":`)

func TestThreat_T51_a_restored_table_sends_no_spent_token_that_would_end_its_grant(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		w := brokertest.New(t, brokertest.Options{Profile: "family", Store: store})
		id := w.Connect("alice")
		backup := w.Item(id)
		w.Advance(time.Minute)
		w.Must(w.Home.Force(id))
		w.Advance(time.Minute)
		w.PutItem(id, backup)
		sent := w.Sent("refresh_token")
		p := w.Start(func(c *broker.Config) { c.Epoch = 1 })
		if err := p.Force(id); err == nil || w.Sent("refresh_token") != sent {
			t.Errorf("the spent token was sent: %v", err)
		}
		if r := w.Record(id); r.Status != connection.Active || r.DoubtAt == 0 {
			t.Errorf("%s, in doubt since %d", r.Status, r.DoubtAt)
		}
	})
}

var _ = mutant("T52", "internal/refresh/disconnectdriver.go", `DisconnectResult{Revoke: run.Provider.Revoke(ctx, run.link.Entry, run.cred, token, hint)}`, `DisconnectResult{Revoke: provider.RevokeResult(hint[:0]) + provider.RevokeDone}`)

func TestThreat_T52_tokens_of_a_backup_are_dead_at_the_provider(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "none"})
	id := w.Connect("alice")
	access, refreshToken := w.Tokens(id) // as a backup has them, and a key that opens it
	receipt, err := w.Home.Disconnect(t.Context(), brokertest.Caller(), id)
	if err != nil || receipt.Revoked != "at_provider" {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
	if access == "" || refreshToken == "" {
		t.Fatal("there was nothing to revoke: the test shows nothing")
	}
	if w.LiveTokens() != 0 {
		t.Errorf("%d tokens live on", w.LiveTokens())
	}
}

var (
	_ = mutant("T53", "internal/connection/writes.go", `Remove: []string{"at", "rt", "secret_fields", "proving"},`, `Remove: []string{"at", "secret_fields", "proving"},`)
	_ = mutant("T53", "internal/connection/writes.go", `Remove: []string{"at", "rt", "secret_fields", "proving"},`, `Remove: []string{"rt", "secret_fields", "proving"},`)
)

func TestThreat_T53_nothing_of_a_token_is_left_after_a_disconnect(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		w := brokertest.New(t, brokertest.Options{Profile: "immediate", Store: store})
		id := w.Connect("alice")
		w.Must(w.Home.Force(id))
		if _, err := w.Home.Disconnect(t.Context(), brokertest.Caller(), id); err != nil {
			t.Fatal(err)
		}
		w.Advance(time.Hour)
		w.Home.TickNow()
		for key, i := range w.Items() {
			for _, name := range []string{"at", "rt", "secret_fields", "code", "verifier"} {
				if i[name] != nil {
					t.Errorf("%s still holds %s", key, name)
				}
			}
		}
		if r := w.Record(id); r.Sched != "" || r.Todo != "" || w.InRescue() != 0 {
			t.Errorf("the receipt is filed: sched %q, todo %q, %d rescued", r.Sched, r.Todo, w.InRescue())
		}
		w.CheckSecrets()
	})
}

var _ = mutant("T62", "internal/httpapi/browser.go", `	if u := x.Keys.PublicURL; u != "" {
		return strings.TrimSuffix(u, "/"), nil`, `	if u := x.Keys.PublicURL; u != "" {
		return "http://" + x.r.Host, nil`)

func TestThreat_T62_no_header_builds_the_redirect_URI(t *testing.T) {
	w := newWorld(t)
	_, link := w.Session("redbooth", "tenant")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	w.Must(err)
	r.Host = "evil.example"
	for _, name := range []string{"Forwarded", "X-Forwarded-Host", "X-Original-Host", "X-Forwarded-Server"} {
		r.Header.Set(name, "host=evil.example")
	}
	r.Header.Set("X-Forwarded-Proto", "https")
	got := w.Browser().Do(r).Want(t, http.StatusFound, "").Location(t).Query().Get("redirect_uri")
	if got != w.Origin+"/callback/redbooth" {
		t.Errorf("redirect_uri is %s", got)
	}
}

var _ = mutant("T65", "internal/refresh/driver.go", `gen, a, run.begun/1000)`, `gen, a, run.ms()/1000)`)

func TestThreat_T65_a_token_lives_from_the_request_on(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "none"})
	id := w.Connect("alice")
	w.Advance(time.Minute)
	began := w.Unix()
	p := w.Start()
	p.OnWire(brokertest.OnSend, 1, brokertest.After[*http.Response](func() { w.Advance(9 * time.Second) }))
	w.Must(p.Force(id))
	if r := w.Record(id); r.ExpiresAt != began+r.Life() || r.Life() <= 0 {
		t.Errorf("asked at %d, a life of %d s, expires at %d", began, r.Life(), r.ExpiresAt)
	}
}

var _ = noMutant("T67", "the test reads the source, which the harness does not change; time itself cannot be asserted")

// TestThreat_T67_secrets_are_compared_in_constant_time: == on what a secret holds ends at
// the first difference.
func TestThreat_T67_secrets_are_compared_in_constant_time(t *testing.T) {
	early := regexp.MustCompile(`Reveal\(\)\s*[!=]=|[!=]=\s*\S*Reveal\(\)|strings\.EqualFold\([^)]*Reveal`)
	compared := 0
	for _, dir := range []string{"internal", "cmd", "functions"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "simprovider") ||
				strings.Contains(path, "brokertest") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for n, line := range bytes.Split(source, []byte("\n")) {
				if early.Match(line) {
					t.Errorf("%s:%d compares a secret with an early end: %s", path, n+1, bytes.TrimSpace(line))
				}
			}
			compared += bytes.Count(source, []byte("subtle.ConstantTimeCompare("))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if compared < 3 {
		t.Errorf("only %d comparisons in constant time were found: the test looks at the wrong place", compared)
	}
}

var _ = noMutant("T69", "there is no expansion to take out but the one of the file, which the test shows to be the only one")

func TestThreat_T69_only_the_file_has_its_references_expanded(t *testing.T) {
	const injected = "${env:CLIENT_SECRET}"
	w := newWorld(t)
	w.SetSecret("CANARY-expanded")
	session := w.Call("all", "POST", "/v1/connect-sessions", `{"integration":"redbooth","owner":"`+injected+`","return_to":"http://127.0.0.1:9/back","tags":{"a":"`+injected+`"}}`).
		Want(t, http.StatusCreated, "").JSON(t)
	home := w.Return(w.Browser(), session["authorize_url"].(string), "alice")
	made := w.Confirm("all", session["id"].(string), home.Get("evergrant_confirm"), injected).Want(t, http.StatusOK, "").JSON(t)
	if made["owner"] != injected {
		t.Errorf("the owner became %v", made["owner"])
	}
	w.WantNoSecrets("what is stored and told", w.Log.String())
	if strings.Contains(w.Log.String(), "CANARY-expanded") {
		t.Error("the log holds what a reference leads to")
	}
	// A reference within what another one leads to stays text.
	c, err := yamlfile.Parse([]byte("integrations:\n  redbooth: {client_id: app, client_secret: \"${env:OUTER}\"}\n"))
	w.Must(err)
	i, _ := c.Integration("redbooth")
	if ref := i.Current().Secret; ref.Name() != "OUTER" {
		t.Errorf("the reference leads to %s", ref.Name())
	}
}

var _ = noMutant("T71", "what is held are pins in files, which are no Go code")

// TestThreat_T71_what_is_fetched_is_pinned: each list of what comes from outside names
// versions and hashes, and nothing replaces a module.
func TestThreat_T71_what_is_fetched_is_pinned(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, path := range []string{"go.mod", "tools/lint/go.mod"} {
		if strings.Contains(read(path), "replace ") {
			t.Errorf("%s replaces a module", path)
		}
		if !strings.Contains(read(strings.Replace(path, ".mod", ".sum", 1)), " h1:") {
			t.Errorf("%s has no sums", path)
		}
	}
	lists, err := filepath.Glob("../../test/*/requirements.txt")
	if err != nil || len(lists) == 0 {
		t.Fatal("no lists of Python packages", err)
	}
	for _, path := range lists {
		text := read(strings.TrimPrefix(path, "../../"))
		pins, hashed := regexp.MustCompile(`(?m)^[A-Za-z0-9._\[\]-]+==\S+`).FindAllString(text, -1), strings.Count(text, "--hash=sha256:")
		if len(pins) == 0 || hashed < len(pins) || regexp.MustCompile(`(?m)^[A-Za-z0-9._-]+\s*(>=|~=|$)`).MatchString(text) {
			t.Errorf("%s: %d pins and %d hashes", path, len(pins), hashed)
		}
	}
	locks, err := filepath.Glob("../../test/*/package-lock.json")
	if err != nil || len(locks) == 0 {
		t.Fatal("no locks of npm packages", err)
	}
	for _, path := range locks {
		var lock struct {
			Packages map[string]struct{ Version, Integrity string }
		}
		err := json.Unmarshal([]byte(read(strings.TrimPrefix(path, "../../"))), &lock)
		if err != nil || len(lock.Packages) < 2 {
			t.Fatalf("%s: %d packages, %v", path, len(lock.Packages), err)
		}
		for name, of := range lock.Packages {
			if name != "" && (of.Version == "" || of.Integrity == "") {
				t.Errorf("%s: %s without version or integrity", path, name)
			}
		}
	}
	if makefile := read("Makefile"); !strings.Contains(makefile, "--require-hashes") || !strings.Contains(makefile, "npm ci") || strings.Contains(makefile, "npm install") {
		t.Error("the Makefile fetches without holding to the pins")
	}
}

var _ = mutant("T78", "internal/connection/writes.go", `item.Put("todo", w.Todo), item.Put("revocation", "pending")`, `item.Put("revocation", "pending")`)

func TestThreat_T78_a_revocation_is_sent_once_the_provider_is_back(t *testing.T) {
	w := newWorld(t)
	id := w.ConnectHTTP("askfred", "tenant", "alice")
	w.Must(w.Sim.AddFault("askfred", simprovider.Fault{On: "revoke", Kind: "status", Status: http.StatusServiceUnavailable, Count: -1}))
	w.Home = w.Start(func(c *broker.Config) { c.Events = nil }) // else the event that is to be told brings the tick here too
	w.Serve(w.HTTP(w.Home))
	receipt := w.Call("all", "DELETE", "/v1/connections/"+id, "").Want(t, http.StatusOK, "").JSON(t)
	if receipt["revoked"] != "pending" {
		t.Errorf("the receipt says %v", receipt)
	}
	w.Call("all", "GET", "/v1/connections/"+id+"/token", "").Want(t, http.StatusGone, "disconnected")
	w.Must(w.Sim.ClearFaults("askfred"))
	for range 12 {
		w.Advance(time.Minute)
		w.Home.TickNow()
	}
	if r := w.Record(id); r.Revocation != "at_provider" || r.Refresh != "" || r.Access != "" {
		t.Errorf("the revocation is %s", r.Revocation)
	}
	if again := w.Call("all", "DELETE", "/v1/connections/"+id, "").Want(t, http.StatusOK, "").JSON(t); again["revoked"] != "at_provider" {
		t.Errorf("the receipt still says %v", again)
	}
}
