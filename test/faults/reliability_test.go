package faults_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rows is how many faults there are, withoutMutation how many of them may have none.
const (
	rows            = 67
	withoutMutation = 20
)

// The table of docs/reliability.md holds every fault once, names a test that exists, and
// each has its mutation or the reason why there is none.
func TestReliabilityTableIsWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, declared, excused := declarations(t)
	named := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (F\d+) \|.*\| (\w+) \|[^|]*\|$`).FindAllStringSubmatch(string(page), -1) {
		named[m[1]] = append(named[m[1]], m[2])
	}
	for n := 1; n <= rows; n++ {
		id := fmt.Sprintf("F%02d", n)
		switch names := named[id]; {
		case len(names) != 1:
			t.Errorf("%s stands in the table %d times", id, len(names))
		case !tests[names[0]] || !strings.HasPrefix(names[0], "TestFault_"+id+"_"):
			t.Errorf("%s names %s, which is not its test", id, names[0])
		}
		if !declared[id] && !excused[id] {
			t.Errorf("%s has neither a mutation nor a reason", id)
		}
		delete(named, id)
	}
	if len(named) > 0 {
		t.Errorf("the table holds rows that are no faults: %v", named)
	}
	if len(excused) > withoutMutation {
		t.Errorf("%d rows have no mutation", len(excused))
	}
}

// declarations reads the repository's tests: the functions of faults, and the rows that
// have a mutation or an excuse.
func declarations(t *testing.T) (tests, declared, excused map[string]bool) {
	t.Helper()
	tests, declared, excused = map[string]bool{}, map[string]bool{}, map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (TestFault_F\d+_\w+)\(t \*testing\.T\)`)
	declaration := regexp.MustCompile(`= (mutant|noMutant)\("(F\d+)",`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
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
