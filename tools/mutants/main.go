// Command mutants takes one defence after another out of the code and demands that the
// test which guards it fails.
//
// A test declares its mutations beside itself:
//
//	var _ = mutant("F07", "internal/refresh/machine.go", `the defence`, `what it is without`)
//
// where mutant is a function of the test's own package that returns true. The text must
// stand in the file exactly once. For each declaration the tests named Test…_F07_… of that
// package are run twice: as the code is (they must pass), and over the changed file (they
// must fail, by a failing test and not by a build error). The tree is never touched: the
// change is an overlay of the go command.
//
// A row of a table that has no mutation says why:
//
//	var _ = noMutant("F29", "reason")
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A mutation is one declaration.
type mutation struct {
	id     string
	pkg    string // folder of the test, with slashes
	file   string // what is changed
	old    string
	new    string
	reason string // of a row without a mutation
	where  string // position of the declaration
}

func main() {
	only := flag.String("only", "", "regular expression of ids to run")
	workers := flag.Int("workers", 2, "mutations at once")
	list := flag.Bool("list", false, "list the declarations and end")
	flag.Parse()
	if err := run(*only, *workers, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, workers int, list bool) error {
	pick, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	all, err := collect(".")
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(m mutation) bool { return !pick.MatchString(m.id) })
	if list {
		for _, m := range all {
			fmt.Println(m.id, m.where, m.file, m.reason)
		}
		return nil
	}
	return report(all, verdicts(all, workers))
}

// collect reads the declarations of all test files below root.
func collect(root string) ([]mutation, error) {
	var out []mutation
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "build" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		found, err := declarations(path)
		out = append(out, found...)
		return err
	})
	slices.SortStableFunc(out, func(a, b mutation) int { return strings.Compare(a.id, b.id) })
	return out, err
}

func declarations(path string) ([]mutation, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var out []mutation
	var wrong error
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, ok := call.Fun.(*ast.Ident)
		if !ok || (name.Name != "mutant" && name.Name != "noMutant") {
			return true
		}
		where := set.Position(call.Pos()).String()
		texts, err := literals(call.Args)
		m := mutation{pkg: filepath.ToSlash(filepath.Dir(path)), where: where}
		switch {
		case err != nil:
			wrong = errors.Join(wrong, fmt.Errorf("%s: %w", where, err))
		case name.Name == "noMutant" && len(texts) == 2:
			m.id, m.reason = texts[0], texts[1]
			out = append(out, m)
		case name.Name == "mutant" && len(texts) == 4:
			m.id, m.file, m.old, m.new = texts[0], texts[1], texts[2], texts[3]
			out = append(out, m)
		default:
			wrong = errors.Join(wrong, fmt.Errorf("%s: %s has the wrong number of arguments", where, name.Name))
		}
		return true
	})
	return out, wrong
}

// literals reads string literals, also those joined by +.
func literals(args []ast.Expr) ([]string, error) {
	var out []string
	for _, a := range args {
		s, err := literal(a)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func literal(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.BinaryExpr:
		a, err := literal(e.X)
		if err != nil {
			return "", err
		}
		b, err := literal(e.Y)
		return a + b, err
	}
	return "", errors.New("arguments must be string literals")
}

// A verdict is what became of one mutation: "" caught, else why not.
type verdict struct {
	wrong   string
	seconds float64
}

func verdicts(all []mutation, workers int) []verdict {
	out := make([]verdict, len(all))
	slots := make(chan struct{}, max(1, workers))
	var group sync.WaitGroup
	for n, m := range all {
		if m.reason != "" {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			begun := time.Now()
			out[n] = verdict{judge(m), time.Since(begun).Seconds()}
			word := "caught"
			if out[n].wrong != "" {
				word = "NOT CAUGHT: " + out[n].wrong
			}
			fmt.Printf("%-6s %s (%s, %.1f s)\n", m.id, word, m.file, out[n].seconds)
		})
	}
	group.Wait()
	return out
}

// judge runs the row's tests as the code is and over the changed file.
func judge(m mutation) string {
	source, err := target(".", m)
	if err != nil {
		return err.Error()
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	if out, err := test(m, ""); err != nil || !strings.Contains(out, "--- PASS") {
		return "the test does not pass without it:\n" + tail(out)
	}
	overlay, err := write(dir, m, strings.Replace(source, m.old, m.new, 1))
	if err != nil {
		return err.Error()
	}
	out, err := test(m, overlay)
	switch {
	case err == nil:
		return "the test passes with it"
	case !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic: "):
		return "no test failed:\n" + tail(out)
	}
	return ""
}

// target is the file that a mutation changes; its text must stand there once.
func target(root string, m mutation) (string, error) {
	source, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("the text to change stands %d times in %s", n, m.file)
	}
	return string(source), nil
}

func write(dir string, m mutation, changed string) (string, error) {
	file, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	with := filepath.Join(dir, "changed.go")
	overlay := filepath.Join(dir, "overlay.json")
	plan, err := json.Marshal(map[string]map[string]string{"Replace": {file: with}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(with, []byte(changed), 0o600), os.WriteFile(overlay, plan, 0o600))
}

func test(m mutation, overlay string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	args := []string{"test", "-count=1", "-v", "-timeout=120s", "-run", "^Test.*_" + m.id + "_"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "./"+m.pkg)...).CombinedOutput()
	return string(out), err
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func report(all []mutation, verdicts []verdict) error {
	caught, without, wrong := 0, 0, 0
	for n, m := range all {
		switch {
		case m.reason != "":
			without++
			fmt.Printf("%-6s no mutation: %s\n", m.id, m.reason)
		case verdicts[n].wrong == "":
			caught++
		default:
			wrong++
		}
	}
	fmt.Printf("%d mutations caught, %d not caught, %d rows without one\n", caught, wrong, without)
	if wrong > 0 {
		return fmt.Errorf("%d mutations were not caught", wrong)
	}
	return nil
}
