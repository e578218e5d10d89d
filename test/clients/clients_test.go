// Package clients_test runs the clients' own tests against a built evergrant that is killed and
// restarted between calls, the examples of docs/clients.md, and schemathesis against the API.
package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The variables that name where the parts of a language are; tools/suites sets them.
const (
	typescriptVariable = "EVERGRANT_CLIENT_TYPESCRIPT" // a folder with node_modules of clients/typescript
	pythonVariable     = "EVERGRANT_CLIENT_PYTHON"     // a virtual environment with clients/python/requirements-test.txt
	worldVariable      = "EVERGRANT_CLIENT_WORLD"      // for the clients' tests: the control address
)

func TestGo(t *testing.T) {
	w := newWorld(t)
	said := w.run(t, "../..", nil, "go", "test", "-count=1", "-v", "-run", "^TestLiveVectors$", "./client")
	if n := strings.Count(said, "--- PASS: TestLiveVectors/"); n < 15 {
		t.Errorf("%d vectors were played:\n%s", n, said)
	}
	for n, code := range examples(t, "go") {
		// A folder of the module, since it imports the client; build/ holds what nobody keeps.
		folder, err := os.MkdirTemp(mkdir(t, "../../build"), "example-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		w.example(t, n, filepath.Join(folder, "main.go"), code, "go", "run")
	}
}

func TestTypeScript(t *testing.T) {
	modules := os.Getenv(typescriptVariable)
	if modules == "" {
		t.Skip(typescriptVariable + " is not set; run make reference-typescript, then make test")
	}
	w := newWorld(t)
	folder := t.TempDir()
	own := filepath.Join(folder, "typescript")
	if err := os.CopyFS(own, withoutBuilt{os.DirFS("../../clients/typescript")}); err != nil {
		t.Fatal(err)
	}
	copyFile(t, "../../clients/vectors.json", filepath.Join(folder, "vectors.json"))
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(own, "node_modules")); err != nil {
		t.Fatal(err)
	}
	said := w.run(t, own, nil, "npm", "test")
	if n := len(regexp.MustCompile(`(?m)^(ok \d+ -|✔) live: `).FindAllString(said, -1)); n < 15 {
		t.Errorf("%d vectors were played before a running server:\n%s", n, said)
	}
	packed := w.run(t, own, nil, "npm", "pack", "--dry-run", "--ignore-scripts")
	if !strings.Contains(packed, "dist/index.d.ts") || strings.Contains(packed, "test/") {
		t.Errorf("the package would hold\n%s", packed)
	}
	for n, code := range examples(t, "ts") {
		// The package imports itself by its name, as whoever installs it does.
		w.example(t, n, filepath.Join(own, "example.mjs"), code, "node")
	}
}

func TestPython(t *testing.T) {
	environment := os.Getenv(pythonVariable)
	if environment == "" {
		t.Skip(pythonVariable + " is not set; run make reference-python, then make test")
	}
	w := newWorld(t)
	python := filepath.Join(environment, "bin", "python")
	own, err := filepath.Abs("../../clients/python")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PYTHONPATH=" + filepath.Join(own, "src"), "PYTHONDONTWRITEBYTECODE=1"}
	said := w.run(t, own, env, python, "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-v", "-s", "tests", "-t", ".")
	if n := len(regexp.MustCompile(`(?m)^test_live_.*ok$`).FindAllString(said, -1)); n < 45 {
		t.Errorf("%d vectors were played before a running server:\n%s", n, said)
	}
	for n, code := range examples(t, "python") {
		w.example(t, n, filepath.Join(t.TempDir(), "example.py"), code, "env", env[0], env[1], python)
	}
}

// run runs a command of a client with the world's address, and returns what it wrote.
func (w *world) run(t *testing.T, folder string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), worldVariable+"="+w.control.URL)
	cmd.Env = append(cmd.Env, env...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return string(said)
}

// examples are the programs of docs/clients.md in a language, those that are marked to be run.
func examples(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range regexp.MustCompile("(?s)<!-- run -->\n```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		list = append(list, m[1])
	}
	if len(list) == 0 {
		t.Fatalf("docs/clients.md has no example in %s", language)
	}
	return list
}

// example runs a program of the docs. Its last word is the status of a call with a token.
func (w *world) example(t *testing.T, n int, path, code string, command ...string) {
	t.Helper()
	id, err := w.connect("askfred", "user-42")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"EVERGRANT_URL=" + w.front.URL, "EVERGRANT_API_KEY=" + w.key, "CONNECTION_ID=" + id, "PROVIDER_API=" + w.front.URL + "/api"}
	said := w.run(t, filepath.Dir(path), env, command[0], append(command[1:], path)...)
	if !strings.HasSuffix(strings.TrimSpace(said), "200") {
		t.Errorf("example %d wrote\n%s", n, said)
	}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
