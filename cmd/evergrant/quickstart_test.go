package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
)

const quickSecret = "the-secret-of-the-quick-start"

// quickStarts are the providers whose page has a quick start, with the variable that
// holds the client secret there, and the grants of integrations that are connected
// otherwise than by a consent.
func quickStarts() map[string]map[string]provider.Grant {
	return map[string]map[string]provider.Grant{
		"askfred": nil, "freeagent": nil, "redbooth": nil,
		"whenfresh": {"whenfresh": provider.GrantRefreshToken, "whenfresh-machine": provider.GrantClientCredentials},
		"fflogs":    {"fflogs-public": provider.GrantClientCredentials},
	}
}

// TestQuickStarts does what the quick start of each page says: a server with the page's
// configuration, and the page's commands, word for word. Only the provider is its
// simulator, and the browser consents by itself.
func TestQuickStarts(t *testing.T) {
	t.Parallel()
	scripts := t.TempDir()
	for id, grants := range quickStarts() {
		text, err := os.ReadFile("../../docs/providers/" + id + ".md")
		if err != nil {
			t.Fatal(err)
		}
		_, quick, found := strings.Cut(string(text), "\n## Quick start\n")
		if !found {
			t.Errorf("the page of %s has no quick start", id)
			continue
		}
		quick, _, _ = strings.Cut(quick, "\n## ")
		script := startQuick(t, id, quick, grants)
		if err := os.WriteFile(filepath.Join(scripts, id+".txtar"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{Dir: scripts, RequireExplicitExec: true, RequireUniqueNames: true})
}

// startQuick starts a server for one quick start and returns what is to be run.
func startQuick(t *testing.T, id, quick string, grants map[string]provider.Grant) string {
	t.Helper()
	config := regexp.MustCompile("(?s)<!-- config -->\n *```yaml\n(.*?)```").FindStringSubmatch(quick)
	runs := regexp.MustCompile("(?s)<!-- run -->\n *```sh\n(.*?)```").FindAllStringSubmatch(quick, -1)
	if config == nil || len(runs) == 0 {
		t.Fatalf("%s: no configuration or no commands", id)
	}
	p := &interrupted{} // never armed
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	sims := simprovider.New(simprovider.Config{BaseURL: srv.URL, TokenTTL: time.Hour})
	p.next = sims
	d := placeDeployment(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(free.Addr().(*net.TCPAddr).Port)
	_ = free.Close() // for the command to take
	var file struct {
		Integrations map[string]map[string]any `yaml:"integrations"`
	}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(config[1], ":8765/", ":"+port+"/")), &file); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	clients := map[string]simprovider.Client{}
	for name, i := range file.Integrations {
		s := simulated{provider: id, grant: provider.GrantAuthorizationCode}
		if g, ok := grants[name]; ok {
			s.grant = g
		}
		i["provider"] = s.entry(sims)
		if i["client_id"] == nil {
			continue // the provider's own public client
		}
		c := clients[fmt.Sprint(i["client_id"])] // two integrations may be one client
		c.ID = fmt.Sprint(i["client_id"])
		if i["client_secret"] != nil {
			c.Secret = quickSecret
		}
		if s.grant == provider.GrantAuthorizationCode {
			c.RedirectURIs = append(c.RedirectURIs, "http://"+d.address+"/callback/"+name)
		}
		clients[c.ID] = c
	}
	for _, c := range clients {
		if err := sims.Register(id, c); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	d.configureAll(file.Integrations)
	for _, variable := range regexp.MustCompile(`\$\{env:(\w+)\}`).FindAllStringSubmatch(config[1], -1) {
		d.env = append(d.env, variable[1]+"="+quickSecret)
	}
	d.start()
	t.Cleanup(func() { d.kill() })

	var script strings.Builder
	for name, value := range map[string]string{
		"EVERGRANT_URL": d.api.base, "EVERGRANT_API_KEY": d.api.key.Reveal(), "EVERGRANT_RETURN_PORT": port, "BROWSER": "consents", "SIMULATOR": srv.URL + "/sim/" + id,
	} {
		fmt.Fprintf(&script, "env %s=%s\n", name, value)
	}
	script.WriteString("exec timeout 60 sh -e quick.sh\n-- token.txt --\n" + sims.IssueRefreshToken(id, "alice") + "\n-- quick.sh --\n")
	var once strings.Builder
	for _, r := range runs {
		once.WriteString(regexp.MustCompile(`(?m)^   `).ReplaceAllString(r[1], ""))
	}
	// Once more, beside the connection of the first time, and beside one that has ended.
	for range 2 {
		script.WriteString(once.String())
	}
	if id != "whenfresh" { // the token that was copied is revoked by it
		script.WriteString("evergrant disconnect $CONNECTION\n" + once.String())
	}
	return script.String()
}

// fetches is curl, as far as the quick starts use it. Whatever host it is told, it asks
// the simulator.
func fetches() {
	if err := fetch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(22)
	}
}

func fetch(args []string) error {
	header, method, body, address := http.Header{}, http.MethodGet, "", ""
	for n := 0; n < len(args); n++ {
		switch args[n] {
		case "-sf":
		case "-H":
			n++
			line := args[n]
			if line == "@-" {
				text, err := io.ReadAll(os.Stdin)
				if err != nil {
					return err
				}
				line = strings.TrimSpace(string(text))
			}
			name, value, _ := strings.Cut(line, ":")
			header.Set(name, strings.TrimSpace(value))
		case "-d":
			n++
			method, body = http.MethodPost, args[n]
		default:
			address = args[n]
		}
	}
	_, rest, _ := strings.Cut(address, "://")
	_, path, _ := strings.Cut(rest, "/")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, os.Getenv("SIMULATOR")+"/"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // copied below
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s answered %d", path, resp.StatusCode)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
