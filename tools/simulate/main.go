// Command simulate runs the simulations of package simulate at full size, prints what
// they found as Markdown, and draws the course of the days.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/evergrant/evergrant/internal/simulate"
)

func main() {
	figures := flag.String("figures", "", "folder for refresh-scale.csv and refresh-scale.svg; empty: none are written")
	connections := flag.Int("connections", 1_000_000, "connections of a day")
	hours := flag.Int("hours", 24, "hours of the mixed day; the hourly fleet runs for a quarter of them")
	small := flag.Int("small", 10_000, "connections of the year")
	days := flag.Int("days", 365, "days of the year")
	flag.Parse()
	debug.SetGCPercent(400) // a gigabyte more, for a seventh less of the time
	if err := run(*figures, *connections, *hours, *small, *days); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

func run(figures string, connections, hours, small, days int) error {
	var reports []*simulate.Report
	for _, d := range []simulate.Day{
		simulate.MixedDay(connections, hours), simulate.HourlyDay(connections, hours/4, 1), simulate.HourlyDay(connections, hours/4, 4),
	} {
		r, err := d.Run()
		if err != nil {
			return err
		}
		if err := simulate.Print(os.Stdout, r); err != nil {
			return err
		}
		reports = append(reports, r)
	}
	if figures != "" {
		if err := draw(figures, reports); err != nil {
			return err
		}
	}
	year, err := simulate.Year{Connections: small, Days: days}.Run()
	if err != nil {
		return err
	}
	if err := simulate.Print(os.Stdout, year); err != nil {
		return err
	}
	wrong := 0
	for _, r := range append(reports, year) {
		for _, text := range r.Check() {
			fmt.Println("NOT MET:", text)
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d bars are not met", wrong)
	}
	fmt.Println("All bars are met.")
	return nil
}

// draw writes the figures.
func draw(folder string, reports []*simulate.Report) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer, ...*simulate.Report) error{
		"refresh-scale.csv": simulate.CSV, "refresh-scale.svg": simulate.SVG,
	} {
		f, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		if err := write(f, reports...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}
