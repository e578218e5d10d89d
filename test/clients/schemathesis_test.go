package clients_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// schemathesisVariable names a virtual environment with test/schemathesis/requirements.txt.
const schemathesisVariable = "EVERGRANT_SCHEMATHESIS"

// leastCases is how many requests a run has to make at least.
const leastCases = 5000

// TestSchemathesis makes requests from the OpenAPI document, valid ones and others, and holds the
// answers of a running serve to it: no 5xx, and nothing that is not described.
func TestSchemathesis(t *testing.T) {
	environment := os.Getenv(schemathesisVariable)
	if environment == "" {
		t.Skip(schemathesisVariable + " is not set; run make reference-schemathesis, then make test")
	}
	w := newWorld(t)
	var ids []string
	for _, integration := range []string{"askfred", "freeagent"} {
		id, err := w.connect(integration, "alice")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	known, err := json.Marshal(map[string][]string{
		"id": append(ids, "askfred"), "connection_id": ids, "integration": {"askfred", "freeagent", "whenfresh"}, "owner": {"alice", "bob"},
	})
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := filepath.Abs("../schemathesis")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"EVERGRANT_KNOWN=" + string(known), "SCHEMATHESIS_HOOKS=hooks", "PYTHONPATH=" + hooks, "PYTHONDONTWRITEBYTECODE=1"}
	cases := 0
	t.Run("halves", func(t *testing.T) {
		// At the same time, since one of them keeps one core busy.
		var mu sync.Mutex
		for _, half := range []string{"--include-path-regex", "--exclude-path-regex"} {
			t.Run(half, func(t *testing.T) {
				t.Parallel()
				n := w.schemathesis(t, environment, hooks, env, half, "connect")
				mu.Lock()
				defer mu.Unlock()
				cases += n
			})
		}
	})
	t.Logf("%d requests", cases)
	if cases < leastCases {
		t.Errorf("%d requests were made, want %d", cases, leastCases)
	}
}

// schemathesis runs over some of the operations, and returns how many requests it made.
func (w *world) schemathesis(t *testing.T, environment, hooks string, env []string, operations ...string) int {
	t.Helper()
	origin := "http://" + w.address
	args := append([]string{"--config-file", filepath.Join(hooks, "schemathesis.toml"), "run", origin + "/v1/openapi.json", "--url", origin, "--header", "Authorization: Bearer " + w.key}, operations...)
	said := w.run(t, t.TempDir(), env, filepath.Join(environment, "bin", "st"), append(args,
		"--phases", "examples,coverage,fuzzing", "--max-examples", "250", "--seed", "1", "--max-redirects", "0", "--no-color")...)
	m := regexp.MustCompile(`(\d+) generated`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("it does not say how many requests it made:\n%s", said)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
