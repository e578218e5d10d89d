// Flood shows that a running server stays small and goes on serving while strangers flood it:
// wrong keys, wrong states, giant bodies and headers, and connections that send a byte now and
// then. It starts `evergrant serve` on loopback, measures good requests alone and then beside
// the flood, reads the server's memory from /proc (so it needs Linux), and prints a table. It
// fails where a good request fails, a flood's request gets a 5xx, or the memory passes a bound.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	binary := flag.String("evergrant", "build/evergrant", "the program")
	lasts := flag.Duration("for", 30*time.Second, "how long the flood lasts")
	bound := flag.Int64("mib", 192, "resident memory that the server may take, MiB")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *binary, *lasts, *bound); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, lasts time.Duration, bound int64) (err error) {
	folder, err := os.MkdirTemp("", "flood")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	s, err := start(binary, folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	g := &good{server: s}
	if err := g.connect(ctx); err != nil {
		return err
	}
	alone := g.during(ctx, max(lasts/3, 3*time.Second))
	before := s.memory()
	fmt.Printf("good requests alone: %s; memory %d MiB\n", alone, before>>20)

	flooding, end := context.WithTimeout(ctx, lasts)
	defer end()
	var group sync.WaitGroup
	all := floods(s)
	for n := range all {
		for range all[n].workers {
			group.Go(func() { all[n].run(flooding) })
		}
	}
	peak := make(chan int64)
	go func() { peak <- s.peak(flooding) }()
	beside := g.during(flooding, lasts)
	group.Wait()
	highest := <-peak
	fmt.Printf("beside the flood:    %s; memory %d MiB at most\n\n%s", beside, highest>>20, table(all, lasts))
	after := g.during(ctx, 3*time.Second)
	fmt.Printf("\nafter it:            %s; memory %d MiB\n", after, s.memory()>>20)
	return judge(all, []span{alone, beside, after}, highest, bound)
}

func judge(all []*flood, good []span, highest, bound int64) error {
	var wrong error
	for _, g := range good {
		if g.failed != "" || len(g.took) == 0 {
			wrong = errors.Join(wrong, fmt.Errorf("good requests: %d served, then: %s", len(g.took), g.failed))
		}
	}
	for _, f := range all {
		if f.sent.Load() == 0 {
			wrong = errors.Join(wrong, fmt.Errorf("%s: nothing was sent", f.name))
		}
		for status, n := range f.answers() {
			if status >= 500 || status >= 200 && status < 300 {
				wrong = errors.Join(wrong, fmt.Errorf("%s: %d answers %d", f.name, n, status))
			}
		}
	}
	if highest > bound<<20 {
		wrong = errors.Join(wrong, fmt.Errorf("the server took %d MiB, more than %d", highest>>20, bound))
	}
	return wrong
}

func table(all []*flood, lasts time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-38s %9s %9s  %s\n", "flood", "at once", "a second", "answers")
	for _, f := range all {
		var said []string
		answers := f.answers()
		for _, status := range slices.Sorted(keys(answers)) {
			word := fmt.Sprint(status)
			if status == 0 {
				word = "cut off"
			}
			said = append(said, fmt.Sprintf("%s: %d", word, answers[status]))
		}
		fmt.Fprintf(&b, "%-38s %9d %9.0f  %s\n", f.name, f.workers, float64(f.sent.Load())/lasts.Seconds(), strings.Join(said, ", "))
	}
	return b.String()
}
