package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// inits has tools/initbench measure cold starts and sizes, and tells what the start of each
// function is spent on.
func inits(ctx context.Context, b *bench) error {
	program, err := find(b.init, "make build-bench")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-here", b.here, "-zips", b.zips, "-rounds", strconv.Itoa(b.scaled(101, 41)))
	out, failed := cmd.Output() // it fails where a bar is missed, too
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		var l struct {
			Bench, Unit              string
			Value, Floor, Ratio, Bar float64
			Met                      bool
		}
		if !strings.HasPrefix(s.Text(), "{") || json.Unmarshal(s.Bytes(), &l) != nil {
			continue
		}
		n++
		bar := fmt.Sprintf("ratio <= %g", l.Bar)
		if l.Unit == "MiB" {
			bar = fmt.Sprintf("<= %g MiB", l.Bar)
		}
		name := l.Bench
		if !strings.HasPrefix(name, "init/") {
			name = "init/" + name
		}
		b.judged(name, l.Value, l.Unit, l.Floor, bar, l.Met)
	}
	if n == 0 {
		return fmt.Errorf("initbench: %w: %s", cmp.Or(failed, fmt.Errorf("no figures")), out)
	}
	for _, function := range []string{"authorize", "callback", "refresh", "api"} {
		if err := b.initTrace(ctx, function); err != nil {
			return err
		}
	}
	return nil
}

// initTrace reports the packages whose work before main takes longest.
func (b *bench) initTrace(ctx context.Context, function string) error {
	binary, err := find(filepath.Join(b.here, function, "bootstrap"), "make functions-here")
	if err != nil {
		return err
	}
	took := map[string][]float64{}
	pattern := regexp.MustCompile(`(?m)^init (\S+) @.*?, ([0-9.]+) ms clock`)
	for range 15 {
		cmd := exec.CommandContext(ctx, binary)
		cmd.Env = []string{"GODEBUG=inittrace=1"}
		out, _ := cmd.CombinedOutput() // it ends, since there is no Lambda around it
		for _, m := range pattern.FindAllStringSubmatch(string(out), -1) {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return err
			}
			took[m[1]] = append(took[m[1]], v)
		}
	}
	sum, names := 0.0, []string{}
	median := map[string]float64{}
	for name, all := range took {
		slices.Sort(all)
		median[name] = all[len(all)/2]
		sum, names = sum+median[name], append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(median[b], median[a]) })
	b.report("init/"+function+"/before main, all packages", sum, "ms", 0)
	for _, name := range names[:min(3, len(names))] {
		b.report("init/"+function+"/before main/"+name, median[name], "ms", 0)
	}
	return nil
}
