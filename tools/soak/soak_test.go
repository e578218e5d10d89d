package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A soak in short: as many kills as fit into 20 seconds of 50 connections.
func TestSoak(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "evergrant")
	if said, err := exec.Command("go", "build", "-o", binary, "../../cmd/evergrant").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	err := soak(t.Context(), options{
		length: 20 * time.Second, life: 12 * time.Second, progress: 10 * time.Second, connections: 50, lost: 0.05,
		binary: binary, log: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
}
