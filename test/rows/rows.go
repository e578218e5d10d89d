// Package rows provides the check of a page's table whose rows are each held by a test:
// those of docs/reliability.md and docs/security.md.
package rows

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Table is a table whose rows have the ids Letter01, Letter02 and so on, and look so:
//
//	| F01 | what happens | TestFault_F01_what_must_be | what its mutation takes out |
//
// The test of a row and its declarations of mutations, see tools/mutants, may stand in
// any package.
type Table struct {
	Page            string   // path from the test's folder
	Letter          string   // of the ids
	Test            string   // what the names of tests begin with, before the id
	Rows            int      // how many there are
	WithoutMutation int      // how many of them may have none, at most
	Owed            []string // ids without a row yet; the test says how many
}

// Check fails unless each row that is not owed stands once in the table, names a test
// that exists, and has its mutation or the reason why there is none. root is the
// repository, as a path from the test's folder.
func Check(t *testing.T, root string, want Table) {
	t.Helper()
	page, err := os.ReadFile(want.Page)
	if err != nil {
		t.Fatal(err)
	}
	tests, declared, excused := declarations(t, root, want)
	named := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (`+want.Letter+`\d+) \|.*\| (\w+) \|[^|]*\|$`).FindAllStringSubmatch(string(page), -1) {
		named[m[1]] = append(named[m[1]], m[2])
	}
	for n := 1; n <= want.Rows; n++ {
		id := fmt.Sprintf("%s%02d", want.Letter, n)
		switch names := named[id]; {
		case slices.Contains(want.Owed, id):
			if len(names) > 0 {
				t.Errorf("%s stands in the table and is still said to be owed", id)
			}
			continue
		case len(names) != 1:
			t.Errorf("%s stands in the table %d times", id, len(names))
		case !tests[names[0]] || !strings.HasPrefix(names[0], want.Test+id+"_"):
			t.Errorf("%s names %s, which is not its test", id, names[0])
		}
		if !declared[id] && !excused[id] {
			t.Errorf("%s has neither a mutation nor a reason", id)
		}
		delete(named, id)
	}
	if len(named) > 0 {
		t.Errorf("the table holds rows that are none: %v", named)
	}
	if len(excused) > want.WithoutMutation {
		t.Errorf("%d rows have no mutation, more than %d", len(excused), want.WithoutMutation)
	}
	if len(want.Owed) > 0 {
		t.Logf("%d of %d rows are owed", len(want.Owed), want.Rows)
	}
}

// declarations reads the repository's tests: the functions of rows, and the rows that
// have a mutation or an excuse.
func declarations(t *testing.T, root string, want Table) (tests, declared, excused map[string]bool) {
	t.Helper()
	tests, declared, excused = map[string]bool{}, map[string]bool{}, map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (` + want.Test + want.Letter + `\d+_\w+)\(t \*testing\.T\)`)
	declaration := regexp.MustCompile(`= (mutant|noMutant)\("(` + want.Letter + `\d+)",`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		for _, m := range declaration.FindAllSubmatch(source, -1) {
			set := declared
			if string(m[1]) == "noMutant" {
				set = excused
			}
			set[string(m[2])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests, declared, excused
}
