// Model checks the refresh protocol exhaustively: the step machines of production over
// a modelled store, provider and network, in every order of events (see
// internal/refresh/modelcheck and docs/model.md).
//
//	go run ./tools/model                  everything, two scenarios at a time
//	go run ./tools/model -small           the bound of go test
//	go run ./tools/model -time 14m        cut off what is not finished by then
//
// It prints a row for each proof, one for each planted mistake that was caught, and
// fails if an invariant breaks or a mistake goes unseen. A run that was cut off is
// printed as "not a proof", and fails too.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/evergrant/evergrant/internal/refresh/modelcheck"
)

func main() {
	small := flag.Bool("small", false, "one round and one fault only")
	limit := flag.Duration("time", 14*time.Minute, "when to cut off what is not finished")
	parallel := flag.Int("parallel", 2, "scenarios at a time")
	only := flag.String("only", "", "only the proofs of this title")
	flag.Parse()
	// The visited set is nearly all of the memory and holds no pointers: collect rarely.
	debug.SetGCPercent(400)
	began := time.Now()
	ok := catch()
	ok = prove(*small, *only, began.Add(*limit), *parallel) && ok
	fmt.Printf("%s in all\n", time.Since(began).Round(time.Second))
	if !ok {
		os.Exit(1)
	}
}

// catch plants every mistake.
func catch() bool {
	ok := true
	for _, m := range modelcheck.Mistakes() {
		r := m.Run()
		if r.Broken == "" {
			ok = false
			fmt.Printf("NOT CAUGHT: %s (%s), %d states\n", m.Name, m.Text, r.States)
			continue
		}
		fmt.Printf("caught: %-14s %5d states, %s: %s\n", m.Name, r.States, m.Text, r.Broken)
	}
	return ok
}

// prove runs the proofs, a few at a time, and prints each as it ends.
func prove(small bool, only string, deadline time.Time, parallel int) bool {
	bound := modelcheck.Full
	if small {
		bound = modelcheck.Small
	}
	fmt.Printf("%-38s %-10s %6s %6s %12s %8s  %s\n", "proof", "mode", "rounds", "faults", "states", "seconds", "result")
	var mu sync.Mutex
	var all sync.WaitGroup
	ok, slots := true, make(chan struct{}, parallel)
	for _, p := range modelcheck.Suite(bound) {
		if only != "" && p.Title != only {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			r := p.Run(deadline)
			mu.Lock()
			defer mu.Unlock()
			ok = report(p, r) && ok
		})
	}
	all.Wait()
	return ok
}

func report(p modelcheck.Proof, r modelcheck.Result) bool {
	result := "holds"
	switch {
	case r.Broken != "":
		result = "BROKEN: " + r.Broken
	case r.CutOff:
		result = "no error found until it was cut off: not a proof"
	}
	fmt.Printf("%-38s %-10s %6d %6d %12d %8.1f  %s\n", p.Title, p.Mode, p.Rounds, p.Faults, r.States, r.Took.Seconds(), result)
	for _, step := range r.Trace {
		fmt.Println("    " + step)
	}
	return r.Broken == "" && !r.CutOff
}
