package guard_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// built is what a function costs before its first request. Each figure is what it was
// measured to be; there is a little room for a new release of Go.
var built = []struct {
	function string
	// binary is its size in KiB, for linux/amd64.
	binary int
	// initialized are the packages with work to do before main.
	initialized int
	// allocations of that work.
	allocations int
}{
	{"authorize", 8660, 101, 1066},
	{"callback", 9544, 105, 1075},
	{"refresh", 9604, 104, 1070},
	{"api", 10412, 105, 1075},
}

// What is linked, however little of it runs, is read from disk at every cold start, and what
// is initialized runs at every one.
func TestFunctionsStaySmall(t *testing.T) {
	if own, err := os.Executable(); err != nil || !carriesCatalogue(t, own) {
		t.Errorf("the catalogue is not found in this test either, which carries it: %v", err)
	}
	for _, b := range built {
		t.Run(b.function, func(t *testing.T) {
			t.Parallel()
			binary := build(t, b.function)
			info, err := os.Stat(binary)
			if err != nil {
				t.Fatal(err)
			}
			if carriesCatalogue(t, binary) {
				t.Error("it carries the catalogue; the compiled configuration holds the entries that it needs")
			}
			initialized, allocations := initTrace(t, binary)
			for _, f := range []struct {
				what      string
				is, least int
			}{
				{"KiB", int(info.Size() >> 10), b.binary},
				{"packages that are initialized", initialized, b.initialized},
				{"allocations before main", allocations, b.allocations},
			} {
				// As much as a new release of Go may bring, or take.
				if f.is > f.least+f.least/25 || f.is < f.least-f.least/8 {
					t.Errorf("%d %s; it was %d", f.is, f.what, f.least)
				}
			}
		})
	}
}

// carriesCatalogue looks for the text of an entry in a binary.
func carriesCatalogue(t *testing.T, binary string) bool {
	t.Helper()
	entry, err := provider.Source(provider.IDs()[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(data, entry)
}

// TestFunctionsLinkNothingNew compares the packages of other modules that each function links
// with testdata/linked.txt; of our own the floor plan tells. go test ./test/guard -run NothingNew -update
// writes it anew.
func TestFunctionsLinkNothingNew(t *testing.T) {
	links := map[string][]string{} // functions by package
	for _, b := range built {
		list := exec.Command("go", "list", "-deps", "-tags", "lambda.norpc", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "../../functions/"+b.function)
		list.Env = platform()
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(name, "github.com/evergrant/") {
				continue
			}
			links[name] = append(links[name], b.function)
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(links)) {
		text.WriteString(name + ": " + strings.Join(links[name], " ") + "\n")
	}
	const golden = "testdata/linked.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text.String(), "\n")); diff != "" {
		t.Errorf("the functions link other packages (-as it was, +as it is):\n%s", diff)
	}
}

// platform is one, so that the figures are the same everywhere.
func platform() []string {
	return append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
}

// build builds a function with the flags of the Makefile, for linux/amd64.
func build(t *testing.T, function string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=",
		"-o", binary, "../../functions/"+function)
	cmd.Env = platform()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", function, err, out)
	}
	return binary
}

// initTrace starts a binary under GODEBUG=inittrace=1, which tells of each package with work
// to do before main: "init net/http @0.3 ms, 0.08 ms clock, 4312 bytes, 72 allocs". The
// function itself then ends, since there is no Lambda around it.
func initTrace(t *testing.T, binary string) (packages, allocations int) {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	out, _ := cmd.CombinedOutput()
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^init (\S+) @.* (\d+) allocs$`).FindAllStringSubmatch(string(out), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		names, allocations = append(names, m[1]), allocations+n
	}
	if !slices.Contains(names, "runtime") {
		t.Fatalf("the binary tells nothing of its init:\n%s", out)
	}
	return len(names), allocations
}
