//go:build linux

package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/evergrant/evergrant/internal/simprovider"
)

func TestServeWritesNoCoreFile(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, simprovider.New(simprovider.Config{BaseURL: "http://127.0.0.1:9"}))
	d.start()
	t.Cleanup(d.kill)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("a crash may write tokens to a file:\n%s", limits)
	}
}
