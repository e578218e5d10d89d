package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedCommandsParse reads the commands that the documentation shows, and
// parses each: a flag that is renamed must be renamed there too.
func TestDocumentedCommandsParse(t *testing.T) {
	block := regexp.MustCompile("(?s)```sh\n(.*?)```")
	command := regexp.MustCompile(`(?m)(?:^|<\()((?:build/)?evergrant .*)$`)
	count := 0
	names := []string{"../../README.md", "../../docs/cli.md", "../../docs/operations.md", "../../docs/moving-in.md"}
	for id := range quickStarts() {
		names = append(names, "../../docs/providers/"+id+".md")
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range block.FindAllStringSubmatch(string(text), -1) {
			for _, m := range command.FindAllStringSubmatch(strings.ReplaceAll(b[1], "\\\n", " "), -1) {
				count++
				parses(t, name, m[1])
			}
		}
	}
	if count < 10 {
		t.Errorf("found %d commands only", count)
	}
}

func parses(t *testing.T, name, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, "#")
	line, _, _ = strings.Cut(line, "|")
	args := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ")"))
	p := &process{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}
	parser, err := newParser(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args[1:]); err != nil {
		t.Errorf("%s: %s: %v", name, line, err)
	}
}
