// Command soak runs a real `evergrant serve` over simulated providers, and over panva's
// oidc-provider where it was fetched, and kills it with kill -9 every few seconds while
// its connections' tokens live a minute and one answer in twenty is lost. In the end no
// connection may be lost that its provider's way with refresh tokens could save.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.DurationVar(&o.length, "for", 10*time.Minute, "how long to refresh, lose and kill; the end takes up to four minutes more")
	flag.IntVar(&o.connections, "connections", 2000, "connections, at all providers together")
	flag.DurationVar(&o.life, "life", time.Minute, "life of an access token")
	flag.Float64Var(&o.lost, "lost", 0.05, "share of the answers that are lost")
	flag.StringVar(&o.binary, "evergrant", "build/evergrant", "the program; make build makes it")
	flag.DurationVar(&o.progress, "progress", 15*time.Second, "time between two lines of progress")
	flag.Parse()
	o.reference, o.log = os.Getenv("EVERGRANT_OIDC_PROVIDER"), os.Stdout
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := soak(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}
