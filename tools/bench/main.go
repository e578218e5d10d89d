// Bench measures what Evergrant costs, each figure beside a floor that was measured in the same
// run: the bare call, the empty function, the loop that does the same requests and nothing else.
//
//	make bench          # all of it, in under 15 minutes on two cores
//	make bench-quick    # every driver, with fewer lines and less time for each, in 2 minutes
//
// Each line is printed as it is measured, as JSON and as a row of a table. A ratio is the value
// divided by the floor; "bar" is what the ratio (or, where there is no floor, the value) was to
// reach, and "met" whether it did. At the end the table is written into the documentation and
// the figures are drawn, where flags name the places.
//
// The program starts itself a second time as the provider, so that what is measured of this
// process is ours. What needs DynamoDB Local or a binary that is not there is named and left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	scale    float64
	only     string
	figures  string
	doc      string
	serve    string
	here     string
	zips     string
	init     string
	quick    bool
	limit    time.Duration
	profiles string
	dynamodb string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == providerArgument {
		if err := provide(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench provider:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.Float64Var(&o.scale, "scale", 1, "how long and how much of everything, up to 1")
	flag.DurationVar(&o.limit, "limit", 14*time.Minute, "when to begin nothing more; what is left out then is named")
	flag.BoolVar(&o.quick, "quick", false, "leave out combinations between those that are asked for most")
	flag.StringVar(&o.profiles, "profiles", "", "folder for a processor and an allocation profile of each driver; empty: none")
	flag.StringVar(&o.only, "only", "", "pattern of the drivers to run; empty: all")
	flag.StringVar(&o.figures, "figures", "", "folder for the figures; empty: none are drawn")
	flag.StringVar(&o.doc, "doc", "", "page whose table is written anew; empty: none")
	flag.StringVar(&o.serve, "evergrant", "build/evergrant", "the command line, for the driver of serve")
	flag.StringVar(&o.here, "here", "build/here", "folder of the functions' binaries for this machine")
	flag.StringVar(&o.init, "initbench", "build/initbench", "the program that measures cold starts")
	flag.StringVar(&o.zips, "zips", "build", "folder of the functions' zip files")
	flag.Parse()
	o.dynamodb = os.Getenv("EVERGRANT_DYNAMODB")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// drivers in the order in which they run.
var drivers = [...]struct {
	name string
	run  func(ctx context.Context, b *bench) error
}{
	{"refresh", refreshes},
	{"read", reads},
	{"connect", connects},
	{"hang", hangs},
	{"planner", plans},
	{"cost", costs},
	{"serve", serves},
	{"init", inits},
}

// errMissing says that something is not here which a driver needs; its text says how to get it.
type errMissing string

func (e errMissing) Error() string { return string(e) }

// bench is one run.
type bench struct {
	options
	out      io.Writer
	provider *child
	end      time.Time       // see options.limit
	folder   string          // for stores and packages; goes at the end
	bare     *http.Transport // of the floors
	lines    []line
	missing  []string // what was left out, and why
}

func run(ctx context.Context, out io.Writer, o options) (err error) {
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	b := &bench{options: o, out: out, bare: bareTransport(), end: time.Now().Add(o.limit)}
	if b.folder, err = os.MkdirTemp(filepath.Dir(o.here), "bench"); err != nil {
		return fmt.Errorf("a folder for stores: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	if b.provider, err = startProvider(); err != nil {
		return err
	}
	defer b.provider.stop()
	var failed []error
	for _, d := range drivers {
		if !pattern.MatchString(d.name) {
			continue
		}
		if b.over(d.name) {
			continue
		}
		began := time.Now()
		err := b.profiled(d.name, func() error { return d.run(ctx, b) })
		if missing, ok := errors.AsType[errMissing](err); ok {
			b.leftOut(d.name, string(missing))
		} else if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", d.name, err))
			fmt.Fprintf(out, "FAILED %v\n", failed[len(failed)-1])
		}
		fmt.Fprintf(out, "# %s took %.0f s\n", d.name, time.Since(began).Seconds())
		if ctx.Err() != nil {
			return errors.Join(append(failed, ctx.Err())...)
		}
	}
	return errors.Join(append(failed, b.finish())...)
}

func (b *bench) leftOut(what, why string) {
	b.missing = append(b.missing, what+": "+why)
	fmt.Fprintf(b.out, "LEFT OUT %s: %s\n", what, why)
}

// over reports whether there is no time left for something, and says so.
func (b *bench) over(what string) bool {
	late := time.Now().After(b.end)
	if late {
		b.leftOut(what, "the time was over")
	}
	return late
}

// finish prints the table, and writes what flags ask for.
func (b *bench) finish() error {
	fmt.Fprintf(b.out, "\n%s", markdown(b.lines, b.missing))
	if b.only != "" {
		return nil // part of the lines is no picture
	}
	var failed []error
	how := "make bench"
	if b.quick || b.scale != 1 {
		how = fmt.Sprintf("a short run at scale %g", b.scale)
	}
	if b.doc != "" {
		failed = append(failed, writeTable(b.doc, how, b.lines, b.missing))
	}
	if b.figures != "" {
		failed = append(failed, draw(b.figures, b.lines))
	}
	return errors.Join(failed...)
}

// profiled runs a driver, under the profiler where that is asked for.
func (b *bench) profiled(name string, run func() error) error {
	if b.profiles == "" {
		return run()
	}
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return err
	}
	processor, err := os.Create(filepath.Join(b.profiles, name+".cpu"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(processor); err != nil {
		return errors.Join(err, processor.Close())
	}
	failed := run()
	pprof.StopCPUProfile()
	allocations, err := os.Create(filepath.Join(b.profiles, name+".allocs"))
	if err != nil {
		return errors.Join(failed, err, processor.Close())
	}
	return errors.Join(failed, pprof.Lookup("allocs").WriteTo(allocations, 0), processor.Close(), allocations.Close())
}

// scaled is how much of n is done at the scale, at least least.
func (b *bench) scaled(n, least int) int { return max(least, int(float64(n)*min(1, b.scale))) }

// lasts is how long a cell of a driver is measured.
func (b *bench) lasts(d time.Duration) time.Duration {
	return max(200*time.Millisecond, time.Duration(float64(d)*b.scale))
}

// find is the program at a path, or what is to be done to have it.
func find(path, remedy string) (string, error) {
	full, err := exec.LookPath(path)
	if err != nil {
		return "", errMissing(path + " is not here; run: " + remedy)
	}
	return filepath.Abs(full)
}
